//! The Grafana dashboards that the manifests ship.

use super::repository;
use anyhow::Context;
use serde_json::Value;
use std::path::Path;

/// A dashboard: what it asks.
#[derive(Debug, Clone)]
pub struct Dashboard {
    /// Its `uid`.
    pub uid: String,
    /// The queries of its panels, with Grafana's variables in them.
    pub queries: Vec<String>,
    /// Selector and label of each variable that lists the values of a label.
    pub variables: Vec<(String, String)>,
}

impl Dashboard {
    /// Reads all whose `uid` begins with `prefix`, in the order of their files.
    ///
    /// # Errors
    /// If a file is no dashboard, naming it.
    pub fn all(prefix: &str) -> anyhow::Result<Vec<Self>> {
        let folder = repository().join("kustomize/components/dashboards");
        let mut files =
            std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        let mut all = files.iter().map(|path| Self::read(path)).collect::<anyhow::Result<Vec<_>>>()?;
        all.retain(|dashboard| dashboard.uid.starts_with(prefix));
        Ok(all)
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let about = || format!("{}: not a dashboard as expected", path.display());
        let json: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        let panels = json["panels"].as_array().with_context(about)?;
        let mut ids: Vec<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
        ids.sort_unstable();
        ids.dedup();
        anyhow::ensure!(ids.len() == panels.len(), "{}: panels have numbers of their own", path.display());
        let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        let queries = targets.map(|target| Some(target["expr"].as_str()?.to_owned())).collect::<Option<_>>();
        let lists = json["templating"]["list"].as_array().into_iter().flatten();
        let variables = lists.filter_map(|variable| {
            let values = variable["query"]["query"].as_str()?.strip_prefix("label_values(")?.strip_suffix(')')?;
            let (selector, label) = values.rsplit_once(", ")?;
            Some((selector.to_owned(), label.to_owned()))
        });
        Ok(Self {
            uid: json["uid"].as_str().with_context(about)?.to_owned(),
            queries: queries.with_context(about)?,
            variables: variables.collect(),
        })
    }
}

/// Puts in what Grafana does while "All" is chosen everywhere.
pub fn as_shown(query: &str) -> String {
    let mut text = query.replace("$__rate_interval", "5m");
    while let Some(at) = text.find('$') {
        let end =
            text[at + 1..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(text.len(), |end| at + 1 + end);
        text.replace_range(at..end, ".*");
    }
    text
}
