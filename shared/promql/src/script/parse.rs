//! Scripts, line by line. An empty line, or one that is a comment, ends a block.

use super::ScriptError;
use super::series::{SeriesDescription, parse_series, parse_start};
use crate::duration;
use regex::Regex;
use std::sync::LazyLock;

/// What a script does, step by step.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Forgets all series.
    Clear,
    /// Adds series.
    Load(Load),
    /// Asks a query.
    Eval(Box<Eval>),
}

/// A block of series.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Line of the script, from 1.
    pub line: usize,
    /// Distance of samples, ms. The first is at time 0.
    pub interval: i64,
    /// Whether native histograms are to be made of the classic ones.
    pub nhcb: bool,
    /// The series; each labels once, the last description wins.
    pub series: Vec<LoadSeries>,
}

/// A series with the start times of its samples, if they are given.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadSeries {
    /// Labels and values.
    pub description: SeriesDescription,
    /// Offsets of the start times to the samples' times, ms; empty if not given.
    pub starts: Vec<Option<i64>>,
}

/// When a query is evaluated, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At one time.
    Instant(i64),
    /// At each step from the first to the second.
    Range(Steps),
}

/// Times of a range query, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// First step.
    pub start: i64,
    /// No step is after it.
    pub end: i64,
    /// Their distance.
    pub step: i64,
}

/// What a text must be.
#[derive(Debug, Clone)]
pub enum TextRule {
    /// Anything.
    Any,
    /// Exactly this.
    Exact(String),
    /// Somewhere in it this expression matches.
    Matches(Regex),
}

impl TextRule {
    /// Tells whether the text is as it must be.
    pub fn allows(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == text,
            Self::Matches(regex) => regex.is_match(text),
        }
    }
}

impl PartialEq for TextRule {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

/// What is expected of annotations of one kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnnotationRule {
    /// There must be none.
    pub none: bool,
    /// Each must be met by one, and each annotation must meet one. Empty: anything goes.
    pub some: Vec<TextRule>,
}

/// A query and what is expected of its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Eval {
    /// Line of the script, from 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// When it is evaluated.
    pub when: When,
    /// It must fail, with such a text.
    pub fail: Option<TextRule>,
    /// The order of an instant vector counts.
    pub ordered: bool,
    /// Expected warnings.
    pub warn: AnnotationRule,
    /// Expected infos.
    pub info: AnnotationRule,
    /// Expected value.
    pub expected: Expected,
}

/// An expected value.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// A scalar.
    Scalar(f64),
    /// A string.
    String(Vec<u8>),
    /// Series: one value each for an instant query, else one for each of the steps.
    Series(Vec<SeriesDescription>, Option<Steps>),
}

static LOAD: LazyLock<Regex> = LazyLock::new(|| regex(r"(?i)^load(_with_nhcb)?\s+(.+?)$"));
static INSTANT: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?i)^eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$"));
static RANGE: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"(?i)^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$")
});
static EXPECT: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg)\s*:\s*(.+))?$"));
static EXPECT_RANGE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^expect\s+range\s+vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)$"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant of this file")
}

/// Reads a script.
///
/// # Errors
/// [`ScriptError`] at the first line that is none of the language.
pub fn parse_script(text: &str) -> Result<Vec<Command>, ScriptError> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let first = lines[at];
        if first.is_empty() {
            at += 1;
            continue;
        }
        let len = lines[at..].iter().take_while(|line| !line.is_empty()).count();
        let lower = first.to_ascii_lowercase();
        let block = Block { line: at + 1, lines: &lines[at..at + len] };
        if lower.split_whitespace().next() == Some("clear") {
            commands.push(Command::Clear);
            at += 1;
            continue;
        } else if lower.starts_with("load") {
            commands.push(Command::Load(block.load()?));
        } else if lower.starts_with("eval") {
            commands.push(Command::Eval(Box::new(block.eval()?)));
        } else {
            return block.error(0, format!("no command: {first:?}"));
        }
        at += len;
    }
    Ok(commands)
}

