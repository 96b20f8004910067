//! The page and the API about blocks.

use crate::block_set::BlockSet;
use crate::sync::Status;
use arc_swap::ArcSwap;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Json, Response};
use axum::{Router, routing::get};
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;

/// What the pages show.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) blocks: Arc<ArcSwap<BlockSet>>,
    pub(crate) status: Arc<ArcSwap<Status>>,
}

/// Returns the routes.
pub(crate) fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/blocks", get(page))
        .route("/loaded", get(page))
        .route("/api/v1/blocks", get(blocks))
        .with_state(pages)
}

/// Answers as Thanos' block viewer does, and says which blocks are in trouble.
async fn blocks(State(pages): State<Pages>) -> Json<Value> {
    let (set, status) = (pages.blocks.load_full(), pages.status.load_full());
    let metas: Vec<Value> =
        set.blocks.values().map(|block| serde_json::to_value(block.meta.as_ref()).unwrap_or_default()).collect();
    let trouble: Vec<Value> = set
        .blocks
        .values()
        .filter_map(|block| {
            let (failures, error) = block.trouble()?;
            Some(json!({"ulid": block.id, "failures": failures, "error": error, "quarantined": block.quarantined().is_some()}))
        })
        .collect();
    let excluded: Vec<Value> =
        status.excluded.iter().map(|(id, why)| json!({"ulid": id, "state": why.word()})).collect();
    let refreshed = jiff::Timestamp::from_millisecond(status.synced).unwrap_or_default();
    Json(json!({"status": "success", "data": {
        "label": "", "blocks": metas, "refreshedAt": refreshed.to_string(), "err": status.trouble,
        "trouble": trouble, "unreadable": status.unreadable, "excluded": excluded, "partial": status.partial,
    }}))
}

async fn page(State(pages): State<Pages>) -> Response {
    let (set, status) = (pages.blocks.load_full(), pages.status.load_full());
    let time = |millis: i64| {
        let text = jiff::Timestamp::from_millisecond(millis).map(|time| time.strftime("%Y-%m-%d %H:%M:%S").to_string());
        text.unwrap_or_else(|_| millis.to_string())
    };
    let mut rows = String::new();
    for block in set.blocks.values().rev() {
        let meta = &block.meta;
        let trouble = match (block.quarantined(), block.trouble()) {
            (Some(why), _) => why,
            (None, Some((_, error))) => error,
            (None, None) => String::new(),
        };
        let resolution = match block.resolution {
            0 => "raw".to_owned(),
            millis => format!("{} s", millis / 1_000),
        };
        let _ = write!(
            rows,
            "<tr><td><code>{}</code><td>{}<td>{}<td>{resolution}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            block.id,
            time(meta.min_time),
            time(meta.max_time),
            meta.compaction.level,
            meta.stats.num_series,
            meta.stats.num_samples,
            escape(&block.external.labels().to_string()),
            escape(&trouble),
        );
    }
    let mut notices = String::new();
    for notice in status.notices() {
        let _ = write!(notices, "<p class=bad>{}</p>", escape(&notice));
    }
    let page = include_str!("pages.html")
        .replace("{count}", &set.blocks.len().to_string())
        .replace("{synced}", &time(status.synced))
        .replace("{excluded}", &status.excluded.len().to_string())
        .replace("{partial}", &status.partial.len().to_string())
        .replace("{notices}", &notices)
        .replace("{rows}", &rows);
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let headers = [(header::CONTENT_SECURITY_POLICY, policy), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, Html(page)).into_response()
}

/// Labels and errors may hold anything.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
