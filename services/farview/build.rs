//! Tells the binary which commit and compiler it is made of.
//!
//! Outside of a checkout, or without git, the values stay empty: a build must not fail for them.

use std::process::Command;

fn main() {
    let git = |args: &[&str]| output("git", args);
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let values = [
        ("FARVIEW_REVISION", git(&["rev-parse", "HEAD"])),
        ("FARVIEW_BRANCH", git(&["rev-parse", "--abbrev-ref", "HEAD"])),
        ("FARVIEW_BUILD_DATE", git(&["show", "-s", "--format=%cs", "HEAD"])),
        ("FARVIEW_RUST_VERSION", output(&rustc, &["--version"])),
    ];
    for (name, value) in values {
        println!("cargo::rustc-env={name}={value}");
    }
    // In a worktree, `.git` is a file: git knows where its head is. A commit moves the log of the head.
    for file in [git(&["rev-parse", "--git-path", "HEAD"]), git(&["rev-parse", "--git-path", "logs/HEAD"])] {
        if std::path::Path::new(&file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    println!("cargo::rerun-if-changed=build.rs");
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().ok().filter(|o| o.status.success());
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}
