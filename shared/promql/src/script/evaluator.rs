//! What a script is run against.

use crate::annotations::Severity;
use crate::engine::{Answer, Engine, EngineOptions, Error, QueryContext, Value};
use crate::memory::MemoryStorage;
use crate::parse;
use farview_model::{Labels, Samples};
use std::time::Duration;

/// An answer as a script judges it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The value.
    pub value: Value,
    /// All warnings, with prefix and position.
    pub warnings: Vec<String>,
    /// All infos.
    pub infos: Vec<String>,
}

/// Something that holds series and answers queries.
pub trait Evaluator {
    /// Forgets all series.
    fn clear(&mut self);

    /// Adds series.
    fn load(&mut self, series: Vec<(Labels, Samples)>);

    /// Evaluates at one time, ms.
    ///
    /// # Errors
    /// The text of the error.
    fn instant(&self, query: &str, t: i64) -> Result<Outcome, String>;

    /// Evaluates at each step, ms.
    ///
    /// # Errors
    /// The text of the error.
    fn range(&self, query: &str, start: i64, end: i64, step: i64) -> Result<Outcome, String>;
}

/// The engine over a storage in memory, set as Prometheus sets its own under test.
#[derive(Debug)]
pub struct EngineEvaluator {
    engine: Engine,
    storage: MemoryStorage,
}

impl EngineEvaluator {
    /// Makes an evaluator with that many workers.
    ///
    /// # Errors
    /// [`std::io::Error`] if the engine's threads cannot be started.
    pub fn new(workers: usize) -> std::io::Result<Self> {
        let options = EngineOptions {
            workers,
            max_samples: 10_000,
            delayed_name_removal: true,
            start_timestamps: true,
            parse: parse::Options { x_functions: false, ..parse::Options::all() },
            ..EngineOptions::default()
        };
        Ok(Self { engine: Engine::new(options)?, storage: MemoryStorage::default() })
    }
}

fn outcome(answer: Result<Answer, Error>, query: &str) -> Result<Outcome, String> {
    let answer = answer.map_err(|error| error.to_string())?;
    Ok(Outcome {
        warnings: answer.annotations.texts(Severity::Warning, query),
        infos: answer.annotations.texts(Severity::Info, query),
        value: answer.value,
    })
}

const TIMEOUT: Duration = Duration::from_secs(100);

impl Evaluator for EngineEvaluator {
    fn clear(&mut self) {
        self.storage.clear();
    }

    fn load(&mut self, series: Vec<(Labels, Samples)>) {
        for (labels, samples) in series {
            self.storage.add(labels, samples);
        }
    }

    fn instant(&self, query: &str, t: i64) -> Result<Outcome, String> {
        let cx = QueryContext::with_timeout(TIMEOUT);
        outcome(self.engine.instant(&cx, &self.storage, query, t), query)
    }

    fn range(&self, query: &str, start: i64, end: i64, step: i64) -> Result<Outcome, String> {
        let cx = QueryContext::with_timeout(TIMEOUT);
        outcome(self.engine.range(&cx, &self.storage, query, start, end, step), query)
    }
}
