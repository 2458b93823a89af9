//! The part of an event that is the same for all messages of one source, kept ready.
//!
//! A key is the drain token, the query, the priority and the bytes of the syslog header from
//! HOSTNAME through PROCID. A hit compares the whole key and allocates nothing. The cache has a
//! fixed number of places and keeps nothing large, so that no sender can make it grow.

use std::borrow::Cow;
use std::sync::Arc;

use super::encoder::{Filtered, cut};
use super::json;
use super::logfmt;
use super::mapping::{Format, Mapping, Variables};
use super::query::Query;
use crate::logplex::{Header, Kind, Profile};

/// How many sources are kept ready.
const SETS: usize = 1024;
const WAYS: usize = 4;
/// How many drains, or queries of a drain, are kept taken apart.
const SCOPES: usize = 1024;
/// What takes more bytes is rendered again every time: 4096 places times 4 KiB are 16 MiB.
const MAX_KEPT: usize = 4096;
/// So much of a header's field, and of the app in a drain URL, goes into an event; the rest is cut
/// off, and the event says `truncated=1`. A field of RFC 5424 has 255 bytes at most, but a frame may
/// be one header of some megabytes, of which each field stands in an event several times.
const MAX_FIELD: usize = 1024;

/// What a frame contributes to the key, and to the variables of the templates.
#[derive(Debug, Default)]
pub(super) struct Scope {
    hash: u64,
    drain_token: Option<Box<str>>,
    raw_query: Box<str>,
    query: Arc<Query>,
    /// The app that is configured for the drain.
    app: Option<Box<str>>,
    /// How messages are read, if that is configured for the drain.
    pub(super) profile: Option<Profile>,
}

impl Scope {
    fn new(hash: u64, drain_token: Option<&str>, query: &str, mapping: &Mapping) -> Self {
        let info = drain_token.and_then(|token| mapping.drain(token));
        Self {
            hash,
            drain_token: drain_token.map(Box::from),
            raw_query: query.into(),
            query: Arc::new(mapping.query(query)),
            app: info.map(|info| info.app.as_str()).filter(|app| !app.is_empty()).map(Box::from),
            profile: info.and_then(|info| info.profile),
        }
    }

    /// Whether this is the scope of such a frame.
    pub(super) fn is_for(&self, drain_token: Option<&str>, query: &str) -> bool {
        self.drain_token.as_deref() == drain_token && &*self.raw_query == query
    }

    fn same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.is_for(other.drain_token.as_deref(), &other.raw_query)
    }

    fn size(&self) -> usize {
        self.drain_token.as_ref().map_or(0, |token| token.len()) + self.raw_query.len()
    }

    /// Enough of the token to tell drains apart, and not enough to send as one.
    fn short_token(&self) -> Option<&str> {
        let token = self.drain_token.as_deref()?;
        let token = token.strip_prefix("d.").unwrap_or(token);
        let end = token.char_indices().nth(8).map_or(token.len(), |(at, _)| at);
        token.get(..end).filter(|short| !short.is_empty())
    }
}

/// The rendered source of messages.
#[derive(Debug)]
struct Route {
    scope: Arc<Scope>,
    pri: Option<u8>,
    routing: Box<[u8]>,
    rendered: Result<Source, Filtered>,
}

/// All of an event that its source decides.
#[derive(Debug)]
pub(super) struct Source {
    /// From behind the time to behind the last of the fixed fields.
    pub(super) head: Box<[u8]>,
    /// With [`Format::Json`] the event's keys in front of the text, and else nothing.
    pub(super) object: Box<[u8]>,
    /// The message is one of the router's whose keys become fields: which of them, a bit each.
    pub(super) router: u16,
    /// Something in it is not whole.
    pub(super) cut: bool,
}

impl Source {
    fn size(&self) -> usize {
        self.head.len() + self.object.len()
    }
}

