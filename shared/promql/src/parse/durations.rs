//! Durations in brackets and behind `offset`, which may be expressions.

use super::*;

impl Parser<'_> {
    /// Reads a whole duration expression, as it stands in brackets.
    pub(super) fn duration_expr(&mut self) -> Result<Duration, ParseError> {
        let start = self.peek().span;
        let expr = self.duration_binary(0)?;
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
        let expr = self.duration_signed(true)?;
        Ok(settle(expr))
    }

    fn duration_binary(&mut self, min: u8) -> Result<DurationExpr, ParseError> {
        self.deeper(|parser| {
            let mut lhs = parser.duration_signed(false)?;
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
                parser.next();
                let rhs = parser.duration_binary(if op == BinaryOp::Pow { precedence } else { precedence + 1 })?;
                let span = Span { start: lhs.span.start, end: rhs.span.end };
                let node = DurationNode::Binary(op, Box::new(lhs), Box::new(rhs));
                lhs = DurationExpr { span, wrapped: false, node };
            }
        })
    }

    fn duration_signed(&mut self, offset: bool) -> Result<DurationExpr, ParseError> {
        let op = match self.peek().kind {
            Kind::Add => UnaryOp::Plus,
            Kind::Sub => UnaryOp::Minus,
            _ => return self.duration_operand(offset),
        };
        let start = self.next().span.start;
        let inner = if offset { self.deeper(|parser| parser.duration_signed(true))? } else { self.duration_binary(3)? };
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

    fn duration_operand(&mut self, offset: bool) -> Result<DurationExpr, ParseError> {
        let token = self.peek().clone();
        let context = if offset { "offset" } else { "duration" };
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
                let inner = self.duration_binary(0)?;
                self.expect(&Kind::RightParen, context, r#"")""#)?;
                let span = Span { start: token.span.start, end: self.last_end() };
                Ok(DurationExpr { span, wrapped: true, node: inner.node })
            }
            Kind::Word if *self.peek_kind(1) == Kind::LeftParen => self.duration_function(context),
            _ => Err(self.unexpected(context, "number, duration, step(), range(), min_of or max_of")),
        }
    }

    fn duration_function(&mut self, context: &str) -> Result<DurationExpr, ParseError> {
        let word = self.keyword();
        if !matches!(word.as_str(), "step" | "range" | "min_of" | "max_of") {
            return Err(self.unexpected(context, "number, duration, step(), range(), min_of or max_of"));
        }
        let start = self.next().span.start;
        self.next();
        let node = match word.as_str() {
            "step" => DurationNode::Step,
            "range" => DurationNode::Range,
            _ => {
                let a = Box::new(self.duration_binary(0)?);
                self.expect(&Kind::Comma, context, r#"",""#)?;
                let b = Box::new(self.duration_binary(0)?);
                if word == "min_of" { DurationNode::MinOf(a, b) } else { DurationNode::MaxOf(a, b) }
            }
        };
        self.expect(&Kind::RightParen, context, r#"")""#)?;
        Ok(DurationExpr { span: Span { start, end: self.last_end() }, wrapped: false, node })
    }
}

/// A plain number or duration is known at once.
fn settle(expr: DurationExpr) -> Duration {
    match &expr.node {
        DurationNode::Number(number) if !expr.wrapped => Duration::Millis(to_millis(number.value)),
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
