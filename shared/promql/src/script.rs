//! The language in which Prometheus tests its engine (`promqltest`), and a runner for it.
//!
//! A script loads series and says what queries over them must answer. [`parse`] reads scripts, [`series`] the descriptions of
//! series in them, [`load`] turns descriptions into samples as a TSDB would hold them, [`run`] asks an [`Evaluator`] and
//! [`compare`] judges. An instant query stands for up to twelve evaluations (see [`rerun`]).
//!
//! Deliberately not here: rule tests (`promtool test rules`), which share only the descriptions.

pub mod compare;
pub mod evaluator;
mod histogram;
pub mod load;
pub mod parse;
pub mod rerun;
pub mod run;
pub mod series;

pub use evaluator::{EngineEvaluator, Evaluator, Outcome};
pub use run::{Failure, FileScore, Score, run_files, run_text};

/// Why a script cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    /// Line of the script, from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}
