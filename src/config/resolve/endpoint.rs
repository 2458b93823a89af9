//! `destination.endpoints`: base URLs, without anything that does not belong in one.

use std::net::IpAddr;

use reqwest::Url;

use crate::config::read::{Reader, Words};
use crate::config::report::Reported;
use crate::config::table;

/// What a text lacks to be an endpoint: problem and fix.
type Fault = (String, &'static str);

const EXAMPLE: &str = "write a URL such as https://hec-1.example.com:8088";

/// Every endpoint of a destination, without a slash at the end, each one once.
pub(super) fn resolve(reader: &mut Reader<'_, '_, '_>) -> Result<Vec<String>, Reported> {
    let key = &table::ENDPOINTS;
    let list = reader.required_list(key)?;
    let mut endpoints: Vec<String> = Vec::with_capacity(list.len());
    let mut first_mistake = Ok(());
    for words in list {
        let fault = match check(&words.value) {
            Ok(endpoint) if endpoints.contains(&endpoint) => {
                let fix = "remove one; `destination.lanes` is for more requests at a time";
                (format!("{} stands twice", words.value.shown), fix)
            }
            Ok(endpoint) => {
                endpoints.push(endpoint);
                continue;
            }
            Err(fault) => fault,
        };
        let reported = reader.mistake(key, words.at, fault.0, fault.1);
        first_mistake = first_mistake.and(Err(reported));
    }
    first_mistake.map(|()| endpoints)
}

/// Checks one URL. What is not a plain base URL is not shown when it could hold a secret: before
/// an `@`, behind a `?`, in a path.
fn check(words: &Words) -> Result<String, Fault> {
    let text = words.text.as_str();
    let written = &words.shown;
    if text.contains('@') {
        let problem = "an endpoint holds user info (not shown)".to_owned();
        return Err((problem, "write scheme, host and port; the token goes into `token_file`"));
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err((format!("{written} begins with neither https:// nor http://"), EXAMPLE));
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '\\']) {
        let problem = "an endpoint has a path or a query (not shown)".to_owned();
        return Err((problem, "end it behind the port; forebay adds the path of the collector"));
    }
    if !authority.chars().all(|c| c.is_ascii_graphic()) {
        return Err((format!("{written} has characters that no URL has"), EXAMPLE));
    }
    let url =
        Url::parse(text).map_err(|error| (format!("{written} is no URL: {error}"), EXAMPLE))?;
    if url.port() == Some(0) {
        return Err((format!("{written} has port 0"), EXAMPLE));
    }
    if url.scheme() == "http" && !is_loopback(url.host_str().unwrap_or("")) {
        let problem = format!("{written} would send the token and the logs in the clear");
        return Err((problem, "write https://; http:// is for loopback only"));
    }
    Ok(text.strip_suffix('/').unwrap_or(text).to_owned())
}

/// `localhost`, 127.0.0.0/8 or `[::1]`.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}
