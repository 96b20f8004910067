//! What holds of the engine beside its answers to Prometheus' scripts: order, bounds, accounts, and the faults that other
//! engines had.
#![allow(clippy::unwrap_used, reason = "tests")]

use farview_model::{Budget, ErrorKind, Labels, Samples, TimeRange};
use farview_promql::annotations::Severity;
use farview_promql::engine::{Answer, Engine, EngineOptions, Error, QueryContext, Series, Value};
use farview_promql::memory::MemoryStorage;
use farview_promql::{Queryable, Select, SeriesStream, SourceError, SourceSeries, parse};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const MINUTE: i64 = 60_000;

fn engine(workers: usize) -> Engine {
    Engine::new(EngineOptions { workers, parse: parse::Options::all(), ..EngineOptions::default() }).unwrap()
}

fn labels(text: &str) -> Labels {
    Labels::from_pairs(text.split(',').map(|pair| pair.split_once('=').unwrap()))
}

/// One sample a minute from time 0; NaN for none.
fn storage(series: &[(&str, &[f64])]) -> MemoryStorage {
    let mut storage = MemoryStorage::default();
    for (text, values) in series {
        let mut samples = Samples::default();
        for (i, value) in values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
            samples.push(i as i64 * MINUTE, *value);
        }
        storage.add(labels(text), samples);
    }
    storage
}

fn instant(storage: &MemoryStorage, query: &str, minute: i64) -> Result<Vec<Series>, Error> {
    match engine(1).instant(&QueryContext::default(), storage, query, minute * MINUTE)?.value {
        Value::Vector(series) => Ok(series),
        other => panic!("no vector: {other:?}"),
    }
}

fn range(storage: &MemoryStorage, query: &str, minutes: i64) -> Result<Vec<Series>, Error> {
    match engine(1).range(&QueryContext::default(), storage, query, 0, minutes * MINUTE, MINUTE)?.value {
        Value::Matrix(series) => Ok(series),
        other => panic!("no matrix: {other:?}"),
    }
}

fn values(series: &[Series]) -> Vec<(String, Vec<f64>)> {
    series.iter().map(|series| (series.labels.to_string(), series.values.clone())).collect()
}

/// Many series with gaps, of two metrics.
fn many() -> MemoryStorage {
    let mut storage = MemoryStorage::default();
    for i in 0..600u64 {
        let mut samples = Samples::default();
        let (mut total, mut random) = (0.1, i + 1);
        for k in 0..80 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            total = if random >> 60 == 0 { 0.3 } else { total + (random >> 40) as f64 / 1e5 };
            if random >> 33 & 7 != 0 {
                samples.push(k * MINUTE / 2, total);
            }
        }
        let le = ["0.1", "1", "10", "+Inf"][i as usize % 4];
        let name = if i % 2 == 0 { "even_total" } else { "odd_total" };
        let (job, pod) = (format!("job-{}", i % 7), format!("pod-{:03}", i / 4));
        storage.add(Labels::from_pairs([("__name__", name), ("job", &job), ("pod", &pod), ("le", le)]), samples);
    }
    storage
}

#[test]
fn an_answer_does_not_depend_on_the_number_of_workers() {
    let storage = many();
    let ask = |engine: &Engine, query: &str| -> Answer {
        engine.range(&QueryContext::default(), &storage, query, 0, 40 * MINUTE, MINUTE).unwrap()
    };
    let (one, four) = (engine(1), engine(4));
    for query in [
        "even_total",
        "sum(rate(even_total[5m]))",
        "avg by (job) (odd_total)",
        "stddev by (job) (odd_total)",
        "topk by (job) (3, even_total)",
        "quantile by (job) (0.3, odd_total)",
        "count_values(\"v\", floor(odd_total))",
        "histogram_quantile(0.9, sum by (job, le) (rate(even_total[5m])))",
        "sum by (pod) (even_total) / on (pod) group_left sum by (pod) (odd_total)",
        "max_over_time(rate(even_total[5m])[10m:1m])",
        "even_total and on (pod) odd_total > 3",
    ] {
        let (a, b) = (ask(&one, query), ask(&four, query));
        assert!(matches!(&a.value, Value::Matrix(series) if !series.is_empty()), "{query}");
        assert_eq!(format!("{:?}", a.value), format!("{:?}", b.value), "{query}");
        let notes = |answer: &Answer| answer.annotations.texts(Severity::Info, query);
        assert_eq!(notes(&a), notes(&b), "{query}");
    }
}

