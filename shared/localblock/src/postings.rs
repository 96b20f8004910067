//! From matchers to the series that match.

use crate::{LocalBlock, LocalBlockError};
use farview_model::Matcher;
use farview_tsdb::index::{SeriesRef, failing, passing, postings};
use std::ops::Range;

/// Returns the series that pass all matchers, in the order of the index.
pub(crate) fn matching(block: &LocalBlock, matchers: &[Matcher]) -> Result<Vec<SeriesRef>, LocalBlockError> {
    // A matcher that passes the empty value passes series without the label too: it can only take away.
    let (narrowing, giving): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(|m| m.matches_empty());
    let mut found: Option<Vec<SeriesRef>> = None;
    for matcher in giving {
        let lists = union(block, passing(block.postings(), matcher))?;
        let both = match found {
            None => lists,
            Some(before) => postings::intersect(&before, &lists),
        };
        if both.is_empty() {
            return Ok(both);
        }
        found = Some(both);
    }
    let mut found = match found {
        Some(found) => found,
        None => union(block, block.postings().all().into_iter().collect())?,
    };
    for matcher in narrowing {
        let failing = union(block, failing(block.postings(), matcher))?;
        found = postings::without(&found, &failing);
    }
    Ok(found)
}

fn union(block: &LocalBlock, ranges: Vec<Range<u64>>) -> Result<Vec<SeriesRef>, LocalBlockError> {
    let mut lists = Vec::with_capacity(ranges.len());
    for range in ranges {
        lists.push(block.posting_list(range)?);
    }
    Ok(match lists.len() {
        1 => lists.remove(0),
        _ => postings::union(lists.into_iter().flatten()),
    })
}
