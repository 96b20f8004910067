//! Durations in brackets and behind `offset`, which may be expressions.

use super::*;

/// What may begin a duration, for error texts.
pub(super) const DURATIONS: &str = "number, duration, step(), or range()";

/// Where a duration stands and what is expected there, for error texts.
type Place<'a> = (&'a str, &'a str);

impl Parser<'_> {
    /// Reads a whole duration expression, as it stands in brackets.
    /// Whatever is unexpected is reported for the place given.
    pub(super) fn duration_expr(&mut self, context: &str, expected: &str) -> Result<Duration, ParseError> {
        let start = self.peek().span;
        let expr = self.duration_binary(0, (context, expected))?;
        let duration = settle(expr);
        if let Duration::Millis(millis) = duration
            && millis <= 0
        {
            let span = Span { start: start.start, end: self.last_end() };
            return Err(ParseError::new(span, "duration must be greater than 0"));
        }
        Ok(duration)
    }

    /// Reads what `offset` takes: one operand with signs. `foo offset -2^2` is `(foo offset -2)^2`.
    pub(super) fn offset_duration(&mut self) -> Result<Duration, ParseError> {
        let expr = self.duration_signed(true, ("offset", DURATIONS))?;
        Ok(settle(expr))
    }

    fn duration_binary(&mut self, min: u8, place: Place<'_>) -> Result<DurationExpr, ParseError> {
        self.deeper(|parser| {
            let mut lhs = parser.duration_signed(false, place)?;
            let mut terms = 0;
            loop {
                let (precedence, op) = match parser.peek().kind {
                    Kind::Add => (1, BinaryOp::Add),
                    Kind::Sub => (1, BinaryOp::Sub),
                    Kind::Mul => (2, BinaryOp::Mul),
                    Kind::Div => (2, BinaryOp::Div),
                    Kind::Mod => (2, BinaryOp::Mod),
                    Kind::Pow => (3, BinaryOp::Pow),
                    _ => return Ok(lhs),
                };
                if precedence < min {
                    return Ok(lhs);
                }
                terms += 1;
                if terms > parser.options.limits.depth {
                    return Err(ParseError::new(parser.peek().span, "duration expression has too many terms"));
                }
                let operator = parser.next().span;
                let rhs =
                    parser.duration_binary(if op == BinaryOp::Pow { precedence } else { precedence + 1 }, place)?;
                let span = Span { start: lhs.span.start, end: rhs.span.end };
                if let (DurationNode::Number(NumberLiteral { value: 0.0, .. }), BinaryOp::Div | BinaryOp::Mod) =
                    (&rhs.node, op)
                {
                    let word = if op == BinaryOp::Div { "division" } else { "modulo" };
                    return Err(ParseError::new(operator, format!("{word} by zero")));
                }
                let node = DurationNode::Binary(op, Box::new(lhs), Box::new(rhs));
                lhs = DurationExpr { span, wrapped: false, node };
            }
        })
    }

    fn duration_signed(&mut self, offset: bool, place: Place<'_>) -> Result<DurationExpr, ParseError> {
        let op = match self.peek().kind {
            Kind::Add => UnaryOp::Plus,
            Kind::Sub => UnaryOp::Minus,
            _ => return self.duration_operand(place),
        };
        let start = self.next().span.start;
        let inner = if offset {
            self.deeper(|parser| parser.duration_signed(true, place))?
        } else {
            self.duration_binary(3, place)?
        };
        let span = Span { start, end: inner.span.end };
        if let DurationNode::Number(number) = &inner.node
            && !inner.wrapped
        {
            let value = if op == UnaryOp::Minus { -number.value } else { number.value };
            let node = DurationNode::Number(NumberLiteral { value, duration: number.duration });
            return Ok(DurationExpr { span, wrapped: false, node });
        }
        Ok(DurationExpr { span, wrapped: false, node: DurationNode::Unary(op, Box::new(inner)) })
    }

    fn duration_operand(&mut self, place: Place<'_>) -> Result<DurationExpr, ParseError> {
        let token = self.peek().clone();
        let leaf = |node| DurationExpr { span: token.span, wrapped: false, node };
        match token.kind {
            Kind::Number(value) => {
                self.next();
                if !value.is_finite() || (value * 1_000.0).abs() >= crate::duration::MAX_MILLIS as f64 {
                    return Err(ParseError::new(token.span, "duration out of range"));
                }
                Ok(leaf(DurationNode::Number(NumberLiteral { value, duration: false })))
            }
            Kind::Duration(millis) => {
                self.next();
                let value = millis as f64 / 1_000.0;
                Ok(leaf(DurationNode::Number(NumberLiteral { value, duration: true })))
            }
            Kind::LeftParen => {
                self.next();
                let inner = self.duration_binary(0, place)?;
                self.expect(&Kind::RightParen, place.0, place.1)?;
                let span = Span { start: token.span.start, end: self.last_end() };
                Ok(DurationExpr { span, wrapped: true, node: inner.node })
            }
            Kind::Word if matches!(self.keyword().as_str(), "inf" | "nan") => {
                Err(ParseError::new(token.span, "duration out of range"))
            }
            Kind::Word if *self.peek_kind(1) == Kind::LeftParen => self.duration_function(place),
            _ => Err(self.unexpected(place.0, place.1)),
        }
    }

    fn duration_function(&mut self, place: Place<'_>) -> Result<DurationExpr, ParseError> {
        let word = self.keyword();
        if !matches!(word.as_str(), "step" | "range" | "min_of" | "max_of") {
            return Err(self.unexpected(place.0, place.1));
        }
        let start = self.next().span.start;
        self.next();
        let node = match word.as_str() {
            "step" => DurationNode::Step,
            "range" => DurationNode::Range,
            _ => {
                let a = Box::new(self.duration_binary(0, place)?);
                self.expect(&Kind::Comma, place.0, place.1)?;
                let b = Box::new(self.duration_binary(0, place)?);
                if word == "min_of" { DurationNode::MinOf(a, b) } else { DurationNode::MaxOf(a, b) }
            }
        };
        self.expect(&Kind::RightParen, place.0, place.1)?;
        Ok(DurationExpr { span: Span { start, end: self.last_end() }, wrapped: false, node })
    }
}

