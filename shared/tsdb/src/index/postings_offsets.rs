//! The postings offset table: where the list of each label value is.

use super::ALL_POSTINGS;
use crate::format::{Cursor, FormatError, Section, framed};
use bytes::Bytes;
use std::ops::Range;

/// Of so many entries of a label name the place of one is kept.
const SAMPLE: usize = 32;
/// Length and count in front of the first entry.
const FIRST: usize = 8;

/// One entry of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostingsEntry<'a> {
    /// Label name.
    pub name: &'a str,
    /// Label value.
    pub value: &'a str,
    /// Where the list lies in the index, with its length and checksum. It may end earlier, never later.
    pub range: Range<u64>,
}

/// The table with the places of some entries.
///
/// # Memory
/// The section's bytes, which are shared and not copied, and four bytes for every 32nd value of a name. Of a table that is not
/// sorted, as the first Prometheus versions wrote it, four bytes for every value.
#[derive(Debug, Clone)]
pub struct PostingsOffsets {
    section: Bytes,
    count: u32,
    lists_end: u64,
    /// How many entries lie between two kept places.
    stride: usize,
    /// Where the entries begin in `section` that were kept, by name and value.
    places: Vec<u32>,
    names: Vec<Name>,
}

/// The entries of one name.
#[derive(Debug, Clone)]
struct Name {
    /// Its part of `places`.
    places: Range<usize>,
    count: usize,
}

/// An entry as it lies in the table.
struct Raw<'a> {
    name: &'a [u8],
    value: &'a [u8],
    offset: u64,
    /// Where the next entry begins.
    next: usize,
}

fn raw(section: &[u8], at: usize) -> Result<Raw<'_>, FormatError> {
    let mut cursor = Cursor::new(Section::PostingsOffsets, section, at);
    if cursor.uvarint()? != 2 {
        return Err(FormatError::malformed(Section::PostingsOffsets, at, "an entry has not two keys"));
    }
    let (name, value) = (cursor.prefixed()?, cursor.prefixed()?);
    Ok(Raw { name, value, offset: cursor.uvarint()?, next: cursor.at() })
}

impl PostingsOffsets {
    /// Takes the section of an index, which begins with its length; bytes behind it are ignored. `lists_end` is where the last
    /// posting list ends, or any place after it, in bytes from the beginning of the index. The checksum and every entry are
    /// checked.
    ///
    /// # Errors
    /// [`FormatError`] with an offset in `section`.
    pub fn decode(section: Bytes, lists_end: u64) -> Result<Self, FormatError> {
        let end = FIRST - 4 + framed(Section::PostingsOffsets, &section)?.len();
        let section = section.slice(..end);
        let count = Cursor::new(Section::PostingsOffsets, &section, 4).u32()?;
        if count as usize > section.len() / 4 {
            let reason = "there are more entries than the table can hold";
            return Err(FormatError::malformed(Section::PostingsOffsets, 4, reason));
        }
        let mut table = Self { section, count, lists_end, stride: SAMPLE, places: Vec::new(), names: Vec::new() };
        if !table.sample()? {
            table.sort()?;
        }
        Ok(table)
    }

    /// Goes over the table, checks it and keeps places; `false` if it is not sorted.
    fn sample(&mut self) -> Result<bool, FormatError> {
        let section = self.section.clone();
        let mut before: Option<Raw<'_>> = None;
        let (mut at, mut sorted) = (FIRST, true);
        for _ in 0..self.count {
            let entry = raw(&section, at)?;
            if std::str::from_utf8(entry.name).is_err() || std::str::from_utf8(entry.value).is_err() {
                return Err(FormatError::malformed(Section::PostingsOffsets, at, "a text is not UTF-8"));
            }
            if entry.offset > self.lists_end {
                let reason = "a list would lie behind all lists";
                return Err(FormatError::malformed(Section::PostingsOffsets, at, reason));
            }
            if let Some(before) = &before {
                sorted &= (before.name, before.value) < (entry.name, entry.value);
            }
            self.keep(at, before.as_ref().is_none_or(|before| before.name != entry.name));
            at = entry.next;
            before = Some(entry);
        }
        Ok(sorted)
    }

    fn keep(&mut self, at: usize, first_of_name: bool) {
        if first_of_name {
            self.names.push(Name { places: self.places.len()..self.places.len(), count: 0 });
        }
        let Some(name) = self.names.last_mut() else { return };
        if name.count % self.stride == 0 {
            self.places.push(at as u32);
            name.places.end += 1;
        }
        name.count += 1;
    }

