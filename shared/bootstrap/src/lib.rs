//! How a process starts, serves and stops.
//!
//! A service is an [`App`]: built from its typed flags and a [`Process`] (registry, readiness, tasks, what else the
//! service shares with its surroundings), with its sockets bound when the build returns. [`run`] does the rest for the
//! binary: layers of configuration, logs, tracing, the runtime, signals. A test does without it: it builds the app on
//! port 0 with [`Process::for_test`], reads the addresses and runs it with a [`CancellationToken`].
//!
//! [`Servers::run`] is the life of a running service. On shutdown, in this order:
//!
//! 1. `/-/ready` answers 503 and gRPC health says NOT_SERVING, while everything is still served, for the drain delay: time
//!    for load balancers and resolvers to look away;
//! 2. no new connections; open ones finish their requests (HTTP/2 peers are told by GOAWAY) within the grace period;
//! 3. what is left is cut, background tasks are told to stop and waited for.
//!
//! A second signal skips what is left of this.
//!
//! Only this crate installs signal handlers, a log subscriber, a panic hook or a runtime.

mod flags;
mod grpc;
mod http;
mod listener;
mod memory;
mod process;
mod run;
mod servers;
mod tasks;

pub use flags::{GrpcClientFlags, GrpcFlags, HttpFlags, ListenAddress, MinTls, ServiceFlags, ShutdownFlags};
pub use grpc::{GrpcServer, GrpcServerBuilder};
pub use http::HttpServer;
pub use memory::fit_memory;
pub use process::Process;
pub use run::{App, Tool, print, refuse, run, run_tool, version};
pub use servers::Servers;
pub use tasks::TaskGroup;
pub use tokio_util::sync::CancellationToken;
