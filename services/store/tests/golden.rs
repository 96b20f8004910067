//! The recorded blocks (`shared/golden` beside the checkout), served from a folder and from S3: the answers are those that Thanos'
//! store gave over the same blocks.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed step fails the test")]

#[allow(dead_code, reason = "shared by the tests of this folder")]
mod stage;

use bytes::Bytes;
use farview_proto::thanos::{self, info};
use farview_series::ChunkSeries;
use farview_storeapi::{DecodedFrame, EndpointInfo, Frame, LabelsRequest, SelectRequest};
use farview_testkit::golden;
use farview_testkit::s3::S3Server;
use prost::Message;
use stage::Stage;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The recorded messages of an answer.
fn frames(path: &Path) -> Vec<Bytes> {
    let mut bytes = Bytes::from(std::fs::read(path.with_extension("frames")).unwrap());
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let head = bytes.split_to(4);
        let len = u32::from_be_bytes(head[..].try_into().unwrap());
        frames.push(bytes.split_to(len as usize));
    }
    frames
}

fn request<T: Message + Default>(path: &Path) -> T {
    T::decode(&std::fs::read(path).unwrap()[..]).unwrap()
}

/// Series with their chunks in an order that does not depend on how they were merged.
fn canonical(series: Vec<ChunkSeries>) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in series {
        let chunks = one.chunks.iter().map(|chunk| format!("{} {} {:?}", chunk.mint, chunk.maxt, chunk.data));
        all.entry(one.labels.to_string()).or_default().extend(chunks);
    }
    all.values_mut().for_each(|chunks| chunks.sort());
    all
}

async fn compare(stage: &Stage, folder: &Path) -> usize {
    let mut compared = 0;
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder.join("grpc")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "request"));
    paths.sort();
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let recorded = frames(&path);
        match name.as_str() {
            _ if name.starts_with("series_") => {
                let request = SelectRequest::from_proto(request::<thanos::SeriesRequest>(&path)).unwrap();
                let mut expected = Vec::new();
                for frame in recorded {
                    match DecodedFrame::decode(frame).unwrap().frame {
                        Frame::Series(series) => expected.extend(series),
                        Frame::Warning(text) => panic!("{name}: {text}"),
                        Frame::Hints(_) => {}
                    }
                }
                let answer = stage.select(&request).await.unwrap();
                assert!(answer.warnings.is_empty(), "{name}: {:?}", answer.warnings);
                assert!(answer.series.is_sorted_by(|a, b| a.labels < b.labels), "{name}");
                let (found, expected) = (canonical(answer.series), canonical(expected));
                let names = |all: &BTreeMap<String, Vec<String>>| all.keys().cloned().collect::<Vec<_>>();
                assert_eq!(names(&found), names(&expected), "{name}");
                for (labels, chunks) in expected {
                    assert!(
                        found[&labels] == chunks,
                        "{name} {labels}: {} chunks, expected {}",
                        found[&labels].len(),
                        chunks.len()
                    );
                }
            }
            "info" => {
                let expected = EndpointInfo::from_proto(info::InfoResponse::decode(&recorded[0][..]).unwrap());
                let found = stage.info().await;
                assert_eq!(found.label_sets, expected.label_sets, "{name}");
                assert_eq!(found.component, expected.component);
                let (found, expected) = (found.store.unwrap(), expected.store.unwrap());
                assert_eq!(found.supports_sharding, expected.supports_sharding);
                assert_eq!(found.supports_without_replica_labels, expected.supports_without_replica_labels);
                let labels = |info: &farview_storeapi::StoreInfo| -> Vec<_> {
                    let mut labels: Vec<_> = info.tsdbs.iter().map(|tsdb| tsdb.labels.clone()).collect();
                    labels.sort();
                    // Thanos tells one for each block, we one for each source.
                    labels.dedup();
                    labels
                };
                assert_eq!(labels(&found), labels(&expected));
            }
            _ if name.starts_with("label_names") => {
                let request = LabelsRequest::from_names_proto(request(&path)).unwrap();
                let expected = thanos::LabelNamesResponse::decode(&recorded[0][..]).unwrap();
                assert_eq!(stage.label_names(&request).await.values, expected.names, "{name}");
            }
            _ => {
                let request = LabelsRequest::from_values_proto(request(&path)).unwrap();
                let expected = thanos::LabelValuesResponse::decode(&recorded[0][..]).unwrap();
                assert_eq!(stage.label_values(&request).await.values, expected.values, "{name}");
            }
        }
        compared += 1;
    }
    compared
}

#[tokio::test]
async fn the_store_answers_as_thanos_does() {
    let Some(golden) = golden() else { return };
    let server = S3Server::start(&golden.join("plain")).await.unwrap();
    for world in ["plain", "dedup"] {
        let folder = golden.join(world);
        let directory = format!("type: FILESYSTEM\nconfig: {{directory: {}}}\n", folder.join("bucket").display());
        let stage = Stage::start(&directory, &[]).await;
        assert_eq!(compare(&stage, &folder).await, 17, "{world}");
    }
    let stage = Stage::start(&server.yaml("bucket"), &[]).await;
    assert_eq!(compare(&stage, &golden.join("plain")).await, 17);
    // Everything is in the caches now, and the answers are the same.
    assert_eq!(compare(&stage, &golden.join("plain")).await, 17);
    assert!(stage.metric("thanos_store_index_cache_hits_total{item_type=\"ExpandedPostings\"}") > 10.0);
    // Lazily tested matchers change nothing.
    let stage = Stage::start(&server.yaml("bucket"), &["--store.posting-group-max-key-series-ratio=0"]).await;
    assert_eq!(compare(&stage, &golden.join("plain")).await, 17);
}
