//! The engine beside Prometheus' own: random queries over the same block, each answer compared with the other.

mod compare;
mod data;
mod generate;

use anyhow::Context;
use compare::Side;
use farview_block::BlockId;
use farview_localblock::{LocalBlock, LocalBlocks, LocalBlocksConfig};
use farview_promql::annotations::Severity;
use farview_promql::engine::{Answer, Engine, EngineOptions, Error, QueryContext};
use farview_testkit::prometheus::{Prometheus, Version};
use futures::{StreamExt, stream};
pub use generate::{Question, Questions};
use serde_json::Value as Json;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Queries under way at a time.
const AT_ONCE: usize = 4;

/// Both engines over one block.
pub struct Pair {
    prometheus: Prometheus,
    client: reqwest::Client,
    engine: Arc<Engine>,
    blocks: Arc<LocalBlocks>,
    // Its folder goes with it.
    _folder: tempfile::TempDir,
}

/// Two answers that differ.
#[derive(Debug)]
pub struct Difference {
    /// The query.
    pub question: Question,
    /// Where they differ, in words.
    pub what: String,
    /// Ours.
    pub ours: String,
    /// Prometheus'.
    pub theirs: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { question, what, ours, theirs } = self;
        write!(f, "{question}\n  {what}\n  ours:   {ours:.700}\n  theirs: {theirs:.700}")
    }
}

impl Pair {
    /// Writes the block of `seed` and starts a Prometheus 3 over it.
    ///
    /// # Errors
    /// If there is no such Prometheus, or it does not start.
    pub async fn start(seed: u64) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let id = BlockId::generate();
        let place = folder.path().join(id.to_string());
        data::write(&place, id, seed)?;
        let builder = Prometheus::builder().version(Version::Three).blocks(&place);
        let prometheus =
            builder.config("global: {evaluation_interval: 1m}\n").arg("--query.max-concurrency=8").start().await?;
        let block = LocalBlock::open(&place)?;
        let blocks = Arc::new(LocalBlocks::new(vec![block], LocalBlocksConfig::default())?);
        let engine = Arc::new(Engine::new(EngineOptions::default())?);
        Ok(Self { prometheus, client: reqwest::Client::new(), engine, blocks, _folder: folder })
    }

    /// Asks both sides all questions; returns where they differ.
    ///
    /// # Errors
    /// If Prometheus does not answer.
    pub async fn run(&self, questions: impl Iterator<Item = Question>) -> anyhow::Result<Vec<Difference>> {
        let asked = stream::iter(questions).map(|question| self.ask(question)).buffer_unordered(AT_ONCE);
        let answers: Vec<Option<Difference>> = asked.collect::<Vec<_>>().await.into_iter().collect::<Result<_, _>>()?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Asks both sides.
    ///
    /// # Errors
    /// If Prometheus does not answer.
    pub async fn ask(&self, question: Question) -> anyhow::Result<Option<Difference>> {
        let ours = self.ours(question.clone());
        let (ours, theirs) = tokio::join!(ours, self.theirs(&question));
        let (ours, theirs) = (ours?, theirs?);
        let what = compare::difference(&ours, &theirs, &question.text);
        Ok(what.map(|what| Difference { question, what, ours: ours.to_string(), theirs: theirs.to_string() }))
    }

    async fn ours(&self, question: Question) -> anyhow::Result<Side> {
        let (engine, blocks) = (Arc::clone(&self.engine), Arc::clone(&self.blocks));
        let evaluated = tokio::task::spawn_blocking(move || {
            let context = QueryContext::default();
            let answer = match question.step {
                0 => engine.instant(&context, &*blocks, &question.text, question.start),
                step => engine.range(&context, &*blocks, &question.text, question.start, question.end, step),
            };
            side(answer, &question.text)
        });
        Ok(evaluated.await?)
    }

    async fn theirs(&self, question: &Question) -> anyhow::Result<Side> {
        let seconds = |t: i64| format!("{}.{:03}", t.div_euclid(1_000), t.rem_euclid(1_000));
        let mut form = vec![("query", question.text.clone())];
        let path = if question.step == 0 {
            form.push(("time", seconds(question.start)));
            "query"
        } else {
            form.extend([("start", seconds(question.start)), ("end", seconds(question.end))]);
            form.push(("step", seconds(question.step)));
            "query_range"
        };
        let url = format!("{}/api/v1/{path}", self.prometheus.url());
        let text = self.client.post(url).form(&form).send().await?.text().await?;
        let json: Json = serde_json::from_str(&text).with_context(|| format!("{question}: {text}"))?;
        let texts = |name: &str| {
            let list = json[name].as_array().cloned().unwrap_or_default();
            let mut texts: Vec<String> = list.iter().filter_map(Json::as_str).map(str::to_owned).collect();
            texts.sort();
            texts
        };
        Ok(match json["error"].as_str() {
            Some(error) => Side { error: Some(error.to_owned()), ..Side::default() },
            None => {
                Side { value: json["data"].clone(), warnings: texts("warnings"), infos: texts("infos"), error: None }
            }
        })
    }
}

fn side(answer: Result<Answer, Error>, query: &str) -> Side {
    match answer {
        Ok(answer) => {
            let shown = |severity| {
                let mut texts: Vec<String> = answer.annotations.shown(severity, query).into_iter().collect();
                texts.sort();
                texts
            };
            Side {
                warnings: shown(Severity::Warning),
                infos: shown(Severity::Info),
                value: compare::json(&answer.value),
                error: None,
            }
        }
        Err(error) => Side { error: Some(error.to_string()), ..Side::default() },
    }
}

/// Writes the block of `seed` into a folder, for a look at it by hand.
///
/// # Errors
/// If it cannot be written.
pub fn write_block(folder: &Path, seed: u64) -> anyhow::Result<()> {
    let id = BlockId::generate();
    data::write(&folder.join(id.to_string()), id, seed)
}
