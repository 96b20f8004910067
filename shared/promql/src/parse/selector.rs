//! Selectors: matchers in braces, ranges and subqueries in brackets, `@`, `offset`, `anchored` and `smoothed`.

use super::durations::DURATIONS;
use super::*;

impl Parser<'_> {
    /// Reads `name{matchers}`.
    pub(super) fn vector_selector(&mut self) -> Result<Tree, ParseError> {
        let start = self.peek().span;
        let mut name = None;
        let mut matchers = Vec::new();
        if self.peek().kind == Kind::Word {
            let word = self.source(start).to_owned();
            self.next();
            matchers.push(Matcher::equal(METRIC_NAME, word.as_str()));
            name = Some(word);
        }
        if self.take(&Kind::LeftBrace) {
            self.matchers(&mut name, &mut matchers)?;
        }
        let span = Span { start: start.start, end: self.last_end() };
        if let Err(error) = self.check_matchers(span, name.is_some(), &matchers) {
            self.type_error.get_or_insert(error);
        }
        let selector =
            VectorSelector { name, matchers: matchers.into(), offset: None, at: None, extension: Extension::None };
        Ok(Tree { expr: Expr { span, node: Node::Vector(selector) }, height: 1 })
    }

    fn check_matchers(&self, span: Span, named: bool, matchers: &[Matcher]) -> Result<(), ParseError> {
        if named {
            let mut names = matchers.iter().filter(|matcher| matcher.name() == METRIC_NAME);
            if let (Some(first), Some(second)) = (names.next(), names.next()) {
                let (first, second) = (quote(first.value()), quote(second.value()));
                let message = format!("metric name must not be set twice: {first} or {second}");
                return Err(ParseError::new(span, message));
            }
        }
        if matchers.iter().all(Matcher::matches_empty) && !self.empty_selectors {
            let message = "vector selector must contain at least one non-empty matcher";
            return Err(ParseError::new(span, message));
        }
        Ok(())
    }

    fn matchers(&mut self, name: &mut Option<String>, matchers: &mut Vec<Matcher>) -> Result<(), ParseError> {
        const CONTEXT: &str = "label matching";
        while !self.take(&Kind::RightBrace) {
            let token = self.next();
            let label = match &token.kind {
                Kind::Word => self.source(token.span).to_owned(),
                Kind::String(value) => utf8(value, token.span)?,
                _ => {
                    self.at = self.at.saturating_sub(usize::from(!matches!(token.kind, Kind::End | Kind::Error)));
                    return Err(self.unexpected(CONTEXT, r#"identifier or "}""#));
                }
            };
            let op = match self.peek().kind {
                Kind::Equal => MatchOp::Equal,
                Kind::NotEqual => MatchOp::NotEqual,
                Kind::EqualRegex => MatchOp::Regex,
                Kind::NotEqualRegex => MatchOp::NotRegex,
                // A bare string is the name of the metric.
                Kind::Comma | Kind::RightBrace if matches!(token.kind, Kind::String(_)) => {
                    matchers.push(Matcher::equal(METRIC_NAME, label.as_str()));
                    name.get_or_insert(label);
                    self.comma_or_brace(CONTEXT)?;
                    continue;
                }
                _ => return Err(self.unexpected(CONTEXT, "label matching operator")),
            };
            self.next();
            let value = self.next();
            let Kind::String(text) = &value.kind else {
                self.at = self.at.saturating_sub(usize::from(!matches!(value.kind, Kind::End | Kind::Error)));
                return Err(self.unexpected(CONTEXT, "string"));
            };
            let matcher = Matcher::new(op, label, utf8(text, value.span)?).map_err(
                |farview_model::MatcherError::Regex { reason, .. }| ParseError::new(token.span, reason.to_string()),
            )?;
            matchers.push(matcher);
            self.comma_or_brace(CONTEXT)?;
        }
        Ok(())
    }

    fn comma_or_brace(&mut self, context: &str) -> Result<(), ParseError> {
        if self.take(&Kind::Comma) || self.peek().kind == Kind::RightBrace {
            return Ok(());
        }
        Err(self.unexpected(context, r#""," or "}""#))
    }

    /// Reads `[range]` or `[range:step]` behind an operand.
    pub(super) fn brackets(&mut self, tree: Tree) -> Result<Tree, ParseError> {
        let open = self.next().span;
        let range = self.duration_expr("subquery or range selector", DURATIONS)?;
        if self.take(&Kind::Colon) {
            let step = match self.peek().kind {
                Kind::RightBracket => None,
                _ => Some(self.duration_expr("subquery selector", r#"number, duration, step(), range(), or "]""#)?),
            };
            self.expect(&Kind::RightBracket, "subquery selector", r#""]""#)?;
            return self.subquery(tree, range, step);
        }
        self.expect(&Kind::RightBracket, "subquery or range", r#"":" or "]""#)?;
        let span = Span { start: tree.expr.span.start, end: self.last_end() };
        let error = |message: &str| Err(ParseError::new(Span { start: open.start, end: span.end }, message));
        let Node::Vector(selector) = tree.expr.node else {
            return error("ranges only allowed for vector selectors");
        };
        if selector.offset.is_some() {
            return error("no offset modifiers allowed before range");
        }
        if selector.at.is_some() {
            return error("no @ modifiers allowed before range");
        }
        if selector.extension != Extension::None {
            return error("no anchored or smoothed modifiers allowed before range");
        }
        let node = Node::Matrix(MatrixSelector { selector, selector_span: tree.expr.span, range });
        self.grown(Expr { span, node }, tree.height + 1)
    }

    fn subquery(&mut self, tree: Tree, range: Duration, step: Option<Duration>) -> Result<Tree, ParseError> {
        let span = Span { start: tree.expr.span.start, end: self.last_end() };
        let kind = tree.expr.value_type();
        if kind != ValueType::Vector {
            let kind = if kind == ValueType::Matrix { "matrix" } else { kind.text() };
            let message = format!("subquery is only allowed on instant vector, got {kind} instead");
            self.type_error.get_or_insert(ParseError::new(span, message));
        }
        let height = tree.height + 1;
        let node = Node::Subquery(Subquery { expr: Box::new(tree.expr), range, step, offset: None, at: None });
        self.grown(Expr { span, node }, height)
    }

    /// Reads `offset duration`.
    pub(super) fn offset(&mut self, mut tree: Tree) -> Result<Tree, ParseError> {
        let span = tree.expr.span;
        self.next();
        let duration = self.offset_duration()?;
        tree.expr.span.end = self.last_end();
        let slot = match &mut tree.expr.node {
            Node::Vector(selector) => &mut selector.offset,
            Node::Matrix(matrix) => &mut matrix.selector.offset,
            Node::Subquery(subquery) => &mut subquery.offset,
            _ => {
                let message = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return Err(ParseError::new(span, message));
            }
        };
        if slot.is_some() {
            return Err(ParseError::new(span, "offset may not be set multiple times"));
        }
        *slot = Some(duration);
        Ok(tree)
    }

    /// Reads `@ time`, `@ start()` or `@ end()`.
    pub(super) fn at_modifier(&mut self, mut tree: Tree) -> Result<Tree, ParseError> {
        let span = tree.expr.span;
        self.next();
        let at = match self.keyword().as_str() {
            word @ ("start" | "end") => {
                self.next();
                self.expect(&Kind::LeftParen, "@", "timestamp")?;
                self.expect(&Kind::RightParen, "@", "timestamp")?;
                if word == "start" { At::Start } else { At::End }
            }
            _ => At::Timestamp(self.timestamp(span)?),
        };
        tree.expr.span.end = self.last_end();
        let slot = match &mut tree.expr.node {
            Node::Vector(selector) => &mut selector.at,
            Node::Matrix(matrix) => &mut matrix.selector.at,
            Node::Subquery(subquery) => &mut subquery.at,
            _ => {
                let message =
                    "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return Err(ParseError::new(span, message));
            }
        };
        if slot.is_some() {
            return Err(ParseError::new(span, "@ <timestamp> may not be set multiple times"));
        }
        *slot = Some(at);
        Ok(tree)
    }

    fn timestamp(&mut self, selector: Span) -> Result<i64, ParseError> {
        let negative = match self.peek().kind {
            Kind::Sub | Kind::Add => self.next().kind == Kind::Sub,
            _ => false,
        };
        let seconds = match self.peek().kind {
            Kind::Number(value) => value,
            Kind::Duration(millis) => millis as f64 / 1_000.0,
            Kind::Word if matches!(self.keyword().as_str(), "inf" | "nan") => {
                if self.keyword() == "inf" {
                    f64::INFINITY
                } else {
                    f64::NAN
                }
            }
            _ => return Err(self.unexpected("@", "timestamp")),
        };
        self.next();
        let seconds = if negative { -seconds } else { seconds };
        let millis = (seconds * 1_000.0).round();
        if !(millis.is_finite() && millis.abs() < i64::MAX as f64) {
            let message = format!("timestamp out of bounds for @ modifier: {}", fixed(seconds));
            return Err(ParseError::new(selector, message));
        }
        Ok(millis as i64)
    }

    /// Reads `anchored` or `smoothed`.
    pub(super) fn extension(&mut self, mut tree: Tree, extension: Extension) -> Result<Tree, ParseError> {
        let at = self.next().span;
        let word = if extension == Extension::Anchored { "anchored" } else { "smoothed" };
        if !self.options.extended_range_selectors {
            let message = format!("{word} modifier is experimental and not enabled");
            return Err(ParseError::new(at, message));
        }
        tree.expr.span.end = self.last_end();
        let slot = match &mut tree.expr.node {
            Node::Vector(selector) => {
                if extension == Extension::Anchored {
                    let message = "anchored modifier must be preceded by a range selector";
                    return Err(ParseError::new(at, message));
                }
                &mut selector.extension
            }
            Node::Matrix(matrix) => &mut matrix.selector.extension,
            Node::Subquery(_) => {
                return Err(ParseError::new(at, format!("{word} modifier is not supported for subqueries")));
            }
            _ => {
                let message = format!("{word} modifier must be preceded by an instant or range selector");
                return Err(ParseError::new(at, message));
            }
        };
        if *slot != Extension::None {
            let message = if *slot == extension {
                format!("{word} modifier may not be set multiple times")
            } else {
                "anchored and smoothed modifiers cannot be used together".to_owned()
            };
            return Err(ParseError::new(at, message));
        }
        *slot = extension;
        Ok(tree)
    }
}

/// Go's `%f`.
fn fixed(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        format!("{value:.6}")
    }
}

fn utf8(bytes: &[u8], span: Span) -> Result<String, ParseError> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| ParseError::new(span, format!("not valid UTF-8: {}", crate::quote::quote_bytes(bytes))))
}
