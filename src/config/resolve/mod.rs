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
use std::net::SocketAddr;
use std::sync::Arc;

use super::raw::RawSection;
use super::read::{Placed, Reader};
use super::report::{Report, Reported, Scope};
use super::{Config, Fixed, table};
use crate::hec::mapping::DrainInfo;
use crate::ingest::Listen;
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
        log_level: log_level?,
        fixed: Fixed::of(root),
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
fn apart(ingest: &Placed<Listen>, admin: &Placed<SocketAddr>, report: &mut Report<'_>) {
    let (Listen::Address(a), b) = (ingest.value, admin.value) else { return };
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

/// The drains that are known by name, as destinations see them.
type Drains = Arc<BTreeMap<String, DrainInfo>>;

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
