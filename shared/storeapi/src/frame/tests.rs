use super::*;
use farview_proto::thanos;
use proptest::prelude::*;

fn arb_chunk() -> impl Strategy<Value = Chunk> {
    (1u8..=6, proptest::collection::vec(any::<u8>(), 0..300)).prop_map(|(encoding, data)| Chunk {
        encoding: Encoding::from_byte(encoding).expect("1 to 6 are encodings"),
        data: data.into(),
    })
}

fn arb_aggr_chunk() -> impl Strategy<Value = AggrChunk> {
    let aggregated = proptest::collection::vec(proptest::option::of(arb_chunk()), 5)
        .prop_filter("at least one aggregate", |parts| parts.iter().any(Option::is_some))
        .prop_map(|mut parts| {
            ChunkData::Aggregated(Box::new(Aggregated {
                counter: parts.pop().flatten(),
                max: parts.pop().flatten(),
                min: parts.pop().flatten(),
                sum: parts.pop().flatten(),
                count: parts.pop().flatten(),
            }))
        });
    let data = prop_oneof![arb_chunk().prop_map(ChunkData::Raw), aggregated];
    (any::<i32>(), 0i64..1 << 40, data).prop_map(|(mint, span, data)| AggrChunk {
        mint: i64::from(mint),
        maxt: i64::from(mint) + span,
        data,
    })
}

fn arb_series() -> impl Strategy<Value = ChunkSeries> {
    let pairs = proptest::collection::btree_map("[a-zé]{1,9}", "[^\u{0}]{1,200}", 0..12);
    (pairs, proptest::collection::vec(arb_aggr_chunk(), 0..6))
        .prop_map(|(pairs, chunks)| ChunkSeries { labels: Labels::from_pairs(pairs), chunks })
}

fn arb_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        proptest::collection::vec(arb_series(), 0..5).prop_map(Frame::Series),
        ".{0,200}".prop_map(Frame::Warning),
        ("[a-z./]{0,30}", proptest::collection::vec(any::<u8>(), 0..50))
            .prop_map(|(type_url, value)| Frame::Hints(Any { type_url, value })),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_by_us_and_by_the_generated_code(frame in arb_frame()) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        prop_assert_eq!(out.len(), frame.encoded_len());
        let wire = out.freeze();
        let generated = thanos::SeriesResponse::decode(wire.clone()).expect("the generated code reads it");
        prop_assert_eq!(&generated.encode_to_vec()[..], &wire[..], "the generated code writes the same bytes");
        let decoded = DecodedFrame::decode(wire.clone()).expect("we read it");
        prop_assert_eq!(decoded.frame, frame);
        prop_assert_eq!(decoded.bytes, wire.len());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = DecodedFrame::decode(bytes.into());
    }

    #[test]
    fn a_flipped_bit_is_read_or_refused(frame in arb_frame(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        if !out.is_empty() {
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            let _ = DecodedFrame::decode(out.freeze());
        }
    }
}

#[test]
fn an_unknown_encoding_is_named_and_the_rest_stands() {
    let chunk = |kind| thanos::AggrChunk {
        min_time: 1,
        max_time: 2,
        raw: Some(thanos::Chunk { r#type: kind, data: Bytes::from_static(b"abc"), hash: 0 }),
        ..Default::default()
    };
    let series = thanos::Series {
        labels: vec![thanos::Label { name: "a".into(), value: "b".into() }],
        chunks: vec![chunk(17), chunk(0)],
    };
    let wire = thanos::SeriesResponse { result: Some(thanos::series_response::Result::Series(series)) }.encode_to_vec();
    let decoded = DecodedFrame::decode(wire.into()).unwrap();
    assert_eq!(decoded.unknown_encodings, [17]);
    let Frame::Series(series) = decoded.frame else { panic!("a series frame") };
    assert_eq!(series[0].chunks.len(), 1);
}

#[test]
fn labels_out_of_order_are_refused() {
    let label = |name: &str| thanos::Label { name: name.into(), value: "x".into() };
    let series = thanos::Series { labels: vec![label("b"), label("a")], chunks: vec![] };
    let wire = thanos::SeriesResponse { result: Some(thanos::series_response::Result::Series(series)) }.encode_to_vec();
    let error = DecodedFrame::decode(wire.into()).unwrap_err();
    assert!(error.to_string().contains("not sorted"), "{error}");
}
