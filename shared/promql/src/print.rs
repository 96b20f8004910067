//! Syntax tree to text, in Prometheus' canonical form. What is printed reads back as the same tree.

use crate::ast::*;
use crate::duration;
use crate::quote::{quote, quote_bytes};
use farview_model::labels::is_legacy_name;
use farview_model::{METRIC_NAME, MatchOp, Matcher};
use std::fmt::{self, Display, Formatter, Write};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Number(number) => number.fmt(f),
            Node::String(string) => f.write_str(&quote_bytes(&string.value)),
            Node::Vector(selector) => selector.fmt(f),
            Node::Matrix(matrix) => matrix.fmt(f),
            Node::Subquery(subquery) => write!(f, "{}{}", subquery.expr, SubqueryTime(subquery)),
            Node::Unary(unary) => write!(f, "{}{}", unary.op.text(), unary.expr),
            Node::Binary(binary) => write!(f, "{} {} {}", binary.lhs, BinaryHead(binary), binary.rhs),
            Node::Aggregate(aggregate) => {
                write!(f, "{}(", AggregateHead(aggregate))?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
            Node::Call(call) => {
                write!(f, "{}(", call.func.name)?;
                list(f, &call.args, ", ")?;
                f.write_char(')')
            }
            Node::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

fn list<T: Display>(f: &mut Formatter<'_>, items: &[T], separator: &str) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(separator)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

/// Label names, those quoted that are no plain words.
struct LabelNames<'a>(&'a [String]);

impl Display for LabelNames<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('(')?;
        for (i, name) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            label_name(f, name)?;
        }
        f.write_char(')')
    }
}

fn label_name(f: &mut Formatter<'_>, name: &str) -> fmt::Result {
    // `without` is the one keyword that Prometheus does not take as a label in a list.
    if is_legacy_name(name) && !name.eq_ignore_ascii_case("without") {
        f.write_str(name)
    } else {
        f.write_str(&quote(name))
    }
}

/// What stands before the arguments of an aggregation: `sum by (job) `.
pub(crate) struct AggregateHead<'a>(pub(crate) &'a Aggregate);

impl Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.text())?;
        if self.0.without {
            write!(f, " without {} ", LabelNames(&self.0.grouping))?;
        } else if !self.0.grouping.is_empty() {
            write!(f, " by {} ", LabelNames(&self.0.grouping))?;
        }
        Ok(())
    }
}

/// Operator and modifiers: `== bool on (a) group_left (b)`.
pub(crate) struct BinaryHead<'a>(pub(crate) &'a Binary);

impl Display for BinaryHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.text())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        let Some(matching) = &self.0.matching else { return Ok(()) };
        let group = match matching.cardinality {
            Cardinality::ManyToOne => Some("left"),
            Cardinality::OneToMany => Some("right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if matching.on || !matching.labels.is_empty() || group.is_some() {
            let word = if matching.on { "on" } else { "ignoring" };
            write!(f, " {word} {}", LabelNames(&matching.labels))?;
        }
        if let Some(side) = group {
            write!(f, " group_{side} {}", LabelNames(&matching.include))?;
        }
        match (matching.fill_left, matching.fill_right) {
            (Some(left), Some(right)) if left.to_bits() == right.to_bits() => write!(f, " fill ({})", Plain(left)),
            (left, right) => {
                if let Some(left) = left {
                    write!(f, " fill_left ({})", Plain(left))?;
                }
                if let Some(right) = right {
                    write!(f, " fill_right ({})", Plain(right))?;
                }
                Ok(())
            }
        }
    }
}

/// A number in plain decimals.
struct Plain(f64);

impl Display for Plain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        farview_model::number::push_plain(&mut text, self.0);
        f.write_str(&text)
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.duration {
            f.write_str(&duration::format((self.value * 1_000.0).round() as i64))
        } else {
            Plain(self.value).fmt(f)
        }
    }
}

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Millis(millis) => f.write_str(&duration::format(*millis)),
            Self::Expr(expr) => expr.fmt(f),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.wrapped {
            f.write_char('(')?;
        }
        match &self.node {
            DurationNode::Number(number) => number.fmt(f)?,
            DurationNode::Step => f.write_str("step()")?,
            DurationNode::Range => f.write_str("range()")?,
            DurationNode::Unary(op, inner) => write!(f, "{}{inner}", op.text())?,
            DurationNode::Binary(op, a, b) => write!(f, "{a} {} {b}", op.text())?,
            DurationNode::MinOf(a, b) => write!(f, "min_of({a}, {b})")?,
            DurationNode::MaxOf(a, b) => write!(f, "max_of({a}, {b})")?,
        }
        if self.wrapped {
            f.write_char(')')?;
        }
        Ok(())
    }
}

/// ` smoothed @ 5.000 offset 1m`, each part if it is there.
struct Modifiers<'a> {
    extension: Extension,
    at: Option<At>,
    offset: Option<&'a Duration>,
}

