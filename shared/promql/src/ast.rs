//! The syntax tree. Every node knows the bytes of the query text it was read from: annotations and errors carry positions.

use farview_model::Matcher;
use std::sync::Arc;

/// A half-open range of bytes in the query text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Byte after the last.
    pub end: u32,
}

/// What an expression evaluates to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// No value (argument lists only).
    None,
    /// One number per step.
    Scalar,
    /// A string.
    String,
    /// One sample per series and step.
    Vector,
    /// A window of samples per series and step.
    Matrix,
}

/// An expression and where it stands in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub node: Node,
}

/// The kinds of expressions.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `1.5`, `0x1F`, `5m`
    Number(NumberLiteral),
    /// `"text"`
    String(StringLiteral),
    /// `metric{label="value"}`, with `@` and `offset`
    Vector(VectorSelector),
    /// `metric[5m]`
    Matrix(MatrixSelector),
    /// `expr[1h:5m]`
    Subquery(Subquery),
    /// `-expr`, `+expr`
    Unary(Unary),
    /// `a + b`
    Binary(Box<Binary>),
    /// `sum by (job) (expr)`
    Aggregate(Aggregate),
    /// `rate(expr)`
    Call(Call),
    /// `(expr)`
    Paren(Box<Expr>),
}

/// A number.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberLiteral {
    /// Its value.
    pub value: f64,
    /// Whether it was written as a duration (`5m`), so that it is printed as one.
    pub duration: bool,
}

/// A string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringLiteral {
    /// Its bytes after unquoting; not always UTF-8 (`"\xff"`).
    pub value: Vec<u8>,
}

/// A duration that may be an expression: `5m`, `5m * 2`, `step()`. Folded to milliseconds before execution.
#[derive(Debug, Clone, PartialEq)]
pub enum Duration {
    /// Known, ms. May be negative (offsets).
    Millis(i64),
    /// To be computed from the query's step and range.
    Expr(Box<DurationExpr>),
}

/// A node of a duration expression.
#[derive(Debug, Clone, PartialEq)]
pub struct DurationExpr {
    /// Where it stands.
    pub span: Span,
    /// Whether it was written in parentheses.
    pub wrapped: bool,
    /// What it is.
    pub node: DurationNode,
}

/// The kinds of duration expressions. All of them compute in seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationNode {
    /// A number of seconds, or a duration.
    Number(NumberLiteral),
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `-a`, `+a`
    Unary(UnaryOp, Box<DurationExpr>),
    /// `a * b` and so on, also `^` and `%`.
    Binary(BinaryOp, Box<DurationExpr>, Box<DurationExpr>),
    /// `min_of(a, b)`
    MinOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `max_of(a, b)`
    MaxOf(Box<DurationExpr>, Box<DurationExpr>),
}

/// `@ 123`, `@ start()`, `@ end()`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// A fixed time, ms.
    Timestamp(i64),
    /// The first step of the query.
    Start,
    /// The last step of the query.
    End,
}

/// How the ends of a window are treated (experimental).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extension {
    /// As always.
    #[default]
    None,
    /// `anchored`
    Anchored,
    /// `smoothed`
    Smoothed,
}

/// `metric{label="value"} @ end() offset 5m`
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The metric name if written outside of braces (or as a bare string within).
    pub name: Option<String>,
    /// All matchers, including that of the name, in the order written; the name's first if outside of braces.
    pub matchers: Arc<[Matcher]>,
    /// `offset`, if given.
    pub offset: Option<Duration>,
    /// `@`, if given.
    pub at: Option<At>,
    /// `smoothed` or `anchored`.
    pub extension: Extension,
}

/// `metric[5m]`; `@`, `offset` and the extension are kept on the inner selector, as Prometheus does.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// The selector whose samples are collected. Its own span ends before the bracket.
    pub selector: VectorSelector,
    /// Span of the selector.
    pub selector_span: Span,
    /// How far back the window reaches.
    pub range: Duration,
}

/// `expr[range:step]`
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated at each inner step.
    pub expr: Box<Expr>,
    /// How far back.
    pub range: Duration,
    /// Inner step; `None` for the default.
    pub step: Option<Duration>,
    /// `offset`, if given.
    pub offset: Option<Duration>,
    /// `@`, if given.
    pub at: Option<At>,
}

/// Sign operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `+`
    Plus,
    /// `-`
    Minus,
}

/// `-expr`
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// The sign.
    pub op: UnaryOp,
    /// The operand.
    pub expr: Box<Expr>,
}

/// Operators between two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `atan2`
    Atan2,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `>`
    Gt,
    /// `<`
    Lt,
    /// `>=`
    Ge,
    /// `<=`
    Le,
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
    /// `</`: keep of a histogram what lies at or below
    TrimUpper,
    /// `>/`: keep of a histogram what lies above
    TrimLower,
}

