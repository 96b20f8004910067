//! Which of the blocks of a bucket to use. Filters look at descriptions only and take away what is not to be used, saying why.

use crate::{BlockId, FetchedBlock};
use farview_model::{LabelsBuilder, RelabelConfig, TimeRange};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Why a block is not used, by the words of `thanos_blocks_meta_synced`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Excluded {
    /// It has nothing of the time that is wanted.
    Time,
    /// Relabelling drops it.
    Label,
    /// It was written so short a time ago that it may not be whole everywhere yet.
    TooFresh,
    /// It was marked for deletion some time ago.
    MarkedForDeletion,
    /// Other blocks hold all that it holds.
    Duplicate,
    /// It is the part of another store.
    Shard,
}

impl Excluded {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Time => "time-excluded",
            Self::Label => "label-excluded",
            Self::TooFresh => "too-fresh",
            Self::MarkedForDeletion => "marked-for-deletion",
            Self::Duplicate => "duplicate",
            Self::Shard => "shard-excluded",
        }
    }
}

impl fmt::Display for Excluded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Blocks by name, as filters see them.
pub type Blocks = BTreeMap<BlockId, FetchedBlock>;
/// What was taken away, and why.
pub type Taken = BTreeMap<BlockId, Excluded>;

fn take(blocks: &mut Blocks, taken: &mut Taken, why: Excluded, mut out: impl FnMut(&FetchedBlock) -> bool) {
    blocks.retain(|id, block| {
        let gone = out(block);
        if gone {
            taken.insert(*id, why);
        }
        !gone
    });
}

/// Takes away what has nothing of `range`, ms.
pub fn by_time(blocks: &mut Blocks, taken: &mut Taken, range: TimeRange) {
    take(blocks, taken, Excluded::Time, |block| !block.meta.range().overlaps(range));
}

/// Takes away what relabelling drops. The labels are those of the block's source and `__block_id`.
pub fn by_relabelling(blocks: &mut Blocks, taken: &mut Taken, rules: &[RelabelConfig]) {
    take(blocks, taken, Excluded::Label, |block| {
        let mut builder = LabelsBuilder::new(block.meta.external_labels().labels());
        builder.set("__block_id", &block.meta.ulid.to_string());
        farview_model::relabel(&builder.build(), rules).is_none()
    });
}

/// Takes away what `keeps` does not keep: the part of other stores.
pub fn by_shard(blocks: &mut Blocks, taken: &mut Taken, keeps: impl Fn(&FetchedBlock) -> bool) {
    take(blocks, taken, Excluded::Shard, |block| !keeps(block));
}

/// Takes away what came into the bucket less than `delay` ms before `now`; what was made of blocks that were there is not held
/// back, because they may go any time.
pub fn by_age(blocks: &mut Blocks, taken: &mut Taken, now: i64, delay: i64) {
    take(blocks, taken, Excluded::TooFresh, |block| {
        let made_of_blocks = block.meta.thanos.as_ref().is_some_and(|thanos| thanos.source.rewrites());
        !made_of_blocks && now.saturating_sub(block.meta.upload_time()) < delay
    });
}

/// Takes away what was marked for deletion more than `delay` ms before `now`.
pub fn by_deletion_mark(blocks: &mut Blocks, taken: &mut Taken, now: i64, delay: i64) {
    take(blocks, taken, Excluded::MarkedForDeletion, |block| {
        block.deletion.is_some_and(|time| now.saturating_sub(time) > delay)
    });
}

