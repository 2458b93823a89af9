//! Who may send what, as the configuration has it at this moment.
//!
//! A drain is identified by three things that are independent of each other: its credentials, its
//! token, and the configuration that binds the two. The token alone is no secret: whoever may see
//! the app may see it (`heroku drains --json`).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::auth::{Users, Verdict};
use super::config::{Drain, Drains, Live, UnknownDrain};
use super::response::Refusal;
use super::tls::Identity;
use crate::types::UnixMicros;

/// The live settings, ready to be asked.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) users: Users,
    bounds: Vec<Bound>,
    drains: Arc<Drains>,
    unknown_drain: UnknownDrain,
    query: BTreeSet<String>,
    allow: Option<Vec<IpNet>>,
    proxies: Vec<IpNet>,
    pub(super) tls: Option<Identity>,
}

/// What one user may send for.
#[derive(Debug)]
struct Bound {
    /// The names of its drains; none: all.
    names: Option<BTreeSet<String>>,
    /// The token of its one drain, when it has just one.
    own: Option<String>,
}

/// Where a frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source<'a> {
    /// The drain token to store.
    pub(super) token: Option<&'a str>,
    /// The drain, when it is known.
    pub(super) drain: Option<&'a Drain>,
    /// Whether any drains are known.
    others: bool,
}

impl<'a> Source<'a> {
    /// What the drain is called in metrics: takes few values.
    pub(super) fn label(&self) -> &'a str {
        self.drain.map_or(UNKNOWN, |drain| drain.name.as_str())
    }

    /// Whether this drain is not known although others are.
    pub(super) const fn is_stranger(&self) -> bool {
        self.others && self.drain.is_none()
    }

    /// A frame of a drain that nobody knows.
    #[cfg(test)]
    pub(super) const fn of(token: Option<&'a str>) -> Self {
        Self { token, drain: None, others: false }
    }
}

/// What drains that are not configured are called in metrics.
pub(super) const UNKNOWN: &str = "unknown";

impl Access {
    pub(super) fn new(live: Live) -> Self {
        let bound = |names: &Option<BTreeSet<String>>| {
            let mut tokens = live
                .drains
                .0
                .iter()
                .filter(|(_, drain)| names.as_ref().is_some_and(|n| n.contains(&drain.name)))
                .map(|(token, _)| token);
            let own = match (tokens.next(), tokens.next()) {
                (Some(token), None) => Some(token.clone()),
                _ => None,
            };
            Bound { names: names.clone(), own }
        };
        Self {
            users: Users::new(&live.users),
            bounds: live.users.iter().map(|user| bound(&user.drains)).collect(),
            drains: live.drains,
            unknown_drain: live.unknown_drain,
            query: live.query,
            allow: live.allow,
            proxies: live.proxies,
            tls: live.tls,
        }
    }

    /// The end of the certificate's life.
    pub(super) fn not_after(&self) -> Option<UnixMicros> {
        self.tls.as_ref().map(Identity::not_after)
    }

    /// Whether this address may connect.
    pub(super) fn allows(&self, peer: IpAddr) -> bool {
        self.allow.as_ref().is_none_or(|networks| within(networks, peer))
    }

    /// Whether this address must say for whom it connects.
    pub(super) fn is_proxy(&self, peer: IpAddr) -> bool {
        within(&self.proxies, peer)
    }

    /// Where a frame with this token belongs, from a user whose credentials are good.
    ///
    /// A drain that nobody has configured is no user's: what happens to its frames, `unknown_drain`
    /// says for all users. The token of a drain is known only after it was added, and to refuse its
    /// first frames would be to lose them.
    ///
    /// Without a token, as log-shuttle sends, it is the drain of its user, if that has just one.
    pub(super) fn source<'a>(
        &'a self,
        verdict: Verdict,
        token: Option<&'a str>,
    ) -> Result<Source<'a>, Refusal> {
        let bound = match verdict {
            Verdict::User(number) => self.bounds.get(number),
            Verdict::Anybody | Verdict::Nobody => None,
        };
        let token = token.or_else(|| bound?.own.as_deref());
        let drain = token.and_then(|token| self.drains.0.get(token));
        match (drain, bound.and_then(|bound| bound.names.as_ref())) {
            (Some(drain), Some(names)) if !names.contains(&drain.name) => Err(Refusal::Drain),
            (None, _) if self.unknown_drain == UnknownDrain::Reject => Err(Refusal::UnknownDrain),
            _ => Ok(Source { token, drain, others: !self.drains.0.is_empty() }),
        }
    }

    /// The query parameters that are kept, as they came.
    pub(super) fn query(&self, query: &str) -> String {
        let kept = query.split('&').filter(|part| {
            let name = part.split_once('=').map_or(*part, |(name, _)| name);
            self.query.contains(name)
        });
        let mut all = String::new();
        for part in kept {
            if !all.is_empty() {
                all.push('&');
            }
            all.push_str(part);
        }
        all
    }
}

