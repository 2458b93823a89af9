//! What admin is told.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::types::Secret;

/// Admin's settings. Built by `config`, which has checked them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen (`admin.listen`).
    pub listen: Listen,
    /// What a change over TCP has to present (`admin.token_file`). Without it nothing can be
    /// changed over TCP.
    pub token: Option<Secret>,
    /// The drains that are known by name, for `/v1/drains`.
    pub drains: Vec<Drain>,
    /// Whether the app of a frame can also be what its drain's URL says (`?app=`): such parameters
    /// are kept (`ingest.query`), and drains that are not configured may send
    /// (`ingest.unknown_drain`).
    pub apps_from_urls: bool,
}

/// A drain that is known by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The app behind it.
    pub app: String,
    /// The beginning of its token: whoever knows all of it can send in its name.
    pub token_begins: String,
}

/// Where admin listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A socket in the file system, which only its owner and root may open.
    Unix(PathBuf),
}

/// A text that is no [`Listen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an IP address and a port, such as 127.0.0.1:9600, or unix: and an absolute path")]
pub struct ParseListenError;

impl FromStr for Listen {
    type Err = ParseListenError;

    fn from_str(text: &str) -> Result<Self, ParseListenError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Self::Unix(path)) } else { Err(ParseListenError) };
        }
        // As it is printed in places where it can be clicked.
        let text = text.strip_prefix("http://").unwrap_or(text);
        let address = text.strip_suffix('/').unwrap_or(text).parse();
        address.map(Self::Tcp).map_err(|_| ParseListenError)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_back() {
        for text in ["127.0.0.1:9600", "[::1]:9600", "unix:/run/forebay/admin.sock"] {
            assert_eq!(
                text.parse::<Listen>().map(|listen| listen.to_string()),
                Ok(text.to_owned())
            );
        }
        assert_eq!("http://127.0.0.1:1/".parse(), "127.0.0.1:1".parse::<Listen>());
        for text in ["localhost:9600", "unix:admin.sock", "unix:", "9600", ""] {
            assert_eq!(text.parse::<Listen>(), Err(ParseListenError), "{text}");
        }
    }
}
