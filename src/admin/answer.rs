//! Answers about the request itself: all of them JSON, each with what to do instead.

use axum::Json;
use axum::http::header::{ALLOW, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use serde_json::json;

use super::Shared;

/// A refusal.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    error: String,
    fix: String,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        error: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { status, error: error.into(), fix: fix.into() }
    }

    /// What the code at work could not do.
    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), "see the log of forebay")
    }

    #[cfg(test)]
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.error, "fix": self.fix }));
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The methods that a path takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allow(pub(super) &'static [&'static str]);

impl Allow {
    pub(super) const READ: Self = Self(&["GET", "HEAD", "OPTIONS"]);

    fn header(self) -> HeaderValue {
        HeaderValue::from_str(&self.0.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// A path that answers `OPTIONS`, and every method it does not take, with the methods it does.
pub(super) fn resource(methods: MethodRouter<Shared>, allow: Allow) -> MethodRouter<Shared> {
    let options = move || async move {
        ([(ALLOW, allow.header())], Json(json!({ "allow": allow.0 }))).into_response()
    };
    let refuse = move || async move {
        let body = json!({
            "error": "this path does not take that method",
            "fix": format!("use one of {}", allow.0.join(", ")),
            "allow": allow.0,
        });
        (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, allow.header())], Json(body)).into_response()
    };
    methods.options(options).fallback(refuse)
}

/// No such path.
pub(super) async fn not_found(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(100).collect();
    let fix = "the paths are /, /healthz, /readyz, /metrics, /v1/status, /v1/history, /v1/warnings, \
               /v1/access, /v1/cursors, /v1/replays, /v1/dead-letters, /v1/segments, /v1/drains and \
               /v1/log-level";
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}"), fix)
}