/// A plain number or duration is known at once.
fn settle(expr: DurationExpr) -> Duration {
    match &expr.node {
        DurationNode::Number(number) => Duration::Millis(to_millis(number.value)),
        _ => Duration::Expr(Box::new(expr)),
    }
}

/// Seconds to milliseconds; what is below one is cut off. Literals such as 0.3 are rounded to nanoseconds first.
fn to_millis(seconds: f64) -> i64 {
    ((seconds * 1e9).round() / 1e6) as i64
}

/// Computes a duration expression for a query of that step and range (ms), in milliseconds.
///
/// # Errors
/// [`ParseError`] with Prometheus' text, for results that are no duration.
pub fn fold(expr: &DurationExpr, step: i64, range: i64) -> Result<i64, ParseError> {
    let seconds = seconds(expr, step, range)?;
    if !seconds.is_finite() {
        return Err(ParseError::new(expr.span, "duration is NaN or infinite"));
    }
    if (seconds * 1_000.0).abs() >= crate::duration::MAX_MILLIS as f64 {
        return Err(ParseError::new(expr.span, "duration is out of range"));
    }
    Ok(to_millis(seconds))
}

fn seconds(expr: &DurationExpr, step: i64, range: i64) -> Result<f64, ParseError> {
    Ok(match &expr.node {
        DurationNode::Number(number) => number.value,
        DurationNode::Step => step as f64 / 1_000.0,
        DurationNode::Range => range as f64 / 1_000.0,
        DurationNode::Unary(UnaryOp::Plus, inner) => seconds(inner, step, range)?,
        DurationNode::Unary(UnaryOp::Minus, inner) => -seconds(inner, step, range)?,
        DurationNode::MinOf(a, b) => seconds(a, step, range)?.min(seconds(b, step, range)?),
        DurationNode::MaxOf(a, b) => seconds(a, step, range)?.max(seconds(b, step, range)?),
        DurationNode::Binary(op, a, b) => {
            let (x, y) = (seconds(a, step, range)?, seconds(b, step, range)?);
            match op {
                BinaryOp::Add => x + y,
                BinaryOp::Sub => x - y,
                BinaryOp::Mul => x * y,
                BinaryOp::Div if y == 0.0 => return Err(ParseError::new(expr.span, "division by zero")),
                BinaryOp::Div => x / y,
                BinaryOp::Mod if y == 0.0 => return Err(ParseError::new(expr.span, "modulo by zero")),
                BinaryOp::Mod => x % y,
                _ => x.powf(y),
            }
        }
    })
}
