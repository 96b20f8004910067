//! Writes an index of version 2, byte for byte as Prometheus does of the same symbols and series. Newer Prometheus leaves the
//! label indices out, which nobody reads; Prometheus 2 and 3.5 write them.

use super::{ALL_POSTINGS, ChunkMeta, INDEX_MAGIC, IndexVersion, SeriesRef, Toc, series::SERIES_ALIGN};
use crate::format::{crc32c, put_uvarint};
use farview_model::Labels;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Lists are aligned so.
const POSTINGS_ALIGN: u64 = 4;

/// Why an index cannot be written. What was written so far is of no use.
#[derive(Debug, thiserror::Error)]
pub enum IndexWriteError {
    /// The output failed.
    #[error("cannot write the index: {0}")]
    Io(#[from] io::Error),
    /// Symbols must rise.
    #[error("symbols are not sorted: {0:?} comes too late or twice")]
    Symbols(String),
    /// Every name and value must be among the symbols.
    #[error("{0:?} of a series is not among the symbols")]
    UnknownSymbol(String),
    /// Series must rise.
    #[error("series are not sorted: {0} comes too late or twice")]
    Series(Labels),
    /// Chunks of a series must rise in time, and their places over the whole block.
    #[error("chunks of {0} are not sorted by time and place")]
    Chunks(Labels),
    /// A part is larger than the format can say: 64 GiB for all series, 4 GiB for symbols, one list, or the table of lists.
    #[error("{0} would be larger than the format can say")]
    TooLarge(&'static str),
}

/// Writes an index: first the symbols, then series by series, then the rest.
///
/// # Memory
/// The symbols, and four bytes for each label of each series, from which the posting lists are made at the end.
#[derive(Debug)]
pub struct IndexWriter<W> {
    out: W,
    at: u64,
    toc: Toc,
    symbols: Vec<Box<str>>,
    all: Vec<SeriesRef>,
    /// Series by numbers of name and value; numbers rise as the texts do.
    postings: BTreeMap<(u32, u32), Vec<SeriesRef>>,
    label_indices: bool,
    last_series: Option<Labels>,
    last_chunk: u64,
    content: Vec<u8>,
    entry: Vec<u8>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexSummary {
    /// Length of the index, bytes.
    pub len: u64,
    /// Where its sections are.
    pub toc: Toc,
    /// How many series it has.
    pub series: u64,
}

impl<W: Write> IndexWriter<W> {
    /// Begins an index with its symbols, which must rise: every name and value of the series that will come.
    ///
    /// # Errors
    /// [`IndexWriteError`] if the symbols do not rise, are too many, or the output fails.
    pub fn new<S: AsRef<str>>(out: W, symbols: impl IntoIterator<Item = S>) -> Result<Self, IndexWriteError> {
        let mut texts: Vec<Box<str>> = Vec::new();
        let mut content = vec![0; 4];
        for symbol in symbols {
            let symbol = symbol.as_ref();
            if texts.last().is_some_and(|last| &**last >= symbol) {
                return Err(IndexWriteError::Symbols(symbol.to_owned()));
            }
            put_text(&mut content, symbol);
            texts.push(symbol.into());
        }
        let count = u32::try_from(texts.len()).map_err(|_| IndexWriteError::TooLarge("the symbols"))?;
        content[..4].copy_from_slice(&count.to_be_bytes());
        let toc = Toc { symbols: 0, series: 0, label_indices: 0, postings: 0, label_index_table: 0, postings_table: 0 };
        let mut writer = Self {
            out,
            at: 0,
            toc,
            symbols: texts,
            all: vec![],
            postings: BTreeMap::new(),
            label_indices: false,
            last_series: None,
            last_chunk: 0,
            content: vec![],
            entry: vec![],
        };
        writer.put(&INDEX_MAGIC.to_be_bytes())?;
        writer.put(&[IndexVersion::V2 as u8])?;
        writer.toc.symbols = writer.at;
        writer.put_framed(&content, "the symbols")?;
        writer.toc.series = writer.at;
        Ok(writer)
    }

    /// Writes the label indices too, as Prometheus did up to 3.5.
    #[must_use]
    pub fn with_label_indices(mut self) -> Self {
        self.label_indices = true;
        self
    }

    /// Adds a series, whose labels must come after those of the series before, with its chunks.
    ///
    /// # Errors
    /// [`IndexWriteError`] if labels or chunks are not in order, a symbol is missing, or the output fails.
    pub fn add_series(&mut self, labels: &Labels, chunks: &[ChunkMeta]) -> Result<SeriesRef, IndexWriteError> {
        if self.last_series.as_ref().is_some_and(|last| last >= labels) {
            return Err(IndexWriteError::Series(labels.clone()));
        }
        let symbol = |text: &str| match self.symbols.binary_search_by(|symbol| (**symbol).cmp(text)) {
            Ok(number) => Ok(number as u32),
            Err(_) => Err(IndexWriteError::UnknownSymbol(text.to_owned())),
        };
        let mut pairs = Vec::with_capacity(16);
        for (name, value) in labels.iter() {
            pairs.push((symbol(name)?, symbol(value)?));
        }
        self.last_chunk = rising(chunks, self.last_chunk).ok_or_else(|| IndexWriteError::Chunks(labels.clone()))?;
        self.pad(SERIES_ALIGN)?;
        let too_large = || IndexWriteError::TooLarge("the series");
        let reference = SeriesRef(u32::try_from(self.at / SERIES_ALIGN).map_err(|_| too_large())?);
        self.encode(&pairs, chunks);
        let entry = std::mem::take(&mut self.entry);
        self.put(&entry)?;
        self.entry = entry;
        self.all.push(reference);
        for pair in pairs {
            self.postings.entry(pair).or_default().push(reference);
        }
        self.last_series = Some(labels.clone());
        Ok(reference)
    }

    /// Makes the bytes of a series in `entry`.
    fn encode(&mut self, labels: &[(u32, u32)], chunks: &[ChunkMeta]) {
        let zigzag = |n: i64| (n << 1 ^ n >> 63) as u64;
        let content = &mut self.content;
        content.clear();
        put_uvarint(content, labels.len() as u64);
        for (name, value) in labels {
            put_uvarint(content, u64::from(*name));
            put_uvarint(content, u64::from(*value));
        }
        put_uvarint(content, chunks.len() as u64);
        let mut before: Option<&ChunkMeta> = None;
        for chunk in chunks {
            put_uvarint(
                content,
                match before {
                    None => zigzag(chunk.mint),
                    // Negative where chunks overlap; the difference then wraps.
                    Some(before) => chunk.mint.wrapping_sub(before.maxt) as u64,
                },
            );
            put_uvarint(content, chunk.maxt.wrapping_sub(chunk.mint) as u64);
            put_uvarint(
                content,
                match before {
                    None => chunk.reference.0,
                    Some(before) => zigzag(chunk.reference.0.wrapping_sub(before.reference.0) as i64),
                },
            );
            before = Some(chunk);
        }
        self.entry.clear();
        put_uvarint(&mut self.entry, content.len() as u64);
        self.entry.extend_from_slice(content);
        self.entry.extend_from_slice(&crc32c(content).to_be_bytes());
    }

    /// Writes posting lists, their table and the table of contents, and returns the output.
    ///
    /// # Errors
    /// [`IndexWriteError`] if a part is too large or the output fails.
    pub fn finish(mut self) -> Result<(W, IndexSummary), IndexWriteError> {
        self.toc.label_indices = self.at;
        let label_indices = if self.label_indices { Some(self.put_label_indices()?) } else { None };
        self.toc.postings = self.at;
        let mut table = vec![0; 4];
        let all = std::mem::take(&mut self.all);
        self.put_list(&all)?;
        put_entry(&mut table, ALL_POSTINGS, self.at - list_len(&all));
        let postings = std::mem::take(&mut self.postings);
        let count = postings.len() + 1;
        for ((name, value), refs) in postings {
            self.put_list(&refs)?;
            let offset = self.at - list_len(&refs);
            put_entry(&mut table, (&self.symbols[name as usize], &self.symbols[value as usize]), offset);
        }
        self.toc.label_index_table = self.at;
        if let Some(table) = label_indices {
            self.put_framed(&table, "the table of label indices")?;
        }
        self.toc.postings_table = self.at;
        let count = u32::try_from(count).map_err(|_| IndexWriteError::TooLarge("the table of lists"))?;
        table[..4].copy_from_slice(&count.to_be_bytes());
        self.put_framed(&table, "the table of lists")?;
        self.put(&self.toc.encode())?;
        self.out.flush()?;
        Ok((self.out, IndexSummary { len: self.at, toc: self.toc, series: all.len() as u64 }))
    }

    /// Writes for each name the numbers of its values, and returns the table of these.
    fn put_label_indices(&mut self) -> Result<Vec<u8>, IndexWriteError> {
        let mut names: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (name, value) in self.postings.keys() {
            names.entry(*name).or_default().push(*value);
        }
        let mut table = (names.len() as u32).to_be_bytes().to_vec();
        for (name, values) in names {
            self.pad(POSTINGS_ALIGN)?;
            table.push(1);
            put_text(&mut table, &self.symbols[name as usize]);
            put_uvarint(&mut table, self.at);
            let numbers = [1, values.len() as u32].into_iter().chain(values);
            let content: Vec<u8> = numbers.flat_map(u32::to_be_bytes).collect();
            self.put_framed(&content, "a label index")?;
        }
        Ok(table)
    }

    fn put_list(&mut self, refs: &[SeriesRef]) -> Result<(), IndexWriteError> {
        self.pad(POSTINGS_ALIGN)?;
        let mut content = std::mem::take(&mut self.content);
        content.clear();
        let count = u32::try_from(refs.len()).map_err(|_| IndexWriteError::TooLarge("a list"))?;
        content.extend_from_slice(&count.to_be_bytes());
        content.extend(refs.iter().flat_map(|reference| reference.0.to_be_bytes()));
        self.put_framed(&content, "a list")?;
        self.content = content;
        Ok(())
    }

    /// Writes length, content and checksum.
    fn put_framed(&mut self, content: &[u8], what: &'static str) -> Result<(), IndexWriteError> {
        let len = u32::try_from(content.len()).map_err(|_| IndexWriteError::TooLarge(what))?;
        self.put(&len.to_be_bytes())?;
        self.put(content)?;
        self.put(&crc32c(content).to_be_bytes())
    }

    fn pad(&mut self, align: u64) -> Result<(), IndexWriteError> {
        let padding = (self.at.next_multiple_of(align) - self.at) as usize;
        self.put(&[0; SERIES_ALIGN as usize][..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), IndexWriteError> {
        self.at += bytes.len() as u64;
        Ok(self.out.write_all(bytes)?)
    }
}

/// Returns the last place if times and places rise, the places from `last` on.
fn rising(chunks: &[ChunkMeta], last: u64) -> Option<u64> {
    let mut before = (i64::MIN, last);
    for chunk in chunks {
        let now = (chunk.mint, chunk.reference.0);
        if chunk.mint > chunk.maxt || now.0 < before.0 || now.1 < before.1 {
            return None;
        }
        before = now;
    }
    Some(before.1)
}

fn list_len(refs: &[SeriesRef]) -> u64 {
    12 + 4 * refs.len() as u64
}

fn put_entry(table: &mut Vec<u8>, (name, value): (&str, &str), offset: u64) {
    table.push(2);
    put_text(table, name);
    put_text(table, value);
    put_uvarint(table, offset);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uvarint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}
