//! What the documents say of the tests is so.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::kubernetes::repository;
use std::collections::BTreeSet;
use std::path::Path;

/// Names of all functions in the Rust files below a folder.
fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = |line: &str| line.split_once("fn ")?.1.split(['(', '<']).next().map(str::to_owned);
            names.extend(text.lines().filter_map(name));
        }
    }
}

#[test]
fn every_test_that_the_page_of_faults_names_is_there() {
    let mut names = BTreeSet::new();
    ["services", "shared", "integration"].iter().for_each(|folder| functions(&repository().join(folder), &mut names));
    let page = std::fs::read_to_string(repository().join("docs/faults.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| fault")).collect();
    let mut proven = 0;
    for row in &rows {
        let tests: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let gone: Vec<_> = tests.iter().filter(|test| !names.contains(**test)).collect();
        assert!(gone.is_empty(), "{row}\nnames tests that are not there: {gone:?}");
        assert!(!tests.is_empty() || row.contains("| – |"), "{row}\nhas neither a test nor a reason");
        proven += usize::from(!tests.is_empty());
    }
    let score = format!("**Proven: {proven} of {}.**", rows.len());
    assert!(rows.len() > 50 && page.contains(&score), "the page should say: {score}");
}

#[test]
fn every_test_that_the_page_of_the_language_names_is_there() {
    let mut names = BTreeSet::new();
    ["services", "shared"].iter().for_each(|folder| functions(&repository().join(folder), &mut names));
    let page = std::fs::read_to_string(repository().join("docs/promql.md")).unwrap();
    let differences = page.split("Not equal to Prometheus").nth(1).unwrap();
    let points: Vec<&str> = differences.split("\n- ").skip(1).collect();
    for point in &points {
        let tests: Vec<_> = point.split('`').skip(1).step_by(2).filter(|name| names.contains(*name)).collect();
        assert!(!tests.is_empty(), "no test shows: {point}");
    }
    assert!(points.len() >= 4, "{points:?}");
}

#[test]
fn the_page_of_limits_names_flags_and_tests_that_are_there() {
    let mut names = BTreeSet::new();
    ["services", "shared"].iter().for_each(|folder| functions(&repository().join(folder), &mut names));
    let read = |page: &str| std::fs::read_to_string(repository().join("docs").join(page)).unwrap();
    let (page, flags) = (read("limits.md"), read("flags.md"));
    let quoted: BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
    let known = |quoted: &str| match quoted.strip_prefix("--") {
        Some(flag) => flags.contains(&format!("`--{flag}=")),
        // What is written as one word in lower case and is neither a metric nor a command is a test.
        None => {
            !quoted.contains('_')
                || quoted.starts_with("farview_")
                || quoted.contains("_total")
                || names.contains(quoted)
        }
    };
    let wrong: Vec<_> = quoted.iter().filter(|quoted| !known(quoted)).collect();
    assert!(quoted.len() > 30 && wrong.is_empty(), "{wrong:?}");
    let rows = page.lines().filter(|line| line.starts_with("| `--"));
    for row in rows {
        assert_eq!(row.matches(" | ").count(), 3, "{row}");
        assert!(row.split(" | ").last().unwrap().contains('`'), "{row}");
    }
}
