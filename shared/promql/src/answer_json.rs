//! Answers in the JSON of Prometheus' HTTP API, written straight from the engine's columns.

use crate::engine::{Series, Value};
use farview_model::{FloatHistogram, Labels, number};

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escaped: &str = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => {
                out.push_str(&text[from..at]);
                out.push_str(&format!("\\u{byte:04x}"));
                from = at + 1;
                continue;
            }
            _ => continue,
        };
        out.push_str(&text[from..at]);
        out.push_str(escaped);
        from = at + 1;
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// Writes a label set as an object.
pub fn push_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push_string(out, value);
    }
    out.push('}');
}

fn push_point(out: &mut String, t: i64, value: f64) {
    out.push('[');
    number::push_time(out, t);
    out.push_str(",\"");
    number::push_json(out, value);
    out.push_str("\"]");
}

fn push_histogram(out: &mut String, t: i64, histogram: &FloatHistogram) {
    out.push('[');
    number::push_time(out, t);
    out.push(',');
    let mut text = Vec::with_capacity(256);
    histogram.append_json(&mut text);
    out.push_str(&String::from_utf8_lossy(&text));
    out.push(']');
}

fn push_list<T>(out: &mut String, items: impl Iterator<Item = T>, mut each: impl FnMut(&mut String, T)) {
    out.push('[');
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(out, item);
    }
    out.push(']');
}

/// Writes type and value of an answer: `"resultType":…,"result":…`, in that order, which clients rely on.
pub fn push_value(out: &mut String, value: &Value) {
    let kind = match value {
        Value::Scalar(..) => "scalar",
        Value::String(..) => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    out.push_str(&format!("\"resultType\":\"{kind}\",\"result\":"));
    match value {
        Value::Scalar(t, value) => push_point(out, *t, *value),
        Value::String(t, text) => {
            out.push('[');
            number::push_time(out, *t);
            out.push(',');
            push_string(out, &String::from_utf8_lossy(text));
            out.push(']');
        }
        Value::Vector(series) => push_list(out, series.iter(), |out, series| {
            out.push_str("{\"metric\":");
            push_labels(out, &series.labels);
            if let (Some(t), Some(value)) = (series.timestamps.first(), series.values.first()) {
                out.push_str(",\"value\":");
                push_point(out, *t, *value);
            } else if let Some((t, histogram)) = series.histograms.first() {
                out.push_str(",\"histogram\":");
                push_histogram(out, *t, histogram);
            }
            out.push('}');
        }),
        Value::Matrix(series) => push_list(out, series.iter(), push_series),
    }
}

fn push_series(out: &mut String, series: &Series) {
    out.push_str("{\"metric\":");
    push_labels(out, &series.labels);
    if !series.values.is_empty() {
        out.push_str(",\"values\":");
        let points = series.timestamps.iter().zip(&series.values);
        push_list(out, points, |out, (t, value)| push_point(out, *t, *value));
    }
    if !series.histograms.is_empty() {
        out.push_str(",\"histograms\":");
        push_list(out, series.histograms.iter(), |out, (t, histogram)| push_histogram(out, *t, histogram));
    }
    out.push('}');
}
