//! From matchers to the series that match.

use crate::{LocalBlock, LocalBlockError};
use farview_model::{MatchOp, Matcher};
use farview_tsdb::index::{SeriesRef, postings};
use std::ops::Range;

/// Returns the series that pass all matchers, in the order of the index.
pub(crate) fn matching(block: &LocalBlock, matchers: &[Matcher]) -> Result<Vec<SeriesRef>, LocalBlockError> {
    // A matcher that passes the empty value passes series without the label too: it can only take away.
    let (narrowing, giving): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(|m| m.matches_empty());
    let mut found: Option<Vec<SeriesRef>> = None;
    for matcher in giving {
        let lists = union(block, passing(block, matcher))?;
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
        let failing = union(block, failing(block, matcher))?;
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

/// Returns the lists of the values that pass.
fn passing(block: &LocalBlock, matcher: &Matcher) -> Vec<Range<u64>> {
    let table = block.postings();
    let positive = matches!(matcher.op(), MatchOp::Equal | MatchOp::Regex);
    if let Some(values) = matcher.set_matches().filter(|_| positive) {
        return values.iter().filter_map(|value| table.find(matcher.name(), value)).collect();
    }
    let prefix = if positive { matcher.prefix() } else { "" };
    let entries = table.values_from(matcher.name(), prefix).take_while(|entry| entry.value.starts_with(prefix));
    entries.filter(|entry| matcher.matches(entry.value)).map(|entry| entry.range).collect()
}

/// Returns the lists of the values that fail.
fn failing(block: &LocalBlock, matcher: &Matcher) -> Vec<Range<u64>> {
    let table = block.postings();
    if let Some(values) = matcher.set_matches()
        && matches!(matcher.op(), MatchOp::NotEqual | MatchOp::NotRegex)
    {
        return values.iter().filter_map(|value| table.find(matcher.name(), value)).collect();
    }
    let entries = table.values(matcher.name());
    entries.filter(|entry| !matcher.matches(entry.value)).map(|entry| entry.range).collect()
}
