//! Stands beside one Prometheus: serves its data over StoreAPI, renders and reloads its configuration.

mod metrics;
mod prometheus;
mod proxy;
mod relabel;
mod state;
mod store;
