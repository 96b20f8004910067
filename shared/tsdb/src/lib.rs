//! The bytes of a Prometheus TSDB.
//!
//! Chunks of every encoding ([`Chunk`]) are decoded to columns ([`farview_model::Samples`]) in one go, and encoded again.
//! Pure: bytes come in as slices, nothing here does I/O or reads a clock.

pub mod aggr;
mod bits;
pub mod chunk;
mod histogram;
mod varbit;
mod xor;

pub use chunk::{Chunk, ChunkError, Encoding, MAX_SAMPLES};
pub use histogram::EncodeError;
