//! Histograms as text: as `count_values` labels them, and as the API's JSON.

use super::{Bucket, FloatHistogram};
use crate::number::{append_json, format_g, push_g};
use std::fmt;

impl fmt::Display for Bucket {
    /// Writes `(1,2]:3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::from(if self.lower_inclusive { "[" } else { "(" });
        push_g(&mut text, self.lower);
        text.push(',');
        push_g(&mut text, self.upper);
        text.push_str(if self.upper_inclusive { "]:" } else { "):" });
        push_g(&mut text, self.count);
        f.write_str(&text)
    }
}

impl fmt::Display for FloatHistogram {
    /// Writes `{count:5, sum:18.4, [-2,-1):1, (1,2]:4}`: the buckets from below, without the empty ones.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_g(self.count), format_g(self.sum))?;
        let negative = self.negative().rev();
        for bucket in negative.chain([self.zero_bucket()]).chain(self.positive()).filter(|bucket| bucket.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

impl FloatHistogram {
    /// Appends the histogram as Prometheus' API has it:
    /// `{"count":"5","sum":"18.4","buckets":[[1,"-2","-1","1"],[0,"1","2","4"]]}`. The first number of a bucket says which of
    /// its bounds belong to it: 0 the upper, 1 the lower, 2 none, 3 both. Empty buckets are left out, `buckets` if there are none.
    pub fn append_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"count\":");
        quoted(out, self.count);
        out.extend_from_slice(b",\"sum\":");
        quoted(out, self.sum);
        let mut separator: &[u8] = b",\"buckets\":[";
        for bucket in self.buckets().filter(|bucket| bucket.count != 0.0) {
            out.extend_from_slice(separator);
            separator = b",";
            let kind = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => b"[0,",
                (true, false) => b"[1,",
                (false, false) => b"[2,",
                (true, true) => b"[3,",
            };
            out.extend_from_slice(kind);
            for (value, end) in [(bucket.lower, b','), (bucket.upper, b','), (bucket.count, b']')] {
                quoted(out, value);
                out.push(end);
            }
        }
        out.extend_from_slice(if separator == b"," { b"]}" } else { b"}" });
    }
}

fn quoted(out: &mut Vec<u8>, value: f64) {
    out.push(b'"');
    append_json(out, value);
    out.push(b'"');
}