/// Everything kept ready for one destination.
pub(super) struct RouteCache {
    scopes: Vec<Option<Arc<Scope>>>,
    sets: Vec<[Option<Route>; WAYS]>,
    /// The way that is replaced next, in any set.
    next_way: usize,
    /// What was too large to be kept, without its key: it is never found again.
    large: Option<Result<Source, Filtered>>,
}

impl std::fmt::Debug for RouteCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept = self.sets.iter().flatten().flatten().count();
        f.debug_struct("RouteCache").field("kept", &kept).finish_non_exhaustive()
    }
}

impl RouteCache {
    pub(super) fn new() -> Self {
        Self {
            scopes: std::iter::repeat_with(|| None).take(SCOPES).collect(),
            sets: std::iter::repeat_with(|| [const { None }; WAYS]).take(SETS).collect(),
            next_way: 0,
            large: None,
        }
    }

    /// The scope of frames with this token and query.
    pub(super) fn scope(
        &mut self,
        drain_token: Option<&str>,
        query: &str,
        mapping: &Mapping,
    ) -> Arc<Scope> {
        let hash =
            hash(hash(u64::from(drain_token.is_some()), bytes_of(drain_token)), query.as_bytes());
        let place = self.scopes.get_mut(place(hash, SCOPES));
        if let Some(Some(scope)) = &place
            && scope.is_for(drain_token, query)
        {
            return Arc::clone(scope);
        }
        let scope = Arc::new(Scope::new(hash, drain_token, query, mapping));
        if let Some(place) = place
            && scope.size() <= MAX_KEPT
        {
            *place = Some(Arc::clone(&scope));
        }
        scope
    }

    /// What the source of a message decides, or why this destination does not take it.
    pub(super) fn source(
        &mut self,
        scope: &Arc<Scope>,
        header: Option<&Header<'_>>,
        mapping: &Mapping,
    ) -> Result<&Source, Filtered> {
        let (pri, routing) = header.map_or((None, &[][..]), |h| (Some(h.pri), h.routing));
        let mixed = scope.hash ^ pri.map_or(256, u64::from);
        let set = self.sets.get_mut(place(hash(mixed, routing), SETS)).ok_or(Filtered::Kind)?;
        let matches = |route: &Option<Route>| {
            route.as_ref().is_some_and(|route| {
                *route.routing == *routing && route.pri == pri && route.scope.same(scope)
            })
        };
        let slot = match set.iter().position(matches) {
            Some(way) => set.get_mut(way),
            None => {
                let rendered = render(scope, header, mapping);
                let size = rendered.as_ref().map_or(0, Source::size) + routing.len() + scope.size();
                if size > MAX_KEPT {
                    let large = self.large.insert(rendered);
                    return large.as_ref().map_err(|filtered| *filtered);
                }
                let routing = routing.into();
                let route = Route { scope: Arc::clone(scope), pri, routing, rendered };
                self.next_way = (self.next_way + 1) % WAYS;
                set.get_mut(self.next_way).map(|slot| {
                    *slot = Some(route);
                    slot
                })
            }
        };
        let route = slot.and_then(|slot| slot.as_ref()).ok_or(Filtered::Kind)?;
        route.rendered.as_ref().map_err(|filtered| *filtered)
    }
}

fn bytes_of(token: Option<&str>) -> &[u8] {
    token.unwrap_or_default().as_bytes()
}

/// A quick hash: multiply and rotate, eight bytes at a time. It only chooses a place; keys are
/// compared whole, so that whoever makes keys collide makes them slow and not wrong.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |state: u64, word: u64| (state.rotate_left(26) ^ word).wrapping_mul(FACTOR);
    let (words, tail) = bytes.as_chunks::<8>();
    let state = words.iter().fold(seed, |state, word| step(state, u64::from_le_bytes(*word)));
    let last = tail.iter().fold(1, |word: u64, byte| word << 8 | u64::from(*byte));
    let state = step(state, last);
    state ^ state >> 32
}