fn within(networks: &[IpNet], address: IpAddr) -> bool {
    // An IPv4 sender on an IPv6 socket has an address that is both.
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::super::{User, Via};
    use super::*;
    use crate::types::Secret;

    fn drains(all: &[(&str, &str)]) -> Arc<Drains> {
        let drain = |name: &str| Drain { name: name.to_owned(), profile: None };
        Arc::new(Drains(all.iter().map(|(t, n)| ((*t).to_owned(), drain(n))).collect()))
    }

    fn user(drains: Option<&[&str]>) -> User {
        User {
            name: "u".to_owned(),
            password: Secret::new("p".to_owned()),
            via: Via::Basic,
            drains: drains.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            deprecated: false,
        }
    }

    fn access(unknown_drain: UnknownDrain) -> Access {
        Access::new(Live {
            users: vec![user(None), user(Some(&["shop"])), user(Some(&["shop", "space"]))],
            drains: drains(&[("d.1", "shop"), ("d.2", "space"), ("d.3", "blog")]),
            unknown_drain,
            query: BTreeSet::from(["app".to_owned(), "env".to_owned()]),
            allow: Some(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]),
            ..Live::default()
        })
    }

    #[test]
    fn users_send_for_their_drains() {
        let access = access(UnknownDrain::Accept);
        let label = |user, token| access.source(user, token).map(|source| source.label());
        let [all, one, two] = [0, 1, 2].map(Verdict::User);
        for (user, token, expected) in [
            (all, Some("d.1"), Ok("shop")),
            (all, Some("d.3"), Ok("blog")),
            (all, Some("d.9"), Ok(UNKNOWN)),
            (all, None, Ok(UNKNOWN)),
            (Verdict::Anybody, Some("d.1"), Ok("shop")),
            (one, Some("d.1"), Ok("shop")),
            (one, Some("d.2"), Err(Refusal::Drain)),
            (one, Some("d.9"), Ok(UNKNOWN)),
            (one, None, Ok("shop")),
            (two, Some("d.2"), Ok("space")),
            (two, Some("d.3"), Err(Refusal::Drain)),
            (two, None, Ok(UNKNOWN)),
        ] {
            assert_eq!(label(user, token), expected, "{user:?} {token:?}");
        }
        assert_eq!(access.source(one, None).unwrap().token, Some("d.1"));
    }

    #[test]
    fn unknown_drains_can_be_rejected() {
        let access = access(UnknownDrain::Reject);
        let all = Verdict::User(0);
        assert!(access.source(all, Some("d.1")).is_ok());
        assert_eq!(access.source(all, Some("d.9")), Err(Refusal::UnknownDrain));
        assert_eq!(access.source(all, None), Err(Refusal::UnknownDrain));
        assert!(access.source(Verdict::User(1), None).is_ok(), "its user has one drain");
    }

    #[test]
    fn only_allowed_parameters_are_kept() {
        let access = access(UnknownDrain::Accept);
        for (query, kept) in [
            ("app=checkout", "app=checkout"),
            ("key=secret&app=a%20b&x&env=", "app=a%20b&env="),
            ("apps=x&Xapp=y&key=app", ""),
            ("", ""),
            ("&&", ""),
            ("app", "app"),
        ] {
            assert_eq!(access.query(query), kept, "{query}");
        }
    }

    #[test]
    fn addresses_are_compared_as_what_they_are() {
        let access = access(UnknownDrain::Accept);
        for (address, allowed) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("11.0.0.1", false), ("::1", true)]
        {
            assert_eq!(access.allows(address.parse().unwrap()), allowed, "{address}");
        }
        assert!(!access.is_proxy("10.1.2.3".parse().unwrap()));
        assert!(Access::new(Live::default()).allows("11.0.0.1".parse().unwrap()));
    }
}
