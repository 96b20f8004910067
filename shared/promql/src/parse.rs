//! Tokens to syntax tree: precedence climbing, then the type check of each node as it is made.
//!
//! Everything is bounded: the bytes of the text, how deep expressions nest, and how high the tree grows (a flat chain of
//! `+` grows high to the left), so that neither parsing, evaluating nor dropping a tree can overflow a stack.

use crate::ast::*;
use crate::functions::{self, Gate};
use crate::lexer::{Kind, Lexed, Token, lex};
use crate::quote::quote;
use farview_model::{METRIC_NAME, MatchOp, Matcher};

mod check;
pub mod durations;
mod selector;

/// What of the language is on beside its stable part, by Prometheus' feature flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// `promql-experimental-functions`: functions and aggregations.
    pub experimental_functions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left`, `fill_right`.
    pub fill_modifiers: bool,
    /// Thanos' `xrate`, `xincrease`, `xdelta`.
    pub x_functions: bool,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of a query's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of text.
    pub bytes: usize,
    /// How deep parentheses, calls and signs may nest.
    pub depth: usize,
    /// How many terms a chain may have, and nodes on the longest path of the tree.
    pub height: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 10, depth: 128, height: 2_000 }
    }
}

impl Options {
    /// Everything on.
    pub fn all() -> Self {
        Self {
            experimental_functions: true,
            extended_range_selectors: true,
            fill_modifiers: true,
            x_functions: true,
            limits: Limits::default(),
        }
    }
}

/// Why a text is no query. Shown as Prometheus shows it: `1:5: parse error: …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: parse error: {message}", self.place())]
pub struct ParseError {
    /// Where in the text.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// Line of the start, from 1; 0 for a text that is empty.
    pub line: usize,
    /// Byte of the start in its line, from 1.
    pub column: usize,
    /// The limit that the text hits, if that is what is wrong.
    pub limit: Option<Limit>,
}

/// Limits on texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::bytes`]
    Bytes,
    /// [`Limits::depth`]
    Depth,
    /// [`Limits::height`]
    Height,
}

impl ParseError {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), line: 1, column: 1, limit: None }
    }

    fn of_limit(self, limit: Limit) -> Self {
        Self { limit: Some(limit), ..self }
    }

    fn placed(mut self, text: &str) -> Self {
        (self.line, self.column) = if text.is_empty() { (0, 0) } else { line_and_column(text, self.span.start) };
        self
    }

    fn place(&self) -> String {
        match self.line {
            0 => "unknown position".to_owned(),
            line => format!("{line}:{}", self.column),
        }
    }
}

