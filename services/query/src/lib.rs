//! One PromQL view over all endpoints: fan-out, merge, deduplication, HTTP API.
//!
//! A request comes in through [`api`] (HTTP) or [`grpc`]. [`engine`] admits and evaluates it; the engine's selectors become
//! fan-outs ([`querier`], [`fanout`]) over the endpoints that [`endpoints`] knows, and what they lack is written down in the
//! query's [`run`], from where it comes into the answer. [`federate`] does the same for rules, targets, metadata, exemplars. [`ui`] shows it.
//!
//! The service keeps nothing between requests but who there is to ask, and writes nothing anywhere.

mod active;
mod api;
mod app;
mod config;
mod endpoints;
mod engine;
mod fanout;
mod federate;
mod grpc;
mod metrics;
mod querier;
mod replicas;
mod run;
mod ui;

pub use app::App;
pub use config::Config;