/// Takes away what other blocks of the same source and resolution were made of and hold whole.
pub fn by_duplication(blocks: &mut Blocks, taken: &mut Taken) {
    let mut groups: BTreeMap<(i64, Vec<u8>), Vec<&FetchedBlock>> = BTreeMap::new();
    for block in blocks.values() {
        let labels = block.meta.external_labels().labels().as_bytes().to_vec();
        groups.entry((block.meta.resolution(), labels)).or_default().push(block);
    }
    let mut out = BTreeSet::new();
    for mut group in groups.into_values() {
        // Those that were made of most come first; of equal ones the eldest stays.
        group.sort_by_key(|block| (std::cmp::Reverse(block.meta.compaction.sources.len()), block.meta.ulid));
        // For each level 1 block, the kept blocks that it is in.
        let mut within: BTreeMap<BlockId, Vec<usize>> = BTreeMap::new();
        for (i, block) in group.iter().enumerate() {
            let sources = &block.meta.compaction.sources;
            let mut holders: Option<BTreeSet<usize>> = None;
            for source in sources {
                let of_this: BTreeSet<usize> = within.get(source).into_iter().flatten().copied().collect();
                holders = Some(match holders {
                    None => of_this,
                    Some(before) => before.intersection(&of_this).copied().collect(),
                });
            }
            if holders.is_some_and(|holders| !holders.is_empty()) {
                out.insert(block.meta.ulid);
                continue;
            }
            for source in sources {
                within.entry(*source).or_default().push(i);
            }
        }
    }
    take(blocks, taken, Excluded::Duplicate, |block| out.contains(&block.meta.ulid));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockMeta, BlockObjects, Compaction, Downsample, Source, Stats, ThanosMeta};
    use std::sync::Arc;

    fn id(n: u32) -> BlockId {
        format!("{:026}", n).parse().unwrap()
    }

    fn block(n: u32, sources: &[u32], label: &str, resolution: i64) -> (BlockId, FetchedBlock) {
        let thanos = ThanosMeta {
            labels: [("cluster".to_owned(), label.to_owned())].into(),
            downsample: Downsample { resolution },
            source: Source("sidecar".to_owned()),
            upload_time: Some("2026-01-01T00:00:00Z".to_owned()),
            ..ThanosMeta::default()
        };
        let meta = BlockMeta {
            ulid: id(n),
            min_time: i64::from(n) * 1_000,
            max_time: i64::from(n) * 1_000 + 1_000,
            stats: Stats::default(),
            compaction: Compaction { sources: sources.iter().map(|n| id(*n)).collect(), ..Compaction::default() },
            version: 1,
            thanos: Some(thanos),
            rest: Default::default(),
        };
        (id(n), FetchedBlock { meta: Arc::new(meta), objects: Arc::new(BlockObjects::default()), deletion: None })
    }

    fn left(mut blocks: Blocks, filter: impl FnOnce(&mut Blocks, &mut Taken)) -> Vec<BlockId> {
        let (before, mut taken) = (blocks.len(), Taken::new());
        filter(&mut blocks, &mut taken);
        assert_eq!(before, blocks.len() + taken.len());
        blocks.into_keys().collect()
    }

    #[test]
    fn what_others_hold_whole_is_a_duplicate_within_its_source_and_resolution() {
        let blocks = Blocks::from([
            block(1, &[1], "a", 0),
            block(2, &[2], "a", 0),
            block(3, &[1, 2], "a", 0),
            block(4, &[1, 2], "a", 300_000),
            block(5, &[1], "b", 0),
            block(6, &[2, 7], "a", 0),
            block(8, &[1, 2], "a", 0),
            block(9, &[], "a", 0),
        ]);
        assert_eq!(left(blocks, by_duplication), [3, 4, 5, 6, 9].map(id));
    }

    #[test]
    fn fresh_marked_and_distant_blocks_are_left_out() {
        let uploaded = 1_767_225_600_000;
        let mut compacted = block(2, &[2], "a", 0);
        let mut meta = BlockMeta::clone(&compacted.1.meta);
        meta.thanos.as_mut().unwrap().source = Source("compactor".to_owned());
        compacted.1.meta = Arc::new(meta);
        let mut marked = block(3, &[3], "a", 0);
        marked.1.deletion = Some(uploaded);
        let blocks = Blocks::from([block(1, &[1], "a", 0), compacted, marked]);
        assert_eq!(left(blocks.clone(), |b, t| by_age(b, t, uploaded + 999, 1_000)), [2].map(id));
        assert_eq!(left(blocks.clone(), |b, t| by_age(b, t, uploaded + 1_000, 1_000)), [1, 2, 3].map(id));
        assert_eq!(left(blocks.clone(), |b, t| by_deletion_mark(b, t, uploaded + 1_001, 1_000)), [1, 2].map(id));
        assert_eq!(left(blocks.clone(), |b, t| by_deletion_mark(b, t, uploaded + 1_000, 1_000)).len(), 3);
        assert_eq!(left(blocks, |b, t| by_time(b, t, TimeRange::new(0, 2_999))), [1, 2].map(id));
    }
}
