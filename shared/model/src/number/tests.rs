use super::*;
use proptest::prelude::*;

fn text(value: f64, write: impl Fn(&mut String, f64)) -> String {
    let mut out = String::from("x");
    write(&mut out, value);
    out.split_off(1)
}

#[test]
fn number_literals_are_read_as_go_reads_them() {
    for (text, value) in [
        ("1", 1.0),
        ("010", 8.0),
        ("0_7", 7.0),
        ("0x1F", 31.0),
        ("1_000", 1000.0),
        ("1_23.50_0_0e+1_2", 1.235e14),
        ("0x_ff", 255.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5E-2", -0.015),
        ("+Inf", f64::INFINITY),
        ("-inf", f64::NEG_INFINITY),
        ("0x1.8p1", 3.0),
        ("0x1p-1074", 5e-324),
        ("0x1.fffffffffffffp1023", f64::MAX),
        ("09.5", 9.5),
        ("08", 8.0),
        ("9223372036854775807", 9_223_372_036_854_775_807.0),
        ("18446744073709551616", 18_446_744_073_709_551_616.0),
    ] {
        assert_eq!(parse_go(text), Some(value), "{text}");
    }
    assert!(parse_go("nAn").is_some_and(f64::is_nan));
    assert_eq!(parse_go("-0").map(f64::to_bits), Some((-0.0f64).to_bits()));
    let refused = [
        "",
        "-",
        "+",
        "0b11",
        "0o17",
        "1__0",
        "_1",
        "1_",
        "1_e3",
        "1e_3",
        "x",
        "e5",
        "1e",
        "--1",
        "+-1",
        "0x",
        "1e400",
        "0xffffffffffffffff",
        "0x1p",
        "0x1p+-1",
        "0xp1",
        "1 ",
        "infi",
        "-nan",
    ];
    for text in refused {
        assert_eq!(parse_go(text), None, "{text}");
    }
}

#[test]
fn a_float_with_a_leading_zero_is_decimal() {
    assert_eq!(parse_float("010"), Some(10.0));
    assert_eq!(parse_float("0x10"), None);
}

#[test]
fn numbers_are_written_as_the_api_writes_them() {
    for (value, expected) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (35424.0, "35424"),
        (-17.0, "-17"),
        (0.1, "0.1"),
        (-123.456, "-123.456"),
        (1e-6, "0.000001"),
        (1.5e-6, "0.0000015"),
        (9.5e-7, "9.5e-07"),
        (1e15, "1000000000000000"),
        (9_007_199_254_740_993.0, "9007199254740992"),
        (1e20, "100000000000000000000"),
        (1.25e20, "125000000000000000000"),
        (1e21, "1e+21"),
        (-1.5e300, "-1.5e+300"),
        (5e-324, "5e-324"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
    ] {
        assert_eq!(text(value, push_json), expected);
    }
}

#[test]
fn verb_g_is_short() {
    for (value, expected) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (100_000.0, "100000"),
        (1e6, "1e+06"),
        (1_234_567.0, "1.234567e+06"),
        (123_456.75, "123456.75"),
        (0.0001, "0.0001"),
        (1e-5, "1e-05"),
        (f64::INFINITY, "+Inf"),
    ] {
        assert_eq!(format_g(value), expected);
    }
}

#[test]
fn verb_g_with_a_precision_rounds() {
    for (value, expected) in [
        (0.0, "0"),
        (400.0, "4e+02"),
        (12.0, "12"),
        (123.0, "1.2e+02"),
        (0.125, "0.12"),
        (0.000_012_34, "1.2e-05"),
        (9.96, "10"),
        (-2.5, "-2.5"),
        (f64::NAN, "NaN"),
    ] {
        assert_eq!(format_g_rounded(value, 2), expected, "{value}");
    }
}

#[test]
fn plain_and_exponent_forms_keep_all_digits() {
    assert_eq!(text(1.5e22, push_plain), "15000000000000000000000");
    assert_eq!(text(1e-7, push_plain), "0.0000001");
    assert_eq!(text(0.0, push_exponent), "0e+00");
    assert_eq!(text(-123.5, push_exponent), "-1.235e+02");
}

#[test]
fn openmetrics_floats_show_that_they_are_floats() {
    for (value, expected) in [(1.0, "1.0"), (0.5, "0.5"), (1e6, "1e+06"), (f64::INFINITY, "+Inf"), (-1.0, "-1.0")] {
        assert_eq!(text(value, push_openmetrics), expected);
    }
}

#[test]
fn times_keep_their_zeros() {
    for (millis, expected) in [
        (0, "0"),
        (1_500, "1.500"),
        (1_050, "1.050"),
        (-1, "-0.001"),
        (1_767_312_000_000, "1767312000"),
        (i64::MIN, "-9223372036854775.808"),
    ] {
        let mut out = String::new();
        push_time(&mut out, millis);
        assert_eq!(out, expected);
    }
}

proptest! {
    #[test]
    fn every_form_reads_back_to_the_same_bits(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        for form in [push_json, push_plain, push_exponent, push_g] {
            let written = text(value, form);
            prop_assert_eq!(parse_float(&written).map(f64::to_bits), Some(bits), "{}", written);
        }
    }

    #[test]
    fn whole_numbers_take_the_same_form_on_the_short_way(value in -10_000_000_000_000_000i64..10_000_000_000_000_000) {
        prop_assert_eq!(text(value as f64, push_json), (value as f64 as i64).to_string());
    }

    #[test]
    fn reading_any_text_does_not_panic(text in ".{0,20}") {
        let _ = parse_go(&text);
    }
}