/// Returns line and column of a byte, both from 1; columns count bytes.
pub fn line_and_column(text: &str, at: u32) -> (usize, usize) {
    let before = &text.as_bytes()[..(at as usize).min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

/// Reads a query.
///
/// # Errors
/// [`ParseError`] with Prometheus' text, or naming the limit that the query passes.
pub fn parse(text: &str, options: &Options) -> Result<Expr, ParseError> {
    let run = || {
        let mut parser = Parser::new(text, options)?;
        if parser.peek().kind == Kind::End {
            return Err(ParseError::new(Span::default(), "no expression found in input"));
        }
        let expr = parser.expr(0)?;
        parser.end()?;
        parser.typed(expr.expr)
    };
    run().map_err(|error: ParseError| error.placed(text))
}

/// Reads a series selector without modifiers, as in `match[]`.
///
/// # Errors
/// As [`parse`].
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    selector(text, false)
}

/// As [`parse_selector`], for choosing among few things: every matcher may match the empty string, as in `storeMatch[]`.
///
/// # Errors
/// As [`parse`].
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, ParseError> {
    selector(text, true)
}

fn selector(text: &str, may_be_empty: bool) -> Result<Vec<Matcher>, ParseError> {
    let run = || {
        let options = Options::default();
        let mut parser = Parser::new(text, &options)?;
        parser.empty_selectors = may_be_empty;
        let selector = match parser.peek().kind {
            Kind::Word | Kind::LeftBrace => parser.vector_selector()?.expr,
            _ => return Err(parser.unexpected("", "series selector")),
        };
        parser.end()?;
        match parser.typed(selector)?.node {
            Node::Vector(selector) => Ok(selector.matchers.to_vec()),
            _ => Err(ParseError::new(Span::default(), "a series selector is wanted")),
        }
    };
    run().map_err(|error: ParseError| error.placed(text))
}

/// An expression and the height of its tree.
struct Tree {
    expr: Expr,
    height: usize,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    /// What the last token means if it is none.
    lexical_error: Option<ParseError>,
    /// The first error of types. It counts only if the grammar has nothing to complain about.
    type_error: Option<ParseError>,
    at: usize,
    depth: usize,
    /// How many aggregations are being read: Prometheus names them as the place of what is unexpected.
    aggregations: usize,
    options: &'a Options,
    /// Within `info(…)`, whose second argument may match the empty string.
    empty_selectors: bool,
}

/// Binary operators: precedence and the operator.
fn binary_op(parser: &Parser<'_>) -> Option<(u8, BinaryOp)> {
    use BinaryOp::*;
    Some(match parser.peek().kind {
        Kind::Add => (4, Add),
        Kind::Sub => (4, Sub),
        Kind::Mul => (5, Mul),
        Kind::Div => (5, Div),
        Kind::Mod => (5, Mod),
        Kind::Pow => (6, Pow),
        Kind::EqlEql => (3, Eq),
        Kind::NotEqual => (3, Ne),
        Kind::Less => (3, Lt),
        Kind::LessEqual => (3, Le),
        Kind::Greater => (3, Gt),
        Kind::GreaterEqual => (3, Ge),
        Kind::TrimUpper => (3, TrimUpper),
        Kind::TrimLower => (3, TrimLower),
        Kind::Word => match parser.keyword().as_str() {
            "or" => (1, Or),
            "and" => (2, And),
            "unless" => (2, Unless),
            "atan2" => (5, Atan2),
            _ => return None,
        },
        _ => return None,
    })
}

/// Words (in lower case) that are neither operators nor aggregations, but mean something where they stand.
fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "by" | "without"
            | "on"
            | "ignoring"
            | "group_left"
            | "group_right"
            | "bool"
            | "offset"
            | "anchored"
            | "smoothed"
            | "fill"
            | "fill_left"
            | "fill_right"
    )
}

