//! The index: versions 1 and 2, tables long enough to be sampled, and whatever bytes come are read or refused.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use bytes::Bytes;
use farview_model::{Labels, TimeRange};
use farview_tsdb::index::{
    ChunkMeta, ChunkRef, IndexHeader, IndexHeaderError, IndexVersion, IndexWriteError, IndexWriter, PostingsOffsets,
    SeriesEntry, SeriesRef, Symbols, Toc, postings, series,
};
use farview_tsdb::segment::{SegmentSink, SegmentWriter};
use farview_tsdb::{FormatFault, segment};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn checksum(bytes: &[u8]) -> [u8; 4] {
    (crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32).to_be_bytes()
}

fn uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(out: &mut Vec<u8>, text: &str) {
    uvarint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn framed(content: Vec<u8>) -> Bytes {
    [&(content.len() as u32).to_be_bytes(), &content[..], &checksum(&content)].concat().into()
}

fn symbols(texts: &[String]) -> Bytes {
    let mut content = (texts.len() as u32).to_be_bytes().to_vec();
    texts.iter().for_each(|symbol| text(&mut content, symbol));
    framed(content)
}

fn table(entries: &[(String, String, u64)]) -> Bytes {
    let mut content = (entries.len() as u32).to_be_bytes().to_vec();
    for (name, value, offset) in entries {
        content.push(2);
        text(&mut content, name);
        text(&mut content, value);
        uvarint(&mut content, *offset);
    }
    framed(content)
}

fn list(refs: &[u32]) -> Bytes {
    framed([refs.len() as u32].iter().chain(refs).flat_map(|n| n.to_be_bytes()).collect())
}

/// Entries of three names, one of them with many values, each list 100 bytes long.
fn entries() -> Vec<(String, String, u64)> {
    let mut labels = vec![(String::new(), String::new())];
    for (name, count) in [("a", 1), ("job", 33), ("pod", 1000)] {
        labels.extend((0..count).map(|i| (name.to_owned(), format!("v{i:04}"))));
    }
    labels.into_iter().enumerate().map(|(i, (name, value))| (name, value, 1000 + 100 * i as u64)).collect()
}

#[test]
fn symbols_are_found_by_number_and_by_offset() {
    let texts: Vec<String> = (0..1000).map(|i| format!("{}{i:03}", "é".repeat(i % 90))).collect();
    let section = symbols(&texts);
    let numbered = Symbols::decode(section.clone(), IndexVersion::V2).unwrap();
    for (i, text) in texts.iter().enumerate() {
        assert_eq!(numbered.get(i as u32).unwrap(), text);
    }
    assert!(numbered.get(1000).is_err() && numbered.get(u32::MAX).is_err());
    let placed = Symbols::decode(section, IndexVersion::V1).unwrap();
    let mut at = 5 + 8;
    for text in &texts {
        assert_eq!(placed.get(at as u32).unwrap(), text);
        at += text.len() + if text.len() < 128 { 1 } else { 2 };
    }
    assert!(placed.get(0).is_err() && placed.get(at as u32).is_err());
}

#[test]
fn a_list_is_found_by_name_and_value_in_sorted_and_unsorted_tables() {
    let sorted = entries();
    let mut shuffled = sorted.clone();
    shuffled.reverse();
    shuffled.swap(3, 700);
    for entries in [&sorted, &shuffled] {
        let end = 1000 + 100 * sorted.len() as u64;
        let found = PostingsOffsets::decode(table(entries), end).unwrap();
        assert_eq!(found.names().collect::<Vec<_>>(), ["a", "job", "pod"]);
        for (name, value, offset) in &sorted {
            let range = found.find(name, value).unwrap();
            assert!(
                range.start == *offset && range.end >= offset + 100 && range.end <= end,
                "{name} {value} {range:?}"
            );
            if entries == &sorted {
                assert_eq!(range.end, offset + 100);
            }
        }
        for (name, value) in
            [("pod", "v"), ("pod", "v00105"), ("pod", "w"), ("job", "v0033"), ("b", "v0000"), ("z", "")]
        {
            assert_eq!(found.find(name, value), None);
        }
        let values = |from: &str| -> Vec<String> {
            found.values_from("pod", from).map(|entry| entry.value.to_owned()).collect()
        };
        let all: Vec<String> = (0..1000).map(|i| format!("v{i:04}")).collect();
        assert_eq!(values(""), all);
        for (from, first) in [("v0000", 0), ("v0031", 31), ("v0032", 32), ("v00315", 32), ("v0999", 999), ("v1", 1000)]
        {
            assert_eq!(values(from), all[first..], "{from}");
        }
        assert!(found.iter().map(|entry| (entry.name, entry.value)).eq(sorted.iter().map(|e| (&e.0[..], &e.1[..]))));
    }
}

#[test]
fn an_entry_that_is_there_twice_is_refused() {
    let mut entries = entries();
    entries.push(entries[5].clone());
    assert!(PostingsOffsets::decode(table(&entries), u64::MAX).is_err());
}

#[test]
fn references_that_do_not_rise_are_refused() {
    assert_eq!(postings::decode(&list(&[1, 2, 9])).unwrap().to_vec(), [1, 2, 9].map(SeriesRef));
    for wrong in [&[2u32, 1][..], &[1, 1], &[1, 5, 4]] {
        assert!(postings::decode(&list(wrong)).is_err());
    }
    let mut content = 3u32.to_be_bytes().to_vec();
    content.extend(7u32.to_be_bytes());
    assert!(postings::decode(&framed(content)).is_err(), "three are claimed, one is there");
}

/// A series of two labels and three chunks, the last two of which overlap.
fn series_bytes() -> Bytes {
    let mut content = vec![2, 1, 2, 3, 4, 3];
    uvarint(&mut content, 2_000); // 1000
    uvarint(&mut content, 500); // to 1500
    uvarint(&mut content, 8);
    uvarint(&mut content, 100); // 1600
    uvarint(&mut content, 400); // to 2000
    uvarint(&mut content, 2 * 92); // at 100
    uvarint(&mut content, (-200i64) as u64); // 1800
    uvarint(&mut content, 700); // to 2500
    uvarint(&mut content, 2 << 32); // in the next segment
    let mut out = Vec::new();
    uvarint(&mut out, content.len() as u64);
    out.extend_from_slice(&content);
    out.extend(checksum(&content));
    out.into()
}

#[test]
fn a_series_is_read_with_the_chunks_that_overlap() {
    let bytes = series_bytes();
    let mut entry = SeriesEntry::default();
    assert_eq!(series::decode(&bytes, TimeRange::ALL, &mut entry), Ok(bytes.len()));
    assert_eq!(entry.labels, [(1, 2), (3, 4)]);
    let chunks = |entry: &SeriesEntry| -> Vec<(i64, i64, u32, u32)> {
        entry.chunks.iter().map(|c| (c.mint, c.maxt, c.reference.segment(), c.reference.offset())).collect()
    };
    assert_eq!(chunks(&entry), [(1000, 1500, 0, 8), (1600, 2000, 0, 100), (1800, 2500, 1, 100)]);
    series::decode(&bytes, TimeRange::new(1501, 1799), &mut entry).unwrap();
    assert_eq!(chunks(&entry), [(1600, 2000, 0, 100)]);
    for cut in 0..bytes.len() {
        let error = series::decode(&bytes[..cut], TimeRange::ALL, &mut entry).unwrap_err();
        assert!(error.is_truncated(), "{cut}: {error}");
    }
}

#[test]
fn a_foreign_header_and_a_broken_one_are_told_apart() {
    let (symbols, table) = (symbols(&["a".to_owned(), "b".to_owned()]), table(&entries()));
    let file = IndexHeader::encode(IndexVersion::V2, 1_000_000, &symbols, &table);
    let read = IndexHeader::decode(file.clone().into()).unwrap();
    assert_eq!((read.version, read.postings_table), (IndexVersion::V2, 1_000_000));
    assert_eq!(read.postings.find("pod", "v0999").unwrap().end, 1_000_000);
    for bit in 0..file.len() * 8 {
        let mut file = file.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        // Place of the table and version of the index have no checksum in this format.
        match (bit / 8, IndexHeader::decode(file.into())) {
            (0..5, Err(IndexHeaderError::Foreign)) | (14.., Err(IndexHeaderError::Broken(_))) | (5..14, _) => {}
            (at, other) => panic!("byte {at}: {other:?}"),
        }
    }
    for cut in 0..file.len() {
        assert!(IndexHeader::decode(file[..cut].to_vec().into()).is_err());
    }
}

/// One of each thing that can be read, by name.
fn parts() -> BTreeMap<&'static str, Bytes> {
    let mut segment = vec![0x85, 0xBD, 0x40, 0xDD, 1, 0, 0, 0, 3, 1, 7, 8, 9];
    segment.extend(checksum(&segment[9..]));
    BTreeMap::from([
        ("symbols", symbols(&["a".to_owned(), "bc".to_owned()])),
        ("table", table(&entries()[..5])),
        ("list", list(&[1, 5, 9])),
        ("series", series_bytes()),
        ("segment", segment.into()),
    ])
}

