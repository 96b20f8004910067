//! The global view over real Prometheus servers, found by DNS alone: complete answers, and answers that say what they lack.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::Farview;
use farview_integration::measure::free;
use farview_integration::process::Answer;
use farview_integration::world::{Plan, World};
use farview_testkit::prometheus::ScrapeTarget;
use std::time::{Duration, Instant};

async fn world(dir: &std::path::Path, targets: &[std::net::SocketAddr]) -> World {
    let plan = Plan { targets: targets.to_vec(), ..Plan::east_and_west() };
    World::start(&farview_integration::binary().unwrap(), dir, plan).await.unwrap()
}

/// Asks the global query until the answer is as wanted; an answer that must not be ends the test at once.
async fn until(
    world: &World,
    query: &str,
    params: &[(&str, &str)],
    what: &str,
    wanted: impl Fn(&Answer) -> bool,
) -> Answer {
    world.global.until(query, params, what, wanted).await.unwrap()
}

fn clusters(answer: &Answer) -> Vec<String> {
    let mut names: Vec<String> =
        answer.vector().iter().map(|(labels, _)| labels["cluster"].as_str().unwrap_or_default().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// The number of series of the target in each cluster.
const QUERY: &str = "count by (cluster) (farview_linear)";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_complete_or_says_what_it_lacks() {
    let (dir, target) = (tempfile::tempdir().unwrap(), ScrapeTarget::start(7).await.unwrap());
    let mut world = world(dir.path(), &[target.addr()]).await;

    // Complete and deduplicated, then with the replicas apart.
    let answer =
        until(&world, QUERY, &[], "both clusters", |a| a.is_complete() && clusters(a) == ["east", "west"]).await;
    assert!(answer.vector().iter().all(|(_, count)| count == "7"), "{answer:?}");
    assert!(answer.warnings().is_empty() && answer.infos().is_empty(), "{answer:?}");
    let apart = "count by (cluster, replica) (farview_linear)";
    until(&world, apart, &[("dedup", "false")], "three replicas", |a| a.vector().len() == 3).await;

    // Every value is what the target computes from the sample's own time.
    let range = world.global.get("/api/v1/query", &[("query", "farview_linear[20s]")]).await.unwrap();
    let mut checked = 0;
    for series in range.json["data"]["result"].as_array().unwrap() {
        let i: usize = series["metric"]["series"].as_str().unwrap().parse().unwrap();
        for point in series["values"].as_array().unwrap() {
            let millis = (point[0].as_f64().unwrap() * 1_000.0).round() as i64;
            let value: f64 = point[1].as_str().unwrap().parse().unwrap();
            assert_eq!(value, ScrapeTarget::value(i, millis), "series {i} at {millis}");
            checked += 1;
        }
    }
    assert!(checked > 14, "{checked} samples were checked");

    // One of the pair dies: its replica answers, and the answer says so.
    world.clusters[0].prometheus[0].kill().await.unwrap();
    let said =
        |answer: &Answer, name: &str| [answer.warnings(), answer.infos()].concat().iter().any(|t| t.contains(name));
    until(&world, QUERY, &[], "the lost replica is said", |answer| {
        assert_eq!(clusters(answer), ["east", "west"], "the pair still answers: {answer:?}");
        said(answer, "replica=\"a\"")
    })
    .await;

    // The sole holder of the other cluster dies: from the first answer that lacks it on, it is said.
    world.clusters[1].prometheus[0].kill().await.unwrap();
    until(&world, QUERY, &[], "the lost cluster is said", |answer| {
        let lacks = clusters(answer) == ["east"];
        assert!(!lacks || (said(answer, "west") && !answer.is_complete()), "a lie: {answer:?}");
        lacks
    })
    .await;
    let strict = world.global.query(QUERY, &[("partial_response", "false")]).await.unwrap();
    assert_eq!((strict.status, strict.json["status"].as_str()), (503, Some("error")), "{strict:?}");

    // A minute later nothing has been forgotten: ask on for a while, as a dashboard does.
    let end = Instant::now() + Duration::from_secs(12);
    while Instant::now() < end {
        let answer = world.global.query(QUERY, &[]).await.unwrap();
        assert!(said(&answer, "west") && !answer.is_complete(), "forgotten: {answer:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // What the missing cluster cannot have is not missed.
    let east = until(&world, "count(farview_linear{cluster=\"east\"})", &[], "east alone", |a| !said(a, "west")).await;
    assert_eq!(east.vector().len(), 1);

    // Both come back, and the answer is whole again.
    world.clusters[0].prometheus[0].restart().await.unwrap();
    world.clusters[1].prometheus[0].restart().await.unwrap();
    until(&world, QUERY, &[], "complete again", |a| a.is_complete() && clusters(a) == ["east", "west"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_faults_do_not_change_answers() {
    use farview_testkit::dns::Fault;
    let (dir, target) = (tempfile::tempdir().unwrap(), ScrapeTarget::start(3).await.unwrap());
    let world = world(dir.path(), &[target.addr()]).await;
    until(&world, QUERY, &[], "both clusters", |a| a.is_complete() && clusters(a) == ["east", "west"]).await;
    for fault in
        [Fault::Servfail, Fault::Nxdomain, Fault::Nodata, Fault::Drop, Fault::TruncateWithoutTcp, Fault::Garbage]
    {
        for name in ["sidecars.east.test.", "query.west.test."] {
            world.dns.fault(name, fault);
        }
        let end = Instant::now() + Duration::from_secs(4);
        while Instant::now() < end {
            let answer = world.global.query(QUERY, &[]).await.unwrap();
            assert!(answer.is_complete() && clusters(&answer) == ["east", "west"], "{fault:?}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for name in ["sidecars.east.test.", "query.west.test."] {
            world.dns.heal(name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_sidecar_is_said_and_ejected() {
    let (dir, target) = (tempfile::tempdir().unwrap(), ScrapeTarget::start(3).await.unwrap());
    let plan = Plan {
        targets: vec![target.addr()],
        query_args: vec!["--query.first-frame-timeout=3s".to_owned()],
        ..Plan::east_and_west()
    };
    let mut world = World::start(&farview_integration::binary().unwrap(), dir.path(), plan).await.unwrap();
    until(&world, QUERY, &[], "both clusters", |a| a.is_complete() && clusters(a) == ["east", "west"]).await;
    world.clusters[1].sidecars[0].signal("STOP").await.unwrap();
    let frozen = Instant::now();
    let mut fast = None;
    while frozen.elapsed() < Duration::from_secs(40) && fast.is_none() {
        let began = Instant::now();
        let answer = world.global.query(QUERY, &[]).await.unwrap();
        assert!(clusters(&answer).contains(&"east".to_owned()), "{answer:?}");
        assert!(!answer.is_complete(), "a lie: {answer:?}");
        if began.elapsed() < Duration::from_millis(500) {
            fast = Some(frozen.elapsed());
        }
    }
    let fast = fast.expect("the frozen sidecar is ejected and answers are fast again");
    assert!(fast < Duration::from_secs(25), "ejected only after {fast:?}");
    world.clusters[1].sidecars[0].signal("CONT").await.unwrap();
    until(&world, QUERY, &[], "complete again", |a| a.is_complete() && clusters(a) == ["east", "west"]).await;
    world.clusters[1].sidecars[0].kill().await.unwrap();
    let answer = until(&world, QUERY, &[], "the killed sidecar is said", |a| !a.is_complete()).await;
    assert_eq!(clusters(&answer), ["east"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_knows_nothing_yet_does_not_make_the_answer_above_it_complete() {
    let (dir, binary) = (tempfile::tempdir().unwrap(), farview_integration::binary().unwrap());
    let start = |name: &str, endpoint: std::net::SocketAddr| {
        let addresses = (free().unwrap(), free().unwrap());
        Farview::start(&binary, dir.path(), name, "query", addresses, &[format!("--endpoint={endpoint}")]).unwrap()
    };
    // Nobody answers there, and nobody ever has.
    let mut below = start("below", free().unwrap());
    below.ready().await.unwrap();
    let mut above = start("above", below.grpc);
    above.ready().await.unwrap();
    let answer = above.query("up", &[]).await.unwrap();
    assert!(!answer.is_complete() && answer.vector().is_empty(), "{answer:?}");
    assert!(answer.warnings().iter().any(|text| text.contains("has not answered yet")), "{answer:?}");
}
