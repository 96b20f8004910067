//! Chunks: up to some hundred samples of one series, compressed.

use bytes::Bytes;

/// The encoding of a chunk, by Prometheus' numbers (`tsdb/chunkenc/chunk.go`). StoreAPI's numbers are one lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// Floats, Gorilla compressed.
    Xor = 1,
    /// Native histograms with integer counts.
    Histogram = 2,
    /// Native histograms with float counts.
    FloatHistogram = 3,
    /// Floats with optional start timestamps (Prometheus 3.14).
    Xor2 = 4,
    /// [`Encoding::Histogram`] with start timestamps.
    HistogramSt = 5,
    /// [`Encoding::FloatHistogram`] with start timestamps.
    FloatHistogramSt = 6,
}

impl Encoding {
    /// Returns the encoding with Prometheus' number `byte`.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Xor,
            2 => Self::Histogram,
            3 => Self::FloatHistogram,
            4 => Self::Xor2,
            5 => Self::HistogramSt,
            6 => Self::FloatHistogramSt,
            _ => return None,
        })
    }
}

/// A compressed chunk as it lies in a block or travels over the wire, without length and checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// How the data are compressed.
    pub encoding: Encoding,
    /// The compressed samples; a slice of the buffer they arrived in.
    pub data: Bytes,
}