    /// Keeps the place of every entry, sorted.
    fn sort(&mut self) -> Result<(), FormatError> {
        let section = self.section.clone();
        let (mut at, mut all) = (FIRST, Vec::with_capacity(self.count as usize));
        for _ in 0..self.count {
            let entry = raw(&section, at)?;
            all.push((entry.name, entry.value, at));
            at = entry.next;
        }
        all.sort();
        (self.stride, self.places, self.names) = (1, Vec::with_capacity(all.len()), Vec::new());
        for i in 0..all.len() {
            let before = i.checked_sub(1).map(|i| all[i]);
            if before.is_some_and(|before| (before.0, before.1) == (all[i].0, all[i].1)) {
                return Err(FormatError::malformed(Section::PostingsOffsets, all[i].2, "an entry is there twice"));
            }
            self.keep(all[i].2, before.is_none_or(|before| before.0 != all[i].0));
        }
        Ok(())
    }

    /// Returns how many entries there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Goes over the label names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.names.iter().filter_map(|name| self.name(name));
        names.filter_map(|name| std::str::from_utf8(name).ok()).filter(|name| *name != ALL_POSTINGS.0)
    }

    /// Goes over all entries, by name and value; the list of all series is under [`ALL_POSTINGS`].
    pub fn iter(&self) -> impl Iterator<Item = PostingsEntry<'_>> {
        self.names.iter().flat_map(|name| self.walk(name, 0))
    }

    /// Goes over the entries of a name, by value.
    pub fn values(&self, name: &str) -> impl Iterator<Item = PostingsEntry<'_>> {
        self.values_from(name, "")
    }

    /// Goes over the entries of a name with a value not less than `from`, by value.
    pub fn values_from<'a>(&'a self, name: &str, from: &str) -> impl Iterator<Item = PostingsEntry<'a>> + use<'a> {
        let from = from.to_owned();
        let entries = self.find_name(name).map(|name| self.walk(name, self.block_of(name, from.as_bytes())));
        entries.into_iter().flatten().skip_while(move |entry| entry.value < from.as_str())
    }

    /// Returns where the list of a label value lies; `None` if no series has it.
    pub fn find(&self, name: &str, value: &str) -> Option<Range<u64>> {
        let entries = self.find_name(name)?;
        let block = self.block_of(entries, value.as_bytes());
        let mut at = *self.places.get(entries.places.start + block)? as usize;
        for _ in block * self.stride..(block * self.stride + self.stride).min(entries.count) {
            let entry = raw(&self.section, at).ok()?;
            if entry.value == value.as_bytes() {
                return Some(self.range(&entry));
            }
            at = entry.next;
        }
        None
    }

    /// Returns where the list of all series lies.
    pub fn all(&self) -> Option<Range<u64>> {
        self.find(ALL_POSTINGS.0, ALL_POSTINGS.1)
    }

    fn find_name(&self, wanted: &str) -> Option<&Name> {
        let found = self.names.binary_search_by_key(&wanted.as_bytes(), |name| self.name(name).unwrap_or_default());
        found.ok().map(|i| &self.names[i])
    }

    fn name(&self, name: &Name) -> Option<&[u8]> {
        Some(raw(&self.section, *self.places.get(name.places.start)? as usize).ok()?.name)
    }

    /// Returns which of the kept places of a name is the last whose value is not greater than `value`, or the first.
    fn block_of(&self, name: &Name, value: &[u8]) -> usize {
        let places = &self.places[name.places.clone()];
        let after = places.partition_point(|at| raw(&self.section, *at as usize).is_ok_and(|at| at.value <= value));
        after.saturating_sub(1)
    }

    /// Goes over the entries of a name from one of its kept places on.
    fn walk(&self, name: &Name, block: usize) -> impl Iterator<Item = PostingsEntry<'_>> + use<'_> {
        let places = &self.places[name.places.clone()];
        let mut at = 0;
        (block * self.stride..name.count).map_while(move |i| {
            if i % self.stride == 0 {
                at = places[i / self.stride] as usize;
            }
            let entry = raw(&self.section, at).ok()?;
            at = entry.next;
            let text = |bytes| std::str::from_utf8(bytes).ok();
            Some(PostingsEntry { name: text(entry.name)?, value: text(entry.value)?, range: self.range(&entry) })
        })
    }

    /// Lists lie in the order of the table, so that one ends where the next begins.
    fn range(&self, entry: &Raw<'_>) -> Range<u64> {
        let next = raw(&self.section, entry.next).ok().map(|next| next.offset);
        entry.offset..next.filter(|next| *next > entry.offset).unwrap_or(self.lists_end)
    }
}
