//! The blocks that are served, and which of them a request is about.

use crate::block::Block;
use farview_block::BlockId;
use farview_model::{Labels, Matcher, Slots, TimeRange};
use farview_storeapi::TsdbInfo;
use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh64::Xxh64;

/// The blocks that are served at one moment.
#[derive(Debug, Default)]
pub(crate) struct BlockSet {
    pub(crate) blocks: BTreeMap<BlockId, Arc<Block>>,
    /// All blocks of these slots are among them.
    pub(crate) slots: Slots,
    streams: Vec<Stream>,
}

/// The blocks of one source.
#[derive(Debug)]
struct Stream {
    labels: Labels,
    /// Coarsest resolution first; by time in each.
    levels: Vec<(i64, Vec<Arc<Block>>)>,
}

impl BlockSet {
    pub(crate) fn new(blocks: BTreeMap<BlockId, Arc<Block>>, slots: Slots) -> Self {
        let mut streams: BTreeMap<Labels, BTreeMap<i64, Vec<Arc<Block>>>> = BTreeMap::new();
        for block in blocks.values() {
            let stream = streams.entry(block.external.labels().clone()).or_default();
            stream.entry(block.resolution).or_default().push(Arc::clone(block));
        }
        let streams = streams.into_iter().map(|(labels, levels)| {
            let mut levels: Vec<_> = levels.into_iter().rev().collect();
            for (_, blocks) in &mut levels {
                blocks.sort_by_key(|block| (block.range.mint, block.id));
            }
            Stream { labels, levels }
        });
        Self { streams: streams.collect(), blocks, slots }
    }

    /// Returns the blocks that can hold what matches in `range`, for each time those of the coarsest resolution that is fine enough,
    /// ms, with the matchers that are left when those on external labels are answered. Without `slots` all blocks count.
    pub(crate) fn choose(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        max_resolution: i64,
        slots: Option<Slots>,
    ) -> Vec<(Arc<Block>, Arc<[Matcher]>)> {
        let mut chosen = Vec::new();
        for stream in &self.streams {
            let Some(first) = stream.levels.iter().find_map(|(_, blocks)| blocks.first()) else { continue };
            let Some(own) = first.external.strip(matchers) else { continue };
            let own: Arc<[Matcher]> = own.into();
            let fine = stream.levels.iter().filter(|(resolution, _)| *resolution <= max_resolution);
            let mut blocks = Vec::new();
            match slots {
                None => cover(&fine.collect::<Vec<_>>(), range, &mut blocks),
                Some(slots) => {
                    let within = fine.map(|(resolution, blocks)| {
                        let blocks = blocks.iter().filter(|block| slots.contains(block.slot)).cloned().collect();
                        (*resolution, blocks)
                    });
                    let levels: Vec<(i64, Vec<Arc<Block>>)> = within.collect();
                    cover(&levels.iter().collect::<Vec<_>>(), range, &mut blocks);
                }
            }
            chosen.extend(blocks.into_iter().map(|block| (block, Arc::clone(&own))));
        }
        chosen
    }

    /// Returns the sources and the times they have data for in these slots.
    pub(crate) fn tsdbs(&self, slots: Slots) -> Vec<TsdbInfo> {
        let infos = self.streams.iter().map(|stream| {
            let blocks = stream.levels.iter().flat_map(|(_, blocks)| blocks);
            let blocks = blocks.filter(|block| slots.contains(block.slot));
            let range = blocks.fold(TimeRange::new(i64::MAX, i64::MIN), |range, block| {
                TimeRange::new(range.mint.min(block.range.mint), range.maxt.max(block.range.maxt))
            });
            TsdbInfo { labels: stream.labels.clone(), range }
        });
        infos.filter(|info| !info.range.is_empty()).collect()
    }

    /// Returns what tells whether another store has the same blocks in a slot, for each of `slots`, lowest first; 0 for no block.
    pub(crate) fn identities(&self, slots: Slots, limits: &str) -> Vec<u64> {
        let mut by_slot: BTreeMap<u8, Xxh64> = BTreeMap::new();
        for (id, block) in &self.blocks {
            let hash = by_slot.entry(block.slot).or_insert_with(|| Xxh64::new(0));
            hash.update(id.to_string().as_bytes());
        }
        let identity = |slot: u8| {
            by_slot.get(&slot).map_or(0, |hash| {
                let mut hash = hash.clone();
                hash.update(limits.as_bytes());
                hash.digest().max(1)
            })
        };
        slots.iter().map(identity).collect()
    }
}

/// Chooses blocks that cover `range`; where the coarsest level has none, the next finer one fills the gap.
fn cover(levels: &[&(i64, Vec<Arc<Block>>)], range: TimeRange, out: &mut Vec<Arc<Block>>) {
    let Some(((_, blocks), finer)) = levels.split_first() else { return };
    let mut start = range.mint;
    for block in blocks.iter().filter(|block| block.range.overlaps(range)) {
        if start < block.range.mint {
            cover(finer, TimeRange::new(start, block.range.mint - 1), out);
        }
        // A finer block may fill several gaps.
        if out.iter().all(|chosen| chosen.id != block.id) {
            out.push(Arc::clone(block));
        }
        start = start.max(block.range.maxt.saturating_add(1));
    }
    if start <= range.maxt {
        cover(finer, TimeRange::new(start, range.maxt), out);
    }
}
