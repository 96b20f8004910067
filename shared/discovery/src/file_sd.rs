//! Prometheus' file service discovery: lists of targets in JSON or YAML files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::watched::{in_words, read, yaml};
use crate::{Error, Target, WatchedFiles};

/// One group of targets in a file. Labels are read and carry no meaning for endpoints.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetGroup {
    /// Addresses; they may be DNS targets.
    pub targets: Vec<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// The targets of all files, and what is wrong with files that are not usable now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSd {
    /// The targets of every file. A file that is not usable keeps its former ones.
    pub files: BTreeMap<PathBuf, BTreeSet<Target>>,
    /// Files that are not usable, and why.
    pub problems: BTreeMap<PathBuf, String>,
}

impl FileSd {
    /// Follows the files that the patterns name: a path whose last part may hold one `*` and ends in `.json`, `.yml` or `.yaml`, as
    /// in Prometheus. A file that disappears takes its targets along.
    ///
    /// # Errors
    /// A pattern of another form, or a directory that cannot be watched.
    pub fn watch(patterns: &[String], poll: Duration) -> Result<WatchedFiles<Self>, Error> {
        let patterns: Vec<Pattern> = patterns.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
        let paths: Vec<PathBuf> = patterns.iter().map(|pattern| pattern.path.clone()).collect();
        WatchedFiles::start(&paths, poll, move |before| Ok(Self::read(&patterns, before)))
    }

    /// Returns the targets of all files, each once.
    pub fn targets(&self) -> BTreeSet<Target> {
        self.files.values().flatten().cloned().collect()
    }

    fn read(patterns: &[Pattern], before: Option<&Self>) -> Self {
        let mut now = Self::default();
        for path in patterns.iter().flat_map(Pattern::files).collect::<BTreeSet<_>>() {
            match targets_in(&path) {
                Ok(targets) => _ = now.files.insert(path, targets),
                Err(error) => {
                    let problem = in_words(&error);
                    if before.is_none_or(|before| before.problems.get(&path) != Some(&problem)) {
                        tracing::warn!(error = problem, "target file is not usable; its former targets stay");
                    }
                    let former = before.and_then(|before| before.files.get(&path)).cloned().unwrap_or_default();
                    now.problems.insert(path.clone(), problem);
                    now.files.insert(path, former);
                }
            }
        }
        now
    }
}

fn targets_in(path: &Path) -> Result<BTreeSet<Target>, Error> {
    let text = read(path)?;
    let content = |problem: String| Error::Content { path: path.to_owned(), problem };
    let groups: Vec<TargetGroup> = match path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        true => serde_json::from_str(&text).map_err(|error| content(error.to_string()))?,
        // Seen while somebody writes in place: it must not let all targets go.
        false if text.trim().is_empty() => return Err(content("is empty; write [] to mean none".to_owned())),
        false => yaml(path, &text)?,
    };
    let parse = |text: String| text.parse().map_err(|error: Error| content(error.to_string()));
    groups.into_iter().flat_map(|group| group.targets).map(parse).collect()
}

/// A path whose file name may hold one `*`.
#[derive(Debug)]
struct Pattern {
    path: PathBuf,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, Error> {
        let path = PathBuf::from(text);
        let wrong = |problem: &str| Err(Error::Content { path: PathBuf::from(text), problem: problem.to_owned() });
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return wrong("is not a path to a file");
        };
        let known = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"];
        if !known.iter().any(|end| name.ends_with(end)) {
            return wrong("must end in .json, .yml or .yaml");
        }
        if name.matches('*').count() > 1 || text.matches('*').count() > name.matches('*').count() {
            return wrong("only the file name may hold a *, and only one");
        }
        Ok(Self { path })
    }

    fn files(&self) -> Vec<PathBuf> {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((head, tail)) = name.split_once('*') else {
            return if self.path.exists() { vec![self.path.clone()] } else { Vec::new() };
        };
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
        let matches = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        };
        entries.flatten().map(|entry| entry.path()).filter(matches).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_another_form_are_refused() {
        for (text, says) in [
            ("a.txt", "must end in"),
            ("a*/b.json", "only the file name"),
            ("a*b*.json", "only the file name"),
            ("/", "not a path"),
        ] {
            let error = Pattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(Pattern::parse("/etc/sd/*.yaml").is_ok());
    }
}
