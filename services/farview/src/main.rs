//! The farview executable.
fn main() {}
