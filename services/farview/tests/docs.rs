//! The pages that are made from the code say what the code does. `UPDATE_DOCS=1` writes them (`just docs`).
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::path::Path;
use std::process::Command;

#[test]
fn the_page_of_flags_is_what_the_flags_are() {
    let output = Command::new(env!("CARGO_BIN_EXE_farview")).args(["docs", "flags"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/flags.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, &output.stdout).unwrap();
    }
    let committed = std::fs::read(&page).unwrap_or_default();
    assert!(committed == output.stdout, "docs/flags.md is out of date: run `just docs`");
}
