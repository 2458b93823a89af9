//! Heroku's drain protocol, in one page.
//!
//! Heroku's log router, Logplex, delivers an app's logs to an HTTPS drain as `POST` requests. One
//! request is one **frame**: a handful of headers and a body of **messages**.
//!
//! ```text
//! POST /logs HTTP/1.1
//! Content-Type: application/logplex-1
//! Logplex-Msg-Count: 2
//! Logplex-Frame-Id: 09C557EAFCFB6CF2740EE62F62971098
//! Logplex-Drain-Token: d.fc6b856b-3332-4546-93de-7d0ee272c3bd
//! Content-Length: 243
//!
//! 142 <172>1 2014-11-11T08:24:25+00:00 host heroku logplex - Error L10 …93 <45>1 2014-…
//! └┬┘ └─────────────────────────── 142 bytes ────────────────────────┘└ the next length
//! ```
//!
//! **Framing** ([`pieces`], [`count`]) is RFC 6587's octet counting: a decimal length, a space,
//! and that many *bytes*. Nothing separates messages. Most end in a newline, which the length
//! includes, but three ordinary kinds do not: Logplex's own loss report (Logplex source,
//! logplex_http_drain.erl, `overflow_msg`), the first parts of a line longer than 10,000 bytes
//! (log-shuttle source, logplex_formatter.go, `splitLine`), and what many add-ons write. A message
//! may also hold newlines, NUL and invalid UTF-8. So a receiver counts bytes; one that looks for
//! newlines loses messages.
//!
//! **A message** ([`parse`]) is RFC 5424 without its STRUCTURED-DATA, and without a NILVALUE in its
//! place (Logplex source, doc/README.http_drains.md; logplex_syslog_utils.erl, `rfc5424`):
//!
//! ```text
//! <PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID TEXT
//! <190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - [INFO] - text as the app wrote it
//! ```
//!
//! The text is whatever follows the sixth space. It may start with `[` or `- `: that is text,
//! not structured data. HOSTNAME is the literal `host`, MSGID is `-`; APP-NAME and PROCID say
//! where the line comes from ([`Kind`]): `app`/`web.1` is a dyno, `heroku`/`router` the router,
//! `app`/`api` a release or a scaling (Dev Center, "Log Drains", "HTTP Routing").
//!
//! **Not every client is Logplex.** Shield private spaces post straight from `log-shuttle`
//! (Dev Center, "Private Space Logging"): no frame id, no drain token, and RFC 5424's NILVALUE
//! *is* there (log-shuttle source, config.go: the default msgid is the constant `- -`). Heroku's
//! API posts a space's events by itself, with nothing but a message count
//! (vectordotdev/vector issue 6607). [`Profile`] names the three.
//!
//! **Loss that happened before us** ([`loss()`]) comes as messages of the same stream: `Error L10`
//! when a drain was too slow and Logplex dropped from its buffer of 1,024 messages, `L12` and
//! `L13` from log-shuttle (Dev Center, "Heroku Error Codes").
//!
//! **How the sender behaves** decides what a receiver may answer (Logplex source,
//! logplex_http_drain.erl): a 2xx is done, a 4xx other than 429 drops the frame at once, anything
//! else and 5 seconds of silence costs one of three tries; a frame keeps its id on every try,
//! though not its bytes, because a loss report may be put in front. That knowledge is used in
//! `ingest`.
//!
//! Nothing here can fail: whatever the bytes are, they become messages, some of them flagged
//! ([`Framing`]) or without a header ([`Message::header`]). A drain frame must never be refused
//! for what is in it, because the refusal loses it.

#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod kind;
mod loss;
mod octet;
mod syslog;
mod timestamp;

#[cfg(test)]
mod golden;

pub use kind::Kind;
pub use loss::{Loss, LossCode, loss};
pub use octet::{Framing, Piece, Pieces, Tally, count, pieces, tally};
pub use syslog::{Header, Message, Profile, parse};
