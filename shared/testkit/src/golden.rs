//! Recordings of the original systems, which lie beside the checkout.

use std::path::{Path, PathBuf};

/// Returns the folder with the recording (`shared/golden` beside the checkout that holds this crate); none where it is not at hand,
/// which is said.
pub fn golden() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/golden"));
    let found = above.into_iter().find(|folder| folder.is_dir());
    if found.is_none() {
        #[allow(clippy::print_stdout, reason = "a test that compares nothing has to say so")]
        {
            println!("no folder shared/golden beside the checkout: the recorded answers are not compared");
        }
    }
    found
}
