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
use crate::admin;
use crate::hec::mapping::DrainInfo;

/// Resolves a file. `Err` means that a mistake has been reported; `Ok` alone does not mean that
/// none has.
pub(super) fn resolve(root: &RawSection<'_>, report: &mut Report<'_>) -> Result<Config, Reported> {
    // Every part is read before the first one may fail, so that every mistake is found.
    let data_dir = Reader::new(Some(root), report).path(&table::DATA_DIR);
    let ingest = ingest::resolve(root, report);
    let log = wal::resolve(root, report);
    let drains = drains(root, report);
    let destinations = destination::resolve_all(root, drains, report);
    let admin = admin(root, report);
    if let (Ok(ingest), Ok(admin)) = (&ingest, &admin) {
        apart(&ingest.listen, admin, report);
    }

    let data_dir = data_dir?.value;
    Ok(Config {
        wal: log?.at(data_dir.clone()),
        data_dir,
        ingest: ingest?.config,
        destinations: destinations?,
        admin: admin::Config { listen: admin?.value },
    })
}

fn admin(root: &RawSection<'_>, report: &mut Report<'_>) -> Result<Placed<SocketAddr>, Reported> {
    let key = &table::ADMIN_LISTEN;
    let mut reader = Reader::new(root.one("admin"), report);
    let listen = reader.address(key)?;
    if is_loopback(&listen.value) {
        return Ok(listen);
    }
    let problem = format!("{} is not a loopback address: admin would be open", listen.value);
    Err(reader.mistake(key, listen.at, problem, "write 127.0.0.1 or [::1], and a port"))
}

/// Two listeners cannot have one address.
fn apart(ingest: &Placed<SocketAddr>, admin: &Placed<SocketAddr>, report: &mut Report<'_>) {
    let (a, b) = (ingest.value, admin.value);
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
type Drains = Arc<BTreeMap<String, DrainInfo>>;

fn drains(root: &RawSection<'_>, report: &mut Report<'_>) -> Result<Drains, Reported> {
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
