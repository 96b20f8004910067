//! Stands beside one Prometheus: serves its data over StoreAPI, renders and reloads its configuration.

mod prometheus;
mod relabel;
