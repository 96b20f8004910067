//! Lists of series references, and what is done with them.

use super::SeriesRef;
use crate::format::{Cursor, FormatError, Section};

/// A checked list of series references, strictly rising, in the bytes in which it was read.
#[derive(Debug, Clone, Copy)]
pub struct Postings<'a> {
    refs: &'a [u8],
}

/// Reads the list at the beginning of `bytes`; what follows it is ignored, so that a range may be a guess.
///
/// # Errors
/// [`FormatError`] if the list is cut, its checksum wrong, or it does not rise.
pub fn decode(bytes: &[u8]) -> Result<Postings<'_>, FormatError> {
    let content = crate::format::framed(Section::Postings, bytes)?;
    let mut cursor = Cursor::new(Section::Postings, content, 0);
    let count = cursor.u32().map_err(|error| error.based(4))? as usize;
    let refs = &content[4..];
    if refs.len() % 4 != 0 || refs.len() / 4 != count {
        return Err(FormatError::malformed(Section::Postings, 4, "count and length do not agree"));
    }
    let postings = Postings { refs };
    if let Some(at) = postings.iter().zip(postings.iter().skip(1)).position(|(a, b)| a >= b) {
        return Err(FormatError::malformed(Section::Postings, 12 + 4 * at, "the references do not rise"));
    }
    Ok(postings)
}

/// Returns how long the list is that begins with `head`, four bytes or more, with its length and checksum.
///
/// # Errors
/// [`FormatError`] if there are less than four bytes.
pub fn encoded_len(head: &[u8]) -> Result<u64, FormatError> {
    Ok(8 + u64::from(Cursor::new(Section::Postings, head, 0).u32()?))
}

impl<'a> Postings<'a> {
    /// Returns how many references there are.
    pub fn len(&self) -> usize {
        self.refs.len() / 4
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.refs.is_empty()
    }

    /// Goes over the references, which rise.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SeriesRef> + Clone + use<'a> {
        let (refs, _) = self.refs.as_chunks::<4>();
        refs.iter().map(|four| SeriesRef(u32::from_be_bytes(*four)))
    }

    /// Returns the references.
    pub fn to_vec(&self) -> Vec<SeriesRef> {
        self.iter().collect()
    }
}

/// Returns what is in both lists; both rise.
pub fn intersect(a: &[SeriesRef], b: &[SeriesRef]) -> Vec<SeriesRef> {
    let (short, mut long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut out = Vec::new();
    for wanted in short {
        long = &long[gallop(long, *wanted)..];
        if long.first() == Some(wanted) {
            out.push(*wanted);
        }
    }
    out
}

/// Returns what is in `a` and not in `b`; both rise.
pub fn without(a: &[SeriesRef], mut b: &[SeriesRef]) -> Vec<SeriesRef> {
    let mut out = Vec::with_capacity(a.len());
    for kept in a {
        b = &b[gallop(b, *kept)..];
        if b.first() != Some(kept) {
            out.push(*kept);
        }
    }
    out
}

/// Returns what is in any of the lists, rising, each once. The lists need not rise.
pub fn union(lists: impl IntoIterator<Item = SeriesRef>) -> Vec<SeriesRef> {
    let mut out: Vec<SeriesRef> = lists.into_iter().collect();
    out.sort();
    out.dedup();
    out
}

/// Returns the place of the first reference that is not less than `wanted`, looking near the beginning first.
fn gallop(list: &[SeriesRef], wanted: SeriesRef) -> usize {
    let mut step = 1;
    while step < list.len() && list[step] < wanted {
        step *= 2;
    }
    let from = step / 2;
    let to = (step + 1).min(list.len());
    from.min(to) + list[from.min(to)..to].partition_point(|at| *at < wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn refs(numbers: impl IntoIterator<Item = u32>) -> Vec<SeriesRef> {
        numbers.into_iter().map(SeriesRef).collect()
    }

    #[test]
    fn lists_are_sets() {
        for (m, n) in [(1, 1), (2, 3), (7, 2), (50, 1), (1, 63)] {
            let a: BTreeSet<u32> = (0..400).filter(|i| i % m == 0).collect();
            let b: BTreeSet<u32> = (0..300).filter(|i| i % n == 1 % n).collect();
            let (x, y) = (refs(a.clone()), refs(b.clone()));
            assert_eq!(intersect(&x, &y), refs(a.intersection(&b).copied()));
            assert_eq!(without(&x, &y), refs(a.difference(&b).copied()));
            assert_eq!(union(x.iter().chain(&y).copied()), refs(a.union(&b).copied()));
        }
        assert_eq!(intersect(&[], &refs([1])), []);
        assert_eq!(without(&refs([1]), &[]), refs([1]));
    }
}
