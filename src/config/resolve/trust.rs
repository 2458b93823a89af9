//! `[destination.tls]` and the proxy: the way to the collectors.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use reqwest::Url;

use crate::config::key::Key;
use crate::config::raw::RawSection;
use crate::config::read::{Placed, Reader};
use crate::config::report::{At, Report, Reported, Scope};
use crate::config::table;
use crate::sink::{Proxy, Trust, TrustPart, TrustParts};
use crate::types::Secret;

/// The largest file of certificates, in bytes: the system's own store has a quarter of that.
const LARGEST: u64 = 1 << 20;

/// TLS of its own, if the table is there.
pub(super) fn resolve(
    section: Option<&RawSection<'_>>,
    report: &mut Report<'_>,
) -> Result<Option<Trust>, Reported> {
    if section.is_none() {
        return Ok(None);
    }
    let mut reader = Reader::new(section, report);
    let authorities = file(&mut reader, &table::TLS_CA_FILE);
    let certificate = file(&mut reader, &table::TLS_CERTIFICATE);
    let key = file(&mut reader, &table::TLS_PRIVATE_KEY_FILE);
    let server_name = reader.written(&table::TLS_SERVER_NAME);
    let verify = reader.flag(&table::TLS_VERIFY);
    let (authorities, certificate, key) = (authorities?, certificate?, key?);
    let (server_name, verify) = (server_name?, verify?);
    let client = match (&certificate, &key) {
        (Some(certificate), Some(key)) => Some((&*certificate.value, &*key.value)),
        (None, None) => None,
        (Some(_), None) => {
            return Err(alone(&mut reader, &table::TLS_CERTIFICATE, "private_key_file"));
        }
        (None, Some(_)) => {
            return Err(alone(&mut reader, &table::TLS_PRIVATE_KEY_FILE, "certificate"));
        }
    };
    if !verify.value {
        let warning = "certificates are not checked: whoever sits in between can read the token \
                       and the logs";
        reader.report.warn(table::TLS_VERIFY.path, verify.at, warning);
    }
    let parts = TrustParts {
        authorities: authorities.as_ref().map(|file| &*file.value),
        client,
        server_name: server_name.as_ref().map(|words| words.value.text.as_str()),
        verify: verify.value,
    };
    // Everything left out is what holds without the table.
    if parts.authorities.is_none()
        && parts.client.is_none()
        && parts.server_name.is_none()
        && parts.verify
    {
        return Ok(None);
    }
    match Trust::new(&parts) {
        Ok(trust) => Ok(Some(trust)),
        Err(error) => {
            let (key, fix) = match error.part {
                TrustPart::Authorities => (&table::TLS_CA_FILE, "name a file of PEM certificates"),
                TrustPart::Certificate => {
                    (&table::TLS_CERTIFICATE, "name a file with the PEM certificate chain")
                }
                TrustPart::PrivateKey => (
                    &table::TLS_PRIVATE_KEY_FILE,
                    "name a file with the PEM private key of the certificate",
                ),
                TrustPart::ServerName => {
                    (&table::TLS_SERVER_NAME, "write the DNS name or IP address in the certificate")
                }
            };
            let at = reader.place(key.name());
            Err(reader.mistake(key, at, error.problem, fix))
        }
    }
}

/// One of two files that go together.
fn alone(reader: &mut Reader<'_, '_, '_>, key: &'static Key, other: &str) -> Reported {
    let at = reader.place(key.name());
    let problem = format!("stands without `{other}`");
    let fix = format!("write `{other}` as well, or remove it");
    reader.report.mistake(Scope::File, key.path, at, problem, fix)
}

/// What is in the file that a key names, if it was written.
fn file(reader: &mut Reader<'_, '_, '_>, key: &Key) -> Result<Option<Placed<Vec<u8>>>, Reported> {
    let Some(words) = reader.written(key)? else { return Ok(None) };
    let path = reader.absolute(key, &words)?;
    let value = read(reader, key, &path.value, path.at)?;
    Ok(Some(Placed { value, at: path.at }))
}

fn read(
    reader: &mut Reader<'_, '_, '_>,
    key: &Key,
    path: &Path,
    at: At,
) -> Result<Vec<u8>, Reported> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        let problem = format!("{} cannot be read: {error}", path.display());
        let fix = "name a file that the user forebay runs as may read";
        return Err(reader.mistake(key, at, problem, fix));
    }
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        let problem = format!("{} holds more than {LARGEST} bytes", path.display());
        return Err(reader.mistake(key, at, problem, "name a PEM file"));
    }
    Ok(bytes)
}

/// `destination.proxy` and its credentials.
pub(super) fn proxy(reader: &mut Reader<'_, '_, '_>) -> Result<Option<Proxy>, Reported> {
    let key = &table::PROXY;
    let url = reader.written(key);
    let credentials = credentials(reader);
    let (Some(words), credentials) = (url?, credentials?) else {
        if credentials_without_proxy(reader) {
            return Err(alone(reader, &table::PROXY_CREDENTIALS_FILE, "proxy"));
        }
        return Ok(None);
    };
    let text = words.value.text;
    let fix = "write a URL such as http://proxy.example.com:3128";
    if text.contains('@') {
        let problem = "the proxy's URL holds user info (not shown)";
        let fix = "the credentials go into `proxy_credentials_file`";
        return Err(reader.mistake(key, words.at, problem, fix));
    }
    let good = Url::parse(&text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some());
    if !good {
        let problem = format!("{} is no URL of a proxy", words.value.shown);
        return Err(reader.mistake(key, words.at, problem, fix));
    }
    Ok(Some(Proxy { url: text, credentials }))
}

fn credentials_without_proxy(reader: &Reader<'_, '_, '_>) -> bool {
    reader.place_of(&table::PROXY_CREDENTIALS_FILE).is_some()
}

fn credentials(reader: &mut Reader<'_, '_, '_>) -> Result<Option<(String, Secret)>, Reported> {
    let key = &table::PROXY_CREDENTIALS_FILE;
    let Some(words) = reader.written(key)? else { return Ok(None) };
    let path = reader.absolute(key, &words)?;
    let text = reader.read_secret(key, &path.value, path.at)?;
    match text.split_once(':') {
        Some((user, password)) if !user.is_empty() => {
            Ok(Some((user.to_owned(), Secret::new(password.to_owned()))))
        }
        _ => {
            let problem = "the file does not hold `user:password`";
            Err(reader.mistake(key, path.at, problem, "write user, colon and password into it"))
        }
    }
}
