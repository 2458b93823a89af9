//! Where a message comes from, told from its header.

use super::syslog::Header;

/// What kind of source wrote a message.
///
/// Facilities would be a simpler sign, but Heroku says they may change at any time (Dev Center,
/// "Log Drains"), so APP-NAME and PROCID decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A dyno's standard output or error. Also what nothing else fits.
    App,
    /// Heroku's API about the app: releases, scaling, configuration.
    Api,
    /// Heroku's HTTP router: one line a request.
    Router,
    /// The platform about a dyno: state changes, exits, `Error R14`, runtime metrics.
    System,
    /// Logplex or log-shuttle about itself: messages it lost.
    Logplex,
    /// Heroku Postgres: its log, and the metrics of the add-on.
    Postgres,
    /// Heroku Key-Value Store.
    Redis,
    /// Another add-on.
    Addon,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::App,
        Self::Api,
        Self::Router,
        Self::System,
        Self::Logplex,
        Self::Postgres,
        Self::Redis,
        Self::Addon,
    ];

    /// The name used in sourcetypes and filters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Api => "api",
            Self::Router => "router",
            Self::System => "system",
            Self::Logplex => "logplex",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Addon => "addon",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind of the source that wrote `header`.
    pub(super) fn of(header: &Header<'_>) -> Self {
        // Compared whole: `api` is Heroku's API, `api.1` a dyno.
        match (header.app_name, header.proc_id) {
            // log-shuttle puts the app's name in APP-NAME, Logplex `heroku`.
            (_, b"logplex" | b"log-shuttle") => Self::Logplex,
            (_, b"heroku-postgres") => Self::Postgres,
            (_, b"heroku-redis") => Self::Redis,
            (b"heroku", b"router") => Self::Router,
            (b"heroku", _) => Self::System,
            (b"app", b"api") => Self::Api,
            // `postgres.1167776`: the server's log, by process id.
            (b"app", _) if header.proc_type() == b"postgres" => Self::Postgres,
            (b"app", _) => Self::App,
            // Another APP-NAME is an add-on's, if the message came through Logplex, which makes
            // every HOSTNAME `host`. From log-shuttle it is the name of the app.
            _ if header.hostname == b"host" => Self::Addon,
            _ => Self::App,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Profile, parse};
    use super::*;

    /// The kind of a message with these three header fields.
    fn kind(source: &str) -> Kind {
        let line = format!("<190>1 2026-01-02T03:04:05.000001+00:00 {source} - text\n");
        parse(line.as_bytes(), Profile::Logplex).header.unwrap().kind()
    }

    #[test]
    fn the_source_decides() {
        for (source, expected) in [
            ("host app web.1", Kind::App),
            ("host app run.1234", Kind::App),
            ("host app scheduler.1234", Kind::App),
            ("host app api", Kind::Api),
            ("host app api.1", Kind::App),
            ("host app heroku-postgres", Kind::Postgres),
            ("host app postgres.1167776", Kind::Postgres),
            ("host app heroku-redis", Kind::Redis),
            ("host app redis.1", Kind::App),
            ("host heroku router", Kind::Router),
            ("host heroku router.1", Kind::System),
            ("host heroku web.1", Kind::System),
            ("host heroku postgres.1", Kind::System),
            ("host heroku logplex", Kind::Logplex),
            ("heroku myapp log-shuttle", Kind::Logplex),
            ("host acme-mail token", Kind::Addon),
            ("shuttle token shuttle", Kind::App),
            ("10.0.0.1 app web.1", Kind::App),
        ] {
            assert_eq!(kind(source), expected, "{source}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::parse("Router"), None);
        assert_eq!(Kind::parse(""), None);
    }
}
