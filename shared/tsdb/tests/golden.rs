//! Every block of the recorded buckets (written by Prometheus' promtool, compacted, deduplicated and downsampled by Thanos) is
//! read in full, and what its parts say of each other agrees.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed step fails the test")]

use bytes::Bytes;
use farview_model::{Labels, Samples, TimeRange};
use farview_tsdb::aggr::AGGREGATES;
use farview_tsdb::index::{
    ChunkMeta, INDEX_HEAD_LEN, IndexHeader, IndexVersion, IndexWriter, PostingsOffsets, SeriesEntry, SeriesRef,
    Symbols, Toc, postings, series,
};
use farview_tsdb::segment::{self, MAX_SEGMENT_LEN, SegmentSink, SegmentWriter, StoredChunk};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folders of the recorded blocks; none where the recording is not at hand.
fn blocks() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("shared/golden"));
    let Some(golden) = golden.into_iter().find(|golden| golden.is_dir()) else {
        println!("no folder shared/golden beside the checkout: the recorded blocks are not read");
        return vec![];
    };
    let subdirs = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let buckets = ["plain", "dedup"].map(|bucket| golden.join(bucket).join("bucket"));
    let blocks: Vec<PathBuf> = buckets.into_iter().flat_map(subdirs).filter(|dir| dir.join("index").exists()).collect();
    assert!(blocks.len() > 20, "{blocks:?}");
    blocks
}

fn range(bytes: &Bytes, range: std::ops::Range<u64>) -> Bytes {
    bytes.slice(range.start as usize..range.end as usize)
}

struct Index {
    bytes: Bytes,
    toc: Toc,
    symbols: Symbols,
    table: PostingsOffsets,
}

impl Index {
    fn open(block: &Path) -> Self {
        let bytes = Bytes::from(std::fs::read(block.join("index")).unwrap());
        let magic = IndexVersion::decode(&bytes[..INDEX_HEAD_LEN]);
        assert_eq!(magic, Ok(IndexVersion::V2));
        let toc = Toc::decode(&bytes[bytes.len() - 60..]).unwrap();
        let symbols = Symbols::decode(range(&bytes, toc.symbols_range()), IndexVersion::V2).unwrap();
        let table = range(&bytes, toc.postings_table_range(bytes.len() as u64));
        let table = PostingsOffsets::decode(table, toc.postings_end()).unwrap();
        Self { bytes, toc, symbols, table }
    }

    fn series(&self) -> BTreeMap<SeriesRef, (Vec<(String, String)>, SeriesEntry)> {
        let bytes = range(&self.bytes, self.toc.series_range());
        let mut section = series::SeriesSection::new(&bytes, self.toc.series, IndexVersion::V2);
        let (mut all, mut entry) = (BTreeMap::new(), SeriesEntry::default());
        while let Some(reference) = section.next(&mut entry).unwrap() {
            let text = |symbol| self.symbols.get(symbol).unwrap().to_owned();
            let labels = entry.labels.iter().map(|(name, value)| (text(*name), text(*value))).collect();
            all.insert(reference, (labels, entry.clone()));
        }
        all
    }
}

#[test]
fn series_postings_and_symbols_agree() {
    for block in blocks() {
        let index = Index::open(&block);
        let series = index.series();
        let all: Vec<SeriesRef> = series.keys().copied().collect();
        let list = |range: std::ops::Range<u64>| {
            let bytes = &index.bytes[range.start as usize..range.end as usize];
            assert!(bytes.len() as u64 - postings::encoded_len(bytes).unwrap() < 4, "lists end where the next begins");
            postings::decode(bytes).unwrap().to_vec()
        };
        assert_eq!(list(index.table.all().unwrap()), all, "{block:?}");
        let mut by_label: BTreeMap<(String, String), Vec<SeriesRef>> = BTreeMap::new();
        for (reference, (labels, entry)) in &series {
            assert!(labels.is_sorted() && !entry.chunks.is_empty());
            for label in labels {
                by_label.entry(label.clone()).or_default().push(*reference);
            }
            let mut alone = SeriesEntry::default();
            let bytes = &index.bytes[reference.offset(IndexVersion::V2) as usize..];
            let len = series::decode(bytes, TimeRange::ALL, &mut alone).unwrap();
            assert_eq!((len as u64, &alone), (series::encoded_len(&bytes[..10]).unwrap(), entry));
        }
        for ((name, value), refs) in &by_label {
            assert_eq!(list(index.table.find(name, value).unwrap()), *refs, "{name}={value} of {block:?}");
        }
        assert_eq!(index.table.len(), by_label.len() + 1);
        let labels = |table: &PostingsOffsets| -> Vec<(String, String)> {
            let names = table.names().flat_map(|name| table.values(name));
            names.map(|entry| (entry.name.to_owned(), entry.value.to_owned())).collect()
        };
        assert_eq!(labels(&index.table), by_label.into_keys().collect::<Vec<_>>());
        assert_eq!(index.symbols.iter().count(), index.symbols.len());
    }
}

