//! Who may change something, or see what is in a message.
//!
//! On the unix socket, whoever can open it: its mode is 0600. Over TCP, whoever presents the
//! token: every user and every browser of the machine can connect to a loopback port, and messages are
//! customers' logs.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::types::Secret;

use super::Shared;
use super::answer::Problem;

/// What a change has to present.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// Nothing: the file system has decided.
    Everybody,
    /// The token.
    Token(Secret),
    /// There is no token, so nothing will do.
    Nobody,
}

/// Proof that a request may change something.
#[derive(Clone, Copy, Debug)]
pub(super) struct MayChange(());

/// Proof that a request may see what is in messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaySee(());

/// What is said when there is no token.
const NO_CHANGE: &str = "nothing can be changed over TCP without a token";
const NO_SIGHT: &str = "messages are not shown over TCP without a token";

impl Access {
    /// Decides about the value of `Authorization`. `without` is said where no token will do.
    fn check(&self, presented: Option<&[u8]>, without: &str) -> Result<(), Problem> {
        let token = match self {
            Self::Everybody => return Ok(()),
            Self::Nobody => {
                return Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    without,
                    "set admin.token_file, or let admin listen on a unix socket",
                ));
            }
            Self::Token(token) => token,
        };
        let bearer = presented.and_then(|value| {
            let (scheme, value) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(value.trim_ascii())
        });
        // Hashes have one length: the time says nothing about the token's.
        let hash = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(bytes).into() };
        let good = bearer
            .is_some_and(|bearer| hash(bearer).ct_eq(&hash(token.expose().as_bytes())).into());
        if good {
            return Ok(());
        }
        let what = if bearer.is_some() { "the token is wrong" } else { "a token is needed" };
        let fix = "send `Authorization: Bearer` with what is in admin.token_file";
        Err(Problem::new(StatusCode::UNAUTHORIZED, what, fix))
    }
}

/// What changes need, and whether this request would be one that may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct AccessStatus {
    /// `nothing`, on the unix socket; `token`; or `impossible`, over TCP without a token.
    changes_need: &'static str,
    /// Whether a change with these credentials would be done.
    may_change: bool,
}

impl AccessStatus {
    pub(super) fn of(access: &Access, headers: &HeaderMap) -> Self {
        let presented = presented(headers);
        let changes_need = match access {
            Access::Everybody => "nothing",
            Access::Token(_) => "token",
            Access::Nobody => "impossible",
        };
        Self { changes_need, may_change: access.check(presented, NO_CHANGE).is_ok() }
    }
}

impl FromRequestParts<Shared> for MayChange {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        shared.access.check(presented(&parts.headers), NO_CHANGE).map(Self)
    }
}

impl FromRequestParts<Shared> for MaySee {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        shared.access.check(presented(&parts.headers), NO_SIGHT).map(Self)
    }
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(AUTHORIZATION).map(HeaderValue::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_needed_and_has_to_be_right() {
        let access = Access::Token(Secret::new("t0ken".to_owned()));
        let status = |presented: Option<&str>| {
            access
                .check(presented.map(str::as_bytes), NO_CHANGE)
                .map_err(|problem| problem.status())
        };
        for good in ["Bearer t0ken", "bearer t0ken", "Bearer  t0ken"] {
            assert_eq!(status(Some(good)), Ok(()), "{good}");
        }
        for bad in ["Bearer t0ke", "Bearer t0kenx", "Bearer ", "Basic t0ken", "t0ken", ""] {
            assert_eq!(status(Some(bad)), Err(StatusCode::UNAUTHORIZED), "{bad}");
        }
        assert_eq!(status(None), Err(StatusCode::UNAUTHORIZED));
    }

    #[test]
    fn whoever_asks_is_told_what_a_change_needs() {
        let of = |access: &Access, presented: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(presented) = presented {
                headers.insert(AUTHORIZATION, HeaderValue::from_static(presented));
            }
            let status = AccessStatus::of(access, &headers);
            (status.changes_need, status.may_change)
        };
        let token = Access::Token(Secret::new("t0ken".to_owned()));
        assert_eq!(of(&token, None), ("token", false));
        assert_eq!(of(&token, Some("Bearer other")), ("token", false));
        assert_eq!(of(&token, Some("Bearer t0ken")), ("token", true));
        assert_eq!(of(&Access::Everybody, None), ("nothing", true));
        assert_eq!(of(&Access::Nobody, Some("Bearer t0ken")), ("impossible", false));
    }

    #[test]
    fn without_a_token_nobody_may_and_on_the_socket_everybody() {
        let refused = Access::Nobody.check(Some(b"Bearer "), NO_CHANGE).unwrap_err();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        assert!(Access::Everybody.check(None, NO_CHANGE).is_ok());
    }
}
