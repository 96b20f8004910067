//! A sidecar beside a real Prometheus, asked over gRPC.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod stage;

use farview_model::{ErrorKind, Labels, MatchOp, Matcher, Samples, TimeRange};
use farview_series::ChunkData;
use farview_storeapi::{LabelsRequest, SelectRequest};
use farview_testkit::prometheus::{Prometheus, ScrapeTarget, Version};
use stage::{Cut, Stage, until, values};
use std::collections::{BTreeMap, BTreeSet};

/// Series of six label sets, in blocks. `cluster` of the last is overridden by the external label.
const SETS: [&[(&str, &str)]; 6] = [
    &[("__name__", "m"), ("a", "1")],
    &[("__name__", "m"), ("a", "1"), ("z", "1")],
    &[("__name__", "m"), ("a", "1"), ("b", "2"), ("z", "1")],
    &[("__name__", "m"), ("a", "2"), ("b", "")],
    &[("__name__", "n"), ("b", "1"), ("zz", "é")],
    &[("__name__", "n"), ("b", "1"), ("cluster", "own")],
];
const START: i64 = 1_700_000_000_000;

fn openmetrics() -> String {
    let mut text = String::new();
    for name in ["m", "n"] {
        text += &format!("# TYPE {name} gauge\n");
        for (i, set) in SETS.iter().enumerate().filter(|(_, set)| set[0].1 == name) {
            let labels: Vec<String> = set[1..].iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
            for t in 0..300 {
                let millis = START + t * 15_000;
                text += &format!("{name}{{{}}} {} {}\n", labels.join(","), value(i, millis), millis / 1_000);
            }
        }
    }
    text
}

fn value(i: usize, millis: i64) -> f64 {
    (i as f64 + 0.5) * (millis - START) as f64
}

fn expected(i: usize) -> Labels {
    let own = SETS[i].iter().copied().filter(|(name, _)| *name != "cluster");
    Labels::from_pairs(own.chain([("cluster", "a"), ("replica", "0")]))
}

async fn with_blocks(version: Version) -> (Prometheus, Stage) {
    let builder = Prometheus::builder().version(version).openmetrics(&openmetrics());
    let prometheus = builder.external_label("cluster", "a").external_label("replica", "0").start().await.unwrap();
    let stage = Stage::start(&prometheus.url(), &[]).await;
    (prometheus, stage)
}

fn all() -> TimeRange {
    TimeRange::new(START, START + 299 * 15_000)
}

#[tokio::test]
async fn every_sample_comes_under_the_external_labels_in_order_and_none_else() {
    for version in Version::available() {
        let (_prometheus, stage) = with_blocks(version).await;
        let any = vec![Matcher::new(MatchOp::NotEqual, "__name__", "").unwrap()];
        for (batch, without) in [(0, vec![]), (1, vec!["replica"]), (64, vec!["replica", "nothing"]), (2, vec!["a"])] {
            let mut request = SelectRequest::new(all(), any.clone());
            request.batch_size = batch;
            request.without_replica_labels = without.iter().map(ToString::to_string).collect();
            let series = stage.select(&request).await.unwrap();
            let mut wanted: BTreeMap<Labels, Vec<usize>> = BTreeMap::new();
            for i in 0..SETS.len() {
                wanted.entry(expected(i).without(|name| without.contains(&name))).or_default().push(i);
            }
            let got: Vec<&Labels> = series.iter().map(|series| &series.labels).collect();
            assert_eq!(got, wanted.keys().collect::<Vec<_>>(), "{version:?} {batch} {without:?}");
            for one in &series {
                let mut samples: Vec<(i64, u64)> = Vec::new();
                for chunk in &one.chunks {
                    let ChunkData::Raw(raw) = &chunk.data else { panic!("a sidecar has raw data only") };
                    let mut decoded = Samples::default();
                    raw.decode(TimeRange::ALL, &mut decoded).unwrap();
                    samples.extend(decoded.timestamps.iter().copied().zip(decoded.values.iter().map(|v| v.to_bits())));
                }
                samples.sort_unstable();
                let times = (0..300).map(|t| START + t * 15_000);
                let origins = &wanted[&one.labels];
                let mut all: Vec<(i64, u64)> =
                    times.flat_map(|t| origins.iter().map(move |i| (t, value(*i, t).to_bits()))).collect();
                all.sort_unstable();
                assert_eq!(samples, all, "{version:?} {}", one.labels);
            }
        }
    }
}

