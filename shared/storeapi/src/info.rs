//! What a member tells about itself over the Info API.

use farview_model::{Labels, Slots, TimeRange};
use farview_proto::thanos::{self, info};

/// The kind of a component, by the names that Thanos uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Component(pub String);

impl Component {
    /// A sidecar beside a Prometheus.
    pub const SIDECAR: &'static str = "sidecar";
    /// A store gateway.
    pub const STORE: &'static str = "store";
    /// A query service.
    pub const QUERY: &'static str = "query";
}

/// What an endpoint announces. An API whose field is `None` or `false` is not offered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointInfo {
    /// Its external label sets, sorted.
    pub label_sets: Vec<Labels>,
    /// Its kind: `sidecar`, `store`, `query`, `rule`, `receive`, …
    pub component: String,
    /// StoreAPI.
    pub store: Option<StoreInfo>,
    /// Rules API.
    pub rules: bool,
    /// Metadata API.
    pub metric_metadata: bool,
    /// Targets API.
    pub targets: bool,
    /// Exemplars API, and for which times (ms).
    pub exemplars: Option<TimeRange>,
    /// Query API.
    pub query: bool,
    /// Status API.
    pub status: bool,
    /// Changes with every start of the process; empty from members that are not Farview's.
    pub instance_id: String,
    /// Version of the member; empty from members that are not Farview's.
    pub version: String,
    /// Equal for members that hold exactly the same data; empty when unknown.
    pub data_identity: String,
    /// What an operator should know about this endpoint's data.
    pub notices: Vec<String>,
    /// Of a store that divides the blocks with others: its part.
    pub shards: Option<ShardsInfo>,
}

/// The part of a store that divides the blocks of a bucket with others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardsInfo {
    /// Equal for stores that divide the same blocks.
    pub group: String,
    /// The store's name among them, the same after a restart.
    pub member: String,
    /// The slots that it serves.
    pub slots: Slots,
    /// For each of them, lowest first: equal for stores that have the same blocks in it.
    pub identities: Vec<u64>,
}

/// What a store offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// For which times it has samples, ms, inclusive.
    pub range: TimeRange,
    /// Understands `shard_info`.
    pub supports_sharding: bool,
    /// Understands `without_replica_labels`.
    pub supports_without_replica_labels: bool,
    /// Its data, by label set.
    pub tsdbs: Vec<TsdbInfo>,
}

/// A part of a store's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsdbInfo {
    /// External labels of this part.
    pub labels: Labels,
    /// For which times, ms, inclusive.
    pub range: TimeRange,
}

impl EndpointInfo {
    /// Reads the protobuf form.
    pub fn from_proto(response: info::InfoResponse) -> Self {
        let farview = response.farview.unwrap_or_default();
        let mut label_sets: Vec<Labels> = response.label_sets.iter().map(labels_from_proto).collect();
        label_sets.sort_unstable();
        label_sets.dedup();
        Self {
            label_sets,
            component: response.component_type,
            store: response.store.map(|store| StoreInfo {
                range: TimeRange::new(store.min_time, store.max_time),
                supports_sharding: store.supports_sharding,
                supports_without_replica_labels: store.supports_without_replica_labels,
                tsdbs: store
                    .tsdb_infos
                    .iter()
                    .map(|tsdb| TsdbInfo {
                        labels: tsdb.labels.as_ref().map(labels_from_proto).unwrap_or_default(),
                        range: TimeRange::new(tsdb.min_time, tsdb.max_time),
                    })
                    .collect(),
            }),
            rules: response.rules.is_some(),
            metric_metadata: response.metric_metadata.is_some(),
            targets: response.targets.is_some(),
            exemplars: response.exemplars.map(|exemplars| TimeRange::new(exemplars.min_time, exemplars.max_time)),
            query: response.query.is_some(),
            status: response.status.is_some(),
            instance_id: farview.instance_id,
            version: farview.version,
            data_identity: farview.data_identity,
            notices: farview.notices,
            // Slots that cannot be read are none: the store is then asked for all it has, as one that does not divide.
            shards: farview.shards.and_then(|shards| {
                let slots: Slots = shards.slots.parse().ok()?;
                let fit = shards.identities.len() == slots.len() as usize;
                fit.then_some(ShardsInfo {
                    group: shards.group,
                    member: shards.member,
                    slots,
                    identities: shards.identities,
                })
            }),
        }
    }

    /// Returns the protobuf form.
    pub fn to_proto(&self) -> info::InfoResponse {
        info::InfoResponse {
            label_sets: self.label_sets.iter().map(labels_to_proto).collect(),
            component_type: self.component.clone(),
            store: self.store.as_ref().map(|store| info::StoreInfo {
                min_time: store.range.mint,
                max_time: store.range.maxt,
                supports_sharding: store.supports_sharding,
                supports_without_replica_labels: store.supports_without_replica_labels,
                tsdb_infos: store
                    .tsdbs
                    .iter()
                    .map(|tsdb| info::TsdbInfo {
                        labels: Some(labels_to_proto(&tsdb.labels)),
                        min_time: tsdb.range.mint,
                        max_time: tsdb.range.maxt,
                    })
                    .collect(),
                supports_projections: false,
            }),
            rules: self.rules.then(info::RulesInfo::default),
            metric_metadata: self.metric_metadata.then(info::MetricMetadataInfo::default),
            targets: self.targets.then(info::TargetsInfo::default),
            exemplars: self.exemplars.map(|range| info::ExemplarsInfo { min_time: range.mint, max_time: range.maxt }),
            query: self.query.then(info::QueryApiInfo::default),
            status: self.status.then(info::StatusInfo::default),
            farview: Some(info::FarviewInfo {
                instance_id: self.instance_id.clone(),
                version: self.version.clone(),
                data_identity: self.data_identity.clone(),
                notices: self.notices.clone(),
                shards: self.shards.as_ref().map(|shards| info::FarviewShards {
                    group: shards.group.clone(),
                    member: shards.member.clone(),
                    slots: shards.slots.to_string(),
                    identities: shards.identities.clone(),
                }),
            }),
        }
    }
}

/// Reads a label set from its protobuf form; the order there does not matter.
pub fn labels_from_proto(set: &thanos::LabelSet) -> Labels {
    Labels::from_pairs(set.labels.iter().map(|label| (label.name.as_str(), label.value.as_str())))
}

/// Returns the protobuf form of a label set.
pub fn labels_to_proto(labels: &Labels) -> thanos::LabelSet {
    thanos::LabelSet {
        labels: labels
            .iter()
            .map(|(name, value)| thanos::Label { name: name.to_owned(), value: value.to_owned() })
            .collect(),
    }
}
