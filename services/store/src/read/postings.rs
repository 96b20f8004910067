//! From matchers to references of series.

use crate::block::Block;
use crate::error::ReadError;
use crate::header::Loaded;
use crate::ranges::{self, Part};
use bytes::Bytes;
use farview_model::Matcher;
use farview_objstore::Purpose;
use farview_tsdb::index::{SeriesRef, failing, passing, postings};
use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// What reading one series costs, bytes, when it is weighed against reading posting lists.
const SERIES_COST: u64 = 512;
/// Lists of a matcher that take no more together, bytes, are always fetched, and in the first round.
const CHEAP: u64 = 256 << 10;
/// From so many lists on their union is made on a bitmap.
const MANY_LISTS: usize = 8;
/// Reads of posting lists at a time.
const READS_AT_ONCE: usize = 16;

/// What matchers choose in a block.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    /// The series, in the order of the index.
    pub(crate) refs: Arc<[SeriesRef]>,
    /// Matchers that are still to be tested on the series: fetching their lists would have cost more.
    pub(crate) untested: Vec<Matcher>,
}

/// How far to go to avoid long posting lists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Laziness {
    pub(crate) enabled: bool,
    /// A list is not fetched if it is longer than this many times what the series cost that it could save.
    pub(crate) ratio: f64,
}

/// The lists that one matcher is about.
struct Group<'a> {
    matcher: &'a Matcher,
    lists: Vec<Range<u64>>,
    /// Whether series must be in one of the lists, or in none.
    adds: bool,
    bytes: u64,
}

/// Returns which series of a block pass the matchers, which are only about its series' own labels.
pub(crate) async fn choose(
    block: &Block,
    loaded: &Loaded,
    matchers: &[Matcher],
    laziness: Laziness,
) -> Result<Chosen, ReadError> {
    let text: Arc<str> = matchers.iter().map(Matcher::to_string).collect::<Vec<_>>().join(",").into();
    if let Some(refs) = block.cache().expanded(block.id, &text) {
        return Ok(Chosen { refs, untested: Vec::new() });
    }
    let nothing = || Chosen { refs: Arc::from([]), untested: Vec::new() };
    let table = &loaded.header.postings;
    let mut groups: Vec<Group<'_>> = Vec::with_capacity(matchers.len());
    for matcher in matchers {
        // A matcher that passes the empty value passes series without the label too: it can only take away.
        let adds = !matcher.matches_empty();
        let lists = if adds { passing(table, matcher) } else { failing(table, matcher) };
        let bytes = lists.iter().map(|list| list.end - list.start).sum();
        match (adds, lists.is_empty()) {
            (true, true) => return Ok(nothing()),
            (false, true) => {}
            _ => groups.push(Group { matcher, lists, adds, bytes }),
        }
    }
    // The cheapest that adds goes first: it bounds what the others can save.
    groups.sort_by_key(|group| (!group.adds, group.bytes));
    let first = match groups.first() {
        Some(group) if group.adds => groups.remove(0).lists,
        // Nothing adds: all series, but for what is taken away.
        _ => table.all().into_iter().collect(),
    };
    // Lists of few bytes are fetched with the first, whatever it will turn out to save: no wait is longer for them.
    let refs = union(block, &first, &fetch_with(block, &first, &groups).await?)?;
    match refs {
        Some(refs) => finish(block, text, refs, &groups, laziness).await,
        None => Ok(nothing()),
    }
}

