//! Client and server against each other over a real connection, and the server against a generated client.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_model::{ErrorKind, Labels, Matcher, TimeRange};
use farview_proto::thanos;
use farview_series::{AggrChunk, ChunkData, ChunkSeries};
use farview_storeapi::{
    CallOptions, Frame, LabelsAnswer, LabelsRequest, SelectRequest, SelectStream, Store, StoreClient, StoreError,
    StoreServer,
};
use farview_tsdb::{Chunk, Encoding};
use futures::{StreamExt, stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tonic::transport::{Channel, Server, server::TcpIncoming};

/// Ten series, a warning, and what the matcher `mode` asks for at the end.
struct Ten {
    dropped: Arc<AtomicBool>,
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn series(i: usize) -> ChunkSeries {
    let chunk = Chunk { encoding: Encoding::Xor, data: vec![i as u8; 40].into() };
    ChunkSeries {
        labels: Labels::from_pairs([("__name__", "m".to_owned()), ("i", format!("{i:02}"))]),
        chunks: vec![AggrChunk { mint: 5, maxt: 10, data: ChunkData::Raw(chunk) }],
    }
}

#[async_trait::async_trait]
impl Store for Ten {
    async fn select(&self, request: SelectRequest) -> Result<SelectStream, StoreError> {
        let mode = request.matchers.first().map(|m| m.value().to_owned()).unwrap_or_default();
        if mode == "refuse" {
            return Err(StoreError::new(ErrorKind::LimitExceeded, "too much"));
        }
        let frames = vec![Ok(Frame::Series((0..10).map(series).collect())), Ok(Frame::Warning("half".into()))];
        let end: SelectStream = match mode.as_str() {
            "fail" => stream::iter([Err(StoreError::new(ErrorKind::Corrupt, "block 7 is broken"))]).boxed(),
            "endless" => {
                let guard = SetOnDrop(Arc::clone(&self.dropped));
                stream::repeat_with(move || {
                    let _held = &guard;
                    Ok(Frame::Warning("again".into()))
                })
                .boxed()
            }
            _ => stream::empty().boxed(),
        };
        Ok(stream::iter(frames).chain(end).boxed())
    }

    async fn label_names(&self, request: LabelsRequest) -> Result<LabelsAnswer, StoreError> {
        Ok(LabelsAnswer { values: vec!["a".into(), request.tenant], ..LabelsAnswer::default() })
    }

    async fn label_values(&self, request: LabelsRequest) -> Result<LabelsAnswer, StoreError> {
        Ok(LabelsAnswer { values: vec![request.label], ..LabelsAnswer::default() })
    }
}

async fn serve() -> (Channel, Arc<AtomicBool>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dropped = Arc::new(AtomicBool::new(false));
    let server = StoreServer::new(Arc::new(Ten { dropped: Arc::clone(&dropped) }));
    tokio::spawn(Server::builder().add_service(server).serve_with_incoming(TcpIncoming::from(listener)));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    (channel, dropped)
}

fn request(mode: &str) -> SelectRequest {
    SelectRequest::new(TimeRange::new(0, 100), vec![Matcher::equal("mode", mode)])
}

#[tokio::test]
async fn series_arrive_in_batches_of_the_size_asked_for() {
    let (channel, _) = serve().await;
    let client = StoreClient::new(channel);
    for (batch_size, frames) in [(0, 10), (1, 10), (4, 3), (64, 1)] {
        let request = SelectRequest { batch_size, ..request("") };
        let answer: Vec<_> = client
            .select(&request, &CallOptions::default())
            .await
            .unwrap()
            .map(|frame| frame.unwrap().frame)
            .collect()
            .await;
        assert_eq!(answer.len(), frames + 1, "frames of up to {batch_size} series, and a warning");
        let all: Vec<ChunkSeries> = answer
            .into_iter()
            .flat_map(|frame| if let Frame::Series(series) = frame { series } else { Vec::new() })
            .collect();
        assert_eq!(all, (0..10).map(series).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_failure_in_the_middle_is_an_error_after_the_data() {
    let (channel, _) = serve().await;
    let frames: Vec<_> =
        StoreClient::new(channel).select(&request("fail"), &CallOptions::default()).await.unwrap().collect().await;
    let error = frames.last().unwrap().as_ref().unwrap_err();
    assert_eq!((error.kind(), error.message.as_str()), (ErrorKind::Corrupt, "block 7 is broken"));
    assert_eq!(frames.len(), 3);
}

#[tokio::test]
async fn a_refusal_keeps_its_kind() {
    let (channel, _) = serve().await;
    let error = StoreClient::new(channel).select(&request("refuse"), &CallOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_work_of_the_store() {
    let (channel, dropped) = serve().await;
    let mut frames = StoreClient::new(channel).select(&request("endless"), &CallOptions::default()).await.unwrap();
    for _ in 0..5 {
        frames.next().await.unwrap().unwrap();
    }
    drop(frames);
    tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while !dropped.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the store's stream is dropped");
}

#[tokio::test]
async fn labels_and_the_tenant_travel() {
    let (channel, _) = serve().await;
    let client = StoreClient::new(channel);
    let request = LabelsRequest { tenant: "team-a".into(), ..LabelsRequest::names(TimeRange::ALL, Vec::new()) };
    assert_eq!(client.label_names(&request, &CallOptions::default()).await.unwrap().values, ["a", "team-a"]);
    let request = LabelsRequest::values("job", TimeRange::ALL, Vec::new());
    assert_eq!(client.label_values(&request, &CallOptions::default()).await.unwrap().values, ["job"]);
}

#[tokio::test]
async fn a_generated_client_reads_the_frames() {
    let (channel, _) = serve().await;
    let mut client = thanos::store_client::StoreClient::new(channel);
    let mut frames = client.series(request("").to_proto()).await.unwrap().into_inner();
    let first = frames.message().await.unwrap().unwrap();
    let Some(thanos::series_response::Result::Batch(batch)) = first.result else { panic!("a batch, got {first:?}") };
    assert_eq!(batch.series.len(), 10);
    assert_eq!(batch.series[3].labels[1].value, "03");
}
