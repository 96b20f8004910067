//! Disjoint parts of all series, told apart by a hash of their labels.

use crate::Labels;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::Xxh64;

/// One of several disjoint parts of the series (Thanos' `pkg/store/storepb/shard_info.go`). As JSON it has the names of the
/// protobuf message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardInfo {
    /// Which part, from 0.
    #[serde(rename = "shard_index")]
    pub index: u64,
    /// How many parts; 0 for all in one.
    #[serde(rename = "total_shards")]
    pub total: u64,
    /// Whether `labels` are the ones hashed (else: all but these).
    pub by: bool,
    /// Names of labels.
    pub labels: Vec<String>,
}

impl ShardInfo {
    /// Tells whether a series belongs to this part: xxhash64 over name, 0xff, value, 0xff of the labels that count.
    pub fn matches(&self, labels: &Labels) -> bool {
        if self.total < 1 {
            return true;
        }
        let mut hash = Xxh64::new(0);
        for (name, value) in labels.iter() {
            if self.labels.iter().any(|label| label == name) == self.by {
                for part in [name.as_bytes(), &[0xff], value.as_bytes(), &[0xff]] {
                    hash.update(part);
                }
            }
        }
        hash.digest() % self.total == self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_series_is_in_one_part_and_only_the_labels_that_count_decide(
            pairs in prop::collection::btree_map("[a-d]", "[a-z]{1,3}", 0..4),
            other in "[a-z]{1,3}",
            total in 1u64..5,
            by in any::<bool>(),
        ) {
            let labels = Labels::from_pairs(&pairs);
            let shard = |index| ShardInfo { index, total, by, labels: vec!["a".into(), "b".into()] };
            let parts: Vec<u64> = (0..total).filter(|index| shard(*index).matches(&labels)).collect();
            prop_assert_eq!(parts.len(), 1);
            let mut changed = pairs.clone();
            changed.insert(if by { "d" } else { "a" }.to_owned(), other);
            prop_assert!(shard(parts[0]).matches(&Labels::from_pairs(changed)));
        }
    }

    #[test]
    fn the_hash_is_of_names_and_values_with_separators() {
        let labels = Labels::from_pairs([("job", "api"), ("pod", "x")]);
        let hash = xxhash_rust::xxh64::xxh64(b"job\xffapi\xff", 0);
        let shard = ShardInfo { index: hash % 1_000, total: 1_000, by: true, labels: vec!["job".into()] };
        assert!(shard.matches(&labels));
        assert!(ShardInfo::default().matches(&labels));
    }
}
