//! Who may send.
//!
//! Nothing about credentials is ever logged, not even that a user name was right.

use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::User;

/// Standard base64 that takes the padding or its absence.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The longest `user:password` that is looked at.
const MAX_CREDENTIALS: usize = 1024;

/// The users of a drain, ready to be compared with.
#[derive(Debug)]
pub(super) struct Users {
    users: Vec<Known>,
}

/// One user: the digest of `user:password`, so that comparing takes the same time whatever the
/// lengths are.
struct Known {
    name: String,
    digest: [u8; 32],
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What credentials are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    /// Those of this user.
    User(&'a str),
    /// No users are configured: everybody may send.
    Anybody,
    /// Nobody's, or none.
    Nobody,
}

impl Users {
    pub(super) fn new(users: &[User]) -> Self {
        let known = |user: &User| {
            let credentials = format!("{}:{}", user.name, user.password.expose());
            Known { name: user.name.clone(), digest: Sha256::digest(credentials).into() }
        };
        Self { users: users.iter().map(known).collect() }
    }

    /// Compares an `Authorization` header with every user, without stopping at the right one.
    pub(super) fn check(&self, authorization: Option<&[u8]>) -> Verdict<'_> {
        if self.users.is_empty() {
            return Verdict::Anybody;
        }
        let Some(digest) = authorization.and_then(digest_of_basic) else { return Verdict::Nobody };
        let mut found = Choice::from(0);
        let mut which = 0_u32;
        for (number, user) in (0_u32..).zip(&self.users) {
            let equal = user.digest.ct_eq(&digest);
            which.conditional_assign(&number, equal);
            found |= equal;
        }
        let user = usize::try_from(which).ok().and_then(|which| self.users.get(which));
        match user {
            Some(user) if bool::from(found) => Verdict::User(&user.name),
            _ => Verdict::Nobody,
        }
    }
}

/// The digest of what a `Basic` header holds.
fn digest_of_basic(header: &[u8]) -> Option<[u8; 32]> {
    let (scheme, rest) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut buffer = [0_u8; MAX_CREDENTIALS];
    let len = LENIENT.decode_slice(rest.trim_ascii(), &mut buffer).ok()?;
    Some(Sha256::digest(buffer.get(..len)?).into())
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;
    use crate::types::Secret;

    fn users(all: &[(&str, &str)]) -> Users {
        let user = |(name, password): &(&str, &str)| User {
            name: (*name).to_owned(),
            password: Secret::new((*password).to_owned()),
        };
        Users::new(&all.iter().map(user).collect::<Vec<_>>())
    }

    fn basic(credentials: &str) -> Vec<u8> {
        format!("Basic {}", BASE64_STANDARD.encode(credentials)).into_bytes()
    }

    #[test]
    fn every_user_is_known_by_user_and_password() {
        let users = users(&[("heroku", "one"), ("heroku-old", "two"), ("c", "")]);
        for (credentials, expected) in [
            ("heroku:one", Verdict::User("heroku")),
            ("heroku-old:two", Verdict::User("heroku-old")),
            ("c:", Verdict::User("c")),
            ("heroku:two", Verdict::Nobody),
            ("heroku:one ", Verdict::Nobody),
            ("Heroku:one", Verdict::Nobody),
            ("heroku", Verdict::Nobody),
            ("", Verdict::Nobody),
            (":", Verdict::Nobody),
        ] {
            assert_eq!(users.check(Some(&basic(credentials))), expected, "{credentials}");
        }
    }

    #[test]
    fn the_header_is_read_as_clients_write_it() {
        let users = users(&[("heroku", "one")]);
        let expected = Verdict::User("heroku");
        assert_eq!(users.check(Some(b"basic aGVyb2t1Om9uZQ==")), expected);
        assert_eq!(users.check(Some(b"BASIC  aGVyb2t1Om9uZQ ")), expected);
        for header in [
            &b""[..],
            b"Basic",
            b"Basic ",
            b"Bearer aGVyb2t1Om9uZQ==",
            b"Basic aGVyb2t1Om9uZQ== x",
            b"Basic \xff\xff",
            b"aGVyb2t1Om9uZQ==",
        ] {
            assert_eq!(users.check(Some(header)), Verdict::Nobody);
        }
        assert_eq!(users.check(Some(&basic(&"x".repeat(2000)))), Verdict::Nobody);
        assert_eq!(users.check(None), Verdict::Nobody);
    }

    #[test]
    fn without_users_everybody_may_send() {
        assert_eq!(users(&[]).check(None), Verdict::Anybody);
        assert_eq!(users(&[]).check(Some(&basic("x:y"))), Verdict::Anybody);
    }

    #[test]
    fn passwords_do_not_show() {
        let shown = format!("{:?}", users(&[("heroku", "hunter2")]));
        assert!(shown.contains("heroku") && !shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("digest"), "{shown}");
    }
}
