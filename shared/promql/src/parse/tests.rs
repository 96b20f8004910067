use super::*;

fn parsed(text: &str) -> Expr {
    parse(text, &Options::all()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn operators_bind_as_in_prometheus() {
    // Each pair must be the same tree but for parentheses and positions.
    for (text, explicit) in [
        ("1 + 2 * 3", "1 + (2 * 3)"),
        ("1 - 2 - 3", "(1 - 2) - 3"),
        ("2 ^ 3 ^ 2", "2 ^ (3 ^ 2)"),
        ("-a ^ 2", "-(a ^ 2)"),
        ("-a * b", "(-a) * b"),
        ("a or b and c", "a or (b and c)"),
        ("a == b + c", "a == (b + c)"),
        ("a unless b and c", "(a unless b) and c"),
        ("a atan2 b ^ c", "a atan2 (b ^ c)"),
    ] {
        assert_eq!(shape(&parsed(text)), shape(&parsed(explicit)), "{text}");
    }
}

fn shape(expr: &Expr) -> String {
    match &expr.node {
        Node::Paren(inner) => shape(inner),
        Node::Binary(binary) => format!("({} {} {})", shape(&binary.lhs), binary.op.text(), shape(&binary.rhs)),
        Node::Unary(unary) => format!("(neg {})", shape(&unary.expr)),
        Node::Vector(selector) => selector.name.clone().unwrap_or_default(),
        Node::Number(number) => number.value.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn positions_are_bytes_of_the_text() {
    let text = "sum by (a) (rate(foo{x=\"é\"}[5m] offset 1m)) / 2";
    let expr = parsed(text);
    let at = |span: Span| &text[span.start as usize..span.end as usize];
    let Node::Binary(binary) = &expr.node else { panic!("{expr:?}") };
    assert_eq!(at(expr.span), text);
    assert_eq!(at(binary.lhs.span), "sum by (a) (rate(foo{x=\"é\"}[5m] offset 1m))");
    let Node::Aggregate(aggregate) = &binary.lhs.node else { panic!() };
    assert_eq!(at(aggregate.expr.span), "rate(foo{x=\"é\"}[5m] offset 1m)");
    let Node::Call(call) = &aggregate.expr.node else { panic!() };
    assert_eq!(at(call.args[0].span), "foo{x=\"é\"}[5m] offset 1m");
    let Node::Matrix(matrix) = &call.args[0].node else { panic!() };
    assert_eq!(at(matrix.selector_span), "foo{x=\"é\"}");
}

#[test]
fn what_prometheus_refuses_is_refused_in_its_words() {
    for (text, message) in [
        ("", "1:1: parse error: no expression found in input"),
        ("foo{", "1:5: parse error: unexpected end of input in label matching, expected identifier or \"}\""),
        ("foo{a=1}", "unexpected character inside braces"),
        ("{}", "vector selector must contain at least one non-empty matcher"),
        ("{a=~\".*\"}", "vector selector must contain at least one non-empty matcher"),
        ("a{__name__=\"b\"}", "metric name must not be set twice: \"a\" or \"b\""),
        ("1 == 1", "1:1: parse error: comparisons between scalars must use BOOL modifier"),
        ("a and 1", "set operator \"and\" not allowed in binary scalar expression"),
        ("1 + on(a) b", "vector matching only allowed between instant vectors"),
        ("a + bool b", "bool modifier can only be used on comparison operators"),
        ("a and on(x) group_left b", "no grouping allowed for \"and\" operation"),
        ("a + on(x) group_left(x) b", "label \"x\" must not occur in ON and GROUP clause at once"),
        ("rate(foo)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"),
        ("rate(foo[5m], 1)", "expected 1 argument(s) in call to \"rate\", got 2"),
        ("nope(foo)", "unknown function with name \"nope\""),
        ("sum(foo, bar)", "wrong number of arguments for aggregate expression provided, expected 1, got 2"),
        ("sum()", "no arguments for aggregate expression provided"),
        ("sum(1)", "expected type instant vector in aggregation expression, got scalar"),
        ("abs(foo,)", "trailing commas not allowed in function call args"),
        ("foo[5m][5m]", "ranges only allowed for vector selectors"),
        ("foo offset 5m offset 5m", "offset may not be set multiple times"),
        ("foo @ 1 @ 2", "@ <timestamp> may not be set multiple times"),
        ("1 offset 5m", "offset modifier must be preceded by"),
        ("foo[0m]", "duration must be greater than 0"),
        ("foo[5m", "unexpected end of input in matrix selector, expected \":\" or \"]\""),
        ("(1:2)", "unexpected"),
        ("\"abc", "unterminated quoted string"),
        ("-\"abc\"", "unary expression only allowed on expressions of type scalar or instant vector, got \"string\""),
        ("foo @ Inf", "timestamp out of bounds for @ modifier: +Inf"),
        ("0deadbeef", "bad number or duration syntax: \"0deadbeef\""),
        ("foo bar", "1:5: parse error: unexpected identifier \"bar\""),
        ("a\n+ +", "2:4: parse error: unexpected end of input"),
        ("foo{a=~\"(\"}", "error parsing regexp: missing closing )"),
    ] {
        let error = parse(text, &Options::default()).expect_err(text).to_string();
        assert!(error.contains(message), "{text}: {error:?} lacks {message:?}");
    }
}

#[test]
fn experimental_parts_need_their_options() {
    for text in ["limitk(1, a)", "mad_over_time(a[5m])", "xrate(a[5m])", "a + fill(0) b", "rate(a[5m] anchored)"] {
        parse(text, &Options::default()).expect_err(text);
        parsed(text);
    }
}

#[test]
fn queries_of_death_are_refused_or_read_within_their_limits() {
    let deep = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    for text in [
        deep("(", ")", 10_000),
        deep("abs(vector(", "))", 1_000),
        "-".repeat(30_000) + "1",
        "1".to_owned() + &"+1".repeat(30_000),
        "a".to_owned() + &" or a".repeat(12_000),
        "1^".repeat(20_000) + "1",
        "a[".to_owned() + &"(".repeat(10_000),
        "a[".to_owned() + &"1+".repeat(10_000) + "1]",
        "x".repeat(100_000),
        "a offset ".to_owned() + &"-".repeat(20_000) + "1",
    ] {
        let error = parse(&text, &Options::all()).expect_err("over a limit");
        assert!(error.message.len() < 200, "{}", error.message);
    }
    let chain = "1".to_owned() + &"+1".repeat(1_500);
    drop(parsed(&chain));
    let matchers = format!("a{{{}}}", (0..4_000).map(|i| format!("l{i}=\"x\"")).collect::<Vec<_>>().join(","));
    drop(parsed(&matchers));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9(){}\\[\\]\"'`+*/^<>=!~:.,@ \n#-]{0,80}") {
        let _ = parse(&text, &Options::all());
    }

    #[test]
    fn any_unicode_is_read_or_refused(text in ".{0,60}") {
        let _ = parse(&text, &Options::all());
    }
}
