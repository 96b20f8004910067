//! Queries that have killed other engines: each is refused by name or answered within the limits, and others go on meanwhile.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[allow(dead_code, reason = "shared with the other tests")]
mod stage;

use farview_storeapi::Frame;
use stage::{Answer, Query, answers, encoded, info, query, series, store};

/// What may become of a query.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// An answer, whatever it is.
    Answered,
    /// An error that says this.
    Refused(&'static str),
}
use Fate::{Answered, Refused};

fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

fn corpus() -> Vec<(String, Fate)> {
    let matchers: Vec<String> = (0..10_000).map(|i| format!("l{i}!=\"x\"")).collect();
    let many: Vec<String> = (0..1_500).map(|i| format!("l{i}!=\"x\"")).collect();
    vec![
        (nested("(", "up", ")", 100_000), Refused("--query.max-text-bytes")),
        (nested("(", "up", ")", 20_000), Refused("--query.max-depth")),
        (nested("-", "up", "", 50_000), Refused("--query.max-depth")),
        (nested("sum(", "up", ")", 5_000), Refused("--query.max-depth")),
        (nested("abs(", "up", ")", 100), Answered),
        (nested("((((", "up", "))))", 5_000), Refused("--query.max-depth")),
        (vec!["up"; 10_000].join("+"), Refused("--query.max-terms")),
        (vec!["1"; 10_000].join("^"), Refused("")),
        (vec!["up"; 1_000].join("+"), Answered),
        (vec!["up"; 400].join(" or "), Answered),
        (format!("up{{{}}}", matchers.join(",")), Refused("--query.max-text-bytes")),
        (format!("up{{{}}}", many.join(",")), Answered),
        ("up{job=~\"(((a{1,100}){1,100}){1,100})\"}".to_owned(), Refused("repetitions")),
        ("up{job=~\"(a*)*(a*)*(a*)*(a*)*b\"}".to_owned(), Answered),
        (format!("up{{job=~\"{}\"}}", "a?".repeat(5_000)), Answered),
        (format!("up{{job=~\"{}\"}}", nested("(", "a", ")", 5_000)), Refused("")),
        ("rate(up[1y:1ms])".to_owned(), Refused("--query.max-")),
        ("sum_over_time(sum_over_time(up[1d:1s])[1y:1s])".to_owned(), Refused("--query.max-query-bytes")),
        ("max_over_time((max_over_time((max_over_time(up[1y:1h]))[1y:1h]))[1y:1h])".to_owned(), Answered),
        ("up offset 1000000y".to_owned(), Refused("")),
        ("up @ 1e300".to_owned(), Refused("")),
        ("up[99999999999999999999y]".to_owned(), Refused("")),
        ("1e999999999".to_owned(), Refused("out of range")),
        ("9".repeat(60_000), Refused("out of range")),
        (format!("0x{}", "f".repeat(60_000)), Refused("")),
        (format!("\"{}\"", "x".repeat(60_000)), Answered),
        (format!("label_replace(up, \"a\", \"{}\", \"b\", \"(.*)\")", "$1".repeat(20_000)), Answered),
        (format!("sum by ({}) (up)", vec!["l"; 20_000].join(",")), Answered),
        ("topk(9223372036854775807, up)".to_owned(), Refused("overflow")),
        ("topk(1e18, up)".to_owned(), Answered),
        ("count_values(\"\\xff\", up)".to_owned(), Refused("")),
        ("quantile(NaN, up)".to_owned(), Answered),
        ("{__name__=~\".*\"}".to_owned(), Refused("")),
        ("{}".to_owned(), Refused("")),
        ("\u{0}\u{ffff}\u{202e}".to_owned(), Refused("")),
        ("#".repeat(60_000), Refused("")),
        (" ".repeat(60_000), Refused("")),
        ("up{job=\"\u{0}\"}".to_owned(), Answered),
    ]
}

