//! Which posting lists a matcher is about.

use super::PostingsOffsets;
use farview_model::{MatchOp, Matcher};
use std::ops::Range;

/// Returns where the lists of the values lie that pass a matcher; in the order of the index.
pub fn passing(table: &PostingsOffsets, matcher: &Matcher) -> Vec<Range<u64>> {
    let positive = matches!(matcher.op(), MatchOp::Equal | MatchOp::Regex);
    if let Some(values) = matcher.set_matches().filter(|_| positive) {
        return values.iter().filter_map(|value| table.find(matcher.name(), value)).collect();
    }
    let prefix = if positive { matcher.prefix() } else { "" };
    let entries = table.values_from(matcher.name(), prefix).take_while(|entry| entry.value.starts_with(prefix));
    entries.filter(|entry| matcher.matches(entry.value)).map(|entry| entry.range).collect()
}

/// Returns where the lists of the values lie that fail a matcher; in the order of the index.
pub fn failing(table: &PostingsOffsets, matcher: &Matcher) -> Vec<Range<u64>> {
    if let Some(values) = matcher.set_matches()
        && matches!(matcher.op(), MatchOp::NotEqual | MatchOp::NotRegex)
    {
        return values.iter().filter_map(|value| table.find(matcher.name(), value)).collect();
    }
    let entries = table.values(matcher.name());
    entries.filter(|entry| !matcher.matches(entry.value)).map(|entry| entry.range).collect()
}
