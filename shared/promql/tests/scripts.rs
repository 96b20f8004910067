//! Prometheus' own scripts, as far as they are given beside the checkout.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot read its scripts fails; one without says so"
)]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it lacks and fails loudly")]

use farview_promql::ast::{Duration, DurationExpr, DurationNode, Expr, Node, Span};
use farview_promql::parse::{Options, parse};
use farview_promql::script::parse::{Command, parse_script};
use farview_promql::script::run_files;
use std::path::{Path, PathBuf};

/// Cases that pass, at least, by file. The numbers only rise.
const PASSING: [(&str, usize); 17] = [
    ("aggregators", 118),
    ("at_modifier", 78),
    ("collision", 2),
    ("duration_expression", 43),
    ("extended_vectors", 66),
    ("fill-modifier", 27),
    ("functions", 270),
    ("histograms", 179),
    ("info", 35),
    ("literals", 25),
    ("name_label_dropping", 30),
    ("native_histograms", 213),
    ("operators", 105),
    ("selectors", 31),
    ("staleness", 17),
    ("start_timestamps", 14),
    ("trig_functions", 19),
];

/// Returns the scripts; none if the folder is not there, which is said.
fn scripts() -> Vec<PathBuf> {
    // Beside the checkout, which may itself be a work tree further down.
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/promqltest"));
    let Some(folder) = above.into_iter().find(|folder| folder.is_dir()) else {
        println!("no folder shared/promqltest beside the checkout: Prometheus' scripts are not run");
        return Vec::new();
    };
    let files = std::fs::read_dir(&folder).unwrap();
    let mut paths: Vec<PathBuf> =
        files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "test")).collect();
    paths.sort();
    assert_eq!(paths.len(), PASSING.len(), "scripts in {}", folder.display());
    paths
}

#[test]
fn at_least_as_many_cases_pass_as_did_before() {
    let mut out = Vec::new();
    let score = run_files(&scripts(), &mut out).unwrap();
    let (_, worse): (Vec<_>, Vec<_>) = score.files.iter().partition(|(name, file)| {
        let least = PASSING.iter().find(|(known, _)| known == name).expect("every script is in the table").1;
        file.passed >= least
    });
    let names: Vec<&str> = worse.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.is_empty(), "fewer cases pass in {names:?}:\n{}", String::from_utf8_lossy(&out));
}

#[test]
fn queries_print_as_texts_that_read_back_as_the_same_tree() {
    let mut count = 0;
    for path in scripts() {
        for command in parse_script(&std::fs::read_to_string(&path).unwrap()).unwrap() {
            let Command::Eval(eval) = command else { continue };
            let parsed = |text: &str| {
                let mut expr = parse(text, &Options::all()).unwrap_or_else(|error| panic!("{text}: {error}"));
                plain(&mut expr);
                expr
            };
            let (expr, query) = (parsed(&eval.query), &eval.query);
            let printed = expr.to_string();
            let again = parsed(&printed);
            // NaN is not equal to itself; the debug texts are.
            assert_eq!(format!("{again:?}"), format!("{expr:?}"), "{query} was printed as {printed}");
            assert_eq!(again.to_string(), printed, "{query}");
            let pretty = parsed(&farview_promql::pretty::pretty(&expr));
            assert_eq!(format!("{pretty:?}"), format!("{expr:?}"), "{query} was laid out");
            count += 1;
        }
    }
    assert!(count == 0 || count > 1_000, "only {count} queries were found");
}

/// Takes out of a tree what printing may change: positions, the order of matchers, an offset of nothing.
fn plain(expr: &mut Expr) {
    expr.span = Span::default();
    match &mut expr.node {
        Node::Number(_) | Node::String(_) => {}
        Node::Vector(selector) => plain_selector(selector),
        Node::Matrix(matrix) => {
            matrix.selector_span = Span::default();
            plain_selector(&mut matrix.selector);
            plain_duration(&mut matrix.range);
        }
        Node::Subquery(subquery) => {
            plain(&mut subquery.expr);
            plain_duration(&mut subquery.range);
            subquery.step.iter_mut().for_each(plain_duration);
            plain_offset(&mut subquery.offset);
        }
        Node::Unary(unary) => plain(&mut unary.expr),
        Node::Binary(binary) => {
            plain(&mut binary.lhs);
            plain(&mut binary.rhs);
        }
        Node::Aggregate(aggregate) => {
            plain(&mut aggregate.expr);
            aggregate.param.iter_mut().for_each(|param| plain(param));
        }
        Node::Call(call) => call.args.iter_mut().for_each(plain),
        Node::Paren(inner) => plain(inner),
    }
}

fn plain_selector(selector: &mut farview_promql::ast::VectorSelector) {
    plain_offset(&mut selector.offset);
    let mut matchers = selector.matchers.to_vec();
    matchers.sort_by_key(ToString::to_string);
    selector.matchers = matchers.into();
}

fn plain_offset(offset: &mut Option<Duration>) {
    if *offset == Some(Duration::Millis(0)) {
        *offset = None;
    }
    offset.iter_mut().for_each(plain_duration);
}

fn plain_duration(duration: &mut Duration) {
    fn walk(expr: &mut DurationExpr) {
        expr.span = Span::default();
        match &mut expr.node {
            DurationNode::Number(_) | DurationNode::Step | DurationNode::Range => {}
            DurationNode::Unary(_, inner) => walk(inner),
            DurationNode::Binary(_, a, b) | DurationNode::MinOf(a, b) | DurationNode::MaxOf(a, b) => {
                walk(a);
                walk(b);
            }
        }
    }
    if let Duration::Expr(expr) = duration {
        walk(expr);
    }
}
