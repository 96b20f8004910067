//! Runs scripts and keeps the score.

use super::evaluator::{EngineEvaluator, Evaluator, Outcome};
use super::parse::{Command, Eval, Expected, When, parse_script};
use super::{compare, load, rerun};
use crate::engine::{Series, Value};
use std::io::{self, Write};
use std::path::Path;

/// A case that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Line of the script, from 1.
    pub line: usize,
    /// The query of the case.
    pub query: String,
    /// What was not as expected.
    pub message: String,
}

/// The score of one script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileScore {
    /// Cases in the script.
    pub total: usize,
    /// Those that passed.
    pub passed: usize,
    /// The others.
    pub failures: Vec<Failure>,
}

/// The score of several scripts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Score {
    /// Name and score of each file.
    pub files: Vec<(String, FileScore)>,
}

impl Score {
    /// Returns the cases of all files.
    pub fn total(&self) -> usize {
        self.files.iter().map(|(_, score)| score.total).sum()
    }

    /// Returns those that passed.
    pub fn passed(&self) -> usize {
        self.files.iter().map(|(_, score)| score.passed).sum()
    }
}

/// Runs the scripts at `paths` against the engine; writes a line for each case that fails and one for each file.
///
/// # Errors
/// [`io::Error`] if a file cannot be read or `out` not be written.
pub fn run_files<P: AsRef<Path>>(paths: &[P], out: &mut dyn Write) -> io::Result<Score> {
    let mut score = Score::default();
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for path in paths {
        let path = path.as_ref();
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        let file = run_text(&text, &mut EngineEvaluator::new(workers)?);
        for failure in &file.failures {
            writeln!(out, "{name}:{}: {}: {}", failure.line, failure.query, failure.message)?;
        }
        writeln!(out, "{name}: {} of {} passed", file.passed, file.total)?;
        score.files.push((name, file));
    }
    Ok(score)
}

/// Runs one script. A script that cannot be read, or whose series cannot be loaded, is one failed case and ends there.
pub fn run_text(text: &str, evaluator: &mut dyn Evaluator) -> FileScore {
    let mut score = FileScore::default();
    let broken = |line, message| Failure { line, query: String::new(), message };
    let commands = match parse_script(text) {
        Ok(commands) => commands,
        Err(error) => {
            score.total = 1;
            score.failures.push(broken(error.line, error.message));
            return score;
        }
    };
    evaluator.clear();
    for command in commands {
        match command {
            Command::Clear => evaluator.clear(),
            Command::Load(block) => match load::samples(&block) {
                Ok(series) => evaluator.load(series),
                Err(message) => {
                    score.total += 1;
                    score.failures.push(broken(block.line, message));
                    return score;
                }
            },
            Command::Eval(eval) => {
                score.total += 1;
                match run_eval(&eval, evaluator) {
                    Ok(()) => score.passed += 1,
                    Err(message) => {
                        let Eval { line, query, .. } = *eval;
                        score.failures.push(Failure { line, query, message });
                    }
                }
            }
        }
    }
    score
}

fn run_eval(eval: &Eval, evaluator: &dyn Evaluator) -> Result<(), String> {
    match eval.when {
        When::Range(steps) => {
            let outcome = evaluator.range(&eval.query, steps.start, steps.end, steps.step);
            judge(eval, outcome).map(|_| ())
        }
        When::Instant(t) => {
            run_instant(eval, evaluator, &eval.query, t)?;
            let Some((query, times)) = rerun::fixed(&eval.query, t) else { return Ok(()) };
            for at in times {
                run_instant(eval, evaluator, &query, at).map_err(|message| format!("as {query} at {at}: {message}"))?;
            }
            Ok(())
        }
    }
}

/// Judges an outcome; gives the value back, `None` if a failure was expected.
fn judge(eval: &Eval, outcome: Result<Outcome, String>) -> Result<Option<Value>, String> {
    match (&eval.fail, outcome) {
        (Some(rule), Err(error)) if rule.allows(&error) => Ok(None),
        (Some(rule), Err(error)) => Err(format!("expected the failure {rule:?}, got {error:?}")),
        (Some(_), Ok(_)) => Err("expected a failure, got an answer".to_owned()),
        (None, Err(error)) => Err(format!("failed: {error}")),
        (None, Ok(outcome)) => {
            compare::value(eval, &outcome.value)?;
            compare::annotations(eval, &outcome)?;
            Ok(Some(outcome.value))
        }
    }
}

/// Half the length, and the step, of the range in which an instant query is run again; ms.
const MINUTE: i64 = 60_000;

