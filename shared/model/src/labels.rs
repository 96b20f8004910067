//! Label sets.

use crate::METRIC_NAME;
use crate::quote::quote;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The labels of a series: names and values, sorted by name, each name once, no empty value.
///
/// # Memory
/// One shared string: for each label a length, the name, a length, the value. A length is one ASCII character below 127,
/// or 127 and four characters of seven bits each, highest first, so that the whole is a valid `str` and no access has to
/// check UTF-8. Cloning counts a reference. `Arc<str>` is 16 bytes; a typical set of ten labels is 200 bytes behind it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

const LONG: u8 = 127;

fn push_text(packed: &mut String, text: &str) {
    let len = text.len();
    if len < LONG as usize {
        packed.push(len as u8 as char);
    } else {
        assert!(len < 1 << 28, "a label name or value is shorter than 256 MiB");
        packed.push(LONG as char);
        for shift in [21, 14, 7, 0] {
            packed.push((len >> shift & 0x7f) as u8 as char);
        }
    }
    packed.push_str(text);
}

fn take_text<'a>(packed: &mut &'a str) -> Option<&'a str> {
    let bytes = packed.as_bytes();
    let (len, at) = match *bytes.first()? {
        LONG => (bytes[1..5].iter().fold(0usize, |len, byte| len << 7 | *byte as usize), 5),
        short => (short as usize, 1),
    };
    let text = &packed[at..at + len];
    *packed = &packed[at + len..];
    Some(text)
}

/// Goes over the labels of a set in order of their names.
#[derive(Clone)]
pub struct Iter<'a>(&'a str);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let name = take_text(&mut self.0)?;
        let value = take_text(&mut self.0)?;
        Some((name, value))
    }
}

impl Labels {
    /// Returns the set without labels.
    pub fn empty() -> Self {
        Self(Arc::default())
    }

    /// Makes a set from pairs in any order. Empty values are left out; of equal names the last wins.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Makes a set from pairs that are sorted by name already, each name once, without copying them first; `None` if
    /// they are not. Empty values are left out.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut packed = String::with_capacity(256);
        let mut last = None;
        for (name, value) in pairs {
            if last.is_some_and(|last| last >= name) {
                return None;
            }
            last = Some(name);
            if !value.is_empty() {
                push_text(&mut packed, name);
                push_text(&mut packed, value);
            }
        }
        Some(Self(packed.into()))
    }

    /// Goes over name and value of each label, by name.
    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    /// Returns the value of a label, or `None` if the set lacks it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().take_while(|(n, _)| *n <= name).find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Returns the metric name; empty if the set has none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Tells whether the set has no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many labels the set has.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Returns the set without the labels for which `drop` says so; the same set, uncopied, if there are none.
    pub fn without(&self, drop: impl Fn(&str) -> bool) -> Self {
        if !self.iter().any(|(name, _)| drop(name)) {
            return self.clone();
        }
        Self::from_iter_unchecked(self.iter().filter(|(name, _)| !drop(name)))
    }

    /// Returns the set of only the labels for which `keep` says so.
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        self.without(|name| !keep(name))
    }

    /// Returns the bytes that identify the set: equal sets, equal bytes. Not sorted as sets are; for hashing and maps.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns a 64-bit hash of the set, the same in every process (xxh3 over [`Labels::as_bytes`]).
    pub fn hash64(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(self.as_bytes())
    }

    /// Returns the bytes that the set holds on the heap.
    pub fn size_bytes(&self) -> usize {
        self.0.len() + 16
    }

    fn from_iter_unchecked<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut packed = String::with_capacity(256);
        for (name, value) in pairs {
            push_text(&mut packed, name);
            push_text(&mut packed, value);
        }
        Self(packed.into())
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    /// Compares as Prometheus does: label by label, name and then value; of two sets that agree so far, the shorter is
    /// less.
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut a, mut b) = (self.iter(), other.iter());
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        loop {
            match (a.next(), b.next()) {
                (None, None) => return Ordering::Equal,
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some(x), Some(y)) => match x.cmp(&y) {
                    Ordering::Equal => {}
                    unequal => return unequal,
                },
            }
        }
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Labels {
    /// Writes `{a="b", c="d"}` as Prometheus' `labels.Labels.String` does; names that are no plain label names are quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_legacy_name(name) {
                f.write_str(name)?
            } else {
                f.write_str(&quote(name))?
            }
            write!(f, "={}", quote(value))?;
        }
        f.write_str("}")
    }
}

/// Tells whether `name` is a label name by the rules before UTF-8 names: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_legacy_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Makes label sets by setting and deleting single labels.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder(std::collections::BTreeMap<String, String>);

impl LabelsBuilder {
    /// Starts from the labels of `base`.
    pub fn new(base: &Labels) -> Self {
        Self(base.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Sets a label; an empty value deletes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        if value.is_empty() {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_owned(), value.to_owned());
        }
        self
    }

    /// Deletes a label.
    pub fn delete(&mut self, name: &str) -> &mut Self {
        self.0.remove(name);
        self
    }

    /// Returns the value of a label, or `None` if the set lacks it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Goes over name and value of each label, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Deletes the labels for which `keep` does not say so.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| keep(name));
    }

    /// Returns the set as it is now.
    pub fn build(&self) -> Labels {
        Labels::from_iter_unchecked(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_survive_packing() {
        for len in [0, 1, 126, 127, 128, 16_383, 16_384, 3_000_000] {
            let value = "é".repeat(len / 2) + if len % 2 == 1 { "x" } else { "" };
            let labels = Labels::from_pairs([("a", value.as_str()), ("b", "c")]);
            assert_eq!(labels.get("a").unwrap_or(""), value);
            assert_eq!(labels.get("b"), Some("c"));
        }
    }

    #[test]
    fn order_is_label_by_label() {
        let set = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let ordered = [
            set(&[]),
            set(&[("a", "1")]),
            set(&[("a", "1"), ("b", "1")]),
            set(&[("a", "10")]),
            set(&[("a", "2")]),
            set(&[("aa", "0")]),
            set(&[("b", "0")]),
        ];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a} against {b}");
            }
        }
    }

    #[test]
    fn unsorted_pairs_are_refused_by_from_sorted() {
        assert!(Labels::from_sorted([("b", "1"), ("a", "1")]).is_none());
        assert!(Labels::from_sorted([("a", "1"), ("a", "2")]).is_none());
        assert_eq!(Labels::from_sorted([("a", "1"), ("b", "")]), Some(Labels::from_pairs([("a", "1")])));
    }
}
