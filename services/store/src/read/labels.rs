//! Names and values of labels of a block.

use crate::block::Block;
use crate::error::ReadError;
use crate::read::postings::{self, Laziness};
use crate::read::series::{self, Wanted};
use farview_model::{MatchOp, Matcher, TimeRange};
use std::collections::BTreeSet;

/// Series that are read at a time.
const BATCH: usize = 8_192;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Question<'a> {
    /// Names of labels.
    Names,
    /// Values of this one.
    Values(&'a str),
}

/// Adds to `out` what the series of a block that pass the matchers and have samples in `range` have.
pub(crate) async fn read(
    block: &Block,
    question: Question<'_>,
    matchers: &[Matcher],
    range: TimeRange,
    laziness: Laziness,
    out: &mut BTreeSet<String>,
) -> Result<(), ReadError> {
    let external = block.external.labels();
    if let Question::Values(label) = question
        && let Some(value) = external.get(label)
    {
        // Only if there is a series to carry it.
        if !out.contains(value) && (matchers.is_empty() || has_series(block, matchers, range, laziness).await?) {
            out.insert(value.to_owned());
        }
        return Ok(());
    }
    let loaded = block.header().await?;
    let table = &loaded.header.postings;
    if matchers.is_empty() {
        match question {
            Question::Names => {
                out.extend(table.names().map(str::to_owned));
                out.extend(external.iter().map(|(name, _)| name.to_owned()));
            }
            Question::Values(label) => out.extend(
                table.values(label).map(|entry| entry.value).filter(|value| !value.is_empty()).map(str::to_owned),
            ),
        }
        return Ok(());
    }
    let mut matchers = matchers.to_vec();
    if let Question::Values(label) = question {
        // A label that is not empty is what is asked for.
        matchers.extend(Matcher::new(MatchOp::NotEqual, label, ""));
    }
    let chosen = postings::choose(block, &loaded, &matchers, laziness).await?;
    let wanted = Wanted { range, untested: &chosen.untested };
    for refs in chosen.refs.chunks(BATCH) {
        for series in series::read(block, &loaded, refs, wanted).await? {
            match question {
                Question::Names => {
                    let names = series.labels.iter().chain(external.iter()).map(|(name, _)| name);
                    for name in names {
                        if !out.contains(name) {
                            out.insert(name.to_owned());
                        }
                    }
                }
                Question::Values(label) => out.extend(series.labels.get(label).map(str::to_owned)),
            }
        }
    }
    Ok(())
}

async fn has_series(
    block: &Block,
    matchers: &[Matcher],
    range: TimeRange,
    laziness: Laziness,
) -> Result<bool, ReadError> {
    let loaded = block.header().await?;
    let chosen = postings::choose(block, &loaded, matchers, laziness).await?;
    let wanted = Wanted { range, untested: &chosen.untested };
    for refs in chosen.refs.chunks(256) {
        if !series::read(block, &loaded, refs, wanted).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