fn run_instant(eval: &Eval, evaluator: &dyn Evaluator, query: &str, t: i64) -> Result<(), String> {
    let Some(value) = judge(eval, evaluator.instant(query, t))? else { return Ok(()) };
    let single = matches!(eval.expected, Expected::Scalar(_) | Expected::Series(_, None));
    if eval.ordered || !single || !rerun::fits_range(query) {
        return Ok(());
    }
    let in_range = |message: String| format!("in the middle of a range: {message}");
    let outcome = evaluator.range(query, t - MINUTE, t + MINUTE, MINUTE).map_err(in_range)?;
    let Value::Matrix(series) = outcome.value else { return Err(in_range("no matrix".to_owned())) };
    let middle: Vec<Series> = series.iter().map(|series| at_time(series, t)).filter(|s| !is_empty(s)).collect();
    let middle = match value {
        Value::Scalar(..) => {
            Value::Scalar(t, middle.first().and_then(|series| series.values.first()).copied().unwrap_or(f64::NAN))
        }
        _ => Value::Vector(middle),
    };
    compare::value(eval, &middle).map_err(in_range)
}

fn is_empty(series: &Series) -> bool {
    series.timestamps.is_empty() && series.histograms.is_empty()
}

fn at_time(series: &Series, t: i64) -> Series {
    let mut out = Series { labels: series.labels.clone(), ..Series::default() };
    if let Ok(i) = series.timestamps.binary_search(&t) {
        out.timestamps.push(t);
        out.values.push(series.values[i]);
    }
    out.histograms.extend(series.histograms.iter().filter(|(at, _)| *at == t).cloned());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one case over two series and returns why it failed, if it did.
    fn verdict(case: &str) -> Option<String> {
        let script = format!("load 1m\n a{{l=\"x\"}} 0+1x10\n a{{l=\"y\"}} 5 _x5 stale\n\n{case}");
        let score = run_text(&script, &mut EngineEvaluator::new(1).unwrap());
        assert_eq!(score.total, 1, "{case}");
        assert_eq!(score.passed + score.failures.len(), 1);
        score.failures.into_iter().next().map(|failure| failure.message)
    }

    #[test]
    fn right_cases_pass() {
        for case in [
            "eval instant at 5m a\n a{l=\"x\"} 5",
            "eval instant at 4m a\n a{l=\"y\"} 5\n a{l=\"x\"} 4",
            "eval instant at 4m sort(a)\n expect ordered\n a{l=\"x\"} 4\n a{l=\"y\"} 5",
            "eval instant at 1m 1 + 1\n 2",
            "eval instant at 1m 'x'\n expect string \"x\"",
            "eval instant at 1m b",
            "eval instant at 1m a + on() a\n expect fail",
            "eval instant at 1m a + on() a\n expect fail regex: duplicate series",
            "eval range from 0 to 10m step 5m sum(a)\n {} 5 5 10",
            "eval range from 0 to 10m step 5m a{l=\"y\"}\n a{l=\"y\"} 5 _ _",
            "eval instant at 2m a{l=\"x\"}[90s]\n expect range vector from 1m to 2m step 1m\n a{l=\"x\"} 1 2",
            "eval instant at 2m quantile(2, a)\n expect warn\n expect no_info\n {} Inf",
            "eval instant at 2m quantile(2, a)\n expect warn msg: PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)\n {} Inf",
        ] {
            assert_eq!(verdict(case), None, "{case}");
        }
    }

    #[test]
    fn wrong_cases_fail_and_say_why() {
        for (case, why) in [
            ("eval instant at 5m a\n a{l=\"x\"} 6", "expected 6"),
            ("eval instant at 5m a", "unexpected"),
            ("eval instant at 5m a\n a{l=\"x\"} 5\n a{l=\"z\"} 5", "is missing"),
            ("eval instant at 5m a\n a{l=\"x\"} {{count:5}}", "expected FloatHistogram"),
            ("eval instant at 4m sort(a)\n expect ordered\n a{l=\"y\"} 5\n a{l=\"x\"} 4", "is expected at position"),
            ("eval instant at 1m 1 + 1\n 3", "expected scalar 3"),
            ("eval instant at 1m 1 + 1\n {} 2", "expected 1 series"),
            ("eval instant at 1m 'x'\n expect string \"y\"", "expected string"),
            ("eval instant at 1m a\n expect fail", "expected a failure"),
            ("eval instant at 1m a + on() a\n expect fail msg: nope", "expected the failure"),
            ("eval instant at 1m a + on() a", "failed: "),
            ("eval range from 0 to 10m step 5m sum(a)\n {} 5 5 10 10", "is missing"),
            ("eval range from 0 to 10m step 5m sum(a)\n {} 5 5", "unexpected 10"),
            ("eval range from 0 to 10m step 5m sum(a)\n {} 5 _ 10", "unexpected 5"),
            ("eval instant at 2m quantile(2, a)\n expect no_warn\n {} Inf", "no warning is expected"),
            ("eval instant at 2m quantile(2, a)\n expect info\n {} Inf", "expected info"),
            ("eval instant at 2m quantile(2, a)\n expect warn msg: x\n {} Inf", "expected warning"),
            ("eval instant at 2m count(a", "failed: "),
            ("eval instant at 2m", "line 5"),
            ("foo", "no command"),
        ] {
            let message = verdict(case).unwrap_or_else(|| panic!("{case} passed"));
            let shown = message.contains(why) || why.starts_with("line");
            assert!(shown, "{case}: {message}");
        }
    }
}
