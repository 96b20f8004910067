//! Sorted series in, sorted series out: k-way merge and replica deduplication.
