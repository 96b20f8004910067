//! The type check, with Prometheus' texts.

use super::*;

pub(super) fn binary(span: Span, operator: Span, mut binary: Binary) -> Result<Node, ParseError> {
    let at_operator = |message: String| Err(ParseError::new(operator, message));
    let error = |message: String| Err(ParseError::new(span, message));
    let (op, kinds) = (binary.op, [binary.lhs.value_type(), binary.rhs.value_type()]);
    if binary.return_bool && !op.is_comparison() {
        return at_operator("bool modifier can only be used on comparison operators".to_owned());
    }
    if kinds == [ValueType::Scalar; 2] && op.is_comparison() && !binary.return_bool {
        return at_operator("comparisons between scalars must use BOOL modifier".to_owned());
    }
    let matching = binary.matching.as_ref();
    if let Some(matching) = matching.filter(|matching| matching.on)
        && let Some(label) = matching.labels.iter().find(|label| matching.include.contains(label))
    {
        return at_operator(format!("label {} must not occur in ON and GROUP clause at once", quote(label)));
    }
    for (side, kind) in [&binary.lhs, &binary.rhs].into_iter().zip(kinds) {
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(ParseError::new(side.span, message));
        }
    }
    let vectors = kinds == [ValueType::Vector; 2];
    let labels = matching.is_some_and(|matching| !matching.labels.is_empty());
    let fills = matching.is_some_and(|matching| matching.fill_left.is_some() || matching.fill_right.is_some());
    let groups = matching
        .is_some_and(|matching| matches!(matching.cardinality, Cardinality::ManyToOne | Cardinality::OneToMany));
    if !vectors && labels {
        return error("vector matching only allowed between instant vectors".to_owned());
    }
    if !vectors && fills {
        return error("filling in missing series only allowed between instant vectors".to_owned());
    }
    if op.is_set() {
        let name = quote(op.text());
        if !vectors {
            return error(format!("set operator {name} not allowed in binary scalar expression"));
        }
        if groups {
            return error(format!("no grouping allowed for {name} operation"));
        }
        if fills {
            return error("filling in missing series not allowed for set operators".to_owned());
        }
    }
    if !vectors {
        binary.matching = None;
    }
    Ok(Node::Binary(Box::new(binary)))
}

pub(super) fn aggregate(
    parser: &Parser<'_>,
    span: Span,
    op: AggregateOp,
    mut args: Vec<Expr>,
    grouping: Vec<String>,
    without: bool,
) -> Result<Aggregate, ParseError> {
    if matches!(op, AggregateOp::LimitK | AggregateOp::LimitRatio) && !parser.options.experimental_functions {
        let message = format!(
            "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
            op.text()
        );
        return Err(ParseError::new(span, message));
    }
    if args.is_empty() {
        return Err(ParseError::new(span, "no arguments for aggregate expression provided"));
    }
    let wanted = if op.param_type() == ValueType::None { 1 } else { 2 };
    if args.len() != wanted {
        let got = args.len();
        let message =
            format!("wrong number of arguments for aggregate expression provided, expected {wanted}, got {got}");
        return Err(ParseError::new(span, message));
    }
    let expr = args.pop().expect("the number of arguments was checked");
    let param = args.pop();
    Ok(Aggregate { op, expr: Box::new(expr), param: param.map(Box::new), grouping, without })
}

pub(super) fn aggregate_types(aggregate: Aggregate) -> Result<Aggregate, ParseError> {
    expect_type(&aggregate.expr, ValueType::Vector, "aggregation expression")?;
    if let Some(param) = &aggregate.param {
        expect_type(param, aggregate.op.param_type(), "aggregation parameter")?;
    }
    Ok(aggregate)
}

fn expect_type(expr: &Expr, wanted: ValueType, context: &str) -> Result<(), ParseError> {
    let got = expr.value_type();
    if got == wanted {
        return Ok(());
    }
    let message = format!("expected type {} in {context}, got {}", wanted.text(), got.text());
    Err(ParseError::new(expr.span, message))
}

/// Checks how many arguments there are.
pub(super) fn count(span: Span, func: &functions::Function, args: &[Expr]) -> Result<(), ParseError> {
    let (count, got, name) = (func.args.len(), args.len(), quote(func.name));
    let error = |message: String| Err(ParseError::new(span, message));
    if func.variadic == 0 {
        if got != count {
            return error(format!("expected {count} argument(s) in call to {name}, got {got}"));
        }
    } else {
        let least = count - 1;
        if got < least {
            return error(format!("expected at least {least} argument(s) in call to {name}, got {got}"));
        }
        let most = least + func.variadic.max(0) as usize;
        if func.variadic > 0 && got > most {
            return error(format!("expected at most {most} argument(s) in call to {name}, got {got}"));
        }
    }
    Ok(())
}

/// Checks what the arguments are.
pub(super) fn arguments(func: &functions::Function, args: &[Expr]) -> Result<(), ParseError> {
    let context = format!("call to function {}", quote(func.name));
    if func.name == "info"
        && let Some(selector) = args.get(1)
    {
        match &selector.node {
            Node::Vector(VectorSelector { name: None, .. }) => {}
            Node::Vector(_) => {
                let message = "expected label selectors only, got vector selector instead";
                return Err(ParseError::new(selector.span, message));
            }
            _ if selector.value_type() == ValueType::Vector => {
                let message = "expected label selectors only";
                return Err(ParseError::new(selector.span, message));
            }
            _ => {}
        }
    }
    for (i, arg) in args.iter().enumerate() {
        let Some(wanted) = func.args.get(i.min(func.args.len().saturating_sub(1))) else { continue };
        expect_type(arg, *wanted, &context)?;
    }
    Ok(())
}
