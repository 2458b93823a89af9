//! The second stage: what was written becomes what the program uses. Every rule about the
//! meaning of a value, or about several values, is here.

mod destination;
mod drain;
mod drains;
mod endpoint;
mod filter;
mod ingest;
mod trust;
mod wal;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::raw::RawSection;
use super::read::{Placed, Reader};
use super::report::{Report, Reported, Scope};
use super::{Config, Fixed, is_loopback, table};
use crate::hec::mapping::DrainInfo;
use crate::ingest::{Listen, UnknownDrain};
use crate::types::Secret;
use crate::{admin, telemetry};

/// Resolves a file. `Err` means that a mistake has been reported; `Ok` alone does not mean that
/// none has.
pub(super) fn resolve(root: &RawSection<'_>, report: &mut Report<'_>) -> Result<Config, Reported> {
    // Every part is read before the first one may fail, so that every mistake is found.
    let data_dir = Reader::new(Some(root), report).path(&table::DATA_DIR);
    let log_level = log_level(root, report);
    let drains = drains::resolve(root, report);
    let ingest = ingest::resolve(root, drains.as_ref().ok(), report);
    let log = wal::resolve(root, report);
    let drains = drains.map(|drains| drains.destinations);
    let named = drains.as_ref().map(named_drains).unwrap_or_default();
    let destinations = destination::resolve_all(root, drains, report);
    let listen = admin_listen(root, report);
    let token = admin_token(root, report);
    if let (Ok(ingest), Ok(admin)) = (&ingest, &listen) {
        apart(&ingest.listen, admin, report);
    }

    if let (Ok(ingest), Ok(log)) = (&ingest, &log) {
        wal::takes_what_is_unflushed(log, ingest.config.max_body, report);
    }

    let data_dir = data_dir?.value;
    let ingest = ingest?;
    let live = &ingest.config.live;
    let apps_from_urls = live.query.contains("app") && live.unknown_drain == UnknownDrain::Accept;
    Ok(Config {
        wal: log?.at(data_dir.clone()),
        data_dir,
        exposure: ingest.exposure,
        ingest: ingest.config,
        destinations: destinations?,
        admin: admin::Config {
            listen: listen?.value,
            token: token?,
            drains: named,
            apps_from_urls,
        },
        log_level: log_level?,
        fixed: Fixed::of(root),
    })
}

/// Where admin listens.
pub(super) fn admin_listen(
    root: &RawSection<'_>,
    report: &mut Report<'_>,
) -> Result<Placed<admin::Listen>, Reported> {
    let key = &table::ADMIN_LISTEN;
    let mut reader = Reader::new(root.one("admin"), report);
    let words = reader.text(key)?;
    match words.value.text.parse::<admin::Listen>() {
        Ok(admin::Listen::Tcp(address)) if !is_loopback(&address) => {
            let problem = format!("{address} is not a loopback address: admin would be open");
            let fix = "write 127.0.0.1 or [::1], and a port";
            Err(reader.mistake(key, words.at, problem, fix))
        }
        Ok(value) => Ok(Placed { value, at: words.at }),
        Err(_) => {
            let problem = format!("{} is not an IP address and a port", words.value.shown);
            let fix = "write an IP address and a port, such as 127.0.0.1:9600, or unix: and an \
                       absolute path, such as unix:/run/forebay/admin.sock";
            Err(reader.mistake(key, words.at, problem, fix))
        }
    }
}

/// The token for changes, if there is one.
fn admin_token(root: &RawSection<'_>, report: &mut Report<'_>) -> Result<Option<Secret>, Reported> {
    let key = &table::ADMIN_TOKEN_FILE;
    let mut reader = Reader::new(root.one("admin"), report);
    let Some(words) = reader.written(key)? else { return Ok(None) };
    let path = reader.absolute(key, &words)?;
    let token = reader.read_secret(key, &path.value, words.at)?;
    if token.is_empty() {
        return Err(reader.mistake(key, words.at, "the secret is empty", "write the secret"));
    }
    if !token.chars().all(|c| c.is_ascii_graphic()) {
        let problem = "the secret holds something else than visible ASCII characters";
        return Err(reader.mistake(key, words.at, problem, "choose another secret"));
    }
    Ok(Some(Secret::new(token)))
}

/// Two listeners cannot have one address.
fn apart(ingest: &Placed<Listen>, admin: &Placed<admin::Listen>, report: &mut Report<'_>) {
    let (Listen::Address(a), admin::Listen::Tcp(b)) = (ingest.value, &admin.value) else {
        return;
    };
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified();
    if overlap && a.port() == b.port() && a.port() != 0 {
        let problem = format!("port {} is `ingest.listen`'s already", b.port());
        let at = admin.at.or(ingest.at);
        report.mistake(Scope::File, table::ADMIN_LISTEN.path, at, problem, "choose another port");
    }
}

/// The drains that are known by name, as destinations see them.
pub(super) type Drains = Arc<BTreeMap<String, DrainInfo>>;

/// The drains that are known by name.
pub(super) fn known_drains(
    root: &RawSection<'_>,
    report: &mut Report<'_>,
) -> Result<Drains, Reported> {
    drains::resolve(root, report).map(|known| known.destinations)
}

/// The drains as an operator sees them: an app, and the beginning of a token.
fn named_drains(drains: &Drains) -> Vec<admin::Drain> {
    let drain = |(token, info): (&String, &DrainInfo)| admin::Drain {
        app: info.app.clone(),
        token_begins: token.chars().take(8).collect(),
    };
    drains.iter().map(drain).collect()
}

fn log_level(root: &RawSection<'_>, report: &mut Report<'_>) -> Result<String, Reported> {
    let key = &table::LOG_LEVEL;
    let mut reader = Reader::new(Some(root), report);
    let words = reader.text(key)?;
    match telemetry::wrong_filter(&words.value.text) {
        None => Ok(words.value.text),
        Some(why) => {
            let problem = format!("{} is no level and no filter: {why}", words.value.shown);
            let fix = "write error, warn, info, debug or trace";
            Err(reader.mistake(key, words.at, problem, fix))
        }
    }
}