/// The place of a hash among a power of two of places.
fn place(hash: u64, places: usize) -> usize {
    usize::try_from(hash % places as u64).unwrap_or_default()
}

/// Renders what one source decides.
fn render<'a>(
    scope: &'a Scope,
    header: Option<&'a Header<'a>>,
    mapping: &Mapping,
) -> Result<Source, Filtered> {
    let kind = header.map_or(Kind::App, Header::kind);
    if !mapping.delivers(kind) {
        return Err(Filtered::Kind);
    }
    let mut cut = false;
    let mut field = |bytes: Option<&'a [u8]>| {
        let Some(bytes) = bytes else { return Cow::Borrowed("-") };
        let kept = beginning(bytes);
        cut |= kept.len() < bytes.len();
        String::from_utf8_lossy(kept)
    };
    let host = field(header.map(|h| h.hostname));
    let app_name = field(header.map(|h| h.app_name));
    let proc_id = field(header.map(|h| h.proc_id));
    let proc_type = field(header.map(Header::proc_type));
    let app = app(scope, &host, &mut cut);
    let token = scope.drain_token.as_deref();
    if !mapping.delivers_from(token, &app, header) {
        return Err(Filtered::Source);
    }
    let variables = Variables {
        drain: scope.app.as_deref().or_else(|| scope.short_token()).unwrap_or_default(),
        app,
        app_name,
        proc_id,
        proc_type,
        severity: header.map_or("-", Header::severity),
        facility: header.map_or("-", Header::facility),
        kind,
        query: &scope.query,
        host,
    };
    let rendered = mapping.render(&variables, token);

    let mut out = Vec::with_capacity(512);
    for (name, value) in [
        ("host", Some(&rendered.host)),
        ("source", Some(&rendered.source)),
        ("sourcetype", Some(&rendered.sourcetype)),
        ("index", rendered.index.as_ref()),
    ] {
        if let Some(value) = value {
            out.push(b',');
            json::pair(name, value, &mut out);
        }
    }
    out.extend_from_slice(b",\"fields\":{");
    json::pair("heroku_app", &variables.app, &mut out);
    let own = [
        ("drain", variables.drain),
        ("appname", &variables.app_name),
        ("dyno", &variables.proc_id),
        ("dyno_type", &variables.proc_type),
        ("severity", variables.severity),
        ("facility", variables.facility),
        ("unknown_drain", if mapping.is_stranger(token) { "1" } else { "" }),
    ];
    let configured = rendered.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let failed = rendered.failed.iter().map(|key| ("mapping_error", key.as_str()));
    // `-` is syslog's word for nothing (RFC 5424, NILVALUE).
    let own = own.into_iter().filter(|(_, value)| !matches!(*value, "" | "-"));
    for (name, value) in own.chain(configured).chain(failed) {
        out.push(b',');
        json::pair(name, value, &mut out);
    }
    let router = if kind == Kind::Router && mapping.router_fields() {
        // A field that is configured goes before the router's of the same name.
        let free = logfmt::names().map(|name| !mapping.gives_field(name, token));
        free.zip(0..).fold(0, |bits, (free, place)| bits | u16::from(free) << place)
    } else {
        0
    };
    let object = match mapping.format() {
        Format::Json => object(&variables, token),
        Format::Text | Format::Auto => Box::default(),
    };
    Ok(Source { head: out.into_boxed_slice(), object, router, cut: cut || rendered.cut })
}

/// As much of a field as goes into an event, ending between two characters if it holds any.
fn beginning(bytes: &[u8]) -> &[u8] {
    let Some((kept, [next, ..])) = bytes.split_at_checked(MAX_FIELD) else { return bytes };
    // A character of UTF-8 goes on for three bytes at most, each 0b10……….
    let goes_on = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    if !goes_on(next) {
        return kept;
    }
    let begun = kept.iter().rev().take(3).take_while(|byte| goes_on(byte)).count();
    kept.get(..kept.len().saturating_sub(begun + 1)).unwrap_or(kept)
}

