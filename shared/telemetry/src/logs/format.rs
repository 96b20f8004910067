//! The text of one line.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;

/// Formats events as lines.
#[derive(Debug, Clone, Copy)]
pub struct Lines {
    format: LogFormat,
}

impl Lines {
    /// Makes lines of the given look.
    pub fn new(format: LogFormat) -> Self {
        Self { format }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Collected::default();
        fields.push("ts", Value::from(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()));
        let metadata = event.metadata();
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            // The last two parts tell `sidecar/src/store.rs` from `query/src/store.rs` and keep the line short.
            let parts = file.rsplit('/').filter(|p| *p != "src").take(2).collect::<Vec<_>>();
            let short = parts.into_iter().rev().collect::<Vec<_>>().join("/");
            fields.push("caller", Value::from(format!("{short}:{line}")));
        }
        fields.push("level", Value::from(level(*metadata.level())));
        event.record(&mut fields);
        for span in ctx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            // Put there by [`Fields`]: the fields of the span as one JSON object.
            let text = extensions.get::<FormattedFields<N>>().map(|f| f.fields.as_str()).unwrap_or_default();
            if let Ok(Value::Object(of_span)) = serde_json::from_str(text) {
                of_span.into_iter().for_each(|(key, value)| fields.push(&key, value));
            }
        }
        match self.format {
            LogFormat::Json => writeln!(writer, "{}", Value::Object(fields.0)),
            LogFormat::Logfmt => writeln!(writer, "{}", logfmt(&fields.0)),
            LogFormat::Journald => writeln!(writer, "<{}>{}", priority(*metadata.level()), logfmt(&fields.0)),
        }
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// The priorities of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Keeps the fields of a span until a line is written; without names of fields twice, whatever order they come in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut collected = Collected::default();
        fields.record(&mut collected);
        write!(writer, "{}", Value::Object(collected.0))
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &tracing::span::Record<'_>) -> fmt::Result {
        let mut collected = match serde_json::from_str(&current.fields) {
            Ok(Value::Object(map)) => Collected(map),
            _ => Collected::default(),
        };
        fields.record(&mut collected);
        current.fields = Value::Object(collected.0).to_string();
        Ok(())
    }
}

/// Fields in the order they came; the first of a name stays.
#[derive(Debug, Default)]
struct Collected(Map<String, Value>);

impl Collected {
    fn push(&mut self, key: &str, value: Value) {
        let key = match key {
            "message" => "msg",
            "error" => "err",
            // Libraries log under the keys of `log`, which tell what `caller` tells.
            key if key.starts_with("log.") => return,
            key => key.strip_prefix("r#").unwrap_or(key),
        };
        self.0.entry(key).or_insert(value);
    }
}

impl Visit for Collected {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field.name(), Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field.name(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field.name(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field.name(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        self.push(field.name(), Value::from(text));
    }
}

fn logfmt(fields: &Map<String, Value>) -> String {
    let mut line = String::with_capacity(160);
    for (key, value) in fields {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(key);
        line.push('=');
        match value {
            Value::String(text) if text.is_empty() || text.chars().any(needs_quotes) => {
                // JSON's quotes and escapes are those of Go's logfmt encoder.
                line.push_str(&Value::from(text.as_str()).to_string());
            }
            Value::String(text) => line.push_str(text),
            other => line.push_str(&other.to_string()),
        }
    }
    line
}

fn needs_quotes(c: char) -> bool {
    c <= ' ' || c == '=' || c == '"' || c.is_control() || c == char::REPLACEMENT_CHARACTER
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Lines::new(format))
            .fmt_fields(Fields)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        String::from_utf8(sink.0.lock().clone()).unwrap()
    }

    #[test]
    fn a_line_has_the_keys_of_thanos_and_cannot_be_broken_by_its_values() {
        let line = logged(LogFormat::Logfmt, || {
            let span = tracing::info_span!("call", endpoint = "a:1", late = tracing::field::Empty);
            span.record("late", 5);
            let _in = span.enter();
            tracing::warn!(error = "no \"such\"\nthing", n = 3, empty = "", "two words");
        });
        let (ts, rest) = line.split_once(' ').unwrap();
        assert!(ts.starts_with("ts=2") && ts.ends_with('Z'), "{line}");
        let (caller, rest) = rest.split_once(' ').unwrap();
        assert!(caller.starts_with("caller=logs/format.rs:"), "{line}");
        assert_eq!(
            rest,
            "level=warn msg=\"two words\" err=\"no \\\"such\\\"\\nthing\" n=3 empty=\"\" endpoint=a:1 late=5\n"
        );
    }

    #[test]
    fn json_has_the_same_keys() {
        let line = logged(LogFormat::Json, || tracing::info!(n = 3, "hello"));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["msg"], &value["level"], &value["n"]), (&"hello".into(), &"info".into(), &3.into()));
        assert!(logged(LogFormat::Journald, || tracing::error!("x")).starts_with("<3>ts="));
    }
}
