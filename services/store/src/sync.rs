//! Keeps the set of blocks current.
//!
//! A listing says what there is, descriptions say what it is, filters say what to serve. A new set is published in one swap; requests
//! keep the one they began with. A listing that has lost most blocks is not believed before a second one agrees.

use crate::block::{Access, Block, slot};
use crate::block_set::BlockSet;
use crate::metrics::Metrics;
use crate::select::{Limits, now};
use crate::shards::Shards;
use arc_swap::ArcSwap;
use farview_block::filter::{self, Excluded, Taken};
use farview_block::{BlockError, BlockId, Fetched, MetaFetcher};
use farview_bootstrap::CancellationToken;
use farview_model::{RelabelConfig, Slots};
use farview_telemetry::{Latch, Readiness};
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How soon a sync that failed is tried again, at most.
const RETRY: Duration = Duration::from_secs(10);
/// How long to wait before a listing that has lost most blocks is checked.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// How things stand with the bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// Why the last listing failed, if it did.
    pub(crate) trouble: Option<String>,
    /// When it last worked, ms.
    pub(crate) synced: i64,
    /// Blocks that are there and cannot be served, in words.
    pub(crate) unreadable: Vec<String>,
    /// Blocks that are not to be served.
    pub(crate) excluded: BTreeMap<BlockId, Excluded>,
    /// Blocks that are being written, or deleted.
    pub(crate) partial: Vec<BlockId>,
}

impl Status {
    /// Returns what those who ask should know.
    pub(crate) fn notices(&self) -> Vec<String> {
        let trouble =
            self.trouble.iter().map(|why| format!("the bucket cannot be listed, new blocks are not seen: {why}"));
        trouble.chain(self.unreadable.iter().cloned()).collect()
    }
}

/// Which blocks to serve.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) rules: Vec<RelabelConfig>,
    /// ms.
    pub(crate) consistency_delay: i64,
    /// ms.
    pub(crate) deletion_mark_delay: i64,
}

/// Keeps the set of blocks current.
pub(crate) struct Syncer {
    pub(crate) fetcher: MetaFetcher,
    pub(crate) access: Access,
    pub(crate) blocks: Arc<ArcSwap<BlockSet>>,
    pub(crate) status: Arc<ArcSwap<Status>>,
    pub(crate) choice: Choice,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) latch: Latch,
    pub(crate) interval: Duration,
    /// If the blocks are divided among stores.
    pub(crate) shards: Option<Shards>,
    /// What was fetched last, to choose from anew when the division changes.
    pub(crate) fetched: Fetched,
    /// Index headers of new blocks are made ready at once, so many at a time; 0 for at first use.
    pub(crate) warm: usize,
}

