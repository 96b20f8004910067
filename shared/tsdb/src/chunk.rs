//! Chunks: up to some hundred samples of one series, compressed.

use crate::histogram::{self, EncodeError, FloatCounts, IntegerCounts};
use crate::xor;
use bytes::Bytes;
use farview_model::{ErrorKind, FloatHistogram, Samples, TimeRange};
use std::sync::Arc;

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

/// Samples in a chunk at most, as Prometheus writes them.
pub const MAX_SAMPLES: usize = 120;

/// A compressed chunk as it lies in a block or travels over the wire, without length and checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// How the data are compressed.
    pub encoding: Encoding,
    /// The compressed samples; a slice of the buffer they arrived in.
    pub data: Bytes,
}

/// Why a chunk cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The data end within a sample.
    #[error("chunk data end within a sample at byte {offset} of {len}")]
    Truncated {
        /// Where.
        offset: usize,
        /// Length of the data.
        len: usize,
    },
    /// The chunk says it has more samples than its bits can hold.
    #[error("chunk of {len} bytes claims {count} samples")]
    TooManySamples {
        /// What it claims.
        count: usize,
        /// Length of the data.
        len: usize,
    },
    /// This version cannot read the encoding.
    #[error("chunk encoding {0:?} cannot be read by this version")]
    Unsupported(Encoding),
    /// A field has a value that cannot be.
    #[error("chunk is malformed at byte {offset}: {reason}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

impl ChunkError {
    /// Returns what the caller can do: nothing but to say so, the data are corrupt.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

pub(crate) const TIMES_FALL: &str = "the times of the samples do not rise";

/// The order that the times of a chunk must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Every sample is later than the one before.
    Rising,
    /// A sample may have the time of the one before, as in the counters of downsampled data.
    NotFalling,
}

impl Order {
    /// Returns the time that comes `delta` after `t`; `None` if it may not.
    #[inline(always)]
    pub(crate) fn next(self, t: i64, delta: i64) -> Option<i64> {
        let least = if self == Self::Rising { 1 } else { 0 };
        if delta < least { None } else { t.checked_add(delta) }
    }
}

/// Reads the sample count in front of every chunk; refuses one that the data cannot hold (a sample takes two bits).
pub(crate) fn sample_count(data: &[u8]) -> Result<usize, ChunkError> {
    let Some(head) = data.get(..2) else { return Err(ChunkError::Truncated { offset: 0, len: data.len() }) };
    let count = u16::from_be_bytes([head[0], head[1]]) as usize;
    if count > 1 + data.len() * 4 {
        return Err(ChunkError::TooManySamples { count, len: data.len() });
    }
    Ok(count)
}

impl Chunk {
    /// Returns how many samples the chunk says it has.
    ///
    /// # Errors
    /// [`ChunkError`] if the data are too short to say, or for the number they claim.
    pub fn num_samples(&self) -> Result<usize, ChunkError> {
        sample_count(&self.data)
    }

    /// Decodes the samples that lie in `range` and appends them to `out`. Their times rise.
    ///
    /// # Errors
    /// [`ChunkError`] if the chunk is malformed; `out` then holds what came before the fault.
    pub fn decode(&self, range: TimeRange, out: &mut Samples) -> Result<(), ChunkError> {
        self.decode_ordered(range, Order::Rising, out)
    }

    /// Decodes the counter of downsampled data, in which a time may come again: that of the first sample in the first window,
    /// and at the end, with the last raw value. Else as [`Chunk::decode`].
    ///
    /// # Errors
    /// As [`Chunk::decode`].
    pub fn decode_counter(&self, range: TimeRange, out: &mut Samples) -> Result<(), ChunkError> {
        self.decode_ordered(range, Order::NotFalling, out)
    }

    fn decode_ordered(&self, range: TimeRange, order: Order, out: &mut Samples) -> Result<(), ChunkError> {
        match self.encoding {
            Encoding::Xor => {
                let before = out.timestamps.len();
                let result = xor::decode(&self.data, range, order, &mut out.timestamps, &mut out.values);
                if !out.start_timestamps.is_empty() {
                    let added = out.timestamps.len() - before;
                    out.start_timestamps.extend(std::iter::repeat_n(0, added));
                }
                result
            }
            Encoding::Histogram => histogram::decode::<IntegerCounts>(&self.data, range, order, out),
            Encoding::FloatHistogram => histogram::decode::<FloatCounts>(&self.data, range, order, out),
            encoding => Err(ChunkError::Unsupported(encoding)),
        }
    }

    /// Encodes floats in rising time as one XOR chunk; at most 65,535 of them, of which Prometheus itself would put
    /// [`MAX_SAMPLES`] in one.
    pub fn encode_xor(timestamps: &[i64], values: &[f64]) -> Self {
        Self { encoding: Encoding::Xor, data: xor::encode(timestamps, values).into() }
    }

    /// Encodes histograms in rising time as chunks of integer counts, of at most [`MAX_SAMPLES`] each, cut where one chunk
    /// cannot hold them.
    ///
    /// # Errors
    /// [`EncodeError`] if a count is no whole number, or buckets and spans do not agree.
    pub fn encode_histograms(timestamps: &[i64], histograms: &[Arc<FloatHistogram>]) -> Result<Vec<Self>, EncodeError> {
        Ok(Self::all(Encoding::Histogram, histogram::encode_integer(timestamps, histograms)?))
    }

    /// Encodes histograms in rising time as chunks of float counts; cut as [`Chunk::encode_histograms`] does.
    ///
    /// # Errors
    /// [`EncodeError`] if buckets and spans do not agree.
    pub fn encode_float_histograms(
        timestamps: &[i64],
        histograms: &[Arc<FloatHistogram>],
    ) -> Result<Vec<Self>, EncodeError> {
        Ok(Self::all(Encoding::FloatHistogram, histogram::encode_float(timestamps, histograms)?))
    }

    fn all(encoding: Encoding, data: Vec<Vec<u8>>) -> Vec<Self> {
        data.into_iter().map(|data| Self { encoding, data: data.into() }).collect()
    }
}
