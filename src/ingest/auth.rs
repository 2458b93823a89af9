//! Who may send.
//!
//! Credentials come as `Authorization: Basic`, as `Authorization: Bearer` or as the last part of
//! the path. Whatever comes is hashed and compared with every user there is, so that the time it
//! takes says nothing about how near a guess was. Nothing about credentials is ever logged, not
//! even that a user name was right.

use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use metrics::{Counter, counter};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::metrics::Seldom;
use super::{User, Via};

/// Standard base64 that takes the padding or its absence.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The longest credentials that are looked at.
const MAX_CREDENTIALS: usize = 1024;

/// The users of a drain, ready to be compared with.
#[derive(Debug)]
pub(super) struct Users {
    users: Vec<Known>,
    /// Makes the digests of this process worth nothing to another.
    salt: [u8; 16],
}

/// One user: the digest of its credentials, so that comparing takes the same time whatever the
/// lengths are.
struct Known {
    name: String,
    via: Via,
    deprecated: bool,
    digest: [u8; 32],
    successes: Counter,
    warned: Seldom,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What credentials are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Those of this user, by its number.
    User(usize),
    /// No users are configured: everybody may send.
    Anybody,
    /// Nobody's, or none.
    Nobody,
}

impl Users {
    pub(super) fn new(users: &[User]) -> Self {
        let salt = uuid::Uuid::new_v4().into_bytes();
        let known = |user: &User| {
            let secret = user.password.expose();
            let digest = match user.via {
                Via::Basic => digest(salt, user.via, format!("{}:{secret}", user.name).as_bytes()),
                Via::Bearer | Via::Path => digest(salt, user.via, secret.as_bytes()),
            };
            let successes = counter!(
                "forebay_auth_success_total",
                "credential" => user.name.clone(),
                "deprecated" => if user.deprecated { "true" } else { "false" },
            );
            let (name, deprecated) = (user.name.clone(), user.deprecated);
            Known { name, via: user.via, deprecated, digest, successes, warned: Seldom::default() }
        };
        Self { users: users.iter().map(known).collect(), salt }
    }

    /// The name of a user.
    pub(super) fn name(&self, number: usize) -> Option<&str> {
        self.users.get(number).map(|user| user.name.as_str())
    }

    /// Whether any user's secret comes in the path.
    pub(super) fn any_by_path(&self) -> bool {
        self.users.iter().any(|user| user.via == Via::Path)
    }

    /// Compares what a request carries with every user, without stopping at the right one.
    /// `secret` is what stands behind the drain's path, if anything does.
    pub(super) fn check(&self, authorization: Option<&[u8]>, secret: Option<&str>) -> Verdict {
        if self.users.is_empty() {
            return Verdict::Anybody;
        }
        let header = authorization.and_then(|header| self.digest_of_header(header));
        let path = secret.map(|secret| digest(self.salt, Via::Path, secret.as_bytes()));
        let mut found = Choice::from(0);
        let mut which = 0_u32;
        for presented in [header, path].iter().flatten() {
            for (number, user) in (0_u32..).zip(&self.users) {
                let equal = user.digest.ct_eq(presented);
                which.conditional_assign(&number, equal);
                found |= equal;
            }
        }
        match usize::try_from(which) {
            Ok(which) if bool::from(found) => Verdict::User(which),
            _ => Verdict::Nobody,
        }
    }

    /// Counts a request with good credentials, and warns now and then of those that should not
    /// be used any more.
    pub(super) fn used(&self, number: usize) {
        let Some(user) = self.users.get(number) else { return };
        user.successes.increment(1);
        if user.deprecated && user.warned.now() {
            tracing::warn!(credential = %user.name, "deprecated credentials are still in use");
        }
    }

    /// The digest of what an `Authorization` header holds.
    fn digest_of_header(&self, header: &[u8]) -> Option<[u8; 32]> {
        let at = header.iter().position(u8::is_ascii_whitespace)?;
        let (scheme, rest) = header.split_at_checked(at)?;
        let rest = rest.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return (rest.len() <= MAX_CREDENTIALS).then(|| digest(self.salt, Via::Bearer, rest));
        }
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let mut buffer = [0_u8; MAX_CREDENTIALS];
        let len = LENIENT.decode_slice(rest, &mut buffer).ok()?;
        Some(digest(self.salt, Via::Basic, buffer.get(..len)?))
    }
}

