//! `[ingest]`, `[ingest.tls]` and `[[ingest.user]]`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::drains::Known;
use crate::config::exposure::{self, Exposure};
use crate::config::is_loopback;
use crate::config::key::Key;
use crate::config::raw::RawSection;
use crate::config::read::{Placed, Reader};
use crate::config::report::{Report, Reported, Scope};
use crate::config::secret::{URL_SAFE, is_url_safe};
use crate::config::table;
use crate::ingest::{Config, Identity, IdentityError, Listen, Live, UnknownDrain, User, Via};
use crate::types::ByteSize;

/// Ingest's settings, and where its address stands.
#[derive(Debug)]
pub(super) struct Ingest {
    pub(super) config: Config,
    pub(super) listen: Placed<Listen>,
    pub(super) exposure: Exposure,
}

/// `known` are the drains, unless there are mistakes in them.
pub(super) fn resolve(
    root: &RawSection<'_>,
    known: Option<&Known>,
    report: &mut Report<'_>,
) -> Result<Ingest, Reported> {
    let section = root.one("ingest");
    let mut reader = Reader::new(section, report);
    let listen = listen(&mut reader);
    let path = path(&mut reader);
    let max_body = reader.size(&table::MAX_BODY);
    let max_gzip_ratio = reader.number(&table::MAX_GZIP_RATIO);
    let ack_deadline = reader.time(&table::ACK_DEADLINE);
    let hold_after = reader.time(&table::HOLD_AFTER);
    let close_after = reader.time(&table::CLOSE_AFTER);
    let max_connections = reader.number(&table::MAX_CONNECTIONS);
    let max_connections_per_address = reader.number(&table::MAX_CONNECTIONS_PER_ADDRESS);
    let max_in_flight = reader.size(&table::MAX_IN_FLIGHT);
    let idle_timeout = reader.time(&table::IDLE_TIMEOUT);
    let insecure = reader.flag(&table::ALLOW_INSECURE);
    let unknown_drain = unknown_drain(&mut reader, known);
    let query = query(&mut reader);
    let allow = networks(&mut reader, &table::ALLOW);
    let proxies = networks(&mut reader, &table::PROXY_PROTOCOL_FROM);

    let tls = section.and_then(|section| section.one("ingest.tls"));
    let secure = tls.is_some();
    let tls = tls.map(|section| identity(section, report)).transpose();

    let mut names = BTreeSet::new();
    let users: Vec<_> = section
        .map_or(&[][..], |section| section.all("ingest.user"))
        .iter()
        .map(|section| user(section, known, &mut names, report))
        .collect();
    // A user that could not be read is one all the same.
    let guarded = !users.is_empty();
    let users = users.into_iter().collect::<Result<Vec<_>, _>>();

    let exposed = match (&listen, &insecure) {
        (Ok(listen), Ok(insecure)) => exposure(listen, insecure, secure, guarded, report),
        _ => Ok(()),
    };
    let memory = match (&max_body, &max_in_flight) {
        (Ok(max_body), Ok(max_in_flight)) => room(max_body, max_in_flight, report),
        _ => Ok(()),
    };

    let insecure = insecure?;
    exposed?;
    memory?;
    let listen = listen?;
    let exposure = Exposure {
        insecure: insecure.value,
        file: report.file().to_owned(),
        line: listen.at.map(|at| report.line(at)),
    };
    let live = Live {
        users: users?,
        drains: known.map_or_else(Arc::default, |known| Arc::clone(&known.ingest)),
        unknown_drain: unknown_drain?,
        query: query?,
        allow: allow?,
        proxies: proxies?.unwrap_or_default(),
        tls: tls?,
    };
    let config = Config {
        listen: listen.value,
        path: path?,
        max_body: max_body?.value,
        max_gzip_ratio: max_gzip_ratio?,
        ack_deadline: ack_deadline?.value,
        hold_after: hold_after?.value,
        close_after: close_after?.value,
        max_connections: max_connections?,
        max_connections_per_address: max_connections_per_address?,
        max_in_flight: max_in_flight?.value,
        idle_timeout: idle_timeout?.value,
        live,
    };
    Ok(Ingest { config, listen, exposure })
}

