//! The merge against the simplest merge there is: a map.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_model::Labels;
use farview_series::{AggrChunk, ChunkData, ChunkSeries, merge::Merge};
use farview_tsdb::{Chunk, Encoding};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn series(name: u8, chunks: &[(i64, u8)]) -> ChunkSeries {
    ChunkSeries {
        labels: Labels::from_pairs([("n", format!("{name:03}"))]),
        chunks: chunks
            .iter()
            .map(|(mint, byte)| AggrChunk {
                mint: *mint,
                maxt: mint + 9,
                data: ChunkData::Raw(Chunk { encoding: Encoding::Xor, data: vec![*byte].into() }),
            })
            .collect(),
    }
}

/// Inputs: for each a list of series (sorted, possibly in pieces), cut into batches.
fn arb_inputs() -> impl Strategy<Value = Vec<Vec<Vec<ChunkSeries>>>> {
    let piece = (0u8..12, proptest::collection::btree_set((0i64..40, 0u8..3), 0..4));
    let input = (proptest::collection::vec(piece, 0..20), 1usize..5).prop_map(|(mut pieces, batch)| {
        pieces.sort_by_key(|(name, _)| *name);
        let all: Vec<ChunkSeries> =
            pieces.into_iter().map(|(name, chunks)| series(name, &chunks.into_iter().collect::<Vec<_>>())).collect();
        all.chunks(batch).map(<[ChunkSeries]>::to_vec).collect()
    });
    proptest::collection::vec(input, 0..5)
}

fn run(mut inputs: Vec<Vec<Vec<ChunkSeries>>>) -> Vec<ChunkSeries> {
    let mut merge = Merge::new(inputs.len());
    let mut out = Vec::new();
    inputs.iter_mut().for_each(|input| input.reverse());
    while !merge.is_done() {
        for input in merge.needs().to_vec() {
            match inputs[input].pop() {
                Some(batch) => merge.feed(input, batch).unwrap(),
                None => merge.finish(input),
            }
        }
        while let Some(series) = merge.pop() {
            out.push(series);
        }
    }
    out
}

proptest! {
    #[test]
    fn merging_is_a_map_of_sets(inputs in arb_inputs()) {
        let mut expected: BTreeMap<Labels, Vec<(i64, i64, Vec<u8>)>> = BTreeMap::new();
        for series in inputs.iter().flatten().flatten() {
            let chunks = expected.entry(series.labels.clone()).or_default();
            for chunk in &series.chunks {
                let ChunkData::Raw(raw) = &chunk.data else { unreachable!("only raw chunks are made") };
                chunks.push((chunk.mint, chunk.maxt, raw.data.to_vec()));
            }
        }
        expected.values_mut().for_each(|chunks| { chunks.sort(); chunks.dedup(); });
        let mut got = Vec::new();
        for series in run(inputs) {
            let mut chunks = Vec::new();
            for chunk in &series.chunks {
                let ChunkData::Raw(raw) = &chunk.data else { unreachable!("only raw chunks are made") };
                chunks.push((chunk.mint, chunk.maxt, raw.data.to_vec()));
            }
            prop_assert!(chunks.is_sorted_by_key(|(mint, ..)| *mint));
            chunks.sort();
            got.push((series.labels, chunks));
        }
        prop_assert_eq!(got, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn an_input_out_of_order_is_named() {
    let mut merge = Merge::new(2);
    merge.feed(0, vec![series(1, &[])]).unwrap();
    let error = merge.feed(1, vec![series(5, &[]), series(2, &[])]).unwrap_err();
    assert_eq!(error.input, 1);
    assert_eq!(error.to_string(), r#"series are not sorted: {n="002"} comes after {n="005"}"#);
}
