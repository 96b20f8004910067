//! Descriptions of series: `metric{label="value"} 0+10x5 _ stale {{schema:0 sum:1 count:2 buckets:[1 1]}}`.

use super::histogram;
use crate::duration;
use crate::quote::unquote;
use farview_model::{FloatHistogram, Labels, LabelsBuilder, METRIC_NAME, STALE_NAN_BITS, number};

/// One value of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A float, possibly the stale marker.
    Float(f64),
    /// A histogram, and whether its counter-reset hint was written.
    Histogram(Box<FloatHistogram>, bool),
}

/// A series and its values, one for each step; `None` where there is no sample.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesDescription {
    /// The series' labels.
    pub labels: Labels,
    /// Its values.
    pub values: Vec<Option<Value>>,
}

/// Start times of a series' samples: offsets to their times, ms.
#[derive(Debug, Clone, PartialEq)]
pub struct StartDescription {
    /// The series' labels.
    pub labels: Labels,
    /// The offsets, one for each step.
    pub offsets: Vec<Option<i64>>,
}

/// Values that one item may make at most, and a whole sequence.
const MAX_VALUES: usize = 100_000;

/// Reads a line with values.
///
/// # Errors
/// What is wrong, with the byte where it is.
pub fn parse_series(line: &str) -> Result<SeriesDescription, String> {
    let mut cursor = Cursor { text: line, at: 0 };
    let labels = cursor.metric()?;
    let values = cursor.sequence(Cursor::values)?;
    Ok(SeriesDescription { labels, values })
}

/// Reads a line with start times, if it is one: behind the metric stands `@st`.
///
/// # Errors
/// As [`parse_series`].
pub fn parse_start(line: &str) -> Result<Option<StartDescription>, String> {
    let mut cursor = Cursor { text: line, at: 0 };
    let labels = cursor.metric()?;
    if !cursor.take("@st") {
        return Ok(None);
    }
    let offsets = cursor.sequence(Cursor::offsets)?;
    Ok(Some(StartDescription { labels, offsets }))
}

pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    pub(super) fn error<T>(&self, message: &str) -> Result<T, String> {
        Err(format!("{message} at byte {} of {:?}", self.at + 1, self.text))
    }

    pub(super) fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    pub(super) fn spaces(&mut self) -> bool {
        let start = self.at;
        while matches!(self.byte(), b' ' | b'\t') {
            self.at += 1;
        }
        self.at > start
    }

    pub(super) fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a str {
        let len = self.rest().bytes().take_while(|byte| keep(*byte)).count();
        let taken = &self.rest()[..len];
        self.at += len;
        taken
    }

    fn metric(&mut self) -> Result<Labels, String> {
        let mut labels = LabelsBuilder::default();
        if self.byte().is_ascii_digit() {
            return self.error("a metric is wanted");
        }
        let name = self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':');
        labels.set(METRIC_NAME, name);
        if !self.rest().starts_with("{{") && self.take("{") && !self.braces(&mut labels)? {
            return self.error("a label is wanted");
        }
        Ok(labels.build())
    }

    /// Reads labels until the closing brace; tells whether all was well.
    fn braces(&mut self, labels: &mut LabelsBuilder) -> Result<bool, String> {
        loop {
            self.spaces();
            if self.take("}") {
                return Ok(true);
            }
            let quoted = matches!(self.byte(), b'"' | b'\'' | b'`');
            let name = if quoted { self.string()? } else { self.word().to_owned() };
            self.spaces();
            if self.take("=") {
                self.spaces();
                let value = self.string()?;
                labels.set(&name, &value);
            } else if quoted {
                labels.set(METRIC_NAME, &name);
            } else {
                return Ok(false);
            }
            self.spaces();
            if !self.take(",") && self.byte() != b'}' {
                return Ok(false);
            }
        }
    }

    pub(super) fn word(&mut self) -> &'a str {
        self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    fn string(&mut self) -> Result<String, String> {
        let start = self.at;
        let open = self.byte();
        if !matches!(open, b'"' | b'\'' | b'`') {
            return self.error("a string is wanted");
        }
        self.at += 1;
        while self.byte() != open {
            if self.at >= self.text.len() {
                return self.error("the string does not end");
            }
            self.at += if self.byte() == b'\\' && open != b'`' { 2 } else { 1 };
        }
        self.at += 1;
        let bytes = self.text.get(start..self.at).and_then(|text| unquote(text).ok());
        match bytes.map(String::from_utf8) {
            Some(Ok(text)) => Ok(text),
            _ => self.error("a string is wanted"),
        }
    }

    fn sequence<T: Clone>(
        &mut self,
        item: impl Fn(&mut Self, &mut Vec<Option<T>>) -> Result<(), String>,
    ) -> Result<Vec<Option<T>>, String> {
        let mut out = Vec::new();
        loop {
            let spaces = self.spaces();
            if self.at == self.text.len() {
                return Ok(out);
            }
            if !spaces && !out.is_empty() {
                return self.error("a space is wanted");
            }
            if self.take("_") {
                let times = self.times()?.unwrap_or(1);
                out.resize(out.len() + times, None);
            } else {
                item(self, &mut out)?;
            }
            if out.len() > MAX_VALUES {
                return self.error("too many values");
            }
        }
    }

    /// Reads `xN`.
    fn times(&mut self) -> Result<Option<usize>, String> {
        if !self.take("x") {
            return Ok(None);
        }
        match self.take_while(|byte| byte.is_ascii_digit()).parse() {
            Ok(times) if times <= MAX_VALUES => Ok(Some(times)),
            _ => self.error("a number of repetitions is wanted"),
        }
    }

    /// Reads a sign that joins two values: not at the end of a word.
    fn sign(&mut self) -> Option<f64> {
        match self.byte() {
            b'+' => Some(1.0),
            b'-' => Some(-1.0),
            _ => None,
        }
        .inspect(|_| self.at += 1)
    }

    fn values(&mut self, out: &mut Vec<Option<Value>>) -> Result<(), String> {
        if self.take("{{") {
            return self.histograms(out);
        }
        if self.take("stale") {
            out.push(Some(Value::Float(f64::from_bits(STALE_NAN_BITS))));
            return Ok(());
        }
        let mut value = self.number()?;
        out.push(Some(Value::Float(value)));
        if let Some(sign) = self.sign() {
            let delta = self.number()?;
            let Some(times) = self.times()? else { return self.error("a number of repetitions is wanted") };
            for _ in 0..times {
                value += sign * delta;
                out.push(Some(Value::Float(value)));
            }
        } else if let Some(times) = self.times()? {
            out.resize(out.len() + times, Some(Value::Float(value)));
        }
        Ok(())
    }

    /// Reads a number or a duration (in seconds), with sign.
    pub(super) fn number(&mut self) -> Result<f64, String> {
        let sign = self.sign().unwrap_or(1.0);
        for (word, value) in [("nan", f64::NAN), ("inf", f64::INFINITY)] {
            if self.rest().get(..3).is_some_and(|start| start.eq_ignore_ascii_case(word)) {
                self.at += 3;
                return Ok(sign * value);
            }
        }
        let start = self.at;
        self.take_while(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'_');
        if matches!(self.byte(), b'e' | b'E') {
            self.at += 1;
            self.sign();
            self.take_while(|byte| byte.is_ascii_digit());
        } else {
            self.take_while(|byte| byte.is_ascii_digit() || b"ywdhms".contains(&byte));
        }
        let text = &self.text[start..self.at];
        match number::parse_go(text).or_else(|| duration::parse(text).ok().map(|millis| millis as f64 / 1_000.0)) {
            Some(value) => Ok(sign * value),
            None => self.error("a number is wanted"),
        }
    }

    fn histograms(&mut self, out: &mut Vec<Option<Value>>) -> Result<(), String> {
        let (mut value, hint) = self.histogram()?;
        out.push(Some(Value::Histogram(Box::new(value.clone()), hint)));
        if let Some(sign) = self.sign() {
            if !self.take("{{") {
                return self.error("a histogram is wanted");
            }
            let (delta, _) = self.histogram()?;
            if value.schema > delta.schema {
                return self.error("the schema of the first histogram exceeds that of the second");
            }
            let Some(times) = self.times()? else { return self.error("a number of repetitions is wanted") };
            for _ in 0..times {
                value = histogram::add(&value, &delta, sign);
                out.push(Some(Value::Histogram(Box::new(value.clone()), hint)));
            }
        } else if let Some(times) = self.times()? {
            out.resize(out.len() + times, Some(Value::Histogram(Box::new(value), hint)));
        }
        Ok(())
    }

    /// Reads a signed duration in milliseconds.
    fn offset(&mut self) -> Result<i64, String> {
        let negative = self.sign() == Some(-1.0);
        let text = self.take_while(|byte| byte.is_ascii_digit() || b"ywdhms".contains(&byte));
        match duration::parse(text) {
            Ok(millis) => Ok(if negative { -millis } else { millis }),
            Err(error) => self.error(&error.to_string()),
        }
    }

    fn offsets(&mut self, out: &mut Vec<Option<i64>>) -> Result<(), String> {
        let mut offset = self.offset()?;
        out.push(Some(offset));
        if matches!(self.byte(), b'+' | b'-') {
            let delta = self.offset()?;
            let Some(times) = self.times()? else { return self.error("a number of repetitions is wanted") };
            for _ in 0..times {
                offset += delta;
                out.push(Some(offset));
            }
        } else if let Some(times) = self.times()? {
            out.resize(out.len() + times, Some(offset));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(line: &str) -> Vec<Option<f64>> {
        let series = parse_series(line).unwrap();
        let float = |value: Value| match value {
            Value::Float(value) => value,
            Value::Histogram(..) => panic!("a histogram"),
        };
        series.values.into_iter().map(|value| value.map(float)).collect()
    }

    #[test]
    fn sequences_of_floats() {
        let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        for (items, values) in [
            ("1 2 -3.5", vec![Some(1.0), Some(2.0), Some(-3.5)]),
            ("1x2", some(&[1.0, 1.0, 1.0])),
            ("0+10x2", some(&[0.0, 10.0, 20.0])),
            ("-2-1x2", some(&[-2.0, -3.0, -4.0])),
            ("1e3+1e-1x1", some(&[1000.0, 1000.1])),
            ("1_000 010 1m30s", some(&[1000.0, 8.0, 90.0])),
            ("_ 1 _x2", vec![None, Some(1.0), None, None]),
            ("Inf -inf", some(&[f64::INFINITY, f64::NEG_INFINITY])),
            ("0x0", some(&[0.0])),
        ] {
            assert_eq!(floats(&format!("m {items}")), values, "{items}");
        }
        assert!(floats("m NaN")[0].unwrap().is_nan());
        assert_eq!(floats("m stale")[0].unwrap().to_bits(), STALE_NAN_BITS);
    }

    #[test]
    fn metrics_have_names_and_labels_in_any_spelling() {
        for (line, labels) in [
            ("m 1", vec![("__name__", "m")]),
            ("a:b{c=\"d\", e='f',} 1", vec![("__name__", "a:b"), ("c", "d"), ("e", "f")]),
            ("{\"a.b\", \"c d\"=`e`} 1", vec![("__name__", "a.b"), ("c d", "e")]),
            ("{} 1", vec![]),
            ("{a=\"x\\\"}\"} 1", vec![("a", "x\"}")]),
        ] {
            assert_eq!(parse_series(line).unwrap().labels, Labels::from_pairs(labels), "{line}");
        }
    }

    #[test]
    fn histograms_repeat_and_grow() {
        let line = "m {{schema:1 sum:-0.3 count:3.1 z_bucket:7.1 z_bucket_w:0.05 buckets:[5.1 10 7] offset:-3 n_buckets:[4.1 5] n_offset:-5 counter_reset_hint:gauge}}+{{sum:1 schema:1}}x1";
        let values = parse_series(line).unwrap().values;
        let [Some(Value::Histogram(first, true)), Some(Value::Histogram(second, _))] = &values[..] else { panic!() };
        assert_eq!((first.schema, first.sum, first.zero_threshold), (1, -0.3, 0.05));
        assert_eq!((first.positive_spans[0].offset, first.positive_spans[0].length), (-3, 3));
        assert_eq!(first.negative_buckets, [4.1, 5.0]);
        assert_eq!(second.sum, 0.7);
        assert_eq!(second.positive_buckets, first.positive_buckets);
    }

    #[test]
    fn start_times_are_offsets() {
        let line = "m{a=\"b\"}@st _ -30s-1mx2 1ms 0x1";
        let start = parse_start(line).unwrap().unwrap();
        assert_eq!(start.offsets, [None, Some(-30_000), Some(-90_000), Some(-150_000), Some(1), Some(0), Some(0)]);
        assert_eq!(parse_start("m{a=\"b\"} 1 2"), Ok(None));
    }

    #[test]
    fn what_is_no_description_is_refused() {
        for line in
            ["m x", "m 1y2", "m{a=} 1", "m{a 1", "m 1x", "m 1+x5", "m 1+1", "m {{foo:1}}", "m {{sum:1}", "m 1x9999999"]
        {
            assert!(parse_series(line).is_err(), "{line}");
        }
    }
}