fn listen(reader: &mut Reader<'_, '_, '_>) -> Result<Placed<Listen>, Reported> {
    let key = &table::LISTEN;
    let words = reader.text(key)?;
    let value = match words.value.text.as_str() {
        "systemd" => Listen::Systemd,
        text => Listen::Address(text.parse().map_err(|_| {
            let problem =
                format!("{} is neither an IP address and a port nor systemd", words.value.shown);
            let fix = "write one of them, such as 127.0.0.1:8080";
            reader.mistake(key, words.at, problem, fix)
        })?),
    };
    Ok(Placed { value, at: words.at })
}

fn path(reader: &mut Reader<'_, '_, '_>) -> Result<String, Reported> {
    let key = &table::PATH;
    let words = reader.text(key)?;
    let text = &words.value.text;
    let fix = "write a path that begins with `/`, such as /logs";
    if !text.starts_with('/') {
        let problem = format!("{} does not begin with `/`", words.value.shown);
        return Err(reader.mistake(key, words.at, problem, fix));
    }
    if text.contains(['?', '#']) {
        let problem = format!("{} has a query or a fragment", words.value.shown);
        return Err(reader.mistake(key, words.at, problem, "end it before the `?` or `#`"));
    }
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        let problem = format!("{} has characters that no path has", words.value.shown);
        return Err(reader.mistake(key, words.at, problem, fix));
    }
    Ok(words.value.text)
}

/// Rejecting unknown drains while none is known would reject everything.
fn unknown_drain(
    reader: &mut Reader<'_, '_, '_>,
    known: Option<&Known>,
) -> Result<UnknownDrain, Reported> {
    let key = &table::UNKNOWN_DRAIN;
    let meanings = [("accept", UnknownDrain::Accept), ("reject", UnknownDrain::Reject)];
    let value = reader.choice(key, &meanings)?;
    if value == UnknownDrain::Reject && known.is_some_and(|known| known.names().is_empty()) {
        let at = reader.place(key.name());
        let problem = "no drain is configured: every frame would be rejected, and lost";
        let fix = "write a [[drain]] or `drains_file`, or accept unknown drains";
        return Err(reader.report.mistake(Scope::File, key.path, at, problem, fix));
    }
    Ok(value)
}

fn query(reader: &mut Reader<'_, '_, '_>) -> Result<BTreeSet<String>, Reported> {
    let key = &table::QUERY;
    let Some(list) = reader.list(key)? else { return Ok(BTreeSet::from(["app".to_owned()])) };
    let mut names = BTreeSet::new();
    let mut mistakes = Ok(());
    for Placed { value, at } in list {
        if !value.text.is_empty() && value.text.chars().all(is_url_safe) {
            names.insert(value.text);
        } else {
            let problem = format!("{} is no name of a query parameter", value.shown);
            let fix = format!("write {URL_SAFE}");
            mistakes = Err(reader.mistake(key, at, problem, fix));
        }
    }
    mistakes.map(|()| names)
}

/// A list of networks, `10.0.0.0/8`, or addresses.
fn networks(
    reader: &mut Reader<'_, '_, '_>,
    key: &'static Key,
) -> Result<Option<Vec<IpNet>>, Reported> {
    let Some(list) = reader.list(key)? else { return Ok(None) };
    let mut networks = Vec::with_capacity(list.len());
    let mut mistakes = Ok(());
    for Placed { value, at } in list {
        let text = value.text.as_str();
        match text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => networks.push(network),
            Err(_) => {
                let problem = format!("{} is no network and no address", value.shown);
                let fix = "write one such as 10.0.0.0/8 or 192.0.2.1";
                mistakes = Err(reader.mistake(key, at, problem, fix));
            }
        }
    }
    mistakes.map(|()| Some(networks))
}

/// The certificate and its key, read and found to fit.
fn identity(section: &RawSection<'_>, report: &mut Report<'_>) -> Result<Identity, Reported> {
    let mut reader = Reader::new(Some(section), report);
    let certificate = reader.path(&table::INGEST_CERTIFICATE);
    let key = reader.path(&table::INGEST_KEY);
    let (certificate, key) = (certificate?, key?);
    Identity::load(&certificate.value, &key.value).map_err(|error| match error {
        IdentityError::Certificate { .. } => {
            let fix = "name a file with the certificate and its chain in PEM form";
            reader.mistake(&table::INGEST_CERTIFICATE, certificate.at, error.to_string(), fix)
        }
        IdentityError::Key { .. } => {
            let fix = "name the file with this certificate's key in PEM form";
            reader.mistake(&table::INGEST_KEY, key.at, error.to_string(), fix)
        }
    })
}