/// Takes down what is asked and read, in order.
struct Recorder(Mutex<Vec<String>>, MemoryStorage);

impl Queryable for Recorder {
    fn select(&self, select: &Select) -> Result<Box<dyn SeriesStream>, SourceError> {
        let name = select.matchers[0].value().to_owned();
        self.0.lock().unwrap().push(format!("open {name} {} {}", select.func, select.range.maxt - select.range.mint));
        self.1.select(select)
    }
}

/// A source whose streams fail at the first read.
struct Failing(Mutex<Vec<String>>);

struct Broken;

impl Queryable for Failing {
    fn select(&self, select: &Select) -> Result<Box<dyn SeriesStream>, SourceError> {
        self.0.lock().unwrap().push(select.matchers[0].value().to_owned());
        Ok(Box::new(Broken))
    }
}

impl SeriesStream for Broken {
    fn next(&mut self) -> Result<Option<Vec<SourceSeries>>, SourceError> {
        Err(SourceError { kind: ErrorKind::Unavailable, message: "the store is away".to_owned() })
    }
}

#[test]
fn every_selector_is_opened_before_one_is_read() {
    let failing = Failing(Mutex::default());
    let query = "sum(a) / b + clamp(topk(scalar(c), d), scalar(e), 3) - max_over_time(f[5m:1m]) * info(g)";
    let error = engine(1).instant(&QueryContext::default(), &failing, query, 0).unwrap_err();
    assert_eq!(error.to_string(), "expanding series: the store is away");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let mut asked = failing.0.into_inner().unwrap();
    asked.sort();
    assert_eq!(asked, ["a", "b", "c", "d", "e", "f", "g", "target_info"]);
}

#[test]
fn selectors_ask_for_what_they_need_and_say_what_is_above_them() {
    let recorder = Recorder(Mutex::default(), MemoryStorage::default());
    let query = "sum(rate(a[10m] offset 1h)) + max by (x) (b) + (-c)";
    engine(1).instant(&QueryContext::default(), &recorder, query, 0).unwrap();
    let asked = recorder.0.into_inner().unwrap();
    assert_eq!(asked, ["open a rate 599999", "open b max 299999", "open c  299999"]);
}

#[test]
fn memory_is_charged_and_given_back_whatever_happens() {
    let storage = many();
    let process = Budget::root("--query.memory", 0);
    for (limit, query) in
        [(0, "sort(even_total)"), (0, "sum(even_total)"), (20_000, "sum(even_total)"), (1, "odd_total")]
    {
        let budget = process.child("--query.memory-per-query", limit);
        let cx = QueryContext { budget: budget.clone(), ..QueryContext::default() };
        let answer = engine(2).range(&cx, &storage, query, 0, 40 * MINUTE, MINUTE);
        assert_eq!(answer.is_ok(), limit == 0, "{query}");
        if let Err(error) = answer {
            assert_eq!(error.kind(), ErrorKind::LimitExceeded);
            assert!(error.to_string().contains("--query.memory-per-query"), "{error}");
        } else {
            assert!(budget.peak() > 0);
        }
        assert_eq!((budget.used(), process.used()), (0, 0), "{query}");
    }
}

