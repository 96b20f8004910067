//! What the sidecar announces.

use crate::state::State;
use crate::store::now;
use farview_config::TimeOrDuration;
use farview_model::TimeRange;
use farview_proto::thanos::info::{InfoRequest, InfoResponse, info_server::Info};
use farview_storeapi::{Component, EndpointInfo, StoreError, StoreInfo, TsdbInfo};
use std::sync::Arc;
use tonic::{Request, Response, Status, async_trait};

/// Serves Info.
#[derive(Clone)]
pub(crate) struct SidecarInfo {
    pub(crate) state: Arc<State>,
    pub(crate) instance_id: String,
    /// Oldest time that is served.
    pub(crate) min_time: TimeOrDuration,
}

#[async_trait]
impl Info for SidecarInfo {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let snapshot = self.state.get();
        if !snapshot.is_ready() {
            let why = snapshot.down.clone().unwrap_or_else(|| "its external labels are not known yet".to_owned());
            let text = format!("Prometheus cannot answer: {why}");
            return Err(StoreError::new(farview_model::ErrorKind::Unavailable, text).into());
        }
        let range = TimeRange::new(snapshot.range().mint.max(self.min_time.millis(now())), i64::MAX);
        let info = EndpointInfo {
            label_sets: vec![snapshot.external.clone()],
            component: Component::SIDECAR.to_owned(),
            store: Some(StoreInfo {
                range,
                supports_sharding: true,
                supports_without_replica_labels: true,
                tsdbs: vec![TsdbInfo { labels: snapshot.external.clone(), range }],
            }),
            rules: true,
            metric_metadata: true,
            targets: true,
            exemplars: Some(range),
            query: false,
            status: true,
            instance_id: self.instance_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data_identity: String::new(),
            shards: None,
            notices: snapshot.notices.iter().chain(&snapshot.duplicated).cloned().collect(),
        };
        Ok(Response::new(info.to_proto()))
    }
}