/// Else it would pass for one that has the past, and hide that whoever had it is away.
#[tokio::test]
async fn an_empty_prometheus_announces_no_past() {
    for version in Version::available() {
        let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
        let before = now();
        let empty = Prometheus::builder().version(version).external_label("cluster", "a").start().await.unwrap();
        let stage = Stage::start(&empty.url(), &[]).await;
        let announced = stage.info().await.store.unwrap().range;
        assert!((before..=now()).contains(&announced.mint) && announced.maxt == i64::MAX, "{version:?}: {announced:?}");
        let (_with_data, stage) = with_blocks(version).await;
        assert_eq!(stage.info().await.store.unwrap().range.mint, START, "{version:?}");
    }
}

#[tokio::test]
async fn matchers_choose_as_on_series_that_have_the_external_labels() {
    let (_prometheus, stage) = with_blocks(Version::Two).await;
    let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
    let names = ["a", "b", "z", "cluster", "replica", "missing"];
    let patterns = ["", "1", "own", "a", ".*", ".+", "1|2", "|1", "a|b"];
    let names_at_most = BTreeSet::from(["m", "n"]);
    for op in ops {
        for name in names {
            for pattern in patterns {
                let matcher = Matcher::new(op, name, pattern).unwrap();
                // What the label was before it is overridden does not count.
                let holds = |i: usize| matcher.matches(expected(i).get(name).unwrap_or_default());
                let chosen: BTreeSet<Labels> = (0..SETS.len()).filter(|i| holds(*i)).map(expected).collect();
                for skip_chunks in [true, false] {
                    let mut request = SelectRequest::new(all(), vec![matcher.clone()]);
                    request.skip_chunks = skip_chunks;
                    let series = stage.select(&request).await.unwrap();
                    let got: Vec<Labels> = series.into_iter().map(|series| series.labels).collect();
                    assert_eq!(got, chosen.iter().cloned().collect::<Vec<_>>(), "{matcher} skip_chunks={skip_chunks}");
                }
                let mut request = LabelsRequest::names(all(), vec![matcher.clone()]);
                let got = stage.label_names(&request).await;
                let wanted: BTreeSet<&str> = chosen.iter().flat_map(|set| set.iter().map(|(name, _)| name)).collect();
                assert_eq!(got, wanted.into_iter().collect::<Vec<_>>(), "names with {matcher}");
                for label in ["a", "cluster", "__name__", "missing"] {
                    request.label = label.to_owned();
                    let got = stage.label_values(&request).await;
                    let wanted: BTreeSet<&str> = chosen.iter().filter_map(|set| set.get(label)).collect();
                    assert_eq!(got, wanted.into_iter().collect::<Vec<_>>(), "values of {label} with {matcher}");
                }
                assert!(chosen.iter().all(|set| names_at_most.contains(set.metric_name())));
            }
        }
    }
}