#[test]
fn folding_takes_no_more_memory_for_more_series() {
    let peak = |series: u64| {
        let mut storage = MemoryStorage::default();
        for i in 0..series {
            let mut samples = Samples::default();
            (0..600).for_each(|k| samples.push(k * MINUTE, i as f64));
            storage.add(Labels::from_pairs([("__name__", "m"), ("i", &format!("{i:05}"))]), samples);
        }
        let cx = QueryContext::default();
        engine(1).range(&cx, &storage, "sum(m)", 0, 599 * MINUTE, MINUTE).unwrap();
        cx.budget.peak()
    };
    assert!(peak(2_000) < peak(200) * 2);
}

#[test]
fn queries_that_nothing_could_hold_are_refused_before_they_run() {
    let storage = storage(&[("__name__=m", &[1.0])]);
    let start = Instant::now();
    for query in ["sum_over_time(m[1y:1ms])", "max_over_time(min_over_time(m[1d:1ms])[100y:1s])"] {
        let error = instant(&storage, query, 0).unwrap_err();
        assert_eq!(error.to_string(), "query processing would load too many samples into memory in query execution");
    }
    let error = engine(1).range(&QueryContext::default(), &storage, "m", i64::MIN / 2, i64::MAX / 2, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_cancelled_query_and_one_out_of_time_end() {
    let storage = storage(&[("__name__=m", &[1.0])]);
    let cx = QueryContext::default();
    cx.cancelled.store(true, Ordering::Relaxed);
    let error = engine(1).instant(&cx, &storage, "m", 0).unwrap_err();
    assert_eq!(error.to_string(), "query was canceled in expression evaluation");
    let error = engine(1).instant(&QueryContext::with_timeout(Duration::ZERO), &storage, "m", 0).unwrap_err();
    assert_eq!(error.to_string(), "query timed out in expression evaluation");
}

#[test]
fn series_that_become_equal_are_refused_at_once_without_delayed_removal() {
    let apart = storage(&[("__name__=a,x=1", &[1.0, 2.0, 3.0]), ("__name__=b,x=1", &[f64::NAN; 60])]);
    assert_eq!(range(&apart, "rate({x=\"1\"}[5m])", 3).unwrap().len(), 1);
    let (a, mut b) = ([1.0, 2.0], vec![f64::NAN; 20]);
    b.extend([5.0, 6.0]);
    let apart = storage(&[("__name__=a,x=1", &a), ("__name__=b,x=1", &b)]);
    let error = range(&apart, "rate({x=\"1\"}[5m])", 25).unwrap_err();
    assert_eq!(error.to_string(), "vector cannot contain metrics with the same labelset");
    // What is computed step by step is compared step by step, and parts of one series are joined.
    for query in ["abs({x=\"1\"})", "-{x=\"1\"}", "{x=\"1\"} * 2", "sum by (x) ({x=\"1\"})"] {
        assert_eq!(range(&apart, query, 25).unwrap().len(), 1, "{query}");
    }
    assert_eq!(values(&range(&apart, "max_over_time(abs({x=\"1\"})[30m:1m])", 25).unwrap())[0].1[25], 6.0);
    let together = storage(&[("__name__=a,x=1", &[1.0]), ("__name__=b,x=1", &[2.0])]);
    for query in ["abs({x=\"1\"})", "-{x=\"1\"}", "{x=\"1\"} * 2", "timestamp({x=\"1\"})"] {
        assert!(range(&together, query, 1).is_err(), "{query}");
    }
}

#[test]
fn duplicates_on_the_one_side_count_only_where_the_other_side_has_a_sample() {
    let gap = f64::NAN;
    let one = storage(&[
        ("__name__=many,x=1", &[gap, gap, 3.0]),
        ("__name__=one,x=1,y=1", &[1.0, 1.0]),
        ("__name__=one,x=1,y=2", &[1.0]),
    ]);
    let cx = QueryContext { lookback_delta: Some(MINUTE), ..QueryContext::default() };
    let ask = |storage: &MemoryStorage| engine(1).range(&cx, storage, "many + on (x) one", 0, 2 * MINUTE, MINUTE);
    assert!(ask(&one).is_ok());
    let two = storage(&[
        ("__name__=many,x=2", &[5.0]),
        ("__name__=one,x=1,y=1", &[1.0, 1.0]),
        ("__name__=one,x=1,y=2", &[1.0]),
    ]);
    let text = ask(&two).unwrap_err().to_string();
    assert!(text.starts_with("found duplicate series for the match group {x=\"1\"} on the right hand-side"), "{text}");
}

#[test]
fn a_reset_before_the_window_is_not_in_it() {
    let storage = storage(&[("__name__=c_total", &[9.0, 1.0, 2.0, 3.0, 4.0])]);
    let answer = range(&storage, "resets(c_total[2m])", 4).unwrap();
    assert_eq!(answer[0].values, [0.0, 1.0, 0.0, 0.0, 0.0]);
    let answer = range(&storage, "increase(c_total[2m])", 4).unwrap();
    assert_eq!(answer[0].values[1..], [2.0, 2.0, 2.0]);
}

#[test]
fn of_equal_values_topk_takes_the_first_series() {
    let series: Vec<String> = (0..9).map(|i| format!("__name__=m,i={i}")).collect();
    let series: Vec<(&str, &[f64])> = series.iter().map(|text| (text.as_str(), &[1.0, 1.0][..])).collect();
    let storage = storage(&series);
    let names = |series: Vec<Series>| series.iter().map(|s| s.labels.get("i").unwrap().to_owned()).collect::<String>();
    assert_eq!(names(instant(&storage, "topk(3, m)", 0).unwrap()), "012");
    assert_eq!(names(instant(&storage, "bottomk(3, m)", 0).unwrap()), "012");
    assert_eq!(names(range(&storage, "topk(4, m)", 1).unwrap()), "0123");
}

#[test]
fn nested_subqueries_with_offsets_read_all_they_need() {
    let rising: Vec<f64> = (0..60).map(f64::from).collect();
    let storage = storage(&[("__name__=m", &rising)]);
    let query = "max_over_time((min_over_time(m[2m:1m] offset 5m))[10m:1m] offset 10m)";
    assert_eq!(instant(&storage, query, 59).unwrap()[0].values, [43.0]);
    assert_eq!(instant(&storage, "sum_over_time(m[3m:2m])", 10).unwrap()[0].values, [18.0]);
}

#[test]
fn groups_without_labels_have_no_name() {
    let storage = storage(&[("__name__=a,x=1", &[1.0]), ("__name__=b,x=1", &[2.0])]);
    for query in ["sum without () ({x=\"1\"})", "sum without (y) ({x=\"1\"})", "sum by (x) ({x=\"1\"})"] {
        assert_eq!(values(&instant(&storage, query, 0).unwrap()), [("{x=\"1\"}".to_owned(), vec![3.0])], "{query}");
    }
}

#[test]
fn signed_zeros_and_nan_survive_aggregation() {
    let storage = storage(&[("__name__=m,x=1", &[-0.0])]);
    for query in ["sum(m)", "min(m)", "max(m)", "sum_over_time(m[1m])", "topk(1, m)"] {
        let value = instant(&storage, query, 0).unwrap()[0].values[0];
        // A compensated sum ends by adding what was lost, which is +0.
        let negative = !query.starts_with("sum");
        assert_eq!((value, value.is_sign_negative()), (0.0, negative), "{query}");
    }
}

#[test]
fn explain_shows_the_operators_and_analyze_what_they_cost() {
    let engine = engine(1);
    let expr = engine.parse("sum by (job) (rate(m[5m])) / scalar(vector(2))").unwrap();
    let tree = engine.explain(&expr, 0, 600_000, 60_000).unwrap();
    assert_eq!(tree.name, "[binary] /");
    assert_eq!(tree.children[0].name, "[aggregate] sum by (job)");
    assert_eq!(tree.children[0].children[0].name, "[matrixSelector] rate(m[5m])");
    let storage = many();
    let cx = QueryContext { analyze: true, ..QueryContext::default() };
    let answer = engine.range(&cx, &storage, "sum(rate(even_total[5m]))", 0, 40 * MINUTE, MINUTE).unwrap();
    let sum = answer.analysis.unwrap();
    assert_eq!((sum.series, sum.children[0].series), (1, 300));
    assert!(sum.nanos >= sum.children[0].nanos);
}

#[test]
fn stats_count_the_samples_of_every_window() {
    let storage = storage(&[("__name__=m", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
    let answer =
        |query: &str| engine(1).range(&QueryContext::default(), &storage, query, 0, 5 * MINUTE, MINUTE).unwrap();
    assert_eq!(answer("m").stats.total_samples, 6);
    let rate = answer("rate(m[2m])").stats;
    assert_eq!((rate.total_samples, rate.samples_read, rate.series), (11, 6, 1));
}

#[test]
fn a_source_is_never_asked_for_time_that_does_not_exist() {
    let storage = storage(&[("__name__=m", &[1.0])]);
    for query in
        ["m offset 200y", "rate(m[200y])", "m @ 9223372036854775", "m offset -250y", "sum_over_time(m[10m:5m] @ -9e15)"]
    {
        let at = engine(1).instant(&QueryContext::default(), &storage, query, 9_000_000_000_000_000_000);
        assert!(at.is_ok() || at.is_err_and(|error| error.kind() != ErrorKind::Internal), "{query}");
    }
    assert!(TimeRange::ALL.contains(0));
}

#[test]
fn the_highest_tree_that_is_read_is_evaluated() {
    let storage = storage(&[("__name__=m", &[1.0])]);
    let limits = parse::Limits::default();
    let chain = vec!["m"; limits.height - 10].join(" + ");
    assert_eq!(instant(&storage, &chain, 0).unwrap()[0].values, [(limits.height - 10) as f64]);
    let deep = format!("{}m{}", "abs(".repeat(limits.depth - 8), ")".repeat(limits.depth - 8));
    assert_eq!(instant(&storage, &deep, 0).unwrap()[0].values, [1.0]);
}

#[test]
fn durations_that_are_none_are_the_fault_of_the_query() {
    let storage = storage(&[("__name__=m", &[1.0])]);
    for query in ["rate(m[5m - 5m])", "m offset (1 / 0)", "sum_over_time(m[5m:step()])"] {
        assert_eq!(instant(&storage, query, 0).unwrap_err().kind(), ErrorKind::Invalid, "{query}");
    }
}

#[test]
fn a_series_in_parts_is_whole_again_below_a_subquery() {
    let gap = f64::NAN;
    let (first, second) = ([1.0, 2.0, gap, gap, gap], [gap, gap, gap, 4.0, 3.0]);
    let storage =
        storage(&[("__name__=m,x=1", &[1.0; 5]), ("__name__=n,x=1,y=1", &first), ("__name__=n,x=1,y=2", &second)]);
    for delayed_name_removal in [false, true] {
        let options = EngineOptions { delayed_name_removal, lookback_delta: MINUTE, ..EngineOptions::default() };
        let engine = Engine::new(options).unwrap();
        let query = "count_over_time((m * on (x) n)[5m:1m])";
        let answer = engine.instant(&QueryContext::default(), &storage, query, 4 * MINUTE).unwrap();
        let Value::Vector(series) = answer.value else { panic!("no vector") };
        assert_eq!(values(&series), [("{x=\"1\"}".to_owned(), vec![4.0])]);
    }
}

/// What the run of random queries beside Prometheus found (`integration/tests/differential.rs`).
#[test]
fn what_random_queries_found() {
    let rising = [1.0, 2.0, 3.0];
    let data = storage(&[("__name__=a,x=1", &rising), ("__name__=b,x=1", &rising), ("__name__=c,x=1,y=1", &rising)]);
    let one = |query: &str| values(&instant(&data, query, 1).unwrap());
    // Series of several names become equal without them; `absent_over_time` does not look at labels.
    assert_eq!(one("absent_over_time({x=\"1\"}[1m])"), []);
    // Go's math.Max(NaN, +Inf) is +Inf.
    assert_eq!(one("clamp_min(vector(NaN), Inf)")[0].1, [f64::INFINITY]);
    assert_eq!(one("clamp_max(vector(NaN), -Inf)")[0].1, [f64::NEG_INFINITY]);
    assert!(one("clamp_min(vector(NaN), 1)")[0].1[0].is_nan());
    let said = |query: &str| {
        let answer = engine(1).instant(&QueryContext::default(), &data, query, MINUTE).unwrap();
        let of = |severity| answer.annotations.shown(severity, query);
        [of(Severity::Warning), of(Severity::Info)].concat()
    };
    // Where nothing is evaluated nothing is said.
    assert_eq!(said("quantile_over_time(2, none[5m])"), [""; 0]);
    let out_of_range = "PromQL warning: quantile value should be between 0 and 1, got 2";
    assert_eq!(said("quantile_over_time(2, a[5m])"), [format!("{out_of_range} (1:20)")]);
    // Of several places the last one that is evaluated, within parentheses.
    assert_eq!(said("quantile(2, a) + quantile(2, a)"), [format!("{out_of_range} (1:27)")]);
    let missing = "PromQL warning: bucket label \"le\" is missing or has a malformed value of \"\"";
    assert_eq!(said("histogram_quantile(0.5, (a))"), [format!("{missing} (1:26)")]);
}

#[test]
fn which_of_equal_values_leaves_the_heap_of_topk_is_as_in_prometheus() {
    // Three that are equal fill the heap, a greater one takes the place of the first.
    let values = [1.0, 1.0, 1.0, 2.0];
    let series: Vec<String> = (0..4).map(|i| format!("__name__=m,i={i}")).collect();
    let series: Vec<(&str, &[f64])> =
        series.iter().zip(&values).map(|(text, value)| (text.as_str(), std::slice::from_ref(value))).collect();
    let mut names: Vec<_> = instant(&storage(&series), "topk(3, m)", 0)
        .unwrap()
        .iter()
        .map(|series| series.labels.get("i").unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["1", "2", "3"]);
}

#[test]
fn the_x_functions_are_the_anchored_ones() {
    let none = f64::NAN;
    let storage = storage(&[("__name__=m,a=1", &[0.0, 10.0, none, 25.0, 2.0, 8.0, 8.0, 9.5])]);
    for (ours, prometheus) in [
        ("xrate(m[3m])", "rate(m[3m] anchored)"),
        ("xincrease(m[150s])", "increase(m[150s] anchored)"),
        ("xdelta(m[2m])", "delta(m[2m] anchored)"),
    ] {
        let (a, b) = (range(&storage, ours, 8).unwrap(), range(&storage, prometheus, 8).unwrap());
        assert!(!a.is_empty(), "{ours}");
        assert_eq!(format!("{:?}", values(&a)), format!("{:?}", values(&b)), "{ours}");
    }
}

#[test]
fn of_equal_samples_the_first_by_labels_is_taken() {
    let storage = storage(&[("__name__=m,a=3", &[1.0]), ("__name__=m,a=1", &[1.0]), ("__name__=m,a=2", &[1.0])]);
    for query in ["topk(2, m)", "bottomk(2, m)"] {
        let taken: Vec<String> =
            values(&range(&storage, query, 0).unwrap()).into_iter().map(|(labels, _)| labels).collect();
        assert_eq!(taken, ["{__name__=\"m\", a=\"1\"}", "{__name__=\"m\", a=\"2\"}"], "{query}");
    }
}
