//! Whom a request over TCP takes admin for.
//!
//! A web page can have its own name resolve to 127.0.0.1 (DNS rebinding): then the browser of whoever
//! looks at it, on this machine or behind a tunnel to it, sends the page's requests here and hands it
//! the answers. What the browser cannot be made to do is to write another name into `Host`. So admin,
//! which listens on loopback addresses only, answers to `localhost` and to such addresses, whatever
//! the port.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::Problem;

/// Passes on what is meant for this machine. A request without any name is no browser's.
pub(super) async fn loopback_only(request: Request, next: Next) -> Response {
    let in_head = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or(""));
    let in_target = request.uri().authority().map(Authority::as_str);
    let other = in_target.into_iter().chain(in_head).find(|name| !is_loopback(name));
    if let Some(other) = other {
        let other: String = other.chars().take(100).collect();
        let what = format!("admin does not answer to the name {other:?}");
        let fix = "ask it as localhost or 127.0.0.1, with any port, also through a tunnel; a proxy has \
                   to set `Host: localhost`";
        return Problem::new(StatusCode::MISDIRECTED_REQUEST, what, fix).into_response();
    }
    next.run(request).await
}

/// Whether `name`, with or without a port, can only mean the machine that it is said on.
fn is_loopback(name: &str) -> bool {
    let Ok(authority) = name.parse::<Authority>() else { return false };
    let host = authority.host();
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    literal.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for name in [
            "localhost",
            "localhost:9600",
            "LocalHost:1",
            "127.0.0.1",
            "127.0.0.1:9600",
            "127.9.9.9:1",
            "[::1]:9600",
            "[::1]",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback(name), "{name}");
        }
        for name in [
            "",
            "admin",
            "evil.example:9600",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "localhost@evil.example",
            "10.0.0.1:9600",
            "0.0.0.0",
            "[::]",
            "not a name",
        ] {
            assert!(!is_loopback(name), "{name}");
        }
    }
}
