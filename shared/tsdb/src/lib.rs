//! The bytes of a Prometheus TSDB.
//!
//! Chunks of every encoding ([`Chunk`]) are decoded to columns ([`farview_model::Samples`]) in one go, and encoded again. The
//! index ([`index`]) and the segments of chunks ([`segment`]) of a block are read from any ranges of them.
//! Pure: bytes come in as slices, nothing here does I/O or reads a clock.

pub mod aggr;
mod bits;
pub mod chunk;
mod format;
mod histogram;
pub mod index;
pub mod segment;
mod tombstones;
mod varbit;
mod xor;

pub use chunk::{Chunk, ChunkError, Encoding, MAX_SAMPLES};
pub use format::{FormatError, FormatFault, Section};
pub use histogram::EncodeError;
pub use tombstones::Tombstones;
