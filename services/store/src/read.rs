//! Reading a block: posting lists choose series, series name chunks, chunks are passed on as they are.
//!
//! [`postings`] needs one round of reads, [`series`] and [`chunks`] one for each batch; batches follow each other without waiting,
//! so that a block of any size costs no more waits than these three.

pub(crate) mod chunks;
pub(crate) mod labels;
pub(crate) mod postings;
pub(crate) mod series;