async fn ask(query: &Query, promql: &str) -> Answer {
    let body = format!("time=1050&query={}", encoded(promql));
    let head = "POST /api/v1/query HTTP/1.0\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    query.send(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_queries_are_refused_by_name_or_answered_and_others_go_on() {
    let labels = [("__name__", "up"), ("cluster", "good"), ("job", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa")];
    let good = store(info(&[("cluster", "good")]), answers(vec![Frame::Series(vec![series(&labels, 1.0)])])).await;
    let query = query(&[&good], &["--query.timeout=20s"]).await;
    let mut wrong = Vec::new();
    for (promql, fate) in corpus() {
        let (answer, other) = tokio::join!(ask(&query, &promql), query.instant("up", ""));
        assert_eq!(other.values("cluster"), [("good".to_owned(), "1".to_owned())], "beside {promql:.60}");
        let error = if answer.status == 200 { String::new() } else { answer.json()["error"].to_string() };
        let met = match fate {
            Answered => answer.status == 200,
            Refused(says) => (400..500).contains(&answer.status) && error.contains(says),
        };
        if !met {
            wrong.push(format!("{promql:.70}: {fate:?}, but {} {error:.200}", answer.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(query.get("/-/healthy").await.status, 200);
    let metrics = query.get("/metrics").await.text;
    for limit in ["--query.max-text-bytes", "--query.max-depth", "--query.max-terms", "--query.max-query-bytes"] {
        let line = format!("farview_query_limits_hit_total{{limit=\"{limit}\"}} ");
        assert!(metrics.contains(&line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_parameters_are_refused_by_name() {
    let good = store(info(&[("cluster", "good")]), answers(Vec::new())).await;
    let query = query(&[&good], &[]).await;
    let mut wrong = Vec::new();
    for (path, says) in [
        ("/api/v1/query?query=up&time=never", "time"),
        ("/api/v1/query?query=up&dedup=perhaps", "dedup"),
        ("/api/v1/query?query=up&partial_response=x", "partial_response"),
        ("/api/v1/query?query=up&max_source_resolution=soon", "max_source_resolution"),
        ("/api/v1/query?query=up&storeMatch[]=%7B", "storeMatch"),
        ("/api/v1/query_range?query=up&start=1&end=0&step=1", "end"),
        ("/api/v1/query_range?query=up&start=0&end=1&step=0", "step"),
        ("/api/v1/query_range?query=up&start=0&end=1&step=-1", "step"),
        ("/api/v1/query_range?query=up&start=0&end=100000000&step=1", "11,000"),
        ("/api/v1/query_range?query=up&start=-1e300&end=1e300&step=1", "11,000"),
        ("/api/v1/series", "match[]"),
        ("/api/v1/series?match[]=%7B%7D", ""),
        ("/api/v1/label/%FF%FE/values", ""),
        ("/api/v1/labels?limit=-1", "limit"),
        ("/api/v1/query?query=%FF%FE", ""),
    ] {
        let answer = query.get(path).await;
        let error = if answer.status == 200 { String::new() } else { answer.json()["error"].to_string() };
        if !(400..500).contains(&answer.status) || !error.contains(says) {
            wrong.push(format!("{path}: {} {:.300}", answer.status, answer.text));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out_of_what_is_served() {
    let query = query(&[], &[]).await;
    let up =
        ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..\\", "%c0%ae%c0%ae/", "....//", "..;/", "%252e%252e%252f"];
    let roots = ["/", "/assets/", "/api/v1/", "/api/v1/label/", "/static/", "/graph/", "//", "/./"];
    let ends = ["etc/passwd", "proc/self/environ", "etc/passwd%00.js", "Cargo.toml"];
    for root in roots {
        for (up, end) in up.iter().flat_map(|up| ends.iter().map(move |end| (up, end))) {
            let path = format!("{root}{}{end}", up.repeat(8));
            let answer = query.get(&path).await;
            let leaked = ["root:", "PATH=", "[package]", "[workspace]"].iter().any(|text| answer.text.contains(text));
            assert!(!leaked && answer.status < 500, "{path}: {answer:?}");
        }
    }
    for tenant in ["../other", "..", "a/b", "a\\b", "."] {
        let request = format!("GET /api/v1/query?query=up HTTP/1.0\r\nHost: x\r\nTHANOS-TENANT: {tenant}\r\n\r\n");
        let answer = query.send(&request).await;
        assert_eq!(answer.status, 400, "{tenant}: {answer:?}");
    }
}
