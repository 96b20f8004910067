//! The type check, with Prometheus' texts.

use super::*;

pub(super) fn binary(
    span: Span,
    op: BinaryOp,
    lhs: Expr,
    rhs: Expr,
    return_bool: bool,
    matching: Option<Matching>,
) -> Result<Binary, ParseError> {
    let error = |message: String| Err(ParseError::new(span, message));
    let (left, right) = (lhs.value_type(), rhs.value_type());
    for (side, kind) in [(&lhs, left), (&rhs, right)] {
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(ParseError::new(side.span, message));
        }
    }
    let vectors = left == ValueType::Vector && right == ValueType::Vector;
    if left == ValueType::Scalar && right == ValueType::Scalar && op.is_comparison() && !return_bool {
        return error("comparisons between scalars must use BOOL modifier".to_owned());
    }
    if let Some(matching) = &matching
        && matching.on
        && let Some(label) = matching.include.iter().find(|label| matching.labels.contains(label))
    {
        return error(format!("label {} must not occur in ON and GROUP clause at once", quote(label)));
    }
    if !vectors {
        if op.is_set() {
            return error(format!("set operator {} not allowed in binary scalar expression", quote(op.text())));
        }
        if let Some(matching) = &matching {
            let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
            if matching.labels.is_empty() && fills {
                return error("filling in missing series only allowed between instant vectors".to_owned());
            }
            return error("vector matching only allowed between instant vectors".to_owned());
        }
    }
    let matching = vectors.then(|| {
        matching.unwrap_or_else(|| Matching {
            cardinality: if op.is_set() { Cardinality::ManyToMany } else { Cardinality::OneToOne },
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        })
    });
    Ok(Binary { op, lhs, rhs, return_bool, matching })
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
    expect_type(&expr, ValueType::Vector, "aggregation expression")?;
    if let Some(param) = &param {
        expect_type(param, op.param_type(), "aggregation parameter")?;
    }
    Ok(Aggregate { op, expr: Box::new(expr), param: param.map(Box::new), grouping, without })
}

fn expect_type(expr: &Expr, wanted: ValueType, context: &str) -> Result<(), ParseError> {
    let got = expr.value_type();
    if got == wanted {
        return Ok(());
    }
    let message = format!("expected type {} in {context}, got {}", wanted.text(), got.text());
    Err(ParseError::new(expr.span, message))
}

pub(super) fn call(span: Span, func: &functions::Function, args: &[Expr]) -> Result<(), ParseError> {
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
    for (i, arg) in args.iter().enumerate() {
        let Some(wanted) = func.args.get(i.min(count.saturating_sub(1))) else { continue };
        expect_type(arg, *wanted, &format!("call to function {name}"))?;
    }
    Ok(())
}
