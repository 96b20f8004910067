//! Which endpoints there are: groups, files that change, and the selector.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[allow(dead_code, reason = "shared with the other tests")]
mod stage;

use farview_model::Labels;
use farview_storeapi::Frame;
use farview_testkit::dns::DnsServer;
use stage::{Query, Running, answers, eventually, info, query, series, store};

const GROUP: &str = "_grpc._tcp.stores.test";

/// A store of one cluster with one series of value 1.
async fn of(cluster: &str) -> Running {
    let labels = [("__name__", "up"), ("cluster", cluster)];
    store(info(&[("cluster", cluster)]), answers(vec![Frame::Series(vec![series(&labels, 1.0)])])).await
}

fn asked(store: &Running) -> usize {
    store.fake.requests.lock().unwrap().len()
}

/// The addresses in use.
async fn in_use(query: &Query) -> usize {
    let json = query.get("/api/v1/endpoints").await.json();
    json["data"]["endpoints"].as_array().unwrap().iter().filter(|endpoint| endpoint["inUse"] == true).count()
}

async fn clusters(query: &Query) -> Vec<String> {
    query.instant("up", "").await.values("cluster").into_iter().map(|(cluster, _)| cluster).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_of_a_group_answers_and_another_when_it_is_gone() {
    let (one, two) = (of("west").await, of("west").await);
    let dns = DnsServer::start().await.unwrap();
    dns.set_a("one.test", ["127.0.0.1".parse().unwrap()]);
    dns.set_a("two.test", ["127.0.0.1".parse().unwrap()]);
    dns.set_srv(GROUP, [("one.test", one.address.port()), ("two.test", two.address.port())]);
    let (server, group) = (format!("--farview.dns-server={}", dns.addr()), format!("dnssrv+{GROUP}"));
    let query = query(&[], &[&server, &format!("--endpoint-group-strict={group}")]).await;
    eventually("both members are known", async || in_use(&query).await == 2).await;
    for _ in 0..10 {
        let answer = query.instant("up", "").await;
        assert!(answer.is_complete(), "{answer:?}");
        assert_eq!(answer.values("cluster"), [("west".to_owned(), "1".to_owned())]);
    }
    assert_eq!(asked(&one) + asked(&two), 10, "one is asked, not both");
    assert!(asked(&one) > 0 && asked(&two) > 0, "they take turns");

    drop(one);
    for _ in 0..20 {
        let answer = query.instant("up", "").await;
        assert_eq!(answer.values("cluster"), [("west".to_owned(), "1".to_owned())], "{answer:?}");
        assert!(answer.is_complete(), "the other holds the same data: {answer:?}");
    }
    drop(two);
    eventually("nobody is left, and that is said", async || {
        let answer = query.instant("up", "").await;
        !answer.is_complete() && answer.warnings().contains("127.0.0.1")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_group_without_a_member_is_missed() {
    let dns = DnsServer::start().await.unwrap();
    let server = format!("--farview.dns-server={}", dns.addr());
    let query = query(&[], &[&server, "--endpoint-group-strict=stores.test:10901"]).await;
    eventually("the group is named", async || {
        let answer = query.instant("up", "").await;
        !answer.is_complete() && answer.warnings().contains("group dns+stores.test:10901")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_file_is_followed_and_a_bad_one_changes_nothing() {
    let (one, two) = (of("one").await, of("two").await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("endpoints.yaml");
    let list = |stores: &[&Running]| {
        stores.iter().map(|store| format!("- {{address: \"{}\", strict: true}}\n", store.address)).collect::<String>()
    };
    std::fs::write(&file, format!("endpoints:\n{}", list(&[&one]))).unwrap();
    let query = query(&[], &[&format!("--endpoint.sd-config-file={}", file.display())]).await;
    eventually("the first", async || clusters(&query).await == ["one"]).await;

    std::fs::write(&file, format!("endpoints:\n{}", list(&[&one, &two]))).unwrap();
    eventually("the second too", async || clusters(&query).await == ["one", "two"]).await;

    std::fs::write(&file, "endpoints: [{adress: here}]").unwrap();
    eventually("the mistake is shown", async || {
        let json = query.get("/api/v1/endpoints").await.json();
        json["data"]["files"][0]["error"].as_str().is_some_and(|text| text.contains("adress"))
    })
    .await;
    assert_eq!(clusters(&query).await, ["one", "two"]);

    std::fs::write(&file, format!("endpoints:\n{}", list(&[&two]))).unwrap();
    eventually("the first is gone", async || in_use(&query).await == 1).await;
    let answer = query.instant("up", "").await;
    assert_eq!(answer.values("cluster").len(), 1);
    assert!(answer.warnings().contains(&one.address.to_string()), "what was there lately is missed: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_file_says_how_each_is_spoken_to() {
    let (one, two) = (of("one").await, of("two").await);
    let file = format!(
        "default_client_config: {{tls_config: {{enabled: true, insecure_skip_verify: true}}}}\n\
         endpoints:\n- address: \"{}\"\n- {{address: \"{}\", client_config: {{tls_config: {{enabled: false}}}}}}\n",
        one.address, two.address
    );
    let query = query(&[], &[&format!("--endpoint.sd-config={file}")]).await;
    eventually("the one in plain text answers, the one asked over TLS does not speak it", async || {
        let answer = query.instant("up", "").await;
        let said = answer.warnings();
        answer.values("cluster").len() == 1 && said.contains(&one.address.to_string()) && said.contains("TLS")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn target_files_are_followed() {
    let (one, two) = (of("one").await, of("two").await);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, store: &Running| {
        std::fs::write(folder.path().join(name), format!("[{{\"targets\": [\"{}\"]}}]", store.address)).unwrap();
    };
    write("a.json", &one);
    let query = query(&[], &[&format!("--store.sd-files={}/*.json", folder.path().display())]).await;
    eventually("the first", async || clusters(&query).await == ["one"]).await;
    write("b.json", &two);
    eventually("the second too", async || clusters(&query).await == ["one", "two"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_selector_leaves_endpoints_out_and_narrows_others() {
    let both = info(&[("cluster", "east")]);
    let mut sets = both.label_sets.clone();
    sets.push(Labels::from_pairs([("cluster", "west")]));
    let both = farview_storeapi::EndpointInfo { label_sets: sets, ..both };
    let east = series(&[("__name__", "up"), ("cluster", "east")], 1.0);
    let wide = store(both, answers(vec![Frame::Series(vec![east])])).await;
    let west = of("west").await;
    let rules = "--selector.relabel-config=[{source_labels: [cluster], regex: east, action: keep}]";
    let query = query(&[&wide, &west], &[rules]).await;
    let answer = query.instant("up", "&completeness=true").await;
    assert_eq!(answer.values("cluster"), [("east".to_owned(), "1".to_owned())]);
    assert!(answer.is_complete(), "{answer:?}");
    assert_eq!(asked(&west), 0);
    let requests = wide.fake.requests.lock().unwrap();
    let said: Vec<String> = requests[0].matchers.iter().map(ToString::to_string).collect();
    assert!(said.contains(&"cluster=~\"east\"".to_owned()), "{said:?}");
    assert!(answer.text.contains("excluded by --selector.relabel-config"), "{answer:?}");
}
