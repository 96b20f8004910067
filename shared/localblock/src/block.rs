//! One block in a folder.

use crate::{LocalBlockError, LocalMeta, postings};
use bytes::Bytes;
use farview_model::{Labels, Matcher, Samples, TimeRange};
use farview_series::{AggrChunk, ChunkData, chunk_series::Aggregated};
use farview_tsdb::index::{
    ChunkMeta, INDEX_HEAD_LEN, IndexVersion, PostingsOffsets, SeriesEntry, SeriesRef, Symbols, TOC_LEN, Toc, series,
};
use farview_tsdb::segment::{self, SEGMENT_HEAD_LEN, StoredChunk};
use farview_tsdb::{Chunk, ChunkError, Encoding, Tombstones};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A series takes mostly less; one that takes more is read again.
const SERIES_GUESS: u64 = 4 << 10;
/// Chunks of a series that lie side by side are read at once up to this size, bytes.
const READ_AT_ONCE: u64 = 1 << 20;
/// The last chunk of a read takes mostly less; one that takes more is read again.
const CHUNK_GUESS: u64 = 4 << 10;

/// A file that is read at places.
#[derive(Debug)]
struct Place {
    file: File,
    path: PathBuf,
    len: u64,
}

impl Place {
    fn open(path: PathBuf) -> Result<Self, LocalBlockError> {
        let open = || -> io::Result<(File, u64)> {
            let file = File::open(&path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let (file, len) = open().map_err(LocalBlockError::io(&path))?;
        Ok(Self { file, path, len })
    }

    /// Reads what of the range is in the file.
    fn read(&self, range: Range<u64>) -> Result<Bytes, LocalBlockError> {
        let (start, end) = (range.start.min(self.len), range.end.min(self.len));
        let mut bytes = vec![0; end.saturating_sub(start) as usize];
        self.file.read_exact_at(&mut bytes, start).map_err(LocalBlockError::io(&self.path))?;
        Ok(bytes.into())
    }
}

/// A series of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSeries {
    /// Its labels, with those of the block's source.
    pub labels: Labels,
    /// What the index calls it.
    pub reference: SeriesRef,
    /// Its chunks that overlap the range that was asked for, by mint.
    pub chunks: Vec<ChunkMeta>,
}

/// A block in a folder. Nothing is kept of what is read but its symbols and its postings offset table.
#[derive(Debug)]
pub struct LocalBlock {
    folder: PathBuf,
    meta: LocalMeta,
    version: IndexVersion,
    index: Place,
    symbols: Symbols,
    postings: PostingsOffsets,
    segments: Vec<Place>,
    tombstones: Tombstones,
}

impl LocalBlock {
    /// Opens the block in `folder` and checks the parts of its index that it keeps.
    ///
    /// # Errors
    /// [`LocalBlockError`] if a file is missing or not what it should be.
    pub fn open(folder: &Path) -> Result<Self, LocalBlockError> {
        let meta = LocalMeta::read(&folder.join("meta.json"))?;
        let index = Place::open(folder.join("index"))?;
        let format = || LocalBlockError::format(&index.path);
        let version = IndexVersion::decode(&index.read(0..INDEX_HEAD_LEN as u64)?).map_err(format())?;
        let tail = index.len.saturating_sub(TOC_LEN as u64);
        let toc = Toc::decode(&index.read(tail..index.len)?).map_err(|error| format()(error.based(tail)))?;
        let symbols = Symbols::decode(index.read(toc.symbols_range())?, version)
            .map_err(|error| format()(error.based(toc.symbols)))?;
        let postings = PostingsOffsets::decode(index.read(toc.postings_table_range(index.len))?, toc.postings_end())
            .map_err(|error| format()(error.based(toc.postings_table)))?;
        let (segments, tombstones) =
            (open_segments(&folder.join("chunks"))?, read_tombstones(&folder.join("tombstones"))?);
        Ok(Self { folder: folder.to_owned(), meta, version, index, symbols, postings, segments, tombstones })
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns what the block says of itself.
    pub fn meta(&self) -> &LocalMeta {
        &self.meta
    }

    /// Returns the table of its posting lists: its label names and values, without those of its source.
    pub fn postings(&self) -> &PostingsOffsets {
        &self.postings
    }

    pub(crate) fn posting_list(&self, range: Range<u64>) -> Result<Vec<SeriesRef>, LocalBlockError> {
        let bytes = self.index.read(range.clone())?;
        let list = farview_tsdb::index::postings::decode(&bytes);
        Ok(list.map_err(|error| LocalBlockError::format(&self.index.path)(error.based(range.start)))?.to_vec())
    }

    /// Returns the series that pass the matchers and have a chunk that overlaps `range`, in the order of the index, which is
    /// that of their labels without those of the source. Matchers test the labels of the source too.
    ///
    /// # Errors
    /// [`LocalBlockError`] if the index cannot be read or is corrupt, or if there are more than `max_series`.
    pub fn series(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        max_series: usize,
    ) -> Result<Vec<LocalSeries>, LocalBlockError> {
        let Some(own) = self.meta.external_labels.strip(matchers) else { return Ok(vec![]) };
        let mut out = Vec::new();
        let mut entry = SeriesEntry::default();
        for reference in postings::matching(self, &own)? {
            self.read_series(reference, range, &mut entry)?;
            if entry.chunks.is_empty() {
                continue;
            }
            if out.len() == max_series {
                return Err(LocalBlockError::TooManySeries { limit: max_series });
            }
            let labels = self.meta.external_labels.merge(&self.labels(reference, &entry)?);
            out.push(LocalSeries { labels, reference, chunks: entry.chunks.clone() });
        }
        Ok(out)
    }

    fn read_series(
        &self,
        reference: SeriesRef,
        range: TimeRange,
        entry: &mut SeriesEntry,
    ) -> Result<(), LocalBlockError> {
        let start = reference.offset(self.version);
        let format = |error: farview_tsdb::FormatError| LocalBlockError::format(&self.index.path)(error.based(start));
        let mut bytes = self.index.read(start..start + SERIES_GUESS)?;
        let len = series::encoded_len(&bytes).map_err(format)?;
        if len > bytes.len() as u64 {
            bytes = self.index.read(start..start.saturating_add(len))?;
        }
        series::decode(&bytes, range, entry).map(drop).map_err(format)
    }

    fn labels(&self, reference: SeriesRef, entry: &SeriesEntry) -> Result<Labels, LocalBlockError> {
        let mut pairs = Vec::with_capacity(entry.labels.len());
        for (name, value) in &entry.labels {
            let text = |symbol: &u32| self.symbols.get(*symbol).map_err(LocalBlockError::format(&self.index.path));
            pairs.push((text(name)?, text(value)?));
        }
        let offset = reference.offset(self.version);
        Labels::from_sorted(pairs).ok_or(LocalBlockError::Labels { path: self.index.path.clone(), offset })
    }

    /// Reads the chunks of a series, without what is deleted.
    ///
    /// # Errors
    /// [`LocalBlockError`] if a segment cannot be read or is corrupt.
    pub fn chunks(&self, series: &LocalSeries) -> Result<Vec<AggrChunk>, LocalBlockError> {
        let mut out = Vec::with_capacity(series.chunks.len());
        let deleted = self.tombstones.of(series.reference);
        let mut rest = &series.chunks[..];
        while let Some(first) = rest.first() {
            // Those that follow in the same segment, near enough, are in the same read.
            let start = first.reference.0;
            let together = |meta: &&ChunkMeta| {
                meta.reference.segment() == first.reference.segment()
                    && (start..start.saturating_add(READ_AT_ONCE)).contains(&meta.reference.0)
            };
            let count = rest.iter().take_while(together).count();
            let (now, later) = rest.split_at(count);
            rest = later;
            let end = now.iter().map(|meta| meta.reference.0).max().unwrap_or(start).saturating_add(CHUNK_GUESS);
            let segment = self.segment(first)?;
            let bytes =
                segment.read(u64::from(first.reference.offset())..u64::from(first.reference.offset()) + end - start)?;
            for meta in now {
                let chunk = read_chunk(segment, meta, (meta.reference.0 - start) as usize, &bytes)?;
                out.extend(remaining(chunk, meta, deleted).map_err(|source| chunk_error(segment, meta, source))?);
            }
        }
        Ok(out)
    }

    fn segment(&self, meta: &ChunkMeta) -> Result<&Place, LocalBlockError> {
        let number = meta.reference.segment();
        self.segments.get(number as usize).ok_or_else(|| {
            let path = self.folder.join("chunks").join(segment::file_name(number));
            LocalBlockError::Io { path, source: io::ErrorKind::NotFound.into() }
        })
    }
}

fn open_segments(folder: &Path) -> Result<Vec<Place>, LocalBlockError> {
    let mut segments = Vec::new();
    loop {
        let path = folder.join(segment::file_name(segments.len() as u32));
        if !path.exists() {
            return Ok(segments);
        }
        let segment = Place::open(path)?;
        let head = segment.read(0..SEGMENT_HEAD_LEN as u64)?;
        segment::check_head(&head).map_err(LocalBlockError::format(&segment.path))?;
        segments.push(segment);
    }
}

fn read_tombstones(path: &Path) -> Result<Tombstones, LocalBlockError> {
    match std::fs::read(path) {
        Ok(file) => Tombstones::decode(&file).map_err(LocalBlockError::format(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Tombstones::default()),
        Err(error) => Err(LocalBlockError::io(path)(error)),
    }
}

/// Reads a chunk at `at` of `bytes`, or from the file if it reaches beyond them.
fn read_chunk(segment: &Place, meta: &ChunkMeta, at: usize, bytes: &Bytes) -> Result<StoredChunk, LocalBlockError> {
    let offset = u64::from(meta.reference.offset());
    let based = |error: farview_tsdb::FormatError, base: u64| LocalBlockError::format(&segment.path)(error.based(base));
    let found = match segment::read(bytes, at) {
        Err(error) if error.is_truncated() => {
            let head = segment.read(offset..offset + 5)?;
            let len = segment::encoded_len(&head).map_err(|error| based(error, offset))?;
            segment::read(&segment.read(offset..offset + len as u64)?, 0).map_err(|error| based(error, offset))
        }
        found => found.map_err(|error| based(error, offset - at as u64)),
    };
    found?.open().map_err(|source| chunk_error(segment, meta, source))
}

fn chunk_error(segment: &Place, meta: &ChunkMeta, source: ChunkError) -> LocalBlockError {
    LocalBlockError::Chunk { path: segment.path.clone(), offset: meta.reference.offset(), source }
}

/// Returns the chunk without the deleted samples, `None` if none is left. Prometheus deletes from raw data only.
fn remaining(chunk: StoredChunk, meta: &ChunkMeta, deleted: &[TimeRange]) -> Result<Option<AggrChunk>, ChunkError> {
    let (mint, maxt) = (meta.mint, meta.maxt);
    let chunk = match chunk {
        StoredChunk::Raw(chunk) => chunk,
        StoredChunk::Aggregated([count, sum, min, max, counter]) => {
            let data = ChunkData::Aggregated(Box::new(Aggregated { count, sum, min, max, counter }));
            return Ok(Some(AggrChunk { mint, maxt, data }));
        }
    };
    let range = TimeRange::new(mint, maxt);
    if !deleted.iter().any(|deleted| deleted.overlaps(range)) {
        return Ok(Some(AggrChunk { mint, maxt, data: ChunkData::Raw(chunk) }));
    }
    let mut all = Samples::default();
    chunk.decode(TimeRange::ALL, &mut all)?;
    let left = |t: &i64| !deleted.iter().any(|deleted| deleted.contains(*t));
    let times: Vec<i64> = all.timestamps.iter().chain(&all.histogram_timestamps).copied().filter(left).collect();
    let (Some(mint), Some(maxt)) = (times.first(), times.last()) else { return Ok(None) };
    let again = if chunk.encoding == Encoding::Xor {
        let values: Vec<f64> =
            all.timestamps.iter().zip(&all.values).filter(|(t, _)| left(t)).map(|(_, value)| *value).collect();
        Ok(vec![Chunk::encode_xor(&times, &values)])
    } else {
        let kept = all.histogram_timestamps.iter().zip(&all.histograms).filter(|(t, _)| left(t));
        let histograms: Vec<_> = kept.map(|(_, histogram)| histogram.clone()).collect();
        match chunk.encoding {
            Encoding::Histogram => Chunk::encode_histograms(&times, &histograms),
            _ => Chunk::encode_float_histograms(&times, &histograms),
        }
    };
    // What was decoded from one chunk fits into one again.
    let malformed = ChunkError::Malformed { offset: 0, reason: "what deleting left of the chunk cannot be written" };
    let [chunk] = <[Chunk; 1]>::try_from(again.map_err(|_| malformed.clone())?).map_err(|_| malformed)?;
    Ok(Some(AggrChunk { mint: *mint, maxt: *maxt, data: ChunkData::Raw(chunk) }))
}
