use super::*;
use proptest::prelude::*;

fn error(pattern: &str) -> String {
    compile(pattern).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn what_go_refuses_is_refused_in_its_words() {
    for (pattern, reason) in [
        ("a(b", "missing closing ): `a(b`"),
        ("a)b", "unexpected ): `a)b`"),
        ("[a", "missing closing ]: `[a`"),
        ("x[]a", "missing closing ]: `[]a`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("(?i)*", "missing argument to repetition operator: `*`"),
        ("a|+?", "missing argument to repetition operator: `+?`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*?+", "invalid nested repetition operator: `*?+`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("(a{100}){100}", "invalid repeat count"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[a--b]", "invalid character class range: `a--`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\u1234", r"invalid escape sequence: `\u`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"\xzz", r"invalid escape sequence: `\xzz`"),
        ("a\\", "trailing backslash at end of expression"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?<=a)", "invalid or unsupported Perl syntax: `(?<`"),
        ("(?x)a b", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?P<n>a)(?P<n>b)", "duplicate"),
        ("(?P<a-b>c)", "invalid named capture: `(?P<a-b>`"),
    ] {
        let text = error(pattern);
        assert!(text.starts_with("error parsing regexp: ") && text.contains(reason), "{pattern}: {text}");
    }
}

#[test]
fn what_differs_between_the_languages_has_gos_meaning() {
    for (pattern, matches, fails) in [
        ("a.b", "a\nb", "ab"),
        (r"\d", "7", "٣"),
        (r"\w+", "az_9", "é"),
        (r"\W", "é", "e"),
        (r"[\w.]+", "a.b", "a-b"),
        (r"[\D]", "x", "5"),
        (r"\s", "\t", "\u{a0}"),
        (r"[a&&b]+", "a&b", "c"),
        ("[a[b]", "[", "]"),
        ("[]a]", "]", "b"),
        ("[^]a]", "b", "]"),
        ("[a-]", "-", "b"),
        (r"\Qa.b*\E+", "a.b**", "axb*"),
        (r"\Q(", "(", ""),
        (r"\<a\>", "<a>", "a"),
        (r"\_\-", "_-", ""),
        (r"\101\0", "A\0", "A"),
        (r"\x41\x{e9}", "Aé", "A"),
        ("a{,2}", "a{,2}", "aa"),
        ("a{01}", "a{01}", "a"),
        ("a{2}", "aa", "a"),
        (r"\p{Greek}\P{^Greek}\pL", "αβγ", "abc"),
        (r"\p{^Greek}", "a", "α"),
        ("[[:alpha:]_]+", "a_b", "a1"),
        ("[[:^alpha:]]", "1", "a"),
        ("(?i)é+", "éÉ", "e"),
        ("(?i:k)", "\u{212a}", "x"),
        ("(?U)a*b", "aab", "c"),
        (r"a\b b", "a b", "ab"),
        (r"\Aa\z", "a", "b"),
        ("(?P<one>a)(?<two>b)", "ab", "a"),
        ("a|", "", "b"),
        ("#a b~&", "#a b~&", "#ab~&"),
        ("]}", "]}", "]"),
        ("(?-s).", "a", "\n"),
        ("a(?:b|)c", "ac", "abbc"),
    ] {
        let regex = compile(pattern).unwrap();
        assert!(regex.is_match(matches), "{pattern} on {matches}");
        assert!(!regex.is_match(fails), "{pattern} on {fails}");
        let pattern = Pattern::new(pattern).unwrap();
        assert!(pattern.is_match(matches) && !pattern.is_match(fails), "{pattern:?}");
    }
}

#[test]
fn anchors_hold_for_the_whole_pattern() {
    assert!(!compile("a|b").unwrap().is_match("ab"));
    assert!(compile("a)(b").is_err());
}

#[test]
fn sizes_are_bounded() {
    assert_eq!(error(&"a".repeat(MAX_PATTERN_BYTES + 1)), PatternError::TooLong(MAX_PATTERN_BYTES + 1).to_string());
    assert!(compile(&"(".repeat(5_000)).is_err());
    let deep = format!("{}a{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(compile(&deep).is_err());
    assert_eq!(compile(&r"[\pL\pN]{900}".repeat(10)).unwrap_err(), PatternError::ProgramTooLarge);
}

#[test]
fn shapes_are_seen_where_they_are() {
    let shape = |pattern: &str| Pattern::new(pattern).unwrap().shape;
    assert_eq!(shape(".*"), Shape::Any);
    assert_eq!(shape("(.+)"), Shape::NotEmpty);
    assert_eq!(shape("(?:a|b(c|d)?)"), Shape::Set(["a", "b", "bc", "bd"].map(str::to_owned).to_vec()));
    assert_eq!(shape("").set().unwrap(), [""]);
    for parts in ["a.*", ".*a", "a.+b", ".*a.*", "a.*b.*c", "(a).*(b.*)?c"] {
        assert_eq!(matches!(shape(parts), Shape::Parts(_)), !parts.contains('?'), "{parts}");
    }
    assert!(matches!(shape("a.*|.*b|c"), Shape::OneOf(_)));
    assert_eq!(shape("ab[0-9]+cd"), Shape::Other { prefix: "ab".into(), suffix: "cd".into() });
    assert_eq!(shape("(?-s)a.*"), Shape::Other { prefix: "a".into(), suffix: String::new() });
}

/// Patterns of few letters, so that texts of the same letters have a chance to match.
fn patterns() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        "[abé\n]{1,3}".prop_map(|text| text),
        Just(".*".to_owned()),
        Just(".+".to_owned()),
        Just(".".to_owned()),
        Just("[ab]".to_owned()),
        Just("[^a]".to_owned()),
        Just("\\n".to_owned()),
        Just("(?i:A)".to_owned()),
    ];
    atom.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("({})", parts.join("|"))),
            (inner, prop_oneof![Just("?"), Just("*"), Just("{1,2}")]).prop_map(|(part, op)| format!("(?:{part}){op}")),
        ]
    })
}

proptest! {
    #[test]
    fn short_ways_agree_with_the_engine(pattern in patterns(), texts in prop::collection::vec("[abAé\n]{0,6}", 1..20)) {
        let plain = regex::Regex::new(&format!("^(?s:{pattern})$")).unwrap();
        let ours = Pattern::new(&pattern).unwrap();
        for text in &texts {
            prop_assert_eq!(ours.is_match(text), plain.is_match(text), "{:?} on {:?}", &ours, text);
            if plain.is_match(text) {
                prop_assert!(text.starts_with(ours.shape().prefix()), "{:?} on {:?}", &ours, text);
            }
        }
    }

    #[test]
    fn any_text_as_a_pattern_is_compiled_or_refused(pattern in r"[a\\\[\](){}?*+|^$.,:<>=!&~#0-9PQEpdx\-é ]{0,24}") {
        if let Ok(regex) = compile(&pattern) {
            let ours = Pattern::new(&pattern).unwrap();
            for text in ["", "a", "1", "é", &pattern] {
                prop_assert_eq!(ours.is_match(text), regex.is_match(text));
            }
        }
    }

    #[test]
    fn quoted_text_matches_itself(text in "[^\\\\]{0,20}") {
        let pattern = format!(r"\Q{text}\E");
        prop_assert!(compile(&pattern).unwrap().is_match(&text));
    }
}