struct Block<'a> {
    line: usize,
    lines: &'a [&'a str],
}

impl Block<'_> {
    fn error<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ScriptError> {
        Err(ScriptError { line: self.line + at, message: message.into() })
    }

    fn duration(&self, text: &str) -> Result<i64, ScriptError> {
        duration::parse(text.trim()).or_else(|error| self.error(0, error.to_string()))
    }

    fn load(&self) -> Result<Load, ScriptError> {
        let Some(found) = LOAD.captures(self.lines[0]) else { return self.error(0, "load wants an interval") };
        let (nhcb, interval) = (found.get(1).is_some(), self.duration(&found[2])?);
        let mut series: Vec<LoadSeries> = Vec::new();
        let mut start = None;
        for (at, line) in self.lines.iter().enumerate().skip(1) {
            if let Some(found) = parse_start(line).or_else(|error| self.error(at, error))? {
                start = Some(found);
                continue;
            }
            let description = parse_series(line).or_else(|error| self.error(at, error))?;
            let starts = match start.take() {
                None => Vec::new(),
                Some(start) if start.labels != description.labels => {
                    return self.error(at, "start times stand above another series");
                }
                Some(start) if start.offsets.len() != description.values.len() => {
                    return self.error(at, "there are not as many start times as samples");
                }
                Some(start) => start.offsets,
            };
            series.retain(|before| before.description.labels != description.labels);
            series.push(LoadSeries { description, starts });
        }
        Ok(Load { line: self.line, interval, nhcb, series })
    }

    fn eval(&self) -> Result<Eval, ScriptError> {
        let head = self.lines[0];
        let (mode, when, query) = if let Some(found) = INSTANT.captures(head) {
            let Some(at) = found.get(2) else { return self.error(0, "an instant query wants a time") };
            (found.get(1), When::Instant(self.duration(at.as_str())?), found[3].to_owned())
        } else if let Some(found) = RANGE.captures(head) {
            (found.get(1), When::Range(self.steps(&found[2], &found[3], &found[4])?), found[5].to_owned())
        } else {
            return self.error(0, "eval wants `instant at` or `range from … to … step …` and a query");
        };
        let mut eval = Eval {
            line: self.line,
            query,
            when,
            fail: None,
            ordered: false,
            warn: AnnotationRule::default(),
            info: AnnotationRule::default(),
            expected: Expected::Series(Vec::new(), None),
        };
        if let Some(mode) = mode {
            self.mode(&mut eval, &mode.as_str().to_ascii_lowercase(), TextRule::Any, 0)?;
        }
        for (at, line) in self.lines.iter().enumerate().skip(1) {
            self.result(&mut eval, at, line)?;
        }
        if (eval.warn.none && !eval.warn.some.is_empty()) || (eval.info.none && !eval.info.some.is_empty()) {
            return self.error(0, "annotations are expected and refused at once");
        }
        Ok(eval)
    }

    fn steps(&self, start: &str, end: &str, step: &str) -> Result<Steps, ScriptError> {
        let steps = Steps { start: self.duration(start)?, end: self.duration(end)?, step: self.duration(step)? };
        if steps.step <= 0 || steps.end < steps.start {
            return self.error(0, "the range has no step");
        }
        Ok(steps)
    }

    fn mode(&self, eval: &mut Eval, mode: &str, rule: TextRule, at: usize) -> Result<(), ScriptError> {
        match mode {
            "fail" if eval.fail.is_some() => return self.error(at, "failure is expected twice"),
            "fail" => eval.fail = Some(rule),
            "ordered" => eval.ordered = true,
            "warn" => eval.warn.some.push(rule),
            "no_warn" => eval.warn.none = true,
            "info" => eval.info.some.push(rule),
            _ => eval.info.none = true,
        }
        Ok(())
    }

    /// Reads one line below the query.
    fn result(&self, eval: &mut Eval, at: usize, line: &str) -> Result<(), ScriptError> {
        let regex =
            |text: &str| Regex::new(text).map(TextRule::Matches).or_else(|error| self.error(at, error.to_string()));
        if let Some(found) = EXPECT.captures(line) {
            let rule = match (found.get(2), found.get(3)) {
                (Some(kind), Some(text)) if kind.as_str() == "regex" => regex(text.as_str().trim())?,
                (Some(_), Some(text)) => TextRule::Exact(text.as_str().trim().to_owned()),
                _ => TextRule::Any,
            };
            return self.mode(eval, &found[1], rule, at);
        }
        if let Some(found) = EXPECT_RANGE.captures(line) {
            let steps = self.steps(&found[1], &found[2], &found[3])?;
            eval.expected = Expected::Series(Vec::new(), Some(steps));
            return Ok(());
        }
        if let Some(text) = line.strip_prefix("expect string ") {
            let bytes = crate::quote::unquote(text.trim()).or_else(|error| self.error(at, error.to_string()))?;
            eval.expected = Expected::String(bytes);
            return Ok(());
        }
        for (prefix, is_regex) in [("expected_fail_message ", false), ("expected_fail_regexp ", true)] {
            if let Some(text) = line.strip_prefix(prefix) {
                eval.fail = Some(if is_regex { regex(text.trim())? } else { TextRule::Exact(text.trim().to_owned()) });
                return Ok(());
            }
        }
        if let Some(value) = farview_model::number::parse_go(line) {
            eval.expected = Expected::Scalar(value);
            return Ok(());
        }
        let description = parse_series(line).or_else(|error| self.error(at, error))?;
        match &mut eval.expected {
            Expected::Series(series, steps) => {
                let single = matches!(eval.when, When::Instant(_)) && steps.is_none();
                if single && description.values.len() != 1 {
                    return self.error(at, "an instant query has one value for each series");
                }
                series.push(description);
                Ok(())
            }
            _ => self.error(at, "series are expected beside another value"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_end_blocks_and_numbers_alone_are_scalars() {
        let text = "load 5m\n  a 1\n# b 2\n\nclear\neval instant at 1m a\n  expect no_warn\n  {} 5\n\nEVAL range from 0 to 10s step 5s 1 + 1\n  {} 2x2\n\neval instant at 0 1\n  1\n";
        let commands = parse_script(text).unwrap();
        let [Command::Load(load), Command::Clear, Command::Eval(first), Command::Eval(second), Command::Eval(third)] =
            &commands[..]
        else {
            panic!("{commands:?}")
        };
        assert_eq!((load.interval, load.series.len()), (300_000, 1));
        assert_eq!((first.line, first.warn.none, first.when), (6, true, When::Instant(60_000)));
        assert_eq!(second.when, When::Range(Steps { start: 0, end: 10_000, step: 5_000 }));
        assert_eq!(third.expected, Expected::Scalar(1.0));
    }

    #[test]
    fn expectations_are_read() {
        let text =
            "eval instant at 0 a\n expect fail msg: bad thing\n expect warn regex:a.c\n expect ordered\n expect{} 1";
        let [Command::Eval(eval)] = &parse_script(text).unwrap()[..] else { panic!() };
        assert_eq!(eval.fail, Some(TextRule::Exact("bad thing".to_owned())));
        assert!(eval.warn.some[0].allows("xabcx") && eval.ordered);
        let Expected::Series(series, None) = &eval.expected else { panic!() };
        assert_eq!(series[0].labels.metric_name(), "expect");
    }

    #[test]
    fn contradictions_and_other_texts_are_errors_with_a_line() {
        for (text, line) in [
            ("\nfoo", 2),
            ("load", 1),
            ("load 5m\n a 1\n b c", 3),
            ("eval instant a", 1),
            ("eval instant at 5 a", 1),
            ("eval range from 5s to 1s step 1s a", 1),
            ("eval instant at 0 a\n expect warn\n expect no_warn", 1),
            ("eval instant at 0 a\n expect fail\n expect fail", 3),
            ("eval instant at 0 a\n {} 1 2", 2),
            ("load 1m\n a@st 0\n a 1 2", 3),
        ] {
            assert_eq!(parse_script(text).expect_err(text).line, line, "{text}");
        }
    }
}