/// Fetches lists, and those of the other groups that are cheap into the cache.
async fn fetch_with(
    block: &Block,
    first: &[Range<u64>],
    others: &[Group<'_>],
) -> Result<HashMap<u64, Bytes>, ReadError> {
    let cheap = others.iter().filter(|group| group.bytes <= CHEAP).flat_map(|group| group.lists.iter());
    let all: Vec<Range<u64>> = first.iter().chain(cheap).cloned().collect();
    fetch(block, &all).await
}

async fn finish(
    block: &Block,
    text: Arc<str>,
    mut refs: Vec<SeriesRef>,
    groups: &[Group<'_>],
    laziness: Laziness,
) -> Result<Chosen, ReadError> {
    let affordable = (refs.len() as u64 * SERIES_COST) as f64 * (laziness.ratio / 100.0).max(0.01);
    let lazy = |group: &&Group<'_>| laziness.enabled && group.bytes > CHEAP && group.bytes as f64 > affordable;
    let (untested, wanted): (Vec<&Group<'_>>, Vec<&Group<'_>>) = groups.iter().partition(lazy);
    // One round of reads for all of them.
    let ranges: Vec<Range<u64>> = wanted.iter().flat_map(|group| group.lists.iter().cloned()).collect();
    let lists = fetch(block, &ranges).await?;
    for group in wanted {
        if refs.is_empty() {
            break;
        }
        let these = union(block, &group.lists, &lists)?.unwrap_or_default();
        refs = if group.adds { postings::intersect(&refs, &these) } else { postings::without(&refs, &these) };
    }
    let refs: Arc<[SeriesRef]> = refs.into();
    if untested.is_empty() {
        block.cache().keep_expanded(block.id, &text, Arc::clone(&refs));
    } else {
        block.metrics().lazy_postings.inc();
    }
    Ok(Chosen { refs, untested: untested.into_iter().map(|group| group.matcher.clone()).collect() })
}

/// Returns the series that are in any of the lists; `None` if there is no list.
fn union(
    block: &Block,
    ranges: &[Range<u64>],
    lists: &HashMap<u64, Bytes>,
) -> Result<Option<Vec<SeriesRef>>, ReadError> {
    let mut single = Vec::new();
    let mut bitmap = RoaringBitmap::new();
    for range in ranges {
        let Some(bytes) = lists.get(&range.start) else { continue };
        let list =
            postings::decode(bytes).map_err(|error| ReadError::format(block.index(), error.based(range.start)))?;
        if ranges.len() >= MANY_LISTS {
            bitmap.extend(list.iter().map(|series| series.0));
        } else {
            single.extend(list.iter());
        }
    }
    Ok(match ranges.len() {
        0 => None,
        1 => Some(single),
        n if n < MANY_LISTS => Some(postings::union(single)),
        _ => Some(bitmap.into_iter().map(SeriesRef).collect()),
    })
}

/// Returns the lists by their offsets, from the cache or from the bucket.
async fn fetch(block: &Block, ranges: &[Range<u64>]) -> Result<HashMap<u64, Bytes>, ReadError> {
    let mut found = HashMap::with_capacity(ranges.len());
    let mut missing: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match block.cache().postings(block.id, range.start) {
            Some(bytes) => {
                found.insert(range.start, bytes);
            }
            None => missing.push(range.clone()),
        }
    }
    missing.sort_by_key(|range| range.start);
    missing.dedup();
    let parts = ranges::join(&missing, ranges::GAP, ranges::LONGEST);
    let key = block.index();
    let reads = parts.into_iter().map(|part| read(block, &key, part));
    let mut reads = stream::iter(reads).buffer_unordered(READS_AT_ONCE);
    while let Some((part, bytes)) = reads.try_next().await? {
        for range in &missing[part.wanted.clone()] {
            let list = bytes.slice((range.start - part.range.start) as usize..(range.end - part.range.start) as usize);
            // Checked before it is kept; a copy, so that the cache does not hold the whole read.
            postings::decode(&list).map_err(|error| ReadError::format(key.clone(), error.based(range.start)))?;
            let list = Bytes::copy_from_slice(&list);
            block.cache().keep_postings(block.id, range.start, list.clone());
            found.insert(range.start, list);
        }
    }
    Ok(found)
}

async fn read(block: &Block, key: &str, part: Part) -> Result<(Part, Bytes), ReadError> {
    // The table does not say where the last list ends: its end is a bound, and may lie behind the index's own end.
    let end = part.range.end.min(block.size("index"));
    let bytes = block.read(Purpose::Postings, key, part.range.start..end).await?;
    Ok((part, bytes))
}