impl Display for Modifiers<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.extension {
            Extension::None => {}
            Extension::Anchored => f.write_str(" anchored")?,
            Extension::Smoothed => f.write_str(" smoothed")?,
        }
        match self.at {
            None => {}
            // In integers: a float has not the digits for all of the 64 bits.
            Some(At::Timestamp(millis)) => {
                let sign = if millis < 0 { "-" } else { "" };
                let (seconds, rest) = (millis.unsigned_abs() / 1_000, millis.unsigned_abs() % 1_000);
                write!(f, " @ {sign}{seconds}.{rest:03}")?;
            }
            Some(At::Start) => f.write_str(" @ start()")?,
            Some(At::End) => f.write_str(" @ end()")?,
        }
        match self.offset {
            None | Some(Duration::Millis(0)) => Ok(()),
            Some(offset) => write!(f, " offset {offset}"),
        }
    }
}

/// A selector without what stands behind its braces.
struct Bare<'a>(&'a VectorSelector);

/// Tells whether `name` can stand for a metric outside of braces.
fn is_plain_metric(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
        && !["bool", "on", "ignoring", "group_left", "group_right", "atan2", "inf", "nan"]
            .iter()
            .any(|keyword| name.eq_ignore_ascii_case(keyword))
}

impl Display for Bare<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = self.0.name.as_deref();
        let outside = name.filter(|name| is_plain_metric(name));
        f.write_str(outside.unwrap_or(""))?;
        let is_name = |matcher: &Matcher| {
            matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal && Some(matcher.value()) == name
        };
        // Sorted by their text: two spellings of one selector print the same.
        let mut texts: Vec<String> =
            self.0.matchers.iter().filter(|matcher| !is_name(matcher)).map(matcher_text).collect();
        texts.sort_unstable();
        if let Some(name) = name.filter(|_| outside.is_none()) {
            texts.insert(0, quote(name));
        }
        if texts.is_empty() && name.is_some() { Ok(()) } else { write!(f, "{{{}}}", texts.join(",")) }
    }
}

fn matcher_text(matcher: &Matcher) -> String {
    let (name, op, value) = (matcher.name(), matcher.op().as_str(), quote(matcher.value()));
    if is_legacy_name(name) { format!("{name}{op}{value}") } else { format!("{}{op}{value}", quote(name)) }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let modifiers = Modifiers { extension: self.extension, at: self.at, offset: self.offset.as_ref() };
        write!(f, "{}{modifiers}", Bare(self))
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let VectorSelector { extension, at, offset, .. } = &self.selector;
        let modifiers = Modifiers { extension: *extension, at: *at, offset: offset.as_ref() };
        write!(f, "{}[{}]{modifiers}", Bare(&self.selector), self.range)
    }
}

/// What stands behind the expression of a subquery: `[1h:5m] offset 1m`.
pub(crate) struct SubqueryTime<'a>(pub(crate) &'a Subquery);

impl Display for SubqueryTime<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Subquery { range, step, at, offset, .. } = self.0;
        write!(f, "[{range}:")?;
        if let Some(step) = step {
            step.fmt(f)?;
        }
        let modifiers = Modifiers { extension: Extension::None, at: *at, offset: offset.as_ref() };
        write!(f, "]{modifiers}")
    }
}

impl UnaryOp {
    /// Returns the sign as it is written.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Plus => "+",
            Self::Minus => "-",
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::parse::{Options, parse};

    fn printed(text: &str) -> String {
        parse(text, &Options::all()).unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
    }

    #[test]
    fn the_canonical_form_is_prometheus() {
        for (text, canonical) in [
            ("sum by() (a)", "sum(a)"),
            ("sum(a)by(x,\"y.z\")", "sum by (x, \"y.z\") (a)"),
            ("sum without() (a)", "sum without () (a)"),
            ("topk by(x)(5,a)", "topk by (x) (5, a)"),
            ("a+on()group_left b", "a + on () group_left () b"),
            ("a+ignoring(x)b", "a + ignoring (x) b"),
            ("a+ignoring()b", "a + b"),
            ("a > bool fill(0) b", "a > bool fill (0) b"),
            ("a + fill_right(2) fill_left(1) b", "a + fill_left (1) fill_right (2) b"),
            ("a[300]offset 60@5", "a[5m] @ 5.000 offset 1m"),
            ("a[1h:]@end()offset -5m", "a[1h:] @ end() offset -5m"),
            ("a[1h:5m]", "a[1h:5m]"),
            ("a[(5m)*2+step()]", "a[(5m) * 2 + step()]"),
            ("a offset -(min_of(step(),1s)^2)", "a offset -(min_of(step(), 1s) ^ 2)"),
            ("rate(a[5m]smoothed)", "rate(a[5m] smoothed)"),
            ("a{z=\"1\",b!=\"\",b=~'x\"'}", "a{b!=\"\",b=~\"x\\\"\",z=\"1\"}"),
            ("{\"a.b\",\"c d\"=`e`}", "{\"a.b\",\"c d\"=\"e\"}"),
            ("{\"ab\",c=\"d\"}", "ab{c=\"d\"}"),
            ("{\"bool\"}", "{\"bool\"}"),
            ("{__name__=\"a\"}", "{__name__=\"a\"}"),
            ("-a^-2", "-a ^ -2"),
            ("+5m", "5m"),
            ("- - 1e3", "1000"),
            ("Inf-nan", "+Inf - NaN"),
            ("'\\xff'", r#""\xff""#),
            ("start()", "start()"),
            ("info(a,{x=\"\"})", "info(a, {x=\"\"})"),
        ] {
            assert_eq!(printed(text), canonical, "{text}");
            assert_eq!(printed(canonical), canonical, "again");
        }
    }
}