impl Syncer {
    /// Runs until told to stop; never gives up.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut held = self.shards.as_ref().map(Shards::held);
        if let Some(held) = &mut held {
            // Who looked for nobody yet would load what others have.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = held.wait_for(Option::is_some) => {}
            }
        }
        let mut next = Instant::now();
        loop {
            let round = async {
                // The division may change at any time; the bucket is listed when its time has come.
                if Instant::now() >= next {
                    let worked = self.sync().await;
                    next = Instant::now() + if worked { self.interval } else { self.interval.min(RETRY) };
                } else if self.status.load().synced > 0 {
                    self.publish(Status::clone(&self.status.load()));
                }
                self.finish().await;
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = round => {}
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(next) => {}
                () = changed(&mut held) => {}
            }
        }
    }

    /// Makes what was published ready, and says that it is.
    async fn finish(&self) {
        let synced = self.status.load().synced > 0;
        if synced && self.warm > 0 {
            self.warm_headers().await;
        }
        if let (Some(shards), true) = (&self.shards, synced) {
            shards.has_loaded(self.blocks.load().slots);
        }
    }

    /// Looks once; tells whether that worked.
    async fn sync(&mut self) -> bool {
        let start = Instant::now();
        self.metrics.syncs.inc();
        match self.fetch().await {
            Ok(fetched) => {
                self.fetched = fetched;
                self.publish(Status { synced: now(), ..Status::default() });
                self.metrics.sync_duration.observe(start.elapsed().as_secs_f64());
                self.readiness.note("bucket", None);
                if self.latch.open() {
                    tracing::info!(blocks = self.blocks.load().blocks.len(), took = ?start.elapsed(), "blocks are known");
                }
                true
            }
            Err(error) => {
                self.metrics.sync_failures.inc();
                tracing::warn!(%error, "the bucket cannot be listed");
                let mut status = Status::clone(&self.status.load());
                status.trouble = Some(error.to_string());
                if status.synced == 0 {
                    self.latch.close(error.to_string());
                } else {
                    self.readiness.note("bucket", Some(error.to_string()));
                }
                self.status.store(Arc::new(status));
                false
            }
        }
    }

    /// Finds out which blocks there are; what says that most are gone is checked.
    async fn fetch(&mut self) -> Result<Fetched, BlockError> {
        let fetched = self.fetcher.fetch().await?;
        let before = self.fetched.blocks.len();
        if before == 0 || fetched.blocks.len() * 2 >= before {
            return Ok(fetched);
        }
        tracing::warn!(before, now = fetched.blocks.len(), "most blocks are gone from the listing, looking again");
        tokio::time::sleep(SECOND_LOOK).await;
        self.fetcher.fetch().await
    }

    fn publish(&self, status: Status) {
        let fetched = &self.fetched;
        let (mut blocks, mut taken) = (fetched.blocks.clone(), Taken::new());
        filter::by_time(&mut blocks, &mut taken, self.limits.range());
        filter::by_relabelling(&mut blocks, &mut taken, &self.choice.rules);
        filter::by_age(&mut blocks, &mut taken, now(), self.choice.consistency_delay);
        filter::by_deletion_mark(&mut blocks, &mut taken, now(), self.choice.deletion_mark_delay);
        filter::by_duplication(&mut blocks, &mut taken);
        let slots = self.shards.as_ref().map_or(Some(Slots::ALL), |shards| *shards.held().borrow()).unwrap_or_default();
        filter::by_shard(&mut blocks, &mut taken, |block| slots.contains(slot(&block.meta)));
        let before = self.blocks.load();
        let mut served = BTreeMap::new();
        for (id, block) in &blocks {
            let known = before
                .blocks
                .get(id)
                .filter(|known| known.meta == block.meta && known.objects.files == block.objects.files);
            let block = match known {
                Some(known) => Arc::clone(known),
                None => {
                    self.metrics.block_loads.inc();
                    Arc::new(Block::new(block, self.access.clone()))
                }
            };
            served.insert(*id, block);
        }
        let gone = before.blocks.keys().filter(|id| !served.contains_key(id)).count();
        self.metrics.block_drops.inc_by(gone as u64);
        self.count(
            &served,
            &taken,
            &fetched.partial.keys().copied().collect::<Vec<_>>(),
            &fetched.corrupt,
            &fetched.failed,
        );
        let corrupt = fetched.corrupt.iter().map(|(id, why)| format!("block {id} is not served: {why}"));
        let failed = fetched.failed.iter().filter(|(id, _)| !served.contains_key(id));
        let failed =
            failed.map(|(id, why)| format!("block {id} is not served yet: its description cannot be read: {why}"));
        let status = Status {
            unreadable: corrupt.chain(failed).collect(),
            excluded: taken,
            partial: fetched.partial.keys().copied().collect(),
            ..status
        };
        let ids: BTreeSet<BlockId> = served.keys().copied().collect();
        self.blocks.store(Arc::new(BlockSet::new(served, slots)));
        self.status.store(Arc::new(status));
        self.access.headers.retain(&ids);
    }

    fn count(
        &self,
        served: &BTreeMap<BlockId, Arc<Block>>,
        taken: &Taken,
        partial: &[BlockId],
        corrupt: &BTreeMap<BlockId, String>,
        failed: &BTreeMap<BlockId, String>,
    ) {
        self.metrics.blocks_loaded.set(served.len() as i64);
        self.metrics.set_synced("loaded", served.len());
        self.metrics.set_synced("no-meta-json", partial.len());
        self.metrics.set_synced("corrupted-meta-json", corrupt.len());
        self.metrics.set_synced("failed", failed.len());
        for why in [
            Excluded::Time,
            Excluded::Label,
            Excluded::TooFresh,
            Excluded::MarkedForDeletion,
            Excluded::Duplicate,
            Excluded::Shard,
        ] {
            self.metrics.set_excluded(why, taken.values().filter(|taken| **taken == why).count());
        }
        let quarantined = served.values().filter(|block| block.quarantined().is_some()).count();
        self.metrics.quarantined.set(quarantined as i64);
    }

    /// Makes the index headers of all blocks ready on disk, youngest first.
    async fn warm_headers(&self) {
        let blocks: Vec<Arc<Block>> = self.blocks.load().blocks.values().rev().cloned().collect();
        let prepare = blocks.into_iter().map(|block| async move {
            if let Err(error) = block.prepare().await {
                self.metrics.block_load_failures.inc();
                block.failed(&error).await;
            }
        });
        stream::iter(prepare).buffer_unordered(self.warm).for_each(|()| async {}).await;
    }
}

async fn changed(held: &mut Option<watch::Receiver<Option<Slots>>>) {
    if let Some(held) = held
        && held.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
