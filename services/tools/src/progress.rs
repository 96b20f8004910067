//! How far a tool is, shown on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// Makes a bar over `steps` steps that says what is being done; it is silent where standard error is not a terminal.
pub(crate) fn bar(steps: usize, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {eta} {msg}");
    let bar = ProgressBar::new(steps as u64).with_prefix(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
