//! What stores can do wrong, and what an answer says then (reliability rows D7, D15, D16, D20, D23, Q1, Q3, X1).
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod stage;

use farview_model::ErrorKind;
use farview_series::ChunkSeries;
use farview_storeapi::{Frame, StoreError, StoreInfo};
use futures::{StreamExt, stream};
use stage::{Running, answers, eventually, info, query, series, store, streams};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const WEST: &[(&str, &str)] = &[("cluster", "west")];

/// A store that does as it should, with one series of value 1.
async fn good() -> Running {
    let labels = [("__name__", "up"), ("cluster", "good")];
    store(info(&[("cluster", "good")]), answers(vec![Frame::Series(vec![series(&labels, 1.0)])])).await
}

fn of_west(job: &str) -> ChunkSeries {
    series(&[("__name__", "up"), ("cluster", "west"), ("job", job)], 2.0)
}

/// Asks a good store and a bad one: the data of the good one must be there, the bad one must be named, and a strict query fails.
async fn is_flagged(bad: Running, flags: &[&str], says: &str) {
    let good = good().await;
    let query = query(&[&good, &bad], flags).await;
    let answer = query.instant("up", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.values("cluster").contains(&("good".to_owned(), "1".to_owned())), "{answer:?}");
    assert!(answer.warnings().contains(&bad.address.to_string()), "{answer:?}");
    assert!(answer.warnings().contains(says), "{answer:?}");
    assert!(!answer.is_complete() && answer.head.contains("cache-control: no-store"), "{answer:?}");
    let strict = query.instant("up", "&partial_response=false").await;
    assert!(strict.status >= 400, "{strict:?}");
    assert!(strict.json()["error"].as_str().unwrap().contains(&bad.address.to_string()), "{strict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_answer_is_complete_and_says_nothing() {
    let (one, two) = (good().await, store(info(WEST), answers(vec![Frame::Series(vec![of_west("a")])])).await);
    let query = query(&[&one, &two], &[]).await;
    let answer = query.instant("sum(up)", "&completeness=true").await;
    let json = answer.json();
    assert_eq!(json["data"]["result"][0]["value"][1], "3", "{answer:?}");
    assert!(answer.is_complete() && json["warnings"].is_null() && json["infos"].is_null(), "{answer:?}");
    assert_eq!(json["data"]["completeness"]["answered"], 2, "{answer:?}");
    assert_eq!(json["data"]["completeness"]["endpoints"][0]["samples"], 10, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_mid_stream_is_said() {
    let frames = || {
        stream::iter([
            Ok(Frame::Series(vec![of_west("a")])),
            Err(StoreError::new(ErrorKind::Corrupt, "block 7 is broken")),
        ])
    };
    is_flagged(store(info(WEST), streams(move || frames().boxed())).await, &[], "block 7 is broken").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_from_below_is_passed_on() {
    let frames = vec![Frame::Series(vec![of_west("a")]), Frame::Warning("half of it is missing".to_owned())];
    is_flagged(store(info(WEST), answers(frames)).await, &[], "half of it is missing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsorted_series_are_cut_and_said() {
    let frames = vec![Frame::Series(vec![of_west("b")]), Frame::Series(vec![of_west("a")])];
    is_flagged(store(info(WEST), answers(frames)).await, &[], "not sorted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn series_of_labels_that_were_not_announced_are_cut_and_said() {
    let other = series(&[("__name__", "up"), ("cluster", "good"), ("job", "stolen")], 9.0);
    let bad = store(info(WEST), answers(vec![Frame::Series(vec![other])])).await;
    let good = good().await;
    let query = query(&[&good, &bad], &[]).await;
    let answer = query.instant("up", "").await;
    assert_eq!(answer.values("job"), [(String::new(), "1".to_owned())], "nothing of it is used: {answer:?}");
    assert!(answer.warnings().contains("does not announce"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_silent_is_given_up() {
    let began = Instant::now();
    let bad = store(info(WEST), streams(|| stream::pending().boxed())).await;
    is_flagged(bad, &["--query.first-frame-timeout=300ms"], "is late").await;
    assert!(began.elapsed() < Duration::from_secs(20), "took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stops_in_mid_answer_is_given_up() {
    let frames = || stream::iter([Ok(Frame::Series(vec![of_west("a")]))]).chain(stream::pending());
    let bad = store(info(WEST), streams(move || frames().boxed())).await;
    is_flagged(bad, &["--store.response-timeout=300ms"], "the next frame").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trickling_store_ends_with_the_time_of_the_query() {
    let slow = || {
        stream::unfold(0, |i| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Some((Ok(Frame::Series(vec![of_west(&format!("{i:09}"))])), i + 1))
        })
    };
    let bad = store(info(WEST), streams(move || slow().boxed())).await;
    let query = query(&[&bad], &[]).await;
    let began = Instant::now();
    let answer = query.instant("up", "&timeout=1s").await;
    assert_eq!((answer.status, &answer.json()["errorType"]), (503, &serde_json::json!("timeout")), "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    let open = &bad.fake.open;
    eventually("the store's stream is closed", async || open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_series_hit_a_named_limit() {
    let endless = || stream::iter(0_u64..).map(|i| Ok(Frame::Series(vec![of_west(&format!("{i:012}"))])));
    let bad = store(info(WEST), streams(move || endless().boxed())).await;
    let query = query(&[&bad], &["--query.max-series=1000"]).await;
    let answer = query.instant("sum(up)", "").await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(answer.json()["error"].as_str().unwrap().contains("--query.max-series"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_series_without_an_end_hits_the_memory_of_the_query() {
    // Chunks of one series that never ends: every one is another, so that none is dropped as a duplicate.
    let endless = || {
        stream::iter(0_i64..).map(|i| {
            let mut series = of_west("a");
            (series.chunks[0].mint, series.chunks[0].maxt) = (i * 10, i * 10 + 9);
            Ok(Frame::Series(vec![series]))
        })
    };
    let bad = store(info(WEST), streams(move || endless().boxed())).await;
    let query = query(&[&bad], &["--query.max-query-bytes=1MiB"]).await;
    let answer = query.instant("sum(up)", "&timeout=60s").await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(answer.json()["error"].as_str().unwrap().contains("--query.max-query-bytes"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_keeps_replica_labels_is_stripped_and_sorted_here() {
    let labels = |replica: &'static str, job: &'static str| {
        series(&[("__name__", "up"), ("cluster", "west"), ("a_replica", replica), ("job", job)], 2.0)
    };
    let mut old = info(&[("cluster", "west")]);
    old.store = old.store.map(|store| StoreInfo { supports_without_replica_labels: false, ..store });
    // Sorted with the replica label, not without it.
    let frames = vec![Frame::Series(vec![labels("0", "b"), labels("1", "a"), labels("1", "b")])];
    let old = store(old, answers(frames)).await;
    let query = query(&[&old], &["--query.replica-label=a_replica"]).await;
    let answer = query.instant("up", "").await;
    assert_eq!(
        answer.values("job"),
        [("a".to_owned(), "2".to_owned()), ("b".to_owned(), "2".to_owned())],
        "{answer:?}"
    );
    let apart = query.instant("count(up)", "&dedup=false").await;
    assert_eq!(apart.json()["data"]["result"][0]["value"][1], "3", "{apart:?}");
    assert!(answer.is_complete());
    assert!(old.fake.requests.lock().unwrap().iter().all(|request| request.without_replica_labels.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_that_must_be_sorted_here_hits_the_memory_of_the_query() {
    let mut old = info(WEST);
    old.store = old.store.map(|store| StoreInfo { supports_without_replica_labels: false, ..store });
    let endless = || stream::iter(0_u64..).map(|i| Ok(Frame::Series(vec![of_west(&format!("{i:012}"))])));
    let old = store(old, streams(move || endless().boxed())).await;
    let query = query(&[&old], &["--query.replica-label=replica", "--query.max-query-bytes=1MiB"]).await;
    let answer = query.instant("sum(up)", "&timeout=60s").await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(answer.json()["error"].as_str().unwrap().contains("--query.max-query-bytes"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_goes_away_is_missed_by_every_query_that_may_want_it() {
    let (good, bad) = (good().await, store(info(WEST), answers(vec![Frame::Series(vec![of_west("a")])])).await);
    let query = query(&[&good, &bad], &["--endpoint.info-timeout=200ms"]).await;
    assert!(query.instant("up", "").await.is_complete());
    let address = bad.address.to_string();
    drop(bad);
    eventually("it is out of use", async || {
        query.get("/api/v1/endpoints").await.json()["data"]["endpoints"]
            .as_array()
            .is_some_and(|all| all.iter().any(|endpoint| endpoint["inUse"] == false))
    })
    .await;
    let answer = query.instant("up", "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.warnings().contains(&address) && answer.warnings().contains("west"), "{answer:?}");
    let strict = query.instant("up", "&partial_response=false").await;
    assert_eq!((strict.status, &strict.json()["errorType"]), (503, &serde_json::json!("unavailable")), "{strict:?}");
    // What it held does not matter to a query that cannot want it.
    let elsewhere = query.instant("up{cluster=\"good\"}", "&partial_response=false").await;
    assert!(elsewhere.status == 200 && elsewhere.is_complete(), "{elsewhere:?}");
    let excluded = query
        .instant(
            "up",
            &format!(
                "&storeMatch[]={}",
                stage::encoded("{__address__!=\"ADDRESS\"}").replace("ADDRESS", &stage::encoded(&address))
            ),
        )
        .await;
    assert!(excluded.is_complete(), "{excluded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_work_of_the_stores() {
    let bad = store(info(WEST), streams(|| stream::pending().boxed())).await;
    let query = query(&[&bad], &[]).await;
    let open = &bad.fake.open;
    for path in ["/api/v1/query?query=up&time=1050", "/api/v1/series?match[]=up"] {
        let (http, path) = (query.http, path.to_owned());
        let client = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = tokio::net::TcpStream::connect(http).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            let _ = stream.read_u8().await;
        });
        eventually("the store is asked", async || open.load(Ordering::SeqCst) == 1).await;
        client.abort();
        let left = Instant::now();
        eventually("the store is left alone", async || open.load(Ordering::SeqCst) == 0).await;
        // The stated bound is one second; the machine that runs tests may be busy.
        assert!(left.elapsed() < Duration::from_secs(5), "took {:?}", left.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_names_the_flag() {
    let large = answers(vec![Frame::Series(vec![of_west(&"x".repeat(100_000))])]);
    is_flagged(store(info(WEST), large).await, &["--query.max-message-bytes=64KiB"], "--query.max-message-bytes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_too_long_ends_and_is_counted() {
    let bad = store(info(WEST), streams(|| stream::pending().boxed())).await;
    let query = query(&[&bad], &["--query.timeout=500ms"]).await;
    let answer = query.instant("up", "").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["errorType"], "timeout", "{answer:?}");
    let hit = "farview_query_limits_hit_total{limit=\"--query.timeout\"} 1";
    assert!(query.get("/metrics").await.text.contains(hit));
    eventually("the store is left alone", async || bad.fake.open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_stands_in_the_file_of_active_ones_as_long_as_it_runs() {
    let bad = store(info(WEST), streams(|| stream::pending().boxed())).await;
    let dir = tempfile::tempdir().unwrap();
    let flag = format!("--query.active-query-path={}", dir.path().display());
    let query = std::sync::Arc::new(query(&[&bad], &[&flag]).await);
    let stands =
        || String::from_utf8_lossy(&std::fs::read(dir.path().join("queries.active")).unwrap()).contains("sum(up)");
    assert!(!stands());
    let waiting = std::sync::Arc::clone(&query);
    let waiting = tokio::spawn(async move { waiting.instant("sum(up)", "&timeout=3s").await });
    eventually("the query is written down", async || stands()).await;
    waiting.await.unwrap();
    eventually("and not any more", async || !stands()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_queries_are_refused_with_a_time_to_come_back() {
    let bad = store(info(WEST), streams(|| stream::pending().boxed())).await;
    let flags = ["--query.max-concurrent=1", "--query.max-queued=0", "--query.timeout=20s"];
    let query = std::sync::Arc::new(query(&[&bad], &flags).await);
    let first = tokio::spawn({
        let query = std::sync::Arc::clone(&query);
        async move { query.instant("up", "").await.status }
    });
    let open = &bad.fake.open;
    eventually("the first query runs", async || open.load(Ordering::SeqCst) == 1).await;
    let second = query.instant("up", "").await;
    assert_eq!(second.status, 503, "{second:?}");
    assert!(second.head.contains("retry-after: "), "{second:?}");
    assert!(second.json()["error"].as_str().unwrap().contains("1 run (--query.max-concurrent)"), "{second:?}");
    first.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_endpoint_at_all_is_said() {
    let query = query(&[], &[]).await;
    let answer = query.instant("up", "").await;
    assert!(answer.status == 200 && answer.warnings().contains("no endpoint"), "{answer:?}");
    assert_eq!(query.instant("up", "&partial_response=0").await.status, 503);
    // What needs no endpoint is answered: Grafana tests a data source like this.
    let grafana = query.get("/api/v1/query?query=1%2B1&time=4").await;
    assert_eq!(grafana.json()["data"]["result"], serde_json::json!([4, "2"]), "{grafana:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_over_a_query_says_what_the_lower_one_lacks() {
    let (good, bad) = (
        good().await,
        store(
            info(WEST),
            streams(|| stream::iter([Err(StoreError::new(ErrorKind::Unavailable, "Prometheus is down"))]).boxed()),
        )
        .await,
    );
    let lower = query(&[&good, &bad], &[]).await;
    let upper = query(&[], &[&format!("--endpoint={}", lower.grpc)]).await;
    eventually("the lower query is known", async || {
        upper.get("/api/v1/endpoints").await.json()["data"]["endpoints"][0]["inUse"] == true
    })
    .await;
    let answer = upper.instant("up", "").await;
    assert_eq!(answer.values("cluster"), [("good".to_owned(), "1".to_owned())], "{answer:?}");
    assert!(answer.warnings().contains("Prometheus is down") && !answer.is_complete(), "{answer:?}");
    let strict = upper.instant("up", "&partial_response=false").await;
    assert!(strict.status >= 400, "{strict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own_series_only_over_grpc_as_well() {
    let store = good().await;
    let lower = query(&[&store], &["--query.enforce-tenancy"]).await;
    let asked_for = |tenant: &str| {
        let wanted = farview_model::Matcher::equal("tenant_id", tenant);
        let mut requests = store.fake.requests.lock().unwrap();
        !requests.is_empty() && requests.drain(..).all(|request| request.matchers.contains(&wanted))
    };

    // StoreAPI: a query above that enforces nothing passes on who asks.
    let upper = query(&[], &[&format!("--endpoint={}", lower.grpc)]).await;
    eventually("the lower query is known", async || {
        upper.get("/api/v1/endpoints").await.json()["data"]["endpoints"][0]["inUse"] == true
    })
    .await;
    let answer = upper.send("GET /api/v1/query?query=up&time=1050 HTTP/1.0\r\nTHANOS-TENANT: a\r\n\r\n").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(asked_for("a"));
    upper.instant("up", "").await;
    assert!(asked_for("default-tenant"), "who names no tenant is the default one");

    // Query API.
    let address = format!("http://{}", lower.grpc);
    let mut client = farview_proto::thanos::query_client::QueryClient::connect(address).await.unwrap();
    let mut request = tonic::Request::new(farview_proto::thanos::QueryRequest {
        query: "up".to_owned(),
        time_seconds: 1_050,
        ..Default::default()
    });
    request.metadata_mut().insert("thanos-tenant", "b".parse().unwrap());
    client.query(request).await.unwrap();
    assert!(asked_for("b"));
    let mut request = tonic::Request::new(farview_proto::thanos::QueryRequest::default());
    request.metadata_mut().insert("thanos-tenant", "../b".parse().unwrap());
    assert_eq!(client.query(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_explained_and_what_its_operators_cost_is_told() {
    let good = good().await;
    let query = query(&[&good], &[]).await;
    let text = stage::encoded("sum by (cluster) (rate(up[1m])) + 1");
    for path in ["query_explain?time=1050", "query_range_explain?start=1000&end=1090&step=10"] {
        let answer = query.get(&format!("/api/v1/{path}&query={text}")).await;
        let tree = answer.json()["data"].clone();
        assert_eq!(tree["name"], "[binary] +", "{answer:?}");
        assert_eq!(tree["children"][0]["name"], "[aggregate] sum by (cluster)", "{answer:?}");
        assert_eq!(tree["children"][0]["children"][0]["name"], "[matrixSelector] rate(up[1m])", "{answer:?}");
    }
    let answer = query.get(&format!("/api/v1/query?time=1050&analyze=true&query={text}")).await;
    let analysis = answer.json()["data"]["analysis"].clone();
    assert_eq!((&analysis["name"], &analysis["series"]), (&"[binary] +".into(), &1.into()), "{answer:?}");
    let sum = &analysis["children"][0];
    assert_eq!((&sum["series"], &sum["children"][0]["series"]), (&1.into(), &1.into()), "{answer:?}");
    assert!(sum["executionTime"].as_str().unwrap().ends_with('s'), "{answer:?}");
    assert_eq!(analysis["fanout"][0]["samples"], 10, "{answer:?}");
    let answer = query.get("/api/v1/query_explain?query=sum(").await;
    assert_eq!(answer.status, 400, "{answer:?}");
}