/// Reads `bytes` as `part`; the text of the error if that is refused.
fn read(part: &str, bytes: &Bytes) -> Result<(), String> {
    let text = |error: &dyn ToString| error.to_string();
    match part {
        "symbols" => {
            let v1 = Symbols::decode(bytes.clone(), IndexVersion::V1).map_err(|e| text(&e))?;
            for reference in 0..70 {
                let _ = v1.get(reference);
            }
        }
        "table" => {
            let table = PostingsOffsets::decode(bytes.clone(), 1 << 40).map_err(|e| text(&e))?;
            assert_eq!(table.iter().count(), table.len());
        }
        "list" => drop(postings::decode(bytes).map_err(|e| text(&e))?.to_vec()),
        "series" => {
            series::decode(bytes, TimeRange::ALL, &mut SeriesEntry::default()).map_err(|e| text(&e))?;
        }
        _ => {
            segment::check_head(bytes).map_err(|e| text(&e))?;
            drop(segment::read(bytes, 8).map_err(|e| text(&e))?.open());
        }
    }
    Ok(())
}

#[test]
fn a_flipped_bit_and_a_cut_are_always_seen() {
    for (part, bytes) in parts() {
        read(part, &bytes).unwrap();
        for cut in 0..bytes.len() {
            assert!(read(part, &bytes.slice(..cut)).is_err(), "{part} cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            // The padding of a segment's head says nothing.
            if part == "segment" && (5..8).contains(&(bit / 8)) {
                continue;
            }
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(part, &bytes.into()).is_err(), "{part} bit {bit}");
        }
    }
}

