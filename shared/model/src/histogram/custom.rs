//! Custom bounds of two histograms: which they share, and where their buckets go then.

use std::sync::Arc;

/// Tells whether the bounds are the same, value by value.
pub(super) fn same_bounds(a: &[f64], b: &[f64]) -> bool {
    std::ptr::eq(a, b) || a == b
}

/// Returns the bounds that are in both lists; both rise.
pub(super) fn shared_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    let mut rest = b;
    a.iter()
        .copied()
        .filter(|bound| {
            rest = &rest[rest.partition_point(|other| other < bound)..];
            rest.first() == Some(bound)
        })
        .collect()
}

/// Returns the index of the bucket within `bounds` that holds the bucket `index` of `own`; every bound is one of `own` too.
/// Past the last bound is the bucket up to +Inf.
pub(super) fn index_in(bounds: &[f64], index: i32, own: &[f64]) -> i32 {
    match usize::try_from(index).ok().and_then(|index| own.get(index)) {
        Some(upper) => bounds.partition_point(|bound| bound < upper) as i32,
        None if index < 0 => 0,
        None => bounds.len() as i32,
    }
}
