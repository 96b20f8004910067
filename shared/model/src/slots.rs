//! How stores divide blocks: a block is in one of 128 slots, a store serves some slots.
//!
//! The slot follows from the block's source and the two weeks it is in: what compaction makes of blocks is in the slot that they were
//! in. Who asks several stores asks each for other slots, so that no block is read twice.

use crate::Labels;
use std::fmt;
use std::str::FromStr;
use xxhash_rust::xxh64::{Xxh64, xxh64};

/// The longest blocks that compaction makes, ms.
const WINDOW: i64 = 14 * 24 * 3600 * 1000;

/// A set of slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Slots(u128);

/// What does not name slots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no set of slots, expected hexadecimal digits")]
pub struct SlotsError(String);

impl Slots {
    /// How many there are.
    pub const COUNT: u8 = 128;
    /// Every slot.
    pub const ALL: Self = Self(u128::MAX);
    /// No slot.
    pub const NONE: Self = Self(0);

    /// Returns the slot of a block with these external labels that begins at `mint`, ms. Stores of all versions must agree.
    pub fn of_block(external: &Labels, mint: i64) -> u8 {
        let mut hash = Xxh64::new(0);
        for (name, value) in external.iter() {
            for part in [name.as_bytes(), &[0xff], value.as_bytes(), &[0xff]] {
                hash.update(part);
            }
        }
        hash.update(&mint.div_euclid(WINDOW).to_le_bytes());
        (hash.digest() % u64::from(Self::COUNT)) as u8
    }

    /// Returns the slots that `member` owns if each slot has `replicas` owners among `members`: those with the highest weights
    /// (rendezvous hashing, Thaler and Ravishankar 1998). Who leaves or joins moves only slots of its own.
    pub fn owned_by<'a>(member: &str, members: impl IntoIterator<Item = &'a str> + Clone, replicas: usize) -> Self {
        let weight = |name: &str, slot: u8| (xxh64(name.as_bytes(), u64::from(slot)), name.to_owned());
        let owns = |slot: &u8| {
            let own = weight(member, *slot);
            let ahead = members.clone().into_iter().filter(|other| *other != member && weight(other, *slot) > own);
            ahead.count() < replicas
        };
        (0..Self::COUNT).filter(owns).collect()
    }

    /// Tells whether a slot is in it.
    pub fn contains(self, slot: u8) -> bool {
        slot < Self::COUNT && self.0 >> slot & 1 == 1
    }

    /// Tells whether all slots of `other` are in it.
    pub fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Puts a slot in.
    pub fn insert(&mut self, slot: u8) {
        self.0 |= 1 << (slot % Self::COUNT);
    }

    /// Returns the slots of either.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the slots of both.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the slots that are not in `other`.
    pub fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Tells whether it is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns how many slots are in it.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Returns the slots, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..Self::COUNT).filter(move |slot| self.contains(*slot))
    }
}

impl FromIterator<u8> for Slots {
    fn from_iter<I: IntoIterator<Item = u8>>(slots: I) -> Self {
        let mut all = Self::NONE;
        slots.into_iter().for_each(|slot| all.insert(slot));
        all
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({self})")
    }
}

impl FromStr for Slots {
    type Err = SlotsError;

    fn from_str(text: &str) -> Result<Self, SlotsError> {
        u128::from_str_radix(text, 16).map(Self).map_err(|_| SlotsError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(members: &[&str], replicas: usize) -> Vec<Slots> {
        members.iter().map(|member| Slots::owned_by(member, members.iter().copied(), replicas)).collect()
    }

    #[test]
    fn each_slot_has_as_many_owners_as_wanted_and_each_member_its_share() {
        let members = ["a:1", "b:1", "c:1", "d:1", "e:1"];
        let owned = owners(&members, 2);
        for slot in 0..Slots::COUNT {
            assert_eq!(owned.iter().filter(|slots| slots.contains(slot)).count(), 2);
        }
        let fair = 2 * u32::from(Slots::COUNT) / 5;
        assert!(owned.iter().all(|slots| slots.len().abs_diff(fair) < fair / 2), "{owned:?}");
        assert_eq!(owners(&["only"], 2), [Slots::ALL]);
    }

    #[test]
    fn who_leaves_moves_only_its_own_slots() {
        let before = owners(&["a", "b", "c", "d", "e"], 2);
        let after = owners(&["a", "b", "c", "d"], 2);
        for (before, after) in before.iter().zip(&after) {
            assert!(after.contains_all(*before));
        }
        let moved: u32 = before.iter().zip(&after).map(|(before, after)| after.difference(*before).len()).sum();
        assert_eq!(moved, before[4].len());
    }

    #[test]
    fn what_compaction_makes_stays_in_its_slot_and_versions_agree() {
        let labels = Labels::from_pairs([("cluster", "east"), ("replica", "a")]);
        let start = 1_700_000_000_000_i64.div_euclid(WINDOW) * WINDOW;
        let slot = Slots::of_block(&labels, start);
        assert!((0..WINDOW).step_by(7_200_000).all(|offset| Slots::of_block(&labels, start + offset) == slot));
        assert_eq!(slot, 70, "another number here would divide blocks anew among stores of two versions");
        let windows: Slots = (0..1_000).map(|n| Slots::of_block(&labels, start + n * WINDOW)).collect();
        assert!(windows.len() > 120, "{windows:?}");
    }

    #[test]
    fn text_and_back() {
        let slots: Slots = [0, 5, 127].into_iter().collect();
        assert_eq!(slots.to_string().parse(), Ok(slots));
        assert_eq!(slots.iter().collect::<Vec<_>>(), [0, 5, 127]);
        assert!("x".parse::<Slots>().is_err() && "1ffffffffffffffffffffffffffffffff".parse::<Slots>().is_err());
    }
}
