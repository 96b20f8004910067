//! TLS from files that are re-read when they change.
//!
//! [`TlsServerFiles`] and [`TlsClientFiles`] say which files and what is asked of the peer. `load` makes a configuration
//! for rustls once; `watch` makes a [`Reloading`] one, which looks at its files every [`POLL`] and follows them: key pair
//! and CA, on both sides. Take [`Reloading::current`] for each handshake, then rotation needs no restart.
//!
//! Polling is chosen over file notification on purpose: Kubernetes swaps symlinks, bind mounts tell nothing, and ten
//! seconds are nothing in the life of a certificate. A pair that does not fit together, as between the writing of its two
//! files, leaves the last good one in use and is reported by [`TlsState`].
//!
//! Names of peers are not this module's concern: whoever dials says whom it expects.

mod files;
mod reload;
mod verify;

pub use files::{ClientAuth, TlsClientFiles, TlsServerFiles, TlsVersion};
pub use reload::{POLL, Reloading, TlsState};

#[cfg(test)]
mod tests;