#[test]
fn a_chunk_is_read_from_any_range_and_says_how_much_is_missing() {
    let segment = &parts()["segment"];
    assert_eq!(segment::encoded_len(&segment[8..13]), Ok(9));
    let chunk = segment::read(segment, 8).unwrap();
    assert_eq!((chunk.encoding, &chunk.data[..], chunk.len), (1, &[7u8, 8, 9][..], 9));
    let error = segment::read(&segment.slice(..14), 8).unwrap_err();
    assert_eq!(error.fault, FormatFault::Truncated(3));
    assert!(segment::read(segment, 1000).unwrap_err().is_truncated());
    assert!(!segment::encoded_len(&[0xff; 5]).unwrap_err().is_truncated());
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
fn segments_are_cut_before_they_grow_too_long() {
    let mut writer = SegmentWriter::new(Memory::default(), 200);
    let data = [50, 60, 40, 300, 10, 10, 100].map(|len| vec![7u8; len]);
    let chunks: Vec<(u8, &[u8])> = data.iter().map(|data| (1, &data[..])).collect();
    let mut refs = writer.write(&chunks[..3]).unwrap();
    refs.extend(writer.write(&chunks[3..]).unwrap());
    let segments = writer.finish().0;
    // A chunk that is too long alone has a segment of its own.
    assert_eq!(refs.iter().map(|at| at.segment()).collect::<Vec<_>>(), [0, 0, 0, 1, 2, 2, 2]);
    assert_eq!(segments.len(), 3);
    for (at, (encoding, data)) in refs.iter().zip(&chunks) {
        let segment = Bytes::from(segments[at.segment() as usize].clone());
        segment::check_head(&segment).unwrap();
        let chunk = segment::read(&segment, at.offset() as usize).unwrap();
        assert_eq!((chunk.encoding, &chunk.data[..]), (*encoding, *data));
    }
}

#[test]
fn what_is_not_in_order_is_not_written() {
    let labels = |value: &str| Labels::from_pairs([("a", value)]);
    let meta = |mint, maxt, at| ChunkMeta { mint, maxt, reference: ChunkRef(at) };
    let writer = || IndexWriter::new(Vec::new(), ["a", "b", "c"]).unwrap();
    assert!(matches!(IndexWriter::new(Vec::new(), ["b", "a"]), Err(IndexWriteError::Symbols(_))));
    assert!(matches!(writer().add_series(&labels("x"), &[]), Err(IndexWriteError::UnknownSymbol(_))));
    for chunks in
        [[meta(5, 9, 8), meta(4, 9, 20)], [meta(5, 9, 20), meta(10, 19, 8)], [meta(5, 4, 8), meta(10, 19, 20)]]
    {
        assert!(matches!(writer().add_series(&labels("b"), &chunks), Err(IndexWriteError::Chunks(_))));
    }
    let mut writer = writer();
    writer.add_series(&labels("c"), &[meta(1, 2, 8)]).unwrap();
    for value in ["b", "c"] {
        assert!(matches!(writer.add_series(&labels(value), &[]), Err(IndexWriteError::Series(_))));
    }
    let (index, summary) = writer.finish().unwrap();
    assert_eq!((summary.series, summary.len), (1, index.len() as u64));
}

proptest! {
    #[test]
    fn an_index_that_is_written_is_read_again(pods in proptest::collection::btree_set("[a-z]{0,3}", 1..80), chunks in proptest::collection::vec((0..50i64, 0..500i64, 1..90u64), 0..20)) {
        let sets: std::collections::BTreeSet<Labels> =
            pods.iter().map(|pod| Labels::from_pairs([("job", "j"), ("pod", pod)])).collect();
        let mut symbols: std::collections::BTreeSet<&str> = pods.iter().map(String::as_str).collect();
        symbols.extend(["job", "j", "pod"]);
        let mut writer = IndexWriter::new(Vec::new(), symbols).unwrap();
        let (mut at, mut end) = (8, -1000);
        let mut written = vec![];
        for labels in &sets {
            let metas: Vec<ChunkMeta> = chunks.iter().map(|(gap, len, size)| {
                let meta = ChunkMeta { mint: end + gap, maxt: end + gap + len, reference: ChunkRef(at) };
                (at, end) = (at + size, meta.maxt);
                meta
            }).collect();
            written.push((writer.add_series(labels, &metas).unwrap(), metas));
        }
        let (index, summary) = writer.finish().unwrap();
        let toc = Toc::decode(&index).unwrap();
        prop_assert_eq!(toc, summary.toc);
        let part = |range: std::ops::Range<u64>| Bytes::copy_from_slice(&index[range.start as usize..range.end as usize]);
        let symbols = Symbols::decode(part(toc.symbols_range()), IndexVersion::V2).unwrap();
        let table = PostingsOffsets::decode(part(toc.postings_table_range(index.len() as u64)), toc.postings_end()).unwrap();
        let all = postings::decode(&part(table.all().unwrap())).unwrap().to_vec();
        prop_assert_eq!(&all, &written.iter().map(|(reference, _)| *reference).collect::<Vec<_>>());
        let mut entry = SeriesEntry::default();
        for ((reference, metas), labels) in written.iter().zip(&sets) {
            series::decode(&index[reference.offset(IndexVersion::V2) as usize..], TimeRange::ALL, &mut entry).unwrap();
            prop_assert_eq!(&entry.chunks, metas);
            let text = |symbol: &u32| symbols.get(*symbol).unwrap();
            prop_assert!(entry.labels.iter().map(|(n, v)| (text(n), text(v))).eq(labels.iter()));
            for (name, value) in labels.iter() {
                let list = postings::decode(&part(table.find(name, value).unwrap())).unwrap().to_vec();
                prop_assert!(list.contains(reference));
            }
        }
    }

    #[test]
    fn a_section_of_series_is_read_from_wherever_it_begins(base in prop_oneof![0..100_000u64, any::<u64>()], v1 in any::<bool>()) {
        let version = if v1 { IndexVersion::V1 } else { IndexVersion::V2 };
        let padding = if v1 { 0 } else { (base.wrapping_neg() % 16) as usize };
        let bytes = [&vec![0; padding][..], &series_bytes()].concat();
        let found = series::SeriesSection::new(&bytes, base, version).next(&mut SeriesEntry::default());
        let reference = base.checked_add(padding as u64).map(|at| if v1 { at } else { at / 16 });
        match reference.and_then(|reference| u32::try_from(reference).ok()) {
            Some(reference) => prop_assert_eq!(found, Ok(Some(SeriesRef(reference)))),
            None => prop_assert!(found.is_err()),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(content in proptest::collection::vec(any::<u8>(), 0..200), rest in 0usize..10) {
        let mut with_frame = framed(content.clone()).to_vec();
        with_frame.extend(vec![0xff; rest]);
        let mut with_length = Vec::new();
        uvarint(&mut with_length, content.len() as u64);
        with_length.extend_from_slice(&content);
        with_length.extend(checksum(&content));
        let with_head = [&parts()["segment"][..8], &content].concat();
        for bytes in [content.clone(), with_frame, with_length, with_head] {
            let bytes = Bytes::from(bytes);
            for part in parts().keys() {
                let _ = read(part, &bytes);
            }
            let _ = Toc::decode(&bytes);
            let _ = IndexHeader::decode(bytes.clone());
            let mut section = series::SeriesSection::new(&bytes, 3, IndexVersion::V2);
            while let Ok(Some(_)) = section.next(&mut SeriesEntry::default()) {}
        }
    }

    #[test]
    fn any_table_of_contents_is_read_or_refused(fields in any::<[u64; 6]>(), len in any::<u64>()) {
        let [symbols, series, label_indices, postings, label_index_table, postings_table] = fields;
        let toc = Toc { symbols, series, label_indices, postings, label_index_table, postings_table };
        if let Ok(toc) = Toc::decode(&toc.encode()) {
            for range in [toc.symbols_range(), toc.series_range(), toc.postings_table_range(len)] {
                prop_assert!(range.start <= range.end);
            }
        }
    }
}
