//! What is answered where.

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::telemetry;

use super::access::{AccessStatus, MayChange};
use super::answer::{Allow, Problem, not_found, resource};
use super::cursors::{pause_cursor, remove_cursor, resume_cursor, seek_cursor};
use super::history::HistoryRows;
use super::letters;
use super::lists::{CursorStatus, DrainStatus, SegmentRow};
use super::page::page;
use super::{Phase, Shared, Status, replays};

/// No change needs more, in bytes.
const LARGEST_BODY: usize = 64 << 10;

pub(super) fn router(shared: Shared) -> Router {
    const CHANGEABLE: Allow = Allow(&["GET", "HEAD", "OPTIONS", "PUT"]);
    const REMOVABLE: Allow = Allow(&["DELETE", "OPTIONS"]);
    const ACTION: Allow = Allow(&["OPTIONS", "POST"]);
    const GROWS: Allow = Allow(&["GET", "HEAD", "OPTIONS", "POST"]);
    Router::new()
        .route("/", resource(get(page), Allow::READ))
        .route("/healthz", resource(get(health), Allow::READ))
        .route("/readyz", resource(get(ready), Allow::READ))
        .route("/metrics", resource(get(metrics), Allow::READ))
        .route("/v1/status", resource(get(status), Allow::READ))
        .route("/v1/cursors", resource(get(cursors), Allow::READ))
        .route("/v1/cursors/{name}", resource(delete(remove_cursor), REMOVABLE))
        .route("/v1/cursors/{name}/pause", resource(post(pause_cursor), ACTION))
        .route("/v1/cursors/{name}/seek", resource(post(seek_cursor), ACTION))
        .route("/v1/cursors/{name}/resume", resource(post(resume_cursor), ACTION))
        .route("/v1/replays", resource(get(replays::list).post(replays::start), GROWS))
        .route("/v1/replays/{id}", resource(delete(replays::cancel), REMOVABLE))
        .route("/v1/segments", resource(get(segments), Allow::READ))
        .route("/v1/drains", resource(get(drains), Allow::READ))
        .route("/v1/dead-letters", resource(get(letters::list), Allow::READ))
        .route("/v1/dead-letters/redrive", resource(post(letters::redrive), ACTION))
        .route("/v1/dead-letters/purge", resource(post(letters::purge), ACTION))
        .route(
            "/v1/dead-letters/{destination}/{position}",
            resource(get(letters::show), Allow::READ),
        )
        .route("/v1/log-level", resource(get(log_level).put(set_log_level), CHANGEABLE))
        .route("/v1/access", resource(get(access), Allow::READ))
        .route("/v1/history", resource(get(history), Allow::READ))
        .route("/v1/warnings", resource(get(warnings), Allow::READ))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(shared)
}

/// The process is alive.
async fn health() -> &'static str {
    "ok\n"
}

/// Frames are accepted.
async fn ready(State(shared): State<Shared>) -> (StatusCode, String) {
    let wal = shared.view.wal.status();
    let phase = *shared.view.phase.borrow();
    let unready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    if wal.poisoned.is_some() {
        unready("the log has failed, the process ends")
    } else if phase != Phase::Ready {
        unready(phase.as_str())
    } else if shared.view.ingest.status().state == "closed" {
        unready("connections are refused, the log takes nothing")
    } else if wal.space_is_short {
        unready("no space is left for frames")
    } else {
        (StatusCode::OK, "ready\n".to_owned())
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    match &shared.view.metrics {
        Some(metrics) => {
            ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
                .into_response()
        }
        None => (StatusCode::NOT_FOUND, "this process collects no metrics\n").into_response(),
    }
}

async fn status(State(shared): State<Shared>) -> Result<Json<Status>, Problem> {
    // The orphans' checkpoints are read from the store, which may wait for the disk.
    let view = shared.view;
    shared.status.read(move || Status::of(&view)).await.map(Json)
}

/// What a change needs, and whether this request has it.
async fn access(State(shared): State<Shared>, headers: HeaderMap) -> Json<AccessStatus> {
    Json(AccessStatus::of(&shared.access, &headers))
}

async fn history(State(shared): State<Shared>) -> Json<HistoryRows> {
    let names = shared.view.sinks.iter().map(|sink| sink.name().to_string());
    Json(shared.view.history.rows(&names.collect::<Vec<_>>()))
}

/// The latest warnings and errors of the log, the newest first.
async fn warnings() -> Json<Vec<telemetry::Warning>> {
    Json(telemetry::recent_warnings())
}

async fn cursors(State(shared): State<Shared>) -> Result<Json<Vec<CursorStatus>>, Problem> {
    // The checkpoints are read from the store, which may wait for the disk.
    let view = shared.view;
    let read = shared.readers.read(move || CursorStatus::all(&view)).await?;
    read.map(Json).map_err(Problem::internal)
}

async fn segments(State(shared): State<Shared>) -> Json<Vec<SegmentRow>> {
    Json(shared.view.wal.segments().into_iter().map(SegmentRow::of).collect())
}

async fn drains(State(shared): State<Shared>) -> Json<Vec<DrainStatus>> {
    Json(shared.drains.0.load().drains.iter().map(DrainStatus::of).collect())
}

/// Which log lines are written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LogLevel {
    /// In the syntax of `FOREBAY_LOG`.
    filter: String,
}

async fn log_level() -> Json<LogLevel> {
    Json(LogLevel { filter: telemetry::filter() })
}

async fn set_log_level(
    _: MayChange,
    body: Result<Json<LogLevel>, JsonRejection>,
) -> Result<Json<LogLevel>, Problem> {
    let fix = "send JSON such as {\"filter\": \"info,forebay::sink=debug\"}";
    let Json(wanted) =
        body.map_err(|error| Problem::new(error.status(), error.body_text(), fix))?;
    let before = telemetry::filter();
    telemetry::set_filter(&wanted.filter)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string(), fix))?;
    let now = telemetry::filter();
    tracing::info!(filter = now, before, "an operator has changed which log lines are written");
    Ok(Json(LogLevel { filter: now }))
}

#[cfg(test)]
mod tests;
