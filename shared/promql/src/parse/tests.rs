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
    // Texts and positions as a real Prometheus gave them.
    let options = Options { experimental_functions: true, ..Options::default() };
    for (text, message) in [
        ("", "unknown position: no expression found in input"),
        ("# just a comment", "1:1: no expression found in input"),
        (".", "1:1: unexpected character: '.'"),
        ("1+", "1:3: unexpected end of input"),
        ("1 /", "1:4: unexpected end of input"),
        ("*1", "1:1: unexpected <op:*>"),
        ("(1))", "1:5: unexpected right parenthesis ')'"),
        ("((1)", "1:5: unclosed left parenthesis"),
        ("(", "1:2: unclosed left parenthesis"),
        ("1 and 1", r#"1:1: set operator "and" not allowed in binary scalar expression"#),
        ("1 == 1", "1:3: comparisons between scalars must use BOOL modifier"),
        ("1 or 1", r#"1:1: set operator "or" not allowed in binary scalar expression"#),
        ("1 unless 1", r#"1:1: set operator "unless" not allowed in binary scalar expression"#),
        ("1 !~ 1", "1:3: unexpected character after '!': '~'"),
        ("1 =~ 1", "1:3: unexpected character after '=': '~'"),
        (
            r#"-"string""#,
            r#"1:1: unary expression only allowed on expressions of type scalar or instant vector, got "string""#,
        ),
        (
            "-test[5m]",
            r#"1:1: unary expression only allowed on expressions of type scalar or instant vector, got "range vector""#,
        ),
        ("*test", "1:1: unexpected <op:*>"),
        (
            "1 offset 1d",
            "1:1: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("foo offset 1s offset 2s", "1:1: offset may not be set multiple times"),
        ("a - on(b) ignoring(c) d", "1:11: unexpected <ignoring>"),
        ("2.5.", r#"1:1: bad number or duration syntax: "2.5.""#),
        ("100..4", r#"1:1: bad number or duration syntax: "100..""#),
        ("0deadbeef", r#"1:1: bad number or duration syntax: "0de""#),
        ("0b11", r#"1:1: bad number or duration syntax: "0""#),
        ("1__0", r#"1:1: bad number or duration syntax: "1__""#),
        ("5mm", r#"1:1: bad number or duration syntax: "5mm""#),
        ("foo and 1", r#"1:1: set operator "and" not allowed in binary scalar expression"#),
        ("1 and foo", r#"1:1: set operator "and" not allowed in binary scalar expression"#),
        ("1 or on(bar) foo", "1:1: vector matching only allowed between instant vectors"),
        ("foo == on(bar) 10", "1:1: vector matching only allowed between instant vectors"),
        ("foo + group_left(baz) bar", "1:7: unexpected <group_left>"),
        ("foo and on(bar) group_left(baz) bar", r#"1:1: no grouping allowed for "and" operation"#),
        ("foo and on(bar) group_right(baz) bar", r#"1:1: no grouping allowed for "and" operation"#),
        ("foo or on(bar) group_left(baz) bar", r#"1:1: no grouping allowed for "or" operation"#),
        ("foo + bool bar", "1:5: bool modifier can only be used on comparison operators"),
        ("foo + bool 10", "1:5: bool modifier can only be used on comparison operators"),
        ("foo and bool 10", "1:5: bool modifier can only be used on comparison operators"),
        ("foo and bool bar", "1:5: bool modifier can only be used on comparison operators"),
        ("{", "1:2: unexpected end of input inside braces"),
        ("}", "1:1: unexpected character: '}'"),
        ("some{", "1:6: unexpected end of input inside braces"),
        ("some}", "1:5: unexpected character: '}'"),
        ("some_metric{a=b}", r#"1:15: unexpected identifier "b" in label matching, expected string"#),
        (r#"some_metric{a:b="b"}"#, "1:14: unexpected character inside braces: ':'"),
        (r#"foo{a*"b"}"#, "1:6: unexpected character inside braces: '*'"),
        (r#"foo{a>="b"}"#, "1:6: unexpected character inside braces: '>'"),
        ("foo{gibberish}", r#"1:14: unexpected "}" in label matching, expected label matching operator"#),
        ("foo{1}", "1:5: unexpected character inside braces: '1'"),
        ("{}", "1:1: vector selector must contain at least one non-empty matcher"),
        (r#"{x=""}"#, "1:1: vector selector must contain at least one non-empty matcher"),
        (r#"{x=~".*"}"#, "1:1: vector selector must contain at least one non-empty matcher"),
        (r#"{x!~".+"}"#, "1:1: vector selector must contain at least one non-empty matcher"),
        (r#"{x!="a"}"#, "1:1: vector selector must contain at least one non-empty matcher"),
        (r#"foo{__name__="bar"}"#, r#"1:1: metric name must not be set twice: "foo" or "bar""#),
        (r#"foo{__name__= =="bar"}"#, r#"1:15: unexpected "=" in label matching, expected string"#),
        (r#"foo{__name__="bar" lol}"#, r#"1:20: unexpected identifier "lol" in label matching, expected "," or "}""#),
        (r#"foo{"bar"}"#, r#"1:1: metric name must not be set twice: "foo" or "bar""#),
        (r#"foo{a="b" c="d"}"#, r#"1:11: unexpected identifier "c" in label matching, expected "," or "}""#),
        ("foo{,}", r#"1:5: unexpected "," in label matching, expected identifier or "}""#),
        (r#"foo{a="b",,}"#, r#"1:11: unexpected "," in label matching, expected identifier or "}""#),
        (r#"foo{a=~"("}"#, "1:5: error parsing regexp: missing closing ): `(`"),
        (r#"foo{a=~"*"}"#, "1:5: error parsing regexp: missing argument to repetition operator: `*`"),
        (r#"foo{a=~"[a"}"#, "1:5: error parsing regexp: missing closing ]: `[a`"),
        (r#"foo{a=~"a)"}"#, "1:5: error parsing regexp: unexpected ): `a)`"),
        (r#"foo{a=~"\"}"#, "1:8: unterminated quoted string"),
        (r#"foo{a=~"a{2000}"}"#, "1:5: error parsing regexp: invalid repeat count: `{2000}`"),
        (r#"foo{a=~"(?P<n>"}"#, "1:5: error parsing regexp: missing closing ): `(?P<n>`"),
        ("test[5d] offset 10m offset 5m", "1:1: offset may not be set multiple times"),
        ("foo[5mm]", r#"1:5: bad number or duration syntax: "5mm""#),
        ("foo[5m1]", r#"1:5: bad number or duration syntax: "5m1""#),
        ("foo[5m:1m1]", r#"1:8: bad number or duration syntax: "1m1""#),
        ("foo[0m]", "1:5: duration must be greater than 0"),
        (r#"foo["5m"]"#, r#"1:5: unexpected character in duration expression: '"'"#),
        ("some_metric[5m] OFFSET 1mm", r#"1:24: bad number or duration syntax: "1mm""#),
        ("some_metric OFFSET 1m[5m]", "1:22: no offset modifiers allowed before range"),
        ("some_metric[5m] @", "1:18: unexpected end of input in @, expected timestamp"),
        ("some_metric @ 1234 [5m]", "1:20: no @ modifiers allowed before range"),
        ("(foo + bar)[5m]", "1:12: ranges only allowed for vector selectors"),
        ("foo[5m:", "1:8: unclosed left bracket"),
        ("foo[5m:5m", "1:10: unclosed left bracket"),
        ("foo[5m 5m]", r#"1:8: unexpected duration "5m" in subquery or range, expected ":" or "]""#),
        ("foo[x]", "1:5: unexpected character in duration expression: 'x'"),
        ("sum some_metric by (test)", r#"1:5: unexpected identifier "some_metric""#),
        ("sum (some_metric) by test", r#"1:22: unexpected identifier "test" in grouping opts, expected "(""#),
        ("sum (some_metric) by test)", r#"1:22: unexpected identifier "test" in grouping opts, expected "(""#),
        ("sum () by (test)", "1:1: no arguments for aggregate expression provided"),
        ("MIN keep_common (some_metric)", r#"1:5: unexpected identifier "keep_common""#),
        ("MIN (some_metric) keep_common", r#"1:19: unexpected identifier "keep_common""#),
        ("sum (some_metric) without (test) by (test)", "1:34: unexpected <by>"),
        ("topk(some_metric)", "1:1: wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        ("topk(some_metric,)", "1:17: trailing commas not allowed in function call args"),
        ("topk(some_metric, other_metric)", "1:6: expected type scalar in aggregation parameter, got instant vector"),
        ("count_values(5, other_metric)", "1:14: expected type string in aggregation parameter, got scalar"),
        ("rate(some_metric[5m]) by(foo)", "1:23: unexpected <by>"),
        ("sum(1", "1:6: unclosed left parenthesis"),
        ("sum(1 +)", r#"1:8: unexpected ")" in aggregation"#),
        ("sum by (", "1:9: unclosed left parenthesis"),
        ("sum by (a", "1:10: unclosed left parenthesis"),
        ("sum by (a b)", r#"1:11: unexpected identifier "b" in grouping opts, expected "," or ")""#),
        ("sum by (1)", r#"1:9: unexpected number "1" in grouping opts, expected label"#),
        (r#"sum by ("") (a)"#, r#"1:9: invalid label name for grouping: """#),
        ("sum by (without) (a)", "1:9: unexpected <without> in grouping opts, expected label"),
        ("quantile()", "1:1: no arguments for aggregate expression provided"),
        ("floor()", r#"1:1: expected 1 argument(s) in call to "floor", got 0"#),
        ("floor(some_metric, other_metric)", r#"1:1: expected 1 argument(s) in call to "floor", got 2"#),
        ("floor(some_metric, 1)", r#"1:1: expected 1 argument(s) in call to "floor", got 2"#),
        ("floor(1)", r#"1:7: expected type instant vector in call to function "floor", got scalar"#),
        (
            "hour(some_metric, some_metric, some_metric)",
            r#"1:1: expected at most 1 argument(s) in call to "hour", got 3"#,
        ),
        ("time(some_metric)", r#"1:1: expected 0 argument(s) in call to "time", got 1"#),
        ("non_existent_function_far_bar()", r#"1:1: unknown function with name "non_existent_function_far_bar""#),
        ("rate(some_metric)", r#"1:6: expected type range vector in call to function "rate", got instant vector"#),
        ("rate(avg)", r#"1:6: expected type range vector in call to function "rate", got instant vector"#),
        ("-=", r#"1:2: unexpected "=""#),
        ("++-++-+-+-<", "1:11: unexpected <op:<>"),
        ("e-+=/(0)", r#"1:4: unexpected "=""#),
        (r#""\q""#, "1:1: unknown escape sequence U+0071 'q'"),
        (r#""x"#, "1:1: unterminated quoted string"),
        ("'x", "1:1: unterminated quoted string"),
        ("`x", "1:1: unterminated raw string"),
        (r#""\xg""#, "1:1: illegal character U+0067 'g' in escape sequence"),
        (r#""\ud800""#, "1:1: escape sequence is an invalid Unicode code point"),
        (r#""\400""#, "1:1: escape sequence is an invalid Unicode code point"),
        ("foo bar", r#"1:5: unexpected identifier "bar""#),
        ("foo 1", r#"1:5: unexpected number "1""#),
        (r#"foo "x""#, r#"1:5: unexpected string "\"x\"""#),
        (r#"foo "a longer string""#, r#"1:5: unexpected string "\"a longer "..."#),
        ("a\n+ +", "2:4: unexpected end of input"),
        ("a\n\n  b c", r#"3:3: unexpected identifier "b""#),
        ("foo @ +Inf", "1:1: timestamp out of bounds for @ modifier: +Inf"),
        ("foo @ -Inf", "1:1: timestamp out of bounds for @ modifier: -Inf"),
        ("foo @ NaN", "1:1: timestamp out of bounds for @ modifier: NaN"),
        ("foo @ 1 @ 2", "1:1: @ <timestamp> may not be set multiple times"),
        ("foo[5m] @ 1 @ 2", "1:1: @ <timestamp> may not be set multiple times"),
        (
            "1 @ 1",
            "1:1: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("foo @ bar", r#"1:7: unexpected identifier "bar" in @, expected timestamp"#),
        ("foo @ start", "1:12: unexpected end of input in @, expected timestamp"),
        ("foo @ start(", "1:13: unclosed left parenthesis"),
        ("foo[5m][5m]", "1:8: ranges only allowed for vector selectors"),
        ("foo[5m][5m:1m]", "1:1: subquery is only allowed on instant vector, got matrix instead"),
        ("1[5m:1m]", "1:1: subquery is only allowed on instant vector, got scalar instead"),
        (r#""x"[5m:1m]"#, "1:1: subquery is only allowed on instant vector, got string instead"),
        ("sum(foo[5m])", "1:5: expected type instant vector in aggregation expression, got range vector"),
        ("foo[5m] + 1", "1:1: binary expression must contain only scalar and instant vector types"),
        ("1 + foo[5m]", "1:5: binary expression must contain only scalar and instant vector types"),
        (r#""x" + 1"#, "1:1: binary expression must contain only scalar and instant vector types"),
        (r#"abs("x")"#, r#"1:5: expected type instant vector in call to function "abs", got string"#),
        ("abs(foo,)", "1:8: trailing commas not allowed in function call args"),
        ("abs(,)", r#"1:5: unexpected ",""#),
        ("abs(foo bar)", r#"1:9: unexpected identifier "bar""#),
        ("on", "1:1: unexpected <on>"),
        ("bool", "1:1: unexpected <bool>"),
        ("foo + on bar", r#"1:10: unexpected identifier "bar" in grouping opts, expected "(""#),
        ("foo + on(a b) bar", r#"1:12: unexpected identifier "b" in grouping opts, expected "," or ")""#),
        ("foo + on(a) group_left(1) bar", r#"1:24: unexpected number "1" in grouping opts, expected label"#),
        ("foo == bool", "1:12: unexpected end of input"),
        ("foo offset 5m 5m", r#"1:15: unexpected duration "5m""#),
        ("foo$", "1:4: unexpected character: '$'"),
        ("日本", "1:1: unexpected character: '日'"),
        (r#"foo{a="日本}"#, "1:7: unterminated quoted string"),
        (r#"foo{日="x"}"#, "1:5: unexpected character inside braces: '日'"),
        ("1e999", r#"1:1: error parsing number: strconv.ParseFloat: parsing "1e999": value out of range"#),
        ("9999999999999999999y", "1:1: duration out of range"),
        ("foo[300y]", "1:5: duration out of range"),
        ("foo[1s1m]", r#"1:5: not a valid duration string: "1s1m""#),
        ("foo offset 300y", "1:12: duration out of range"),
        (
            r#"absent(sum(nonexistent{job="myjob"}[1h]))"#,
            "1:12: expected type instant vector in aggregation expression, got range vector",
        ),
        (r#"vector("x")"#, r#"1:8: expected type scalar in call to function "vector", got string"#),
        ("(foo", "1:5: unclosed left parenthesis"),
        ("foo)", "1:5: unexpected right parenthesis ')'"),
        ("foo]", "1:4: unexpected right bracket ']'"),
        ("foo[5m", "1:7: unclosed left bracket"),
        ("[5m]", r#"1:1: unexpected "[""#),
        (r#"foo{a="b""#, "1:10: unexpected end of input inside braces"),
        ("foo{a", "1:6: unexpected end of input inside braces"),
        ("foo{a=", "1:7: unexpected end of input inside braces"),
        (r#"foo{a="b","#, "1:11: unexpected end of input inside braces"),
        ("foo{a!", "1:6: unexpected character after '!' inside braces: '�'"),
        (r#"foo{a!"b"}"#, r#"1:6: unexpected character after '!' inside braces: '"'"#),
        ("limitk(a)", "1:1: wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        ("sum(a, b, c)", "1:1: wrong number of arguments for aggregate expression provided, expected 1, got 3"),
        ("sum by (a) b", r#"1:12: unexpected identifier "b" in aggregation"#),
        ("sum by (a)", "1:11: unexpected end of input in aggregation"),
        ("sum(a) by (", "1:12: unclosed left parenthesis"),
        ("group_left", "1:1: unexpected <group_left>"),
        ("a group_left b", "1:3: unexpected <group_left>"),
        ("a + ignoring(x) group_left() group_right() b", "1:30: unexpected <group_right>"),
        ("1 atan2 foo[5m]", "1:9: binary expression must contain only scalar and instant vector types"),
        (
            "avg_over_time(foo)",
            r#"1:15: expected type range vector in call to function "avg_over_time", got instant vector"#,
        ),
        (
            "histogram_quantile(foo, bar)",
            r#"1:20: expected type scalar in call to function "histogram_quantile", got instant vector"#,
        ),
        (r#"quantile("x", foo)"#, "1:10: expected type scalar in aggregation parameter, got string"),
        (
            "rate(-(foo[2m]))",
            r#"1:6: unary expression only allowed on expressions of type scalar or instant vector, got "range vector""#,
        ),
        (r#"{a=~".+""#, "1:9: unexpected end of input inside braces"),
        ("foo offset (5m", "1:15: unclosed left parenthesis"),
        ("foo[5m:5m] offset 5m offset 5m", "1:1: offset may not be set multiple times"),
        ("clamp_max(foo)", r#"1:1: expected 2 argument(s) in call to "clamp_max", got 1"#),
        ("round()", r#"1:1: expected at least 1 argument(s) in call to "round", got 0"#),
        ("label_join(a)", r#"1:1: expected at least 3 argument(s) in call to "label_join", got 1"#),
        (r#"label_join(a,"b")"#, r#"1:1: expected at least 3 argument(s) in call to "label_join", got 2"#),
        ("info(a, b)", "1:9: expected label selectors only, got vector selector instead"),
        ("info(a, {}, 2)", r#"1:1: expected at most 2 argument(s) in call to "info", got 3"#),
        ("pi(1)", r#"1:1: expected 0 argument(s) in call to "pi", got 1"#),
        ("scalar(1)", r#"1:8: expected type instant vector in call to function "scalar", got scalar"#),
        ("sum without", r#"1:12: unexpected end of input in grouping opts, expected "(""#),
        ("sum without(", "1:13: unclosed left parenthesis"),
        ("predict_linear(foo[5m])", r#"1:1: expected 2 argument(s) in call to "predict_linear", got 1"#),
        ("a b c", r#"1:3: unexpected identifier "b""#),
        ("- - -", "1:6: unexpected end of input"),
        ("!", "1:1: unexpected character after '!': '�'"),
        ("!=", "1:1: unexpected <op:!=>"),
        ("=", r#"1:1: unexpected "=""#),
        ("==", "1:1: unexpected <op:==>"),
        ("a = b", r#"1:3: unexpected "=""#),
        ("a ! b", "1:3: unexpected character after '!': ' '"),
        ("a := b", r#"1:3: unexpected metric identifier ":""#),
        ("a : b", r#"1:3: unexpected metric identifier ":""#),
        ("a{b='c'}}", "1:9: unexpected character: '}'"),
        (r#"{{a="b"}}"#, "1:2: unexpected left brace '{'"),
        (r#"a{b="c"}{d="e"}"#, r#"1:9: unexpected "{""#),
        (r#"a{b="c"}[5m]{d="e"}"#, r#"1:13: unexpected "{""#),
        ("foo[", "1:5: unexpected end of input in duration expression"),
        ("foo[(", "1:6: unexpected end of input in duration expression"),
        ("foo[5m:1m", "1:10: unclosed left bracket"),
        ("foo[-", "1:6: unexpected end of input in duration expression"),
        ("foo[5m *", "1:9: unclosed left bracket"),
        ("foo[5m:1m 2m]", r#"1:11: unexpected duration "2m" in subquery selector, expected "]""#),
        ("foo[5m:1m]]", "1:11: unexpected right bracket ']'"),
        ("foo[5m)]", "1:8: unexpected right parenthesis ')'"),
        ("foo[1m)", "1:8: unexpected right parenthesis ')'"),
        ("foo[[5m]]", "1:5: unexpected character in duration expression: '['"),
        ("foo[5m / 0]", "1:8: division by zero"),
        ("foo[5m % 0]", "1:8: modulo by zero"),
        ("foo[-5m]", "1:5: duration must be greater than 0"),
        ("sum(foo{a})", r#"1:10: unexpected "}" in label matching, expected label matching operator"#),
        ("sum(foo[5m)", r#"1:11: unexpected ")" in subquery or range, expected ":" or "]""#),
        ("sum(a + on b)", r#"1:12: unexpected identifier "b" in grouping opts, expected "(""#),
        ("sum(max(a b))", r#"1:11: unexpected identifier "b" in aggregation"#),
        ("max(sum(a) b)", r#"1:12: unexpected identifier "b" in aggregation"#),
        ("sum(a) b", r#"1:8: unexpected identifier "b""#),
        ("sum by (a) (b) by (c)", "1:16: unexpected <by>"),
        ("sum by (a) (b c)", r#"1:15: unexpected identifier "c" in aggregation"#),
        ("sum(a @ x)", r#"1:9: unexpected identifier "x" in @, expected timestamp"#),
        ("sum((a)", "1:8: unclosed left parenthesis"),
        ("sum(1 == 1", "1:11: unclosed left parenthesis"),
        ("1 == 1 +", "1:9: unexpected end of input"),
        ("abs(1 == 1, 2)", r#"1:1: expected 1 argument(s) in call to "abs", got 2"#),
        ("abs(1 == 1) + )", "1:16: unexpected right parenthesis ')'"),
        ("foo + bool bar +", "1:17: unexpected end of input"),
        ("sum(1) + sum(2", "1:15: unclosed left parenthesis"),
        ("foo offset 5m + * ", "1:17: unexpected <op:*>"),
        ("a + on(x) 1 + 1 == 1", "1:1: vector matching only allowed between instant vectors"),
        ("group_left(a) + b", "1:1: unexpected <group_left>"),
        ("by(x)", r#"1:3: unexpected "(""#),
        ("offset(x)", r#"1:7: unexpected "(""#),
        ("on(x)", "1:1: unexpected <on>"),
        ("without(x)", r#"1:8: unexpected "(""#),
        ("a:b(x)", r#"1:4: unexpected "(""#),
        ("inf(x)", r#"1:4: unexpected "(""#),
        (r#"inf{a="b"}"#, r#"1:4: unexpected "{""#),
        (r#"a{,b="c"}"#, r#"1:3: unexpected "," in label matching, expected identifier or "}""#),
        (r#"a{b="c",,d="e"}"#, r#"1:9: unexpected "," in label matching, expected identifier or "}""#),
        ("a and on(x) unless b", r#"1:20: unexpected identifier "b""#),
        ("foo @ 5 offset 5m @ 6", "1:1: @ <timestamp> may not be set multiple times"),
        ("foo @ start() @ end()", "1:1: @ <timestamp> may not be set multiple times"),
        (
            "(foo) offset 5m",
            "1:1: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("(foo)[5m]", "1:6: ranges only allowed for vector selectors"),
        ("sum(foo)[5m]", "1:9: ranges only allowed for vector selectors"),
        (
            "sum(foo) @ 5",
            "1:1: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("foo[0]", "1:5: duration must be greater than 0"),
        ("foo[-5]", "1:5: duration must be greater than 0"),
        ("foo[Inf]", "1:5: unexpected character in duration expression: 'I'"),
        ("foo[NaN]", "1:5: unexpected character in duration expression: 'N'"),
        ("foo offset 1e30", "1:12: duration out of range"),
        ("foo[1e30]", "1:5: duration out of range"),
        (r#"'a\"b'"#, r#"1:1: unknown escape sequence U+0022 '"'"#),
        ("abs((foo[5m]))", r#"1:5: expected type instant vector in call to function "abs", got range vector"#),
        (r#"foo{__name__!="a"}"#, r#"1:1: metric name must not be set twice: "foo" or "a""#),
        (r#"foo{__name__=~"a"}"#, r#"1:1: metric name must not be set twice: "foo" or "a""#),
        (r#"{__name__!~"a"}"#, "1:1: vector selector must contain at least one non-empty matcher"),
        ("sum without(,) (b)", r#"1:13: unexpected "," in grouping opts, expected label"#),
        ("topk(1, 2, 3)", "1:1: wrong number of arguments for aggregate expression provided, expected 2, got 3"),
        ("quantile(a, b)", "1:10: expected type scalar in aggregation parameter, got instant vector"),
        (r#"count_values("a", 1)"#, "1:19: expected type instant vector in aggregation expression, got scalar"),
        ("count_values(a, b)", "1:14: expected type string in aggregation parameter, got instant vector"),
        ("absent(1)", r#"1:8: expected type instant vector in call to function "absent", got scalar"#),
        (
            "time() offset 5m",
            "1:1: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("a[5m:1m][1m]", "1:9: ranges only allowed for vector selectors"),
        ("a[5m][1m]", "1:6: ranges only allowed for vector selectors"),
        ("a[5m] offset 5m [1m:]", "1:1: subquery is only allowed on instant vector, got matrix instead"),
        ("a @ 5 [1m]", "1:7: no @ modifiers allowed before range"),
        ("bottomk(1)", "1:1: wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        ("bool + 1", "1:1: unexpected <bool>"),
        ("a + bool", "1:9: unexpected end of input"),
        ("a > bool", "1:9: unexpected end of input"),
        ("a > bool bool b", "1:10: unexpected <bool>"),
        ("a + ignoring", r#"1:13: unexpected end of input in grouping opts, expected "(""#),
        ("a + ignoring(", "1:14: unclosed left parenthesis"),
        ("a + ignoring(x", "1:15: unclosed left parenthesis"),
        ("a + ignoring(x,", "1:16: unclosed left parenthesis"),
        ("a + ignoring(x)", "1:16: unexpected end of input"),
        ("a + ignoring(x) group_left", r#"1:27: unexpected end of input in grouping opts, expected "(""#),
        ("a + ignoring(x) group_left(", "1:28: unclosed left parenthesis"),
        ("a + ignoring(x) group_left(y", "1:29: unclosed left parenthesis"),
        ("a + ignoring(x) group_left(y) (", "1:32: unclosed left parenthesis"),
        ("rate(a[5m])[1m]", "1:12: ranges only allowed for vector selectors"),
        ("days_in_month(1)", r#"1:15: expected type instant vector in call to function "days_in_month", got scalar"#),
        (r#"scalar("x")"#, r#"1:8: expected type instant vector in call to function "scalar", got string"#),
        ("vector(a)", r#"1:8: expected type scalar in call to function "vector", got instant vector"#),
        (r#"a{b=~"(?!x)"}"#, "1:3: error parsing regexp: invalid or unsupported Perl syntax: `(?!`"),
        (r#"a{b=~"x**"}"#, "1:3: error parsing regexp: invalid nested repetition operator: `**`"),
        (r#"a{b=~"x{5,2}"}"#, "1:3: error parsing regexp: invalid repeat count: `{5,2}`"),
        (r#"a{b=~"[z-a]"}"#, "1:3: error parsing regexp: invalid character class range: `z-a`"),
        (r#"a{b=~"\\8"}"#, r#"1:3: error parsing regexp: invalid escape sequence: `\8`"#),
        (r#"a{b=~"\\"}"#, "1:3: error parsing regexp: trailing backslash at end of expression: ``"),
        (r#"a{b=~"[[:foo:]]"}"#, "1:3: error parsing regexp: invalid character class range: `[:foo:]`"),
        (r#"a{b=~"(?z)"}"#, "1:3: error parsing regexp: invalid or unsupported Perl syntax: `(?z`"),
        ("\"a\nb\"", "1:1: unterminated quoted string"),
        (
            "foo[]",
            r#"1:5: unexpected "]" in subquery or range selector, expected number, duration, step(), or range()"#,
        ),
        ("foo offset -", "1:13: unexpected end of input in offset, expected number, duration, step(), or range()"),
    ] {
        let error = parse(text, &options).expect_err(text).to_string();
        assert_eq!(error.replacen("parse error: ", "", 1), message, "{text}");
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
