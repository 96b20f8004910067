//! PromQL: text to syntax tree ([`parse`]), to plan, to operators over batches of whole series.
//!
//! The crate knows no gRPC, no HTTP and no object storage: it asks a [`Queryable`] for series and gets them as a stream in
//! label order, each with its samples still compressed behind [`SampleSource`]. It follows Prometheus 3.14.

pub mod annotations;
pub mod answer_json;
pub mod ast;
pub mod duration;
pub mod engine;
mod exec;
pub mod functions;
pub mod json;
mod lexer;
pub mod memory;
pub mod parse;
mod plan;
pub mod pretty;
mod print;
pub use farview_model::quote;
pub mod script;
pub mod source;

pub use source::{Queryable, SampleSource, Select, SeriesStream, SourceError, SourceSeries};