/// A digest that is good for one way of presenting credentials only.
fn digest(salt: [u8; 16], via: Via, credentials: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(via.as_str());
    hash.update(b":");
    hash.update(credentials);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;
    use crate::types::Secret;

    fn user(name: &str, password: &str, via: Via) -> User {
        User {
            name: name.to_owned(),
            password: Secret::new(password.to_owned()),
            via,
            drains: None,
            deprecated: false,
        }
    }

    fn users(all: &[(&str, &str)]) -> Users {
        let all = all.iter().map(|(name, password)| user(name, password, Via::Basic));
        Users::new(&all.collect::<Vec<_>>())
    }

    fn basic(credentials: &str) -> Vec<u8> {
        format!("Basic {}", BASE64_STANDARD.encode(credentials)).into_bytes()
    }

    #[test]
    fn every_user_is_known_by_user_and_password() {
        let users = users(&[("heroku", "one"), ("heroku-old", "two"), ("c", "")]);
        for (credentials, expected) in [
            ("heroku:one", Verdict::User(0)),
            ("heroku-old:two", Verdict::User(1)),
            ("c:", Verdict::User(2)),
            ("heroku:two", Verdict::Nobody),
            ("heroku:one ", Verdict::Nobody),
            ("Heroku:one", Verdict::Nobody),
            ("heroku", Verdict::Nobody),
            ("", Verdict::Nobody),
            (":", Verdict::Nobody),
        ] {
            assert_eq!(users.check(Some(&basic(credentials)), None), expected, "{credentials}");
        }
        assert_eq!(users.name(1), Some("heroku-old"));
    }

    #[test]
    fn the_header_is_read_as_clients_write_it() {
        let users = users(&[("heroku", "one")]);
        let check = |header: &[u8]| users.check(Some(header), None);
        assert_eq!(check(b"basic aGVyb2t1Om9uZQ=="), Verdict::User(0));
        assert_eq!(check(b"BASIC  aGVyb2t1Om9uZQ "), Verdict::User(0));
        for header in [
            &b""[..],
            b"Basic",
            b"Basic ",
            b"Bearer aGVyb2t1Om9uZQ==",
            b"Bearer heroku:one",
            b"Bearer one",
            b"Basic aGVyb2t1Om9uZQ== x",
            b"Basic \xff\xff",
            b"aGVyb2t1Om9uZQ==",
        ] {
            assert_eq!(check(header), Verdict::Nobody);
        }
        assert_eq!(check(&basic(&"x".repeat(2000))), Verdict::Nobody);
        assert_eq!(users.check(None, None), Verdict::Nobody);
        assert_eq!(users.check(None, Some("one")), Verdict::Nobody);
    }

    /// A secret is good only in the way it was given out for.
    #[test]
    fn each_way_has_its_own_secrets() {
        let users = Users::new(&[
            user("space", "t0ken", Via::Bearer),
            user("path", "s3cret", Via::Path),
            user("basic", "pass", Via::Basic),
        ]);
        for (header, path, expected) in [
            (Some(&b"Bearer t0ken"[..]), None, Verdict::User(0)),
            (Some(b"bearer  t0ken "), None, Verdict::User(0)),
            (None, Some("s3cret"), Verdict::User(1)),
            (Some(b"Bearer wrong"), Some("s3cret"), Verdict::User(1)),
            (Some(b"Bearer s3cret"), None, Verdict::Nobody),
            (Some(b"Bearer t0ken2"), None, Verdict::Nobody),
            (Some(b"Bearer "), None, Verdict::Nobody),
            (None, Some("t0ken"), Verdict::Nobody),
            (None, Some("s3cre"), Verdict::Nobody),
            (None, Some(""), Verdict::Nobody),
            (None, Some("basic:pass"), Verdict::Nobody),
        ] {
            assert_eq!(users.check(header, path), expected, "{header:?} {path:?}");
        }
        assert_eq!(users.check(Some(&basic("basic:pass")), None), Verdict::User(2));
        assert_eq!(users.check(Some(&basic("space:t0ken")), None), Verdict::Nobody);
    }

    #[test]
    fn without_users_everybody_may_send() {
        assert_eq!(users(&[]).check(None, None), Verdict::Anybody);
        assert_eq!(users(&[]).check(Some(&basic("x:y")), None), Verdict::Anybody);
    }

    #[test]
    fn passwords_do_not_show() {
        let shown = format!("{:?}", users(&[("heroku", "hunter2")]));
        assert!(shown.contains("heroku") && !shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("digest"), "{shown}");
    }
}
