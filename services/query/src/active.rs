//! The queries that run now, in a file that outlives the process: who looks for the query that ended it finds it there.
//!
//! The file `queries.active` is Prometheus': `[`, then one place per query that may run, each a JSON object and a comma, filled up with
//! zero bytes.

use anyhow::Context as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::SystemTime;

/// Bytes of a place.
const PLACE: usize = 1_000;
/// Most bytes of a query's text; what else is in a place needs less than the rest.
const TEXT: usize = PLACE - 100;

/// Writes down which queries run.
#[derive(Debug)]
pub(crate) struct ActiveQueries {
    file: File,
    free: Mutex<Vec<usize>>,
}

/// A query in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// PromQL, perhaps only its beginning.
    pub(crate) query: String,
    /// When it began, Unix s.
    pub(crate) timestamp_sec: u64,
}

impl ActiveQueries {
    /// Makes the file in a folder, with places for so many queries; returns those that did not finish when the file was last in use, too.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn open(dir: &Path, places: usize) -> anyhow::Result<(Self, Vec<Entry>)> {
        let path = dir.join("queries.active");
        let about = || format!("--query.active-query-path: {}", path.display());
        std::fs::create_dir_all(dir).with_context(about)?;
        let before = match std::fs::read(&path) {
            Ok(bytes) => entries(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(about),
        };
        let file = File::create(&path).with_context(about)?;
        file.set_len((1 + PLACE * places) as u64).with_context(about)?;
        file.write_all_at(b"[", 0).with_context(about)?;
        Ok((Self { file, free: Mutex::new((0..places).rev().collect()) }, before))
    }

    /// Notes a query until the value is dropped. The file is a help and no need: a full disk is said in the log, and the query runs.
    pub(crate) fn enter(&self, text: &str) -> Active<'_> {
        let place = self.free.lock().pop();
        if let Some(place) = place {
            self.write(place, &written(text));
        }
        Active { all: self, place }
    }

    fn write(&self, place: usize, bytes: &[u8; PLACE]) {
        if let Err(error) = self.file.write_all_at(bytes, (1 + PLACE * place) as u64) {
            tracing::warn!(%error, "queries.active cannot be written");
        }
    }
}

/// Keeps a query in the file.
pub(crate) struct Active<'a> {
    all: &'a ActiveQueries,
    place: Option<usize>,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.all.write(place, &[0; PLACE]);
            self.all.free.lock().push(place);
        }
    }
}

/// Returns what stands in a place.
fn written(text: &str) -> [u8; PLACE] {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut end = text.len().min(TEXT);
    let mut bytes = [0; PLACE];
    loop {
        end = text.floor_char_boundary(end);
        let entry = Entry { query: text[..end].to_owned(), timestamp_sec: now };
        let json = serde_json::to_string(&entry).unwrap_or_default() + ",";
        // Escapes make text longer, up to six times.
        if let Some(room) = bytes.get_mut(..json.len()) {
            room.copy_from_slice(json.as_bytes());
            return bytes;
        }
        end /= 2;
    }
}

/// Reads the entries of a file; what is none is left out.
fn entries(bytes: &[u8]) -> Vec<Entry> {
    let places = bytes.get(1..).unwrap_or_default().chunks(PLACE);
    places
        .filter_map(|place| {
            let json = place.split(|byte| *byte == 0).next()?.strip_suffix(b",")?;
            serde_json::from_slice(json).ok()
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    fn texts(entries: Vec<Entry>) -> Vec<String> {
        entries.into_iter().map(|entry| entry.query).collect()
    }

    #[test]
    fn what_ran_when_the_process_ended_is_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (active, before) = ActiveQueries::open(&dir.path().join("new"), 2).unwrap();
        assert!(before.is_empty());
        drop(active.enter("done"));
        let _first = active.enter("up{a=\"\u{1F600}\"}");
        let _second = active.enter("sum(up)");
        let _no_place = active.enter("one too many");
        let (_, before) = ActiveQueries::open(&dir.path().join("new"), 2).unwrap();
        assert_eq!(texts(before), ["up{a=\"\u{1F600}\"}", "sum(up)"]);
        let (_, before) = ActiveQueries::open(&dir.path().join("new"), 2).unwrap();
        assert!(before.is_empty(), "they are told once");
    }

    #[test]
    fn long_queries_are_cut_between_characters() {
        for text in ["é".repeat(2_000), "\u{1}".repeat(2_000), "\"".repeat(2_000)] {
            let found = entries(&[&b"["[..], &written(&text)].concat());
            assert!(found.len() == 1 && !found[0].query.is_empty() && text.starts_with(&found[0].query));
        }
    }

    #[test]
    fn a_file_that_is_none_is_no_reason_not_to_start() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [&b""[..], b"[", b"nonsense", &[0xff; 3_000]] {
            std::fs::write(dir.path().join("queries.active"), bytes).unwrap();
            assert!(ActiveQueries::open(dir.path(), 3).unwrap().1.is_empty());
        }
        assert!(
            ActiveQueries::open(Path::new("/dev/null/x"), 1).unwrap_err().to_string().contains("active-query-path")
        );
    }
}