fn user(
    section: &RawSection<'_>,
    known: Option<&Known>,
    names: &mut BTreeSet<String>,
    report: &mut Report<'_>,
) -> Result<User, Reported> {
    let mut reader = Reader::new(Some(section), report);
    let name = reader.url_safe(&table::USER_NAME);
    let password = reader.secret(
        &table::USER_PASSWORD,
        &table::USER_PASSWORD_FILE,
        is_url_safe,
        &format!("{URL_SAFE}, which Logplex does not decode"),
    );
    let via = [Via::Basic, Via::Bearer, Via::Path].map(|via| (via.as_str(), via));
    let via = reader.choice(&table::USER_VIA, &via);
    let drains = user_drains(&mut reader, known);
    let deprecated = reader.flag(&table::USER_DEPRECATED);
    let name = name?;
    if !names.insert(name.value.clone()) {
        let warning = "there is another user of this name: metrics do not tell them apart";
        reader.report.warn(table::USER_NAME.path, name.at, warning);
    }
    Ok(User {
        name: name.value,
        password: password?,
        via: via?,
        drains: drains?,
        deprecated: deprecated?.value,
    })
}

/// The drains a user is bound to, each of which must be there.
fn user_drains(
    reader: &mut Reader<'_, '_, '_>,
    known: Option<&Known>,
) -> Result<Option<BTreeSet<String>>, Reported> {
    let key = &table::USER_DRAINS;
    let Some(list) = reader.list(key)? else { return Ok(None) };
    let mut names = BTreeSet::new();
    let mut mistakes = Ok(());
    for Placed { value, at } in list {
        // Without the drains nobody knows: their own mistakes come first.
        if known.is_none_or(|known| known.names().contains(value.text.as_str())) {
            names.insert(value.text);
        } else {
            let problem = format!("there is no [[drain]] with the app {}", value.shown);
            let fix = "write its `app` as the [[drain]] has it, or write the [[drain]]";
            mistakes = Err(reader.report.mistake(Scope::File, key.path, at, problem, fix));
        }
    }
    mistakes.map(|()| Some(names))
}

/// Logs and passwords do not cross a network in the clear, and nobody unknown may send, unless
/// the operator says that this is meant.
fn exposure(
    listen: &Placed<Listen>,
    insecure: &Placed<bool>,
    secure: bool,
    guarded: bool,
    report: &mut Report<'_>,
) -> Result<(), Reported> {
    // Where the service manager listens is not known here.
    let place = match listen.value {
        Listen::Address(address) if is_loopback(&address) => return Ok(()),
        Listen::Address(address) => format!("{address} is not a loopback address"),
        Listen::Systemd => "the service manager may listen for everybody".to_owned(),
    };
    let key = table::LISTEN.path;
    let Some(without) = exposure::lacks(secure, guarded) else { return Ok(()) };
    if !insecure.value {
        let problem = format!("{place}, {without}");
        let fix = "write [ingest.tls] and [[ingest.user]], or listen on 127.0.0.1 or [::1] behind \
                   a TLS proxy, or set ingest.allow_insecure = true if the network is private";
        return Err(report.mistake(Scope::File, key, listen.at, problem, fix));
    }
    if !guarded {
        let warning = format!(
            "there is no [[ingest.user]]: everybody who can connect to {} may send logs",
            listen.value
        );
        report.warn(key, listen.at, &warning);
    }
    Ok(())
}

/// A body is in memory twice, and those that are large, or do not say how large they are, may take
/// half of it: one of them always has room, and leaves the other half to the frames of others.
fn room(
    max_body: &Placed<ByteSize>,
    max_in_flight: &Placed<ByteSize>,
    report: &mut Report<'_>,
) -> Result<(), Reported> {
    let least = ByteSize::bytes(max_body.value.get().saturating_mul(4));
    if max_in_flight.value >= least {
        return Ok(());
    }
    let problem = format!(
        "{} is less than four times ingest.max_body ({})",
        max_in_flight.value, max_body.value
    );
    let at = max_in_flight.at.or(max_body.at);
    let fix = format!("write at least {least}, or make ingest.max_body smaller");
    Err(report.mistake(Scope::File, table::MAX_IN_FLIGHT.path, at, problem, fix))
}
