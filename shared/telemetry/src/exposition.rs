//! The two text formats a scraper may ask for.
//!
//! `prometheus-client` writes OpenMetrics. The older Prometheus text format 0.0.4, which scrapers without OpenMetrics and
//! `promtool check metrics` read, differs in a few places only, so it is made from the other by rewriting lines:
//! a counter's family is named with `_total`, an info's with `_info`, there is no `# UNIT`, no `# EOF` and no exemplar.

/// A text format for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Prometheus,
}

impl Exposition {
    /// Chooses by the `Accept` header of a scrape: OpenMetrics only to those who name it, as Prometheus' own servers do.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let quality = |range: &str, wanted: &str| {
            let mut parts = range.split(';').map(str::trim);
            if !parts.next()?.eq_ignore_ascii_case(wanted) {
                return None;
            }
            parts.find_map(|p| p.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok())
        };
        let ranges = accept.unwrap_or_default();
        let best = |wanted| ranges.split(',').filter_map(|range| quality(range, wanted)).fold(0.0f32, f32::max);
        let open = best("application/openmetrics-text");
        if open > 0.0 && open >= best("text/plain") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Turns OpenMetrics into this format.
    pub(crate) fn finish(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Prometheus => classic(&open_metrics),
        }
    }
}

fn classic(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // The help of a family comes before its type, and how the family is called depends on the type.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, help)) = help.take() {
                out.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            out.push_str(without_exemplar(line));
            out.push('\n');
        }
    }
    out
}

/// An exemplar follows the value after ` # `; the same characters may stand inside a label's quotes.
fn without_exemplar(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '#' if !quoted => return line[..at].trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_goes_only_to_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let cases = [
            (None, Exposition::Prometheus),
            (Some("*/*"), Exposition::Prometheus),
            (Some("text/plain"), Exposition::Prometheus),
            (Some(prometheus), Exposition::OpenMetrics),
            (Some("application/openmetrics-text; version=1.0.0"), Exposition::OpenMetrics),
            (Some("application/openmetrics-text;q=0"), Exposition::Prometheus),
            (Some("application/openmetrics-text;q=0.2, text/plain;q=0.9"), Exposition::Prometheus),
        ];
        for (accept, expected) in cases {
            assert_eq!(Exposition::negotiate(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn families_are_renamed_for_the_older_format() {
        let open = "# HELP a A.\n# TYPE a counter\na_total{x=\"1 # 2\"} 1 # {trace_id=\"t\"} 1.0\n\
                    # HELP b B.\n# TYPE b info\nb_info{v=\"1\"} 1\n# HELP c_bytes C.\n# TYPE c_bytes gauge\n\
                    # UNIT c_bytes bytes\nc_bytes 3\n# EOF\n";
        let expected = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1 # 2\"} 1\n\
                        # HELP b_info B.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
                        # HELP c_bytes C.\n# TYPE c_bytes gauge\nc_bytes 3\n";
        assert_eq!(classic(open), expected);
    }
}
