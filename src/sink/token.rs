//! The HEC token, which may change while forebay runs.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use reqwest::header::{HeaderValue, InvalidHeaderValue};

use crate::hec::AUTHORIZATION_PREFIX;
use crate::types::Secret;

/// The longest token, in bytes: what is longer is not a file with a token.
const LONGEST: u64 = 4096;

/// The token as it stands in requests, and where a new one comes from.
#[derive(Debug)]
pub(super) struct Token {
    header: ArcSwap<HeaderValue>,
    file: Option<PathBuf>,
}

/// What reading the file again came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenReload {
    /// There is another token; requests carry it from now on.
    Changed,
    /// The file holds the token that is in use, or there is no file.
    Same,
    /// The file cannot be read, or holds no token. The old token stays.
    Bad,
}

impl Token {
    pub(super) fn new(token: &Secret, file: Option<PathBuf>) -> Result<Self, InvalidHeaderValue> {
        let header = ArcSwap::from_pointee(header(token.expose())?);
        Ok(Self { header, file })
    }

    /// The value of `Authorization`.
    pub(super) fn header(&self) -> HeaderValue {
        HeaderValue::clone(&self.header.load())
    }

    /// Reads the file again. Blocking, and short: a few bytes of a small file.
    pub(super) fn reload(&self) -> TokenReload {
        let Some(path) = &self.file else { return TokenReload::Same };
        let mut text = String::new();
        let read =
            File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
        if let Err(error) = read {
            tracing::warn!(file = %path.display(), %error, "the token file cannot be read; the old token stays");
            return TokenReload::Bad;
        }
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let fits = u64::try_from(text.len()).is_ok_and(|length| length <= LONGEST);
        let good = fits && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let Some(header) = good.then(|| header(text)).and_then(Result::ok) else {
            tracing::warn!(file = %path.display(), "the token file holds no token; the old token stays");
            return TokenReload::Bad;
        };
        if header == **self.header.load() {
            return TokenReload::Same;
        }
        self.header.store(Arc::new(header));
        tracing::info!(file = %path.display(), "another token is in use");
        TokenReload::Changed
    }
}

fn header(token: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut header = HeaderValue::from_str(&format!("{AUTHORIZATION_PREFIX}{token}"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_keeps_the_old_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hec");
        let old = Secret::new("old-token".to_owned());
        let token = Token::new(&old, Some(path.clone())).unwrap();
        let old = token.header();
        assert_eq!(token.reload(), TokenReload::Bad, "there is no file");
        for bad in ["", "\n", "two words\n", "caf\u{e9}", "one\ntwo\n"] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(token.reload(), TokenReload::Bad, "{bad:?}");
            assert_eq!(token.header(), old);
        }
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert_eq!(token.reload(), TokenReload::Bad, "too long");
        std::fs::write(&path, "old-token\r\n").unwrap();
        assert_eq!(token.reload(), TokenReload::Same);
        std::fs::write(&path, "new-token\n").unwrap();
        assert_eq!(token.reload(), TokenReload::Changed);
        assert_eq!(token.header().to_str().unwrap(), "Splunk new-token");
        assert_eq!(token.reload(), TokenReload::Same);
        assert!(!format!("{token:?}").contains("new-token"));
    }

    #[test]
    fn without_a_file_there_is_nothing_to_read() {
        let token = Token::new(&Secret::new("t".to_owned()), None).unwrap();
        assert_eq!(token.reload(), TokenReload::Same);
        assert!(Token::new(&Secret::new("a\nb".to_owned()), None).is_err());
    }
}