#[tokio::test]
async fn limits_and_shards_are_kept() {
    let (prometheus, stage) = with_blocks(Version::Two).await;
    let mut request = SelectRequest::new(all(), vec![Matcher::equal("__name__", "m")]);
    request.limit = 2;
    assert_eq!(stage.select(&request).await.unwrap().len(), 2);
    request.limit = 0;
    let whole: Vec<Labels> = stage.select(&request).await.unwrap().into_iter().map(|series| series.labels).collect();
    let mut shards = Vec::new();
    for index in 0..3 {
        let labels = vec!["a".to_owned(), "b".to_owned()];
        request.shard = Some(farview_storeapi::ShardInfo { index, total: 3, by: true, labels });
        shards.extend(stage.select(&request).await.unwrap().into_iter().map(|series| series.labels));
    }
    shards.sort_unstable();
    assert_eq!(shards, whole);
    request.shard = None;
    for flag in ["--store.limits.request-series=3", "--store.limits.request-samples=200"] {
        let limited = Stage::start(&prometheus.url(), &[flag]).await;
        let error = limited.select(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        assert!(error.to_string().contains(flag.split('=').next().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_cut_connection_is_an_error_wherever_it_is_cut() {
    let (prometheus, _) = with_blocks(Version::Two).await;
    let cut = Cut::start(prometheus.addr()).await;
    let stage = Stage::start(&format!("http://{}", cut.addr()), &[]).await;
    let request = SelectRequest::new(all(), vec![Matcher::new(MatchOp::Regex, "__name__", "m|n").unwrap()]);
    let whole = stage.select(&request).await.unwrap();
    assert_eq!(whole.len(), SETS.len());
    let len = cut.length_of_read(&stage, &request).await;
    assert!(len > 2_000, "{len}");
    for at in (0..len).step_by(97).chain(len - 12..len) {
        cut.after(Some(at));
        let error = stage.select(&request).await.map(|series| series.len()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Corrupt), "cut at {at}: {error}");
    }
    cut.after(None);
    assert_eq!(stage.select(&request).await.unwrap(), whole);
}

#[tokio::test]
async fn a_killed_prometheus_ends_the_answer_with_an_error_or_it_was_complete() {
    let target = ScrapeTarget::start(200).await.unwrap();
    let builder = Prometheus::builder().external_label("cluster", "a").job("linear", [target.addr()]);
    let mut prometheus = builder.start().await.unwrap();
    prometheus.wait_for("farview_linear", 200).await.unwrap();
    let stage = Stage::start(&prometheus.url(), &[]).await;
    let mut errors = 0;
    for round in 0..6u64 {
        let request = SelectRequest::new(TimeRange::ALL, vec![Matcher::equal("job", "linear")]);
        let kill = async {
            tokio::time::sleep(std::time::Duration::from_micros(round * 700)).await;
            prometheus.kill().await.unwrap();
        };
        let (answer, ()) = tokio::join!(stage.select(&request), kill);
        match answer {
            // 200 of each metric, and what Prometheus adds for every target.
            Ok(series) => assert!(series.len() >= 405, "a clean answer of {} series", series.len()),
            Err(error) => {
                errors += 1;
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Corrupt), "{error}");
            }
        }
        prometheus.restart().await.unwrap();
        stage.ready().await;
    }
    assert!(errors > 0, "no kill came in time");
}

#[tokio::test]
async fn no_sample_goes_by_old_external_labels_after_they_have_changed() {
    let target = ScrapeTarget::start(3).await.unwrap();
    let builder = Prometheus::builder().external_label("cluster", "a").job("linear", [target.addr()]);
    let mut prometheus = builder.start().await.unwrap();
    prometheus.wait_for("farview_linear", 3).await.unwrap();
    // The sidecar would not look at the configuration again by itself.
    let stage = Stage::start(&prometheus.url(), &["--prometheus.get_config_interval=1h"]).await;
    let request = SelectRequest::new(TimeRange::ALL, vec![Matcher::equal("__name__", "farview_linear")]);
    assert_eq!(values(&stage.select(&request).await.unwrap(), "cluster"), ["a"]);
    prometheus.set_external_labels(&[("cluster", "b")]).unwrap();
    prometheus.reload().await.unwrap();
    stage::until("the new labels are known", async || match stage.select(&request).await {
        Ok(series) => {
            assert_eq!(values(&series, "cluster"), ["b"]);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            false
        }
    })
    .await;
    assert_eq!(stage.info().await.label_sets, [Labels::from_pairs([("cluster", "b")])]);
}

#[tokio::test]
async fn a_prometheus_without_external_labels_is_refused_and_waited_for() {
    let mut prometheus = Prometheus::builder().start().await.unwrap();
    let stage = Stage::start_unready(&prometheus.url(), &["--prometheus.get_config_interval=1s"]).await;
    stage::until("the reason is told", async || stage.readiness().1.contains("no external labels")).await;
    let request = SelectRequest::new(TimeRange::ALL, vec![Matcher::equal("a", "b")]);
    assert_eq!(stage.select(&request).await.unwrap_err().kind(), ErrorKind::Unavailable);
    prometheus.set_external_labels(&[("cluster", "a")]).unwrap();
    prometheus.reload().await.unwrap();
    stage.ready().await;
    assert_eq!(stage.select(&request).await.unwrap(), []);
    prometheus.kill().await.unwrap();
    stage::until("it is not ready", async || !stage.readiness().0).await;
}

#[tokio::test]
async fn two_sidecars_with_equal_external_labels_are_told_and_then_not_any_more() {
    let mut builder = Vec::new();
    for _ in 0..2 {
        builder.push(Prometheus::builder().external_label("cluster", "a").start().await.unwrap());
    }
    let dns = farview_testkit::dns::DnsServer::start().await.unwrap();
    dns.set_ttl(1);
    let server = format!("--farview.dns-server={}", dns.addr());
    // One port for both, as behind a headless service.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let service = format!("--farview.sidecar-service=dns+sidecars.mon.svc.:{port}");
    let mut stages = Vec::new();
    for (i, prometheus) in builder.iter().enumerate() {
        let address = format!("127.0.0.{}:{port}", i + 2);
        let flags = [service.as_str(), &server, "--prometheus.get_config_interval=1s"];
        stages.push(Stage::start_at(&address, &prometheus.url(), &flags).await);
        stages[i].ready().await;
    }
    dns.set_a("sidecars.mon.svc.", [[127, 0, 0, 2].into(), [127, 0, 0, 3].into()]);
    for stage in &stages {
        stage::until("the twin is told", async || {
            let notices = stage.info().await.notices;
            notices.iter().any(|notice| notice.contains("same external labels")) && stage.notes().contains("127.0.0.")
        })
        .await;
    }
    builder[1].set_external_labels(&[("cluster", "b")]).unwrap();
    builder[1].reload().await.unwrap();
    for stage in &stages {
        stage::until("there is no twin", async || stage.info().await.notices.is_empty() && stage.notes().is_empty())
            .await;
    }
}

#[tokio::test]
async fn what_is_in_memory_only_reaches_the_bucket_when_the_sidecar_stops_if_that_is_wanted() {
    for (version, wanted) in [(Version::Two, true), (Version::Three, true), (Version::Two, false)] {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let prometheus = Prometheus::builder().version(version).port(port.port()).job("self", [port]);
        let prometheus = prometheus.external_label("cluster", "east").arg("--web.enable-admin-api");
        let prometheus =
            prometheus.arg("--storage.tsdb.min-block-duration=2h").arg("--storage.tsdb.max-block-duration=2h");
        let prometheus = prometheus.start().await.unwrap();
        prometheus.wait_for("count_over_time(up[1m]) > 2", 1).await.unwrap();
        let bucket = tempfile::tempdir().unwrap();
        let objstore =
            format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.path().display());
        let data = prometheus.dir().join("data");
        let folder = format!("--tsdb.path={}", data.display());
        let flush = if wanted { "--shipper.flush-on-shutdown" } else { "--no-shipper.flush-on-shutdown" };
        let sidecar = Stage::start(&prometheus.url(), &[&objstore, &folder, flush]).await;
        sidecar.stop().await;
        let blocks: Vec<_> = std::fs::read_dir(bucket.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(blocks.len(), usize::from(wanted), "{version:?} {blocks:?}");
        for block in blocks {
            let meta = std::fs::read_to_string(block.join("meta.json")).unwrap();
            let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
            assert_eq!(meta["thanos"]["labels"], serde_json::json!({"cluster": "east"}), "{meta}");
            assert!(meta["stats"]["numSamples"].as_u64().unwrap() > 100, "{meta}");
            assert!(std::fs::read_dir(data.join("snapshots")).unwrap().next().is_none(), "the snapshot is removed");
        }
    }
}

#[tokio::test]
async fn a_configuration_that_prometheus_refuses_is_tried_again_and_the_last_good_one_stays() {
    for version in Version::available() {
        let prometheus = Prometheus::builder().version(version).external_label("cluster", "a").start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let template = folder.path().join("prometheus.yml");
        let write = |cluster: &str| {
            std::fs::write(&template, format!("global: {{external_labels: {{cluster: {cluster}}}}}\n")).unwrap();
        };
        write("b");
        let (from, to) = (
            format!("--reloader.config-file={}", template.display()),
            format!("--reloader.config-envsubst-file={}", prometheus.config_file().display()),
        );
        let flags = [from.as_str(), &to, "--reloader.watch-interval=200ms", "--reloader.retry-interval=200ms"];
        let sidecar = Stage::start(&prometheus.url(), &flags).await;
        let runs = async |cluster: &str| {
            let config = prometheus.api("/api/v1/status/config").await.unwrap();
            config["yaml"].as_str().unwrap().contains(&format!("cluster: {cluster}"))
        };
        let reloaded = async |worked: u8| {
            let text = reqwest::get(format!("{}/metrics", prometheus.url())).await.unwrap().text().await.unwrap();
            text.contains(&format!("\nprometheus_config_last_reload_successful {worked}\n"))
        };
        until("the first is taken", async || runs("b").await).await;
        std::fs::write(&template, "global: {external_labels: {cluster: x}}\nscrape_configs: [{no_such_key: 1}]\n")
            .unwrap();
        until("Prometheus has refused it", async || reloaded(0).await).await;
        assert!(runs("b").await, "the last good one stays");
        write("c");
        until("the mended one is taken", async || runs("c").await && reloaded(1).await).await;
        sidecar.stop().await;
    }
}