/// The keys of an event as object, without the message: `{"app":"…",…,"message":"`.
fn object(variables: &Variables<'_>, token: Option<&str>) -> Box<[u8]> {
    let mut out = vec![b'{'];
    // Syslog drains write the drain token here, which is not for everybody to see.
    let host = if token == Some(&*variables.host) { "-" } else { &*variables.host };
    for (name, value) in [
        ("host", host),
        ("app", &variables.app),
        ("app_name", &variables.app_name),
        ("proc_id", &variables.proc_id),
        ("severity", variables.severity),
        ("facility", variables.facility),
        ("kind", variables.kind.as_str()),
    ] {
        json::pair(name, value, &mut out);
        out.push(b',');
    }
    out.extend_from_slice(b"\"message\":\"");
    out.into_boxed_slice()
}

/// Which app a message is from, as far as anything says. Logplex does not: its HOSTNAME is the
/// literal `host`, and only the drain tells. log-shuttle, which serves a whole private space,
/// writes HOSTNAME, except for its own loss reports, which say `heroku`.
fn app<'a>(scope: &'a Scope, host: &str, is_cut: &mut bool) -> Cow<'a, str> {
    if let Some(app) = scope.app.as_deref() {
        return app.into();
    }
    if let Some(app) = scope.query.get("app").filter(|app| !app.is_empty()) {
        *is_cut |= app.len() > MAX_FIELD;
        return cut(app, MAX_FIELD).into();
    }
    // Syslog drains write the drain token here, which is not for everybody to see.
    let is_token = scope.drain_token.as_deref() == Some(host);
    if !matches!(host, "" | "-" | "host" | "heroku") && !is_token {
        return Cow::Owned(host.to_owned());
    }
    scope.short_token().unwrap_or("heroku").into()
}

#[cfg(test)]
mod tests {
    use super::super::mapping::MappingConfig;
    use super::*;
    use crate::logplex::{Profile, parse};

    /// Renders the head of one message and returns how many routes and scopes are kept then.
    fn kept(cache: &mut RouteCache, query: &str, proc_id: &str) -> (usize, usize) {
        let mapping = Mapping::compile(&MappingConfig::default()).unwrap();
        let line = format!("<190>1 2026-01-02T03:04:05Z host app {proc_id} - text");
        let header = parse(line.as_bytes(), Profile::Logplex).header;
        let scope = cache.scope(None, query, &mapping);
        let head = &cache.source(&scope, header.as_ref(), &mapping).unwrap().head;
        let proc_id = beginning(proc_id.as_bytes());
        assert!(head.windows(proc_id.len()).any(|found| found == proc_id));
        let routes = cache.sets.iter().flatten().flatten().count();
        (routes, cache.scopes.iter().flatten().count())
    }

    #[test]
    fn nothing_large_is_kept() {
        let mut cache = RouteCache::new();
        assert_eq!(kept(&mut cache, "", "web.1"), (1, 1));
        assert_eq!(kept(&mut cache, "", &"x".repeat(MAX_KEPT)), (1, 1));
        assert_eq!(kept(&mut cache, &"q".repeat(MAX_KEPT + 1), "web.1"), (1, 1));
        assert_eq!(kept(&mut cache, "", "web.1"), (1, 1));
        assert_eq!(kept(&mut cache, "", "web.2"), (2, 1));
    }

    #[test]
    fn the_cache_has_a_fixed_number_of_places() {
        let mut cache = RouteCache::new();
        let counts = (0..3 * SETS * WAYS).map(|n| kept(&mut cache, "", &format!("web.{n}")).0);
        let most = counts.max().unwrap();
        assert!(most > SETS * WAYS / 2 && most <= SETS * WAYS, "{most}");
    }
}
