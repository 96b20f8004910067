//! Queries laid out for people, as Prometheus' `format_query` does: what fits into 100 bytes stays on its line, the rest is
//! split at operators, parentheses and arguments, two spaces deeper at each level.

use crate::ast::*;
use crate::print::{AggregateHead, BinaryHead, SubqueryTime};
use std::fmt::{self, Display, Write};

/// Longest text that is not split, in bytes.
const LINE: usize = 100;

/// Lays out an expression.
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    layout(expr, 0, &mut out);
    out
}

fn layout(expr: &Expr, level: usize, out: &mut String) {
    let split = is_long(expr);
    // Prometheus does not indent a subquery that fits; nor are the leaves ever split.
    match &expr.node {
        Node::Aggregate(aggregate) if split => {
            indent(level, out);
            push(out, format_args!("{}(\n", AggregateHead(aggregate)));
            if let Some(param) = &aggregate.param {
                layout(param, level + 1, out);
                out.push_str(",\n");
            }
            layout(&aggregate.expr, level + 1, out);
            close(level, out);
        }
        Node::Binary(binary) if split => {
            layout(&binary.lhs, level + 1, out);
            out.push('\n');
            indent(level, out);
            push(out, format_args!("{}\n", BinaryHead(binary)));
            layout(&binary.rhs, level + 1, out);
        }
        Node::Call(call) if split && !call.args.is_empty() => {
            indent(level, out);
            push(out, format_args!("{}(\n", call.func.name));
            for (i, arg) in call.args.iter().enumerate() {
                if i > 0 {
                    out.push_str(",\n");
                }
                layout(arg, level + 1, out);
            }
            close(level, out);
        }
        Node::Paren(inner) if split => {
            indent(level, out);
            out.push_str("(\n");
            layout(inner, level + 1, out);
            close(level, out);
        }
        Node::Subquery(subquery) if split => {
            layout(&subquery.expr, level, out);
            push(out, SubqueryTime(subquery));
        }
        Node::Unary(unary) => {
            indent(level, out);
            out.push_str(unary.op.text());
            let start = out.len();
            layout(&unary.expr, level, out);
            let spaces = out[start..].len() - out[start..].trim_start().len();
            out.replace_range(start..start + spaces, "");
        }
        _ => {
            if !matches!(expr.node, Node::Subquery(_)) {
                indent(level, out);
            }
            push(out, expr);
        }
    }
}

fn close(level: usize, out: &mut String) {
    out.push('\n');
    indent(level, out);
    out.push(')');
}

fn indent(level: usize, out: &mut String) {
    for _ in 0..level {
        out.push_str("  ");
    }
}

fn push(out: &mut String, text: impl Display) {
    write!(out, "{text}").expect("a string takes all that is written");
}

/// Counts what is written and refuses to go on beyond [`LINE`], so that asking at every level stays cheap.
struct Ruler(usize);

impl Write for Ruler {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        if self.0 > LINE { Err(fmt::Error) } else { Ok(()) }
    }
}

fn is_long(expr: &Expr) -> bool {
    write!(Ruler(0), "{expr}").is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{Options, parse};

    #[test]
    fn only_what_is_long_is_split() {
        let text = "sum by (job)(rate(http_requests_total{code=~\"5..\"}[5m]))/sum by (job)(rate(http_requests_total[5m])) > 0.1";
        let expr = parse(text, &Options::all()).unwrap();
        let expected = "    sum by (job) (rate(http_requests_total{code=~\"5..\"}[5m]))\n  /\n    sum by (job) (rate(http_requests_total[5m]))\n>\n  0.1";
        assert_eq!(pretty(&expr), expected);
        assert_eq!(pretty(&parse("-  (a+b)", &Options::all()).unwrap()), "-(a + b)");
    }

    #[test]
    fn calls_aggregations_and_parentheses_open_a_level() {
        let name = "metric_".to_owned() + &"x".repeat(80);
        let text = format!("topk(3, -(label_replace({name} offset 5m, 'a', 'b', 'c', 'd')))");
        let expected =
            format!("topk(\n  3,\n  -(\n    label_replace({name} offset 5m, \"a\", \"b\", \"c\", \"d\")\n  )\n)");
        let expected = expected.replace(
            &format!("label_replace({name} offset 5m, \"a\", \"b\", \"c\", \"d\")"),
            &format!(
                "label_replace(\n      {name} offset 5m,\n      \"a\",\n      \"b\",\n      \"c\",\n      \"d\"\n    )"
            ),
        );
        assert_eq!(pretty(&parse(&text, &Options::all()).unwrap()), expected);
    }
}
