//! Writes index and segments of a block into a folder; `meta.json` is written by whoever knows what the block is, last.

use crate::LocalBlockError;
use farview_model::{Labels, TimeRange};
use farview_series::{AggrChunk, ChunkData};
use farview_tsdb::aggr::{self, AGGR_ENCODING};
use farview_tsdb::index::{ChunkMeta, IndexWriter};
use farview_tsdb::segment::{self, MAX_SEGMENT_LEN, SegmentSink, SegmentWriter};
use farview_tsdb::{Tombstones, index::IndexWriteError};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Bytes that are gathered before they go to a file.
const BUFFER: usize = 256 << 10;

/// Writes a block into a folder, series by series.
#[derive(Debug)]
pub struct LocalBlockWriter {
    folder: PathBuf,
    index: IndexWriter<BufWriter<File>>,
    segments: SegmentWriter<Files>,
    summary: BlockSummary,
}

/// What was written, as `meta.json` has to say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSummary {
    /// Series.
    pub series: u64,
    /// Chunks.
    pub chunks: u64,
    /// Samples of raw chunks.
    pub samples: u64,
    /// First and last time of a sample, ms, both inclusive; empty without samples.
    pub range: TimeRange,
}

impl LocalBlockWriter {
    /// Begins a block in `folder`, which is made, with the symbols of its index, which must rise: every name and value of the
    /// series that will come.
    ///
    /// # Errors
    /// [`LocalBlockError`] if the files cannot be made or the symbols do not rise.
    pub fn create<S: AsRef<str>>(folder: &Path, symbols: impl IntoIterator<Item = S>) -> Result<Self, LocalBlockError> {
        let chunks = folder.join("chunks");
        std::fs::create_dir_all(&chunks).map_err(LocalBlockError::io(&chunks))?;
        let path = folder.join("index");
        let file = File::create(&path).map_err(LocalBlockError::io(&path))?;
        let index = IndexWriter::new(BufWriter::with_capacity(BUFFER, file), symbols);
        Ok(Self {
            folder: folder.to_owned(),
            index: index.map_err(|source| LocalBlockError::Write { path, source })?,
            segments: SegmentWriter::new(Files { folder: chunks, current: None }, MAX_SEGMENT_LEN),
            summary: BlockSummary { series: 0, chunks: 0, samples: 0, range: TimeRange::new(i64::MAX, i64::MIN) },
        })
    }

    /// Adds a series, whose labels come after those of the series before, with its chunks by mint.
    ///
    /// # Errors
    /// [`LocalBlockError`] if something is not in order or cannot be written.
    pub fn add_series(&mut self, labels: &Labels, chunks: &[AggrChunk]) -> Result<(), LocalBlockError> {
        let data: Vec<_> = chunks
            .iter()
            .map(|chunk| match &chunk.data {
                ChunkData::Raw(raw) => (raw.encoding as u8, raw.data.clone()),
                ChunkData::Aggregated(parts) => {
                    let parts = parts.as_ref().clone();
                    let parts = [parts.count, parts.sum, parts.min, parts.max, parts.counter];
                    (AGGR_ENCODING, aggr::encode(&parts))
                }
            })
            .collect();
        let slices: Vec<(u8, &[u8])> = data.iter().map(|(encoding, data)| (*encoding, &data[..])).collect();
        let refs = self.segments.write(&slices).map_err(LocalBlockError::io(&self.folder.join("chunks")))?;
        let metas: Vec<ChunkMeta> = chunks
            .iter()
            .zip(refs)
            .map(|(chunk, reference)| ChunkMeta { mint: chunk.mint, maxt: chunk.maxt, reference })
            .collect();
        self.index.add_series(labels, &metas).map_err(|source| write_error(&self.folder, source))?;
        self.summary.series += 1;
        for chunk in chunks {
            self.summary.chunks += 1;
            let range = &mut self.summary.range;
            *range = TimeRange::new(range.mint.min(chunk.mint), range.maxt.max(chunk.maxt));
            if let ChunkData::Raw(raw) = &chunk.data {
                self.summary.samples += raw.num_samples().unwrap_or(0) as u64;
            }
        }
        Ok(())
    }

    /// Writes the rest; what is written has reached the disk when this returns.
    ///
    /// # Errors
    /// [`LocalBlockError`] if it cannot be written.
    pub fn finish(self) -> Result<BlockSummary, LocalBlockError> {
        let chunks = self.folder.join("chunks");
        self.segments.finish().complete().map_err(LocalBlockError::io(&chunks))?;
        let (out, _) = self.index.finish().map_err(|source| write_error(&self.folder, source))?;
        let synced = out.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        synced.map_err(LocalBlockError::io(&self.folder.join("index")))?;
        let path = self.folder.join("tombstones");
        std::fs::write(&path, Tombstones::default().encode()).map_err(LocalBlockError::io(&path))?;
        Ok(self.summary)
    }
}

fn write_error(folder: &Path, source: IndexWriteError) -> LocalBlockError {
    LocalBlockError::Write { path: folder.join("index"), source }
}

/// Segments as files of a folder.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    current: Option<BufWriter<File>>,
}

impl Files {
    /// Writes what is gathered and waits for the disk.
    fn complete(&mut self) -> io::Result<()> {
        match self.current.take() {
            Some(current) => current.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl SegmentSink for Files {
    fn begin(&mut self, segment: u32) -> io::Result<()> {
        self.complete()?;
        let file = File::create(self.folder.join(segment::file_name(segment)))?;
        self.current = Some(BufWriter::with_capacity(BUFFER, file));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.current {
            Some(current) => current.write_all(bytes),
            None => Err(io::Error::other("a segment is written before it is begun")),
        }
    }
}