/// `a op b`
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left operand.
    pub lhs: Expr,
    /// Right operand.
    pub rhs: Expr,
    /// `bool` was given: comparisons answer 0 and 1.
    pub return_bool: bool,
    /// How series of two vectors find each other; `None` if a side is a scalar.
    pub matching: Option<Matching>,
}

/// How many series may share a signature on each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cardinality {
    /// One on each side.
    OneToOne,
    /// `group_left`: many on the left.
    ManyToOne,
    /// `group_right`: many on the right.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// Vector matching: `on (a) group_left (b) fill(0)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Matching {
    /// How many on each side.
    pub cardinality: Cardinality,
    /// Labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// `on` (else `ignoring`, also when nothing was written).
    pub on: bool,
    /// Labels in the parentheses of `group_left` or `group_right`.
    pub include: Vec<String>,
    /// Value for a missing left partner.
    pub fill_left: Option<f64>,
    /// Value for a missing right partner.
    pub fill_right: Option<f64>,
}

/// Aggregation operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the PromQL operator of its name")]
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    Quantile,
    CountValues,
    LimitK,
    LimitRatio,
}

/// `sum by (job) (expr)`
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Box<Expr>,
    /// The parameter (`topk(5, …)`), if the operator takes one.
    pub param: Option<Box<Expr>>,
    /// Labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// `without` (else `by`, also when nothing was written).
    pub without: bool,
}

/// `rate(expr)`
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function; all of them are listed in [`crate::functions`].
    pub func: &'static crate::functions::Function,
    /// The arguments.
    pub args: Vec<Expr>,
}

impl ValueType {
    /// Returns the name that error texts use.
    pub const fn text(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
        }
    }
}

impl Expr {
    /// Returns what the expression evaluates to.
    pub fn value_type(&self) -> ValueType {
        let mut expr = self;
        loop {
            expr = match &expr.node {
                Node::Number(_) => return ValueType::Scalar,
                Node::String(_) => return ValueType::String,
                Node::Vector(_) | Node::Aggregate(_) => return ValueType::Vector,
                Node::Matrix(_) | Node::Subquery(_) => return ValueType::Matrix,
                Node::Call(call) => return call.func.returns,
                Node::Unary(unary) => &unary.expr,
                Node::Paren(inner) => inner,
                Node::Binary(binary) if binary.matching.is_some() => return ValueType::Vector,
                // Without matching a side is a scalar; the other one decides.
                Node::Binary(binary) => {
                    if binary.lhs.value_type() == ValueType::Vector {
                        return ValueType::Vector;
                    }
                    &binary.rhs
                }
            }
        }
    }

    /// Returns all selectors of the expression, in the order of the text.
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let mut found = Vec::new();
        let mut left = vec![self];
        while let Some(expr) = left.pop() {
            // The stack gives back what was pushed last: parts go on it from right to left.
            match &expr.node {
                Node::Number(_) | Node::String(_) => {}
                Node::Vector(selector) => found.push(selector),
                Node::Matrix(matrix) => found.push(&matrix.selector),
                Node::Subquery(subquery) => left.push(&subquery.expr),
                Node::Unary(unary) => left.push(&unary.expr),
                Node::Binary(binary) => left.extend([&binary.rhs, &binary.lhs]),
                Node::Aggregate(aggregate) => {
                    left.push(&aggregate.expr);
                    left.extend(aggregate.param.as_deref());
                }
                Node::Call(call) => left.extend(call.args.iter().rev()),
                Node::Paren(inner) => left.push(inner),
            }
        }
        found
    }

    /// Returns the expression within all its parentheses.
    pub fn unwrapped(&self) -> &Self {
        let mut expr = self;
        while let Node::Paren(inner) = &expr.node {
            expr = inner;
        }
        expr
    }
}

impl BinaryOp {
    /// Returns the operator as it is written.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Gt => ">",
            Self::Lt => "<",
            Self::Ge => ">=",
            Self::Le => "<=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    /// Tells whether the operator compares.
    pub const fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Gt | Self::Lt | Self::Ge | Self::Le)
    }

    /// Tells whether the operator works on sets of series.
    pub const fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

impl AggregateOp {
    /// Returns the operator as it is written.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::TopK => "topk",
            Self::BottomK => "bottomk",
            Self::Quantile => "quantile",
            Self::CountValues => "count_values",
            Self::LimitK => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// Returns the type of the parameter; [`ValueType::None`] if the operator takes none.
    pub const fn param_type(self) -> ValueType {
        match self {
            Self::TopK | Self::BottomK | Self::Quantile | Self::LimitK | Self::LimitRatio => ValueType::Scalar,
            Self::CountValues => ValueType::String,
            _ => ValueType::None,
        }
    }
}