/// Returns the aggregation of that (lower-case) name.
pub(crate) fn aggregate_op(word: &str) -> Option<AggregateOp> {
    use AggregateOp::*;
    Some(match word {
        "sum" => Sum,
        "avg" => Avg,
        "min" => Min,
        "max" => Max,
        "count" => Count,
        "group" => Group,
        "stddev" => Stddev,
        "stdvar" => Stdvar,
        "topk" => TopK,
        "bottomk" => BottomK,
        "quantile" => Quantile,
        "count_values" => CountValues,
        "limitk" => LimitK,
        "limit_ratio" => LimitRatio,
        _ => return None,
    })
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, options: &'a Options) -> Result<Self, ParseError> {
        let limit = options.limits.bytes;
        if text.len() > limit {
            let message = format!("query of {} bytes is longer than the limit of {limit}", text.len());
            return Err(ParseError::new(Span::default(), message).of_limit(Limit::Bytes));
        }
        let Lexed { tokens, error } = lex(text);
        Ok(Self {
            text,
            tokens,
            lexical_error: error,
            type_error: None,
            at: 0,
            depth: 0,
            aggregations: 0,
            options,
            empty_selectors: false,
        })
    }

    /// Gives the tree out if all its types fit.
    fn typed(&mut self, expr: Expr) -> Result<Expr, ParseError> {
        self.type_error.take().map_or(Ok(expr), Err)
    }

    /// Keeps the first error of types; the node that has it is as good as any other from then on.
    fn checked(&mut self, node: Result<Node, ParseError>) -> Node {
        node.unwrap_or_else(|error| {
            self.type_error.get_or_insert(error);
            Node::Paren(Box::new(Expr {
                span: Span::default(),
                node: Node::Number(NumberLiteral { value: 0.0, duration: false }),
            }))
        })
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn peek_kind(&self, ahead: usize) -> &Kind {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].kind
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn take(&mut self, kind: &Kind) -> bool {
        let found = self.peek().kind == *kind;
        if found {
            self.next();
        }
        found
    }

    fn source(&self, span: Span) -> &'a str {
        &self.text[span.start as usize..span.end as usize]
    }

    /// The word at hand in lower case: keywords are case-blind.
    fn keyword(&self) -> String {
        match self.peek().kind {
            Kind::Word => self.source(self.peek().span).to_ascii_lowercase(),
            _ => String::new(),
        }
    }

    fn last_end(&self) -> u32 {
        self.tokens[self.at.saturating_sub(1)].span.end
    }

    fn describe(&self) -> String {
        let token = self.peek();
        let source = self.source(token.span);
        match token.kind {
            Kind::End | Kind::Error => "end of input".to_owned(),
            Kind::Word => match self.keyword().as_str() {
                word if aggregate_op(word).is_some() => format!("<aggr:{source}>"),
                "and" | "or" | "unless" | "atan2" => format!("<op:{source}>"),
                "start" | "end" | "step" | "range" => quote(source),
                "inf" | "nan" => format!("number {}", quote(source)),
                word if is_keyword(word) => format!("<{source}>"),
                _ if source.contains(':') => format!("metric identifier {}", quote(source)),
                _ => format!("identifier {}", quote(source)),
            },
            Kind::Number(_) => format!("number {}", quote(source)),
            Kind::Duration(_) => format!("duration {}", quote(source)),
            Kind::String(_) => {
                let shown = if source.len() > 10 {
                    let cut = source.char_indices().nth(10).map_or(source.len(), |(at, _)| at);
                    format!("{}...", quote(&source[..cut]))
                } else {
                    quote(source)
                };
                format!("string {shown}")
            }
            Kind::LeftParen
            | Kind::RightParen
            | Kind::LeftBrace
            | Kind::RightBrace
            | Kind::LeftBracket
            | Kind::RightBracket
            | Kind::Comma
            | Kind::Colon
            | Kind::At
            | Kind::Equal => quote(source),
            _ => format!("<op:{source}>"),
        }
    }

    fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        if let (Kind::Error, Some(error)) = (&self.peek().kind, &self.lexical_error) {
            return error.clone();
        }
        let context = if context.is_empty() && self.aggregations > 0 { "aggregation" } else { context };
        let mut message = format!("unexpected {}", self.describe());
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        ParseError::new(self.peek().span, message)
    }

    fn expect(&mut self, kind: &Kind, context: &str, expected: &str) -> Result<(), ParseError> {
        if self.take(kind) { Ok(()) } else { Err(self.unexpected(context, expected)) }
    }

    fn end(&self) -> Result<(), ParseError> {
        if self.peek().kind == Kind::End { Ok(()) } else { Err(self.unexpected("", "")) }
    }

    fn grown(&self, expr: Expr, height: usize) -> Result<Tree, ParseError> {
        let limit = self.options.limits.height;
        if height > limit {
            let message = format!("expression has more than {limit} terms in a chain");
            return Err(ParseError::new(expr.span, message).of_limit(Limit::Height));
        }
        Ok(Tree { expr, height })
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        let limit = self.options.limits.depth;
        if self.depth >= limit {
            let message = format!("expression is nested deeper than {limit} levels");
            return Err(ParseError::new(self.peek().span, message).of_limit(Limit::Depth));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Reads an expression whose operators bind at least as strongly as `min`.
    fn expr(&mut self, min: u8) -> Result<Tree, ParseError> {
        self.deeper(|parser| parser.expr_inner(min))
    }

    fn expr_inner(&mut self, min: u8) -> Result<Tree, ParseError> {
        let mut lhs = self.unary()?;
        while let Some((precedence, op)) = binary_op(self) {
            if precedence < min {
                break;
            }
            let operator = self.next().span;
            let (return_bool, matching) = self.binary_modifiers(op)?;
            // ^ alone groups to the right.
            let rhs = self.expr(if op == BinaryOp::Pow { precedence } else { precedence + 1 })?;
            let height = lhs.height.max(rhs.height) + 1;
            let span = Span { start: lhs.expr.span.start, end: rhs.expr.span.end };
            let binary = Binary { op, lhs: lhs.expr, rhs: rhs.expr, return_bool, matching: Some(matching) };
            let node = self.checked(check::binary(span, operator, binary));
            lhs = self.grown(Expr { span, node }, height)?;
        }
        Ok(lhs)
    }

    fn unary(&mut self) -> Result<Tree, ParseError> {
        let op = match self.peek().kind {
            Kind::Add => UnaryOp::Plus,
            Kind::Sub => UnaryOp::Minus,
            _ => return self.postfix(),
        };
        let start = self.next().span.start;
        // A sign binds as strongly as a product: -1^2 is -(1^2), and -a*b is (-a)*b.
        let operand = self.expr(6)?;
        let span = Span { start, end: operand.expr.span.end };
        if let Node::Number(number) = &operand.expr.node {
            let value = if op == UnaryOp::Minus { -number.value } else { number.value };
            let node = Node::Number(NumberLiteral { value, duration: number.duration });
            return Ok(Tree { expr: Expr { span, node }, height: 1 });
        }
        let kind = operand.expr.value_type();
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            let message = format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                quote(kind.text())
            );
            self.type_error.get_or_insert(ParseError::new(span, message));
        }
        let height = operand.height + 1;
        let node = Node::Unary(Unary { op, expr: Box::new(operand.expr) });
        self.grown(Expr { span, node }, height)
    }

    /// Reads an operand with its brackets and modifiers.
    fn postfix(&mut self) -> Result<Tree, ParseError> {
        let mut tree = self.primary()?;
        loop {
            tree = match self.peek().kind {
                Kind::LeftBracket => self.brackets(tree)?,
                Kind::At => self.at_modifier(tree)?,
                Kind::Word => match self.keyword().as_str() {
                    "offset" => self.offset(tree)?,
                    word @ ("anchored" | "smoothed") => {
                        let extension = if word == "anchored" { Extension::Anchored } else { Extension::Smoothed };
                        self.extension(tree, extension)?
                    }
                    _ => return Ok(tree),
                },
                _ => return Ok(tree),
            };
        }
    }

    fn primary(&mut self) -> Result<Tree, ParseError> {
        let token = self.peek().clone();
        let leaf = |node| Ok(Tree { expr: Expr { span: token.span, node }, height: 1 });
        match token.kind {
            Kind::Number(value) => {
                self.next();
                leaf(Node::Number(NumberLiteral { value, duration: false }))
            }
            Kind::Duration(millis) => {
                self.next();
                leaf(Node::Number(NumberLiteral { value: millis as f64 / 1_000.0, duration: true }))
            }
            Kind::String(value) => {
                self.next();
                leaf(Node::String(StringLiteral { value }))
            }
            Kind::LeftParen => {
                self.next();
                let inner = self.expr(0)?;
                self.expect(&Kind::RightParen, "", "")?;
                let span = Span { start: token.span.start, end: self.last_end() };
                let height = inner.height + 1;
                self.grown(Expr { span, node: Node::Paren(Box::new(inner.expr)) }, height)
            }
            Kind::LeftBrace => self.vector_selector(),
            Kind::Word => self.word(token),
            _ => Err(self.unexpected("", "")),
        }
    }

    /// A word may be a number, an aggregation, a function or a metric; nearly every keyword is a metric's name where an
    /// operand must stand.
    fn word(&mut self, token: Token) -> Result<Tree, ParseError> {
        let source = self.source(token.span);
        let lower = source.to_ascii_lowercase();
        let called = *self.peek_kind(1) == Kind::LeftParen;
        if !source.contains(':') {
            if matches!(lower.as_str(), "inf" | "nan") {
                self.next();
                let value = if lower == "inf" { f64::INFINITY } else { f64::NAN };
                let node = Node::Number(NumberLiteral { value, duration: false });
                return Ok(Tree { expr: Expr { span: token.span, node }, height: 1 });
            }
            if matches!(lower.as_str(), "bool" | "on" | "ignoring" | "group_left" | "group_right" | "atan2") {
                return Err(self.unexpected("", ""));
            }
            if let Some(op) = aggregate_op(&lower)
                && (called || self.grouping_follows())
            {
                return self.aggregate(token, op);
            }
            if called && !is_keyword(&lower) && !matches!(lower.as_str(), "and" | "or" | "unless") {
                return self.call(token);
            }
        }
        self.vector_selector()
    }

    fn grouping_follows(&self) -> bool {
        let Kind::Word = self.peek_kind(1) else { return false };
        let word = self.source(self.tokens[self.at + 1].span);
        word.eq_ignore_ascii_case("by") || word.eq_ignore_ascii_case("without")
    }

    /// Reads `(a, b)`, a list of label names.
    fn label_list(&mut self) -> Result<Vec<String>, ParseError> {
        const CONTEXT: &str = "grouping opts";
        self.expect(&Kind::LeftParen, CONTEXT, r#""(""#)?;
        let mut labels = Vec::new();
        while !self.take(&Kind::RightParen) {
            let token = self.peek().clone();
            let name = match &token.kind {
                Kind::Word if self.source(token.span).contains(':') => {
                    let label = quote(self.source(token.span));
                    return Err(ParseError::new(token.span, format!("invalid label name for grouping: {label}")));
                }
                Kind::Word if !matches!(self.keyword().as_str(), "without" | "inf" | "nan") => {
                    self.source(token.span).to_owned()
                }
                Kind::String(value) => {
                    String::from_utf8(value.clone()).ok().filter(|name| !name.is_empty()).ok_or_else(|| {
                        ParseError::new(
                            token.span,
                            format!("invalid label name for grouping: {}", crate::quote::quote_bytes(value)),
                        )
                    })?
                }
                _ => return Err(self.unexpected(CONTEXT, "label")),
            };
            self.next();
            labels.push(name);
            if !self.take(&Kind::Comma) && self.peek().kind != Kind::RightParen {
                return Err(self.unexpected(CONTEXT, r#""," or ")""#));
            }
        }
        Ok(labels)
    }

    fn grouping(&mut self) -> Result<Option<(bool, Vec<String>)>, ParseError> {
        let without = match self.keyword().as_str() {
            "by" => false,
            "without" => true,
            _ => return Ok(None),
        };
        self.next();
        Ok(Some((without, self.label_list()?)))
    }

    fn aggregate(&mut self, token: Token, op: AggregateOp) -> Result<Tree, ParseError> {
        self.next();
        self.aggregations += 1;
        let mut grouping = self.grouping()?;
        let args = self.args("aggregation")?;
        self.aggregations -= 1;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let span = Span { start: token.span.start, end: self.last_end() };
        let (without, grouping) = grouping.unwrap_or_default();
        let height = args.iter().map(|arg| arg.height).max().unwrap_or(0) + 1;
        let args = args.into_iter().map(|arg| arg.expr).collect();
        let aggregate = check::aggregate(self, span, op, args, grouping, without)?;
        let node = self.checked(check::aggregate_types(aggregate).map(Node::Aggregate));
        self.grown(Expr { span, node }, height)
    }

    fn args(&mut self, context: &str) -> Result<Vec<Tree>, ParseError> {
        self.expect(&Kind::LeftParen, context, "")?;
        let mut args = Vec::new();
        if self.take(&Kind::RightParen) {
            return Ok(args);
        }
        loop {
            args.push(self.expr(0)?);
            if self.take(&Kind::RightParen) {
                return Ok(args);
            }
            let comma = self.peek().span;
            self.expect(&Kind::Comma, "", "")?;
            if self.peek().kind == Kind::RightParen {
                return Err(ParseError::new(comma, "trailing commas not allowed in function call args"));
            }
        }
    }

    fn call(&mut self, token: Token) -> Result<Tree, ParseError> {
        let name = self.source(token.span);
        let lower = name.to_ascii_lowercase();
        // start, end, step and range are keywords, and keywords are case-blind.
        let name = if matches!(lower.as_str(), "start" | "end" | "step" | "range") { lower.as_str() } else { name };
        let Some(func) = functions::find(name) else {
            return Err(ParseError::new(token.span, format!("unknown function with name {}", quote(name))));
        };
        match func.gate {
            Gate::Always => {}
            Gate::Experimental if self.options.experimental_functions => {}
            Gate::Experimental => {
                return Err(ParseError::new(token.span, format!("function {} is not enabled", quote(name))));
            }
            Gate::Extended if self.options.x_functions => {}
            Gate::Extended => {
                return Err(ParseError::new(token.span, format!("unknown function with name {}", quote(name))));
            }
        }
        self.next();
        let before = self.type_error.take();
        let outer = std::mem::replace(&mut self.empty_selectors, func.name == "info");
        let args = self.args("")?;
        self.empty_selectors = outer;
        let span = Span { start: token.span.start, end: self.last_end() };
        let height = args.iter().map(|arg| arg.height).max().unwrap_or(0) + 1;
        let args: Vec<Expr> = args.into_iter().map(|arg| arg.expr).collect();
        // Prometheus counts the arguments before it looks at them.
        let within = self.type_error.take();
        self.type_error = before.or(check::count(span, func, &args).err()).or(within);
        let types = check::arguments(func, &args);
        let node = self.checked(types.map(|()| Node::Call(Call { func, args })));
        self.grown(Expr { span, node }, height)
    }

    /// Reads what may stand between an operator and its right operand.
    fn binary_modifiers(&mut self, op: BinaryOp) -> Result<(bool, Matching), ParseError> {
        let return_bool = self.keyword() == "bool";
        if return_bool {
            self.next();
        }
        let mut matching = Matching {
            cardinality: if op.is_set() { Cardinality::ManyToMany } else { Cardinality::OneToOne },
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        if matches!(self.keyword().as_str(), "on" | "ignoring") {
            matching.on = self.keyword() == "on";
            self.next();
            matching.labels = self.label_list()?;
            if let side @ ("group_left" | "group_right") = self.keyword().as_str() {
                matching.cardinality =
                    if side == "group_left" { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                self.next();
                if matches!(self.peek().kind, Kind::LeftParen | Kind::End) {
                    matching.include = self.label_list()?;
                }
            }
        }
        self.fill_modifiers(&mut matching)?;
        Ok((return_bool, matching))
    }

    fn fill_modifiers(&mut self, matching: &mut Matching) -> Result<(), ParseError> {
        while matches!(self.keyword().as_str(), "fill" | "fill_left" | "fill_right")
            && *self.peek_kind(1) == Kind::LeftParen
        {
            let word = self.keyword();
            let at = self.peek().span;
            if !self.options.fill_modifiers {
                return Err(ParseError::new(at, "binop fill modifiers are experimental and not enabled"));
            }
            self.next();
            self.next();
            let value = self.expr(0)?.expr;
            let Node::Number(NumberLiteral { value: number, .. }) = value.node else {
                return Err(ParseError::new(value.span, "a number is wanted in a fill modifier"));
            };
            self.expect(&Kind::RightParen, "fill modifier", r#"")""#)?;
            if word != "fill_right" {
                matching.fill_left = Some(number);
            }
            if word != "fill_left" {
                matching.fill_right = Some(number);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "parse/tests.rs"]
mod tests;
