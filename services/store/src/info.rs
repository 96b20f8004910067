//! What the store announces.

use crate::block_set::BlockSet;
use crate::select::Limits;
use crate::shards::Shards;
use crate::sync::Status;
use arc_swap::ArcSwap;
use farview_model::{ErrorKind, Slots, TimeRange};
use farview_proto::thanos::info::{InfoRequest, InfoResponse, info_server::Info};
use farview_storeapi::{Component, EndpointInfo, StoreError, StoreInfo, TsdbInfo};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use tonic::{Request, Response, Status as GrpcStatus, async_trait};

/// Serves Info.
#[derive(Clone)]
pub(crate) struct BucketInfo {
    pub(crate) blocks: Arc<ArcSwap<BlockSet>>,
    pub(crate) status: Arc<ArcSwap<Status>>,
    pub(crate) limits: Limits,
    pub(crate) instance_id: String,
    /// If the blocks are divided among stores.
    pub(crate) shards: Option<Shards>,
}

#[async_trait]
impl Info for BucketInfo {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, GrpcStatus> {
        // Slots first: what they name is in the set by then.
        let mut shards = self.shards.as_ref().map(Shards::info);
        let (set, status) = (self.blocks.load_full(), self.status.load_full());
        if status.synced == 0 {
            let why = status.trouble.clone().unwrap_or_else(|| "the bucket has not been listed yet".to_owned());
            return Err(StoreError::new(ErrorKind::Unavailable, why).into());
        }
        let served = self.limits.range();
        let tsdbs: Vec<TsdbInfo> = set
            .tsdbs(shards.as_ref().map_or(Slots::ALL, |shards| shards.slots))
            .into_iter()
            .map(|tsdb| TsdbInfo { range: tsdb.range.intersect(served), ..tsdb })
            .filter(|tsdb| !tsdb.range.is_empty())
            .collect();
        let range = tsdbs.iter().fold(TimeRange::new(i64::MAX, i64::MIN), |range, tsdb| {
            TimeRange::new(range.mint.min(tsdb.range.mint), range.maxt.max(tsdb.range.maxt))
        });
        let mut notices = status.notices();
        notices.extend(set.blocks.values().filter_map(|block| block.quarantined()));
        let mut hasher = DefaultHasher::new();
        set.blocks.keys().for_each(|id| id.hash(&mut hasher));
        // As they were given: those that slide with the clock are never twice the same.
        let limits = format!("{:?} {:?}", self.limits.min_time, self.limits.max_time);
        limits.hash(&mut hasher);
        if let Some(shards) = &mut shards {
            shards.identities = set.identities(shards.slots, &limits);
        }
        let info = EndpointInfo {
            label_sets: tsdbs.iter().map(|tsdb| tsdb.labels.clone()).collect(),
            component: Component::STORE.to_owned(),
            store: Some(StoreInfo { range, supports_sharding: true, supports_without_replica_labels: true, tsdbs }),
            instance_id: self.instance_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            // Stores with the same blocks and limits answer the same.
            data_identity: format!("blocks-{:016x}", hasher.finish()),
            notices,
            shards,
            ..EndpointInfo::default()
        };
        Ok(Response::new(info.to_proto()))
    }
}
