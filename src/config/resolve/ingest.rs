//! `[ingest]` and `[[ingest.user]]`.

use std::net::SocketAddr;

use super::is_loopback;
use crate::config::raw::RawSection;
use crate::config::read::{Placed, Reader};
use crate::config::report::{Report, Reported, Scope};
use crate::config::secret::{URL_SAFE, is_url_safe};
use crate::config::table;
use crate::ingest::{Config, User};
use crate::types::ByteSize;

/// Ingest's settings, and where its address stands.
#[derive(Debug)]
pub(super) struct Ingest {
    pub(super) config: Config,
    pub(super) listen: Placed<SocketAddr>,
}

pub(super) fn resolve(root: &RawSection<'_>, report: &mut Report<'_>) -> Result<Ingest, Reported> {
    let section = root.one("ingest");
    let mut reader = Reader::new(section, report);
    let listen = reader.address(&table::LISTEN);
    let path = path(&mut reader);
    let max_body = reader.size(&table::MAX_BODY);
    let ack_deadline = reader.time(&table::ACK_DEADLINE);
    let max_connections = reader.number(&table::MAX_CONNECTIONS);
    let max_in_flight = reader.size(&table::MAX_IN_FLIGHT);
    let idle_timeout = reader.time(&table::IDLE_TIMEOUT);
    let insecure = reader.flag(&table::ALLOW_INSECURE);

    let users: Vec<_> = section
        .map_or(&[][..], |section| section.all("ingest.user"))
        .iter()
        .map(|section| user(section, report))
        .collect();
    // A user that could not be read is one all the same.
    let guarded = !users.is_empty();
    let users = users.into_iter().collect::<Result<Vec<_>, _>>();

    let exposed = match (&listen, &insecure) {
        (Ok(listen), Ok(insecure)) => exposure(listen, insecure, guarded, report),
        _ => Ok(()),
    };
    let memory = match (&max_body, &max_in_flight) {
        (Ok(max_body), Ok(max_in_flight)) => room(max_body, max_in_flight, report),
        _ => Ok(()),
    };

    insecure?;
    exposed?;
    memory?;
    let listen = listen?;
    let config = Config {
        listen: listen.value,
        path: path?,
        max_body: max_body?.value,
        ack_deadline: ack_deadline?.value,
        max_connections: max_connections?,
        max_in_flight: max_in_flight?.value,
        idle_timeout: idle_timeout?.value,
        users: users?,
    };
    Ok(Ingest { config, listen })
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

fn user(section: &RawSection<'_>, report: &mut Report<'_>) -> Result<User, Reported> {
    let mut reader = Reader::new(Some(section), report);
    let name = reader.url_safe(&table::USER_NAME);
    let password = reader.secret(
        &table::USER_PASSWORD,
        &table::USER_PASSWORD_FILE,
        is_url_safe,
        &format!("{URL_SAFE}, which Logplex does not decode"),
    );
    Ok(User { name: name?.value, password: password? })
}

/// Logs and passwords do not cross a network in the clear, and nobody unknown may send, unless
/// the operator says that this is meant.
fn exposure(
    listen: &Placed<SocketAddr>,
    insecure: &Placed<bool>,
    guarded: bool,
    report: &mut Report<'_>,
) -> Result<(), Reported> {
    if is_loopback(&listen.value) {
        return Ok(());
    }
    let key = table::LISTEN.path;
    if !insecure.value {
        let without = if guarded { "without TLS" } else { "without TLS and without a user" };
        let problem = format!("{} is not a loopback address, {without}", listen.value);
        let fix = "write 127.0.0.1 or [::1] and let a TLS proxy on this machine pass requests \
                   on, or set ingest.allow_insecure = true if the network is private";
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

/// One body being received must not keep out the next one.
fn room(
    max_body: &Placed<ByteSize>,
    max_in_flight: &Placed<ByteSize>,
    report: &mut Report<'_>,
) -> Result<(), Reported> {
    let least = ByteSize::bytes(max_body.value.get().saturating_mul(2));
    if max_in_flight.value >= least {
        return Ok(());
    }
    let problem =
        format!("{} is less than twice ingest.max_body ({})", max_in_flight.value, max_body.value);
    let at = max_in_flight.at.or(max_body.at);
    let fix = format!("write at least {least}, or make ingest.max_body smaller");
    Err(report.mistake(Scope::File, table::MAX_IN_FLIGHT.path, at, problem, fix))
}