#[test]
fn an_index_header_says_what_the_index_says() {
    for block in blocks() {
        let index = Index::open(&block);
        let table = range(&index.bytes, index.toc.postings_table_range(index.bytes.len() as u64));
        let symbols = range(&index.bytes, index.toc.symbols_range());
        let file = IndexHeader::encode(IndexVersion::V2, index.toc.postings_table, &symbols, &table);
        let header = IndexHeader::decode(file.into()).unwrap();
        assert!(header.symbols.iter().eq(index.symbols.iter()));
        // The last list may seem to end later, at the table itself.
        let starts = |table: &PostingsOffsets| -> Vec<u64> { table.iter().map(|entry| entry.range.start).collect() };
        assert_eq!(starts(&header.postings), starts(&index.table));
    }
}

/// Segments in memory.
#[derive(Default)]
struct Memory(Vec<Vec<u8>>);

impl SegmentSink for Memory {
    fn begin(&mut self, segment: u32) -> std::io::Result<()> {
        assert_eq!(segment as usize, self.0.len());
        self.0.push(vec![]);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.last_mut().unwrap().extend_from_slice(bytes);
        Ok(())
    }
}

#[test]
fn what_is_read_is_written_again_byte_for_byte() {
    let mut exact = [0, 0];
    for block in blocks() {
        let index = Index::open(&block);
        let segment = Bytes::from(std::fs::read(block.join("chunks").join(segment::file_name(0))).unwrap());
        let mut segments = SegmentWriter::new(Memory::default(), MAX_SEGMENT_LEN);
        let mut writer = IndexWriter::new(Vec::new(), index.symbols.iter()).unwrap();
        let label_indices = index.toc.label_indices != index.toc.postings;
        if label_indices {
            writer = writer.with_label_indices();
        }
        for (reference, (labels, entry)) in index.series() {
            let labels = Labels::from_pairs(labels);
            let read = |meta: &ChunkMeta| segment::read(&segment, meta.reference.offset() as usize).unwrap();
            let chunks: Vec<_> = entry.chunks.iter().map(read).collect();
            let chunks: Vec<(u8, &[u8])> = chunks.iter().map(|chunk| (chunk.encoding, &chunk.data[..])).collect();
            let refs = segments.write(&chunks).unwrap();
            let metas: Vec<ChunkMeta> =
                entry.chunks.iter().zip(refs).map(|(meta, at)| ChunkMeta { reference: at, ..*meta }).collect();
            assert_eq!(writer.add_series(&labels, &metas).unwrap(), reference);
        }
        assert_eq!(segments.finish().0, [segment.to_vec()]);
        let (written, summary) = writer.finish().unwrap();
        assert_eq!(summary.len, written.len() as u64);
        assert!(written == index.bytes, "{block:?}");
        exact[usize::from(label_indices)] += 1;
    }
    assert!(blocks().is_empty() || exact.iter().all(|blocks| *blocks > 5), "{exact:?}");
}

#[test]
fn every_chunk_is_read_and_has_the_times_that_the_index_says() {
    let (mut raw, mut aggregated) = (0, 0);
    for block in blocks() {
        let index = Index::open(&block);
        let segment = Bytes::from(std::fs::read(block.join("chunks").join(segment::file_name(0))).unwrap());
        segment::check_head(&segment[..8]).unwrap();
        let mut end = 8;
        for meta in index.series().values().flat_map(|(_, entry)| &entry.chunks) {
            assert_eq!(
                (meta.reference.segment(), meta.reference.offset() as usize),
                (0, end),
                "chunks lie side by side"
            );
            let chunk = segment::read(&segment, end).unwrap();
            assert_eq!(segment::encoded_len(&segment[end..end + 5]).unwrap(), chunk.len);
            end += chunk.len;
            let times = |chunk: &farview_tsdb::Chunk| {
                let mut out = Samples::default();
                chunk.decode(TimeRange::ALL, &mut out).unwrap();
                (out.timestamps[0], out.timestamps[out.timestamps.len() - 1])
            };
            match chunk.open().unwrap() {
                StoredChunk::Raw(chunk) => {
                    raw += 1;
                    assert_eq!(times(&chunk), (meta.mint, meta.maxt));
                }
                StoredChunk::Aggregated(chunks) => {
                    aggregated += 1;
                    assert!(chunks.iter().all(|chunk| chunk.is_some()), "{AGGREGATES:?}");
                    let mut counter = Samples::default();
                    chunks[4].as_ref().unwrap().decode_counter(TimeRange::ALL, &mut counter).unwrap();
                    assert!(counter.timestamps.len() > 1);
                    for chunk in chunks.iter().flatten().take(4) {
                        let (first, last) = times(chunk);
                        assert!(meta.mint <= first && last <= meta.maxt, "{first} {last} {meta:?}");
                    }
                }
            }
        }
        assert_eq!(end, segment.len(), "{block:?}");
    }
    assert!(blocks().is_empty() || (raw > 1000 && aggregated > 100), "{raw} {aggregated}");
}
