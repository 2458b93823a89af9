//! The second stage: what was written becomes what the program uses. Every rule about the
//! meaning of a value, or about several values, is here.

mod destination;
mod drain;
mod endpoint;
mod filter;
mod ingest;
mod trust;
mod wal;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Config;
use super::raw::RawSection;
use super::read::{Placed, Reader};
use super::report::{Report, Reported, Scope, shown};
use super::table;
use crate::admin::{self, Listen};
use crate::hec::mapping::DrainInfo;
use crate::types::Secret;

/// Resolves a file. `Err` means that a mistake has been reported; `Ok` alone does not mean that
/// none has.
pub(super) fn resolve(root: &RawSection<'_>, report: &mut Report<'_>) -> Result<Config, Reported> {
    // Every part is read before the first one may fail, so that every mistake is found.
    let data_dir = Reader::new(Some(root), report).path(&table::DATA_DIR);
    let ingest = ingest::resolve(root, report);
    let log = wal::resolve(root, report);
    let drains = drains(root, report);
    let named = drains.as_ref().map(named_drains).unwrap_or_default();
    let destinations = destination::resolve_all(root, drains, report);
    let listen = admin_listen(root, report);
    let token = admin_token(root, report);
    if let (Ok(ingest), Ok(admin)) = (&ingest, &listen) {
        apart(&ingest.listen, admin, report);
    }

    let data_dir = data_dir?.value;
    Ok(Config {
        wal: log?.at(data_dir.clone()),
        data_dir,
        ingest: ingest?.config,
        destinations: destinations?,
        admin: admin::Config { listen: listen?.value, token: token?, drains: named },
    })
}

/// Where admin listens.
pub(super) fn admin_listen(
    root: &RawSection<'_>,
    report: &mut Report<'_>,
) -> Result<Placed<Listen>, Reported> {
    let key = &table::ADMIN_LISTEN;
    let mut reader = Reader::new(root.one("admin"), report);
    let words = reader.text(key)?;
    match words.value.text.parse::<Listen>() {
        Ok(Listen::Tcp(address)) if !is_loopback(&address) => {
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
fn apart(ingest: &Placed<SocketAddr>, admin: &Placed<Listen>, report: &mut Report<'_>) {
    let Listen::Tcp(b) = admin.value else { return };
    let a = ingest.value;
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified();
    if overlap && a.port() == b.port() && a.port() != 0 {
        let problem = format!("port {} is `ingest.listen`'s already", b.port());
        let at = admin.at.or(ingest.at);
        report.mistake(Scope::File, table::ADMIN_LISTEN.path, at, problem, "choose another port");
    }
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The drains that are known by name.
pub(super) type Drains = Arc<BTreeMap<String, DrainInfo>>;

/// The drains as an operator sees them: an app, and the beginning of a token.
fn named_drains(drains: &Drains) -> Vec<admin::Drain> {
    let drain = |(token, info): (&String, &DrainInfo)| admin::Drain {
        app: info.app.clone(),
        token_begins: token.chars().take(8).collect(),
    };
    drains.iter().map(drain).collect()
}

pub(super) fn drains(root: &RawSection<'_>, report: &mut Report<'_>) -> Result<Drains, Reported> {
    let mut drains = BTreeMap::new();
    let mut first_mistake = Ok(());
    for section in root.all("drain") {
        if let Err(mistake) = drain(section, &mut drains, report) {
            first_mistake = first_mistake.and(Err(mistake));
        }
    }
    first_mistake.map(|()| Arc::new(drains))
}

fn drain(
    section: &RawSection<'_>,
    drains: &mut BTreeMap<String, DrainInfo>,
    report: &mut Report<'_>,
) -> Result<(), Reported> {
    let mapped = drain::mapped(section, report);
    let mut reader = Reader::new(Some(section), report);
    let (token, app) = (reader.text(&table::DRAIN_TOKEN), reader.text(&table::DRAIN_APP));
    let (token, app, mapped) = (token?, app?, mapped?);
    if app.value.text.trim().is_empty() {
        let fix = "write the name of the app";
        return Err(reader.mistake(&table::DRAIN_APP, app.at, "the name is empty", fix));
    }
    let text = token.value.text;
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
        let fix = "copy it from `heroku drains`";
        let problem = "this is not the token of a drain";
        return Err(reader.mistake(&table::DRAIN_TOKEN, token.at, problem, fix));
    }
    // Whoever knows a drain's token can send in its name: only its beginning is shown.
    let beginning: String = text.chars().take(8).collect();
    if drains.insert(text, DrainInfo { app: app.value.text, ..mapped }).is_some() {
        let problem = format!("the token that begins {} stands twice", shown(&beginning));
        let fix = "remove one of the two [[drain]]";
        let key = table::DRAIN_TOKEN.path;
        return Err(reader.report.mistake(Scope::File, key, token.at, problem, fix));
    }
    Ok(())
}
