//! Stands beside one Prometheus: serves its data over StoreAPI, uploads its finished blocks, renders and reloads its configuration.
//!
//! The [`heartbeat`] keeps what is known of Prometheus current in the [`state`]. [`store`] answers StoreAPI from it: external
//! labels are matched and taken off, the rest is read from Prometheus remotely ([`prometheus`]), and what comes back is given
//! its labels in order ([`farview_series::Relabel`]), chunks untouched. [`proxy`] passes the other APIs on, [`info`] announces all of it.
//! [`siblings`] finds other sidecars that announce the same labels. Apart from all that, [`upload`] ships finished blocks
//! to a bucket, and the [`reloader`] renders Prometheus' configuration.

mod app;
mod config;
mod heartbeat;
mod info;
mod metrics;
mod prometheus;
mod proxy;
mod reloader;
mod siblings;
mod state;
mod store;
mod upload;

pub use app::App;
pub use config::Config;
