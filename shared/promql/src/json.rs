//! The syntax tree as JSON, as Prometheus' `/api/v1/parse_query` answers it.

use crate::ast::*;
use farview_model::METRIC_NAME;
use serde_json::{Value, json};

/// Translates a tree.
///
/// Durations are milliseconds; those that are known only at evaluation are given as 0, as Prometheus has them.
pub fn tree(expr: &Expr) -> Value {
    match &expr.node {
        Node::Number(number) => {
            let mut text = String::new();
            farview_model::number::push_plain(&mut text, number.value);
            json!({"type": "numberLiteral", "val": text})
        }
        Node::String(string) => json!({"type": "stringLiteral", "val": String::from_utf8_lossy(&string.value)}),
        Node::Paren(inner) => json!({"expr": tree(inner), "type": "parenExpr"}),
        Node::Unary(unary) => json!({"expr": tree(&unary.expr), "op": unary.op.text(), "type": "unaryExpr"}),
        Node::Vector(selector) => selector_json(selector, None),
        Node::Matrix(matrix) => selector_json(&matrix.selector, Some(&matrix.range)),
        Node::Subquery(subquery) => json!({
            "expr": tree(&subquery.expr),
            "offset": subquery.offset.as_ref().map_or(0, millis),
            "range": millis(&subquery.range),
            "startOrEnd": start_or_end(subquery.at),
            "step": subquery.step.as_ref().map_or(0, millis),
            "timestamp": timestamp(subquery.at),
            "type": "subquery",
        }),
        Node::Binary(binary) => json!({
            "bool": binary.return_bool,
            "lhs": tree(&binary.lhs),
            "matching": binary.matching.as_ref().map(matching),
            "op": binary.op.text(),
            "rhs": tree(&binary.rhs),
            "type": "binaryExpr",
        }),
        Node::Aggregate(aggregate) => json!({
            "expr": tree(&aggregate.expr),
            "grouping": aggregate.grouping,
            "op": aggregate.op.text(),
            "param": aggregate.param.as_deref().map(tree),
            "type": "aggregation",
            "without": aggregate.without,
        }),
        Node::Call(call) => json!({
            "args": call.args.iter().map(tree).collect::<Vec<_>>(),
            "func": {
                "argTypes": call.func.args.iter().map(|kind| kind_name(*kind)).collect::<Vec<_>>(),
                "name": call.func.name,
                "returnType": kind_name(call.func.returns),
                "variadic": call.func.variadic,
            },
            "type": "call",
        }),
    }
}

fn selector_json(selector: &VectorSelector, range: Option<&Duration>) -> Value {
    // Prometheus knows a name only when it stands outside of the braces, and puts its matcher last.
    let (names, others): (Vec<_>, Vec<_>) = selector
        .matchers
        .iter()
        .partition(|matcher| matcher.name() == METRIC_NAME && Some(matcher.value()) == selector.name.as_deref());
    let matchers: Vec<Value> = others
        .into_iter()
        .chain(names)
        .map(|matcher| json!({"name": matcher.name(), "type": matcher.op().as_str(), "value": matcher.value()}))
        .collect();
    let mut out = json!({
        "anchored": selector.extension == Extension::Anchored,
        "matchers": matchers,
        "name": selector.name.as_deref().unwrap_or(""),
        "offset": selector.offset.as_ref().map_or(0, millis),
    });
    let rest = [
        ("range", range.map(|range| json!(millis(range)))),
        ("smoothed", Some(json!(selector.extension == Extension::Smoothed))),
        ("startOrEnd", Some(start_or_end(selector.at))),
        ("timestamp", Some(timestamp(selector.at))),
        ("type", Some(json!(if range.is_some() { "matrixSelector" } else { "vectorSelector" }))),
    ];
    for (key, value) in rest {
        if let Some(value) = value {
            out[key] = value;
        }
    }
    out
}

fn matching(matching: &Matching) -> Value {
    let card = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right},
        "include": matching.include,
        "labels": matching.labels,
        "on": matching.on,
    })
}

fn millis(duration: &Duration) -> i64 {
    match duration {
        Duration::Millis(millis) => *millis,
        Duration::Expr(_) => 0,
    }
}

fn start_or_end(at: Option<At>) -> Value {
    match at {
        Some(At::Start) => json!("start"),
        Some(At::End) => json!("end"),
        Some(At::Timestamp(_)) | None => Value::Null,
    }
}

fn timestamp(at: Option<At>) -> Value {
    match at {
        Some(At::Timestamp(millis)) => json!(millis),
        _ => Value::Null,
    }
}

/// Type names of Prometheus' tree; its error texts have other ones.
const fn kind_name(kind: ValueType) -> &'static str {
    match kind {
        ValueType::None => "none",
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
    }
}
