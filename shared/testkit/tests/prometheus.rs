//! The servers that other tests stand on do what they promise.

use farview_testkit::prometheus::{Prometheus, ScrapeTarget, Version};

#[tokio::test]
async fn a_server_scrapes_what_is_true_in_closed_form_and_keeps_it_over_a_kill() {
    for version in Version::available() {
        let target = ScrapeTarget::start(3).await.unwrap();
        let started =
            Prometheus::builder().version(version).external_label("cluster", "a").job("linear", [target.addr()]);
        let mut prometheus = started.start().await.unwrap();
        prometheus.wait_for("farview_linear", 3).await.unwrap();
        let (pid, addr) = (prometheus.pid(), prometheus.addr());
        prometheus.restart().await.unwrap();
        assert_ne!(prometheus.pid(), pid);
        assert_eq!(prometheus.addr(), addr);
        let result = prometheus.query("farview_linear[1h]", None).await.unwrap();
        let series = result.as_array().unwrap();
        assert_eq!(series.len(), 3);
        for one in series {
            let i: usize = one["metric"]["series"].as_str().unwrap().parse().unwrap();
            for sample in one["values"].as_array().unwrap() {
                let millis = (sample[0].as_f64().unwrap() * 1_000.0).round() as i64;
                assert_eq!(sample[1].as_str().unwrap().parse::<f64>().unwrap(), ScrapeTarget::value(i, millis));
            }
        }
    }
}

#[tokio::test]
async fn a_server_begins_with_blocks_and_below_a_path() {
    let text = "# TYPE old gauge\nold{a=\"1\"} 1 1700000000\nold{a=\"1\"} 2 1700000060\n";
    let prometheus = Prometheus::builder().openmetrics(text).arg("--web.route-prefix=/prom").start().await.unwrap();
    let result = prometheus.query("old", Some(1_700_000_060.0)).await.unwrap();
    assert_eq!(result[0]["value"][1], "2");
    assert!(prometheus.url().ends_with("/prom"));
}

#[tokio::test]
async fn a_frozen_server_does_not_answer_until_it_thaws() {
    let prometheus = Prometheus::builder().start().await.unwrap();
    prometheus.freeze().await.unwrap();
    let asked = tokio::time::timeout(std::time::Duration::from_millis(300), prometheus.query("1", None));
    assert!(asked.await.is_err());
    prometheus.thaw().await.unwrap();
    prometheus.query("1", None).await.unwrap();
}
