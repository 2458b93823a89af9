//! `[[destination]]` and the tables in it.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Drains, endpoint, filter, trust};
use crate::config::duration;
use crate::config::key::Key;
use crate::config::raw::RawSection;
use crate::config::read::{Placed, Reader};
use crate::config::report::{Report, Reported, Scope};
use crate::config::table;
use crate::delivery::{self, Acknowledgement, BatchLimits, RetryLimits};
use crate::hec::Target;
use crate::hec::mapping::{DrainInfo, Format, Mapping, MappingConfig, Nul};
use crate::sink::{Affinity, Compression, Config, DeadLetters, RawSource, Start};
use crate::types::{ByteSize, DestinationName};

/// Every destination. At least one, each with a name of its own.
pub(super) fn resolve_all(
    root: &RawSection<'_>,
    drains: Result<Drains, Reported>,
    report: &mut Report<'_>,
) -> Result<Vec<Config>, Reported> {
    let sections = root.all("destination");
    if sections.is_empty() {
        let fix = "write a [[destination]] with `endpoints` and `token_file`";
        return Err(report.mistake(Scope::File, "destination", None, "there is none", fix));
    }
    // Without the drains destinations are still checked; they are not used then.
    let known = drains.as_ref().map_or_else(|_| Arc::default(), Arc::clone);
    let mut names = Vec::new();
    let destinations: Vec<_> =
        sections.iter().map(|section| resolve(section, &known, &mut names, report)).collect();
    drains?;
    destinations.into_iter().collect()
}

fn resolve(
    section: &RawSection<'_>,
    drains: &Drains,
    names: &mut Vec<DestinationName>,
    report: &mut Report<'_>,
) -> Result<Config, Reported> {
    let mut reader = Reader::new(Some(section), report);
    let name = name(&mut reader, names);
    let endpoints = endpoint::resolve(&mut reader);
    let token = reader.secret(
        &table::TOKEN,
        &table::TOKEN_FILE,
        |c| c.is_ascii_graphic(),
        "visible ASCII characters",
    );
    let token_file = token_file(&reader);
    let target =
        reader.choice(&table::ENDPOINT_TARGET, &[("event", Target::Event), ("raw", Target::Raw)]);
    let compression = reader
        .choice(&table::COMPRESSION, &[("gzip", Compression::Gzip), ("none", Compression::None)]);
    let start =
        reader.choice(&table::START, &[("earliest", Start::Earliest), ("latest", Start::Latest)]);
    let timeout = reader.time(&table::TIMEOUT);
    let affinity = reader.choice(
        &table::AFFINITY,
        &[
            ("none", Affinity::None),
            ("cookie", Affinity::Cookie),
            ("connection", Affinity::Connection),
        ],
    );
    let proxy = trust::proxy(&mut reader);
    let resolve_every = resolve_every(&mut reader, matches!(proxy, Ok(Some(_))));
    let affinity = if matches!((&affinity, &proxy), (Ok(Affinity::Connection), Ok(Some(_)))) {
        let at = reader.place(table::AFFINITY.name());
        let problem = "a channel has no connection of its own through destination.proxy";
        let fix = "remove `proxy`, or write affinity = \"cookie\" or \"none\"";
        Err(reader.mistake(&table::AFFINITY, at, problem, fix))
    } else {
        affinity
    };
    let flow = Flow::read(&mut reader);
    let batch = batch(section.one("destination.batch"), reader.report);
    let dead_letters = dead_letters(section.one("destination.dead_letters"), reader.report);
    let trust = trust::resolve(section.one("destination.tls"), reader.report);
    let event = event(section, drains, reader.report);
    let raw = match (&target, &event) {
        (Ok(Target::Raw), Ok(event)) => raw(section, &event.mapping, reader.report),
        _ => Ok(RawSource::default()),
    };
    if let (Ok(batch), Ok(event)) = (&batch, &event) {
        fits(&event.max, &batch.max_bytes, reader.report)?;
    }

    let (endpoints, event) = (endpoints?, event?);
    let count = NonZeroUsize::new(endpoints.len()).ok_or_else(|| reader.bug(&table::ENDPOINTS))?;
    let affinity = affinity?;
    let resolve_every = resolve_every?;
    Ok(Config {
        name: name?,
        endpoints,
        token: token?,
        token_file,
        trust: trust?,
        resolve_every,
        places: Vec::new(),
        affinity,
        proxy: proxy?,
        target: target?,
        raw: raw?,
        compression: compression?,
        start: start?,
        timeout: timeout?.value,
        delivery: flow?.with(count, batch?.limits(), affinity),
        dead_letters: dead_letters?,
        mapping: event.mapping,
        max_event: event.max.value,
    })
}

/// How often names are looked up, if each address of theirs is an endpoint.
fn resolve_every(
    reader: &mut Reader<'_, '_, '_>,
    through_proxy: bool,
) -> Result<Option<Duration>, Reported> {
    let key = &table::RESOLVE;
    let all = reader.choice(key, &[("one", false), ("all", true)]);
    let every = reader.time(&table::RESOLVE_INTERVAL);
    let (all, every) = (all?, every?);
    if all && through_proxy {
        let at = reader.place(key.name());
        let problem = "the proxy looks the names up (destination.proxy)";
        let fix = "remove `proxy`, or write resolve = \"one\"";
        return Err(reader.mistake(key, at, problem, fix));
    }
    Ok(all.then_some(every.value))
}

/// Where the token came from, if that is a file: read again when a collector refuses the token.
/// What is wrong with it has been said where it was read.
fn token_file(reader: &Reader<'_, '_, '_>) -> Option<PathBuf> {
    reader.written_quietly(&table::TOKEN_FILE).map(PathBuf::from)
}

/// What `/raw` is told about all lines: texts without variables, for one request carries them all.
fn raw(
    destination: &RawSection<'_>,
    mapping: &MappingConfig,
    report: &mut Report<'_>,
) -> Result<RawSource, Reported> {
    let section = destination.one("destination.event");
    let mut result = Ok(());
    let mut constant = |key: &Key, template: &Option<String>| {
        if template.as_ref().is_some_and(|text| text.contains(['{', '}'])) {
            let mut reader = Reader::new(section, report);
            let at = reader.place(key.name());
            let problem = "with `endpoint_target = \"raw\"` this is the same for all messages";
            let fix = "write a text without variables, or endpoint_target = \"event\"";
            result = Err(reader.mistake(key, at, problem, fix));
        }
        template.clone()
    };
    let source = RawSource {
        host: constant(&table::EVENT_HOST, &mapping.host),
        source: constant(&table::EVENT_SOURCE, &mapping.source),
        sourcetype: constant(&table::EVENT_SOURCETYPE, &mapping.sourcetype),
        index: constant(&table::EVENT_INDEX, &mapping.index),
    };
    if mapping.drains.values().any(DrainInfo::maps) {
        let at = Reader::new(Some(destination), report).place(table::ENDPOINT_TARGET.name());
        let warning = "here `host`, `source`, `sourcetype`, `index` and `fields` of a [[drain]] do \
                       nothing: one request carries messages of all drains";
        report.warn(table::ENDPOINT_TARGET.path, at, warning);
    }
    if mapping.format != Format::Text
        || mapping.nul != Nul::Keep
        || mapping.router_fields
        || !mapping.fields.is_empty()
    {
        let at = section.and_then(|section| section.at);
        let problem = "with `endpoint_target = \"raw\"` messages go out as they came: there is no \
                       format, and there are no fields";
        let fix = "remove `format`, `nul`, `fields` and `router_fields`, or write \
                   endpoint_target = \"event\"";
        let key = table::ENDPOINT_TARGET.path;
        result = Err(report.mistake(Scope::File, key, at, problem, fix));
    }
    result.map(|()| source)
}

/// The destination's name. Two of one name would share one place in the log.
fn name(
    reader: &mut Reader<'_, '_, '_>,
    names: &mut Vec<DestinationName>,
) -> Result<DestinationName, Reported> {
    let key = &table::NAME;
    let words = reader.text(key)?;
    let at = words.at.or_else(|| reader.place(key.name()));
    let name = DestinationName::new(&words.value.text).map_err(|error| {
        let problem = format!("{} is not a name: {error}", words.value.shown);
        reader.mistake(key, at, problem, "choose another name")
    })?;
    if names.contains(&name) {
        let problem = format!("there is another destination {}", words.value.shown);
        let fix = "give each destination a name of its own";
        return Err(reader.report.mistake(Scope::File, key.path, at, problem, fix));
    }
    names.push(name.clone());
    Ok(name)
}

/// Indexers have been seen to take up to two minutes for the last batch of a burst.
const SHORT_ACK_TIMEOUT: Duration = Duration::from_mins(1);

/// The longest wait between two questions about a channel (Splunk docs: every 10 s).
const LONGEST_POLL: Duration = Duration::from_secs(10);

/// The same where the questions keep the channel's connection in use: Splunk closes one after 12 s
/// when it is busy (inputs.conf.spec, `busyKeepAliveIdleTimeout`).
const OWN_POLL: Duration = Duration::from_secs(5);

/// How batches flow: what the delivery machine is told, but for batches and endpoints.
#[derive(Debug)]
struct Flow {
    lanes: NonZeroUsize,
    max_lanes: NonZeroUsize,
    recall: Duration,
    window: NonZeroUsize,
    acknowledgement: Acknowledgement,
    ack_timeout: Duration,
    retry: RetryLimits,
}

impl Flow {
    fn read(reader: &mut Reader<'_, '_, '_>) -> Result<Self, Reported> {
        let lanes = reader.some(&table::LANES);
        let max_lanes = reader.some(&table::MAX_LANES);
        let recall = reader.time(&table::RECALL);
        let window = reader.some(&table::WINDOW);
        let key = &table::ACKNOWLEDGEMENT;
        let modes = [
            ("required", Acknowledgement::Required),
            ("off", Acknowledgement::Off),
            ("auto", Acknowledgement::Auto),
        ];
        let acknowledgement = reader.choice(key, &modes);
        let ack_timeout = reader.time(&table::ACK_TIMEOUT);
        let initial = reader.time(&table::RETRY_INITIAL);
        let max = reader.time(&table::RETRY_MAX);
        let hold = reader.time(&table::HOLD_PROBE);
        if matches!(acknowledgement, Ok(Acknowledgement::Off)) {
            let at = reader.place(key.name());
            let warning = "data can be lost behind the collector: a 200 counts as delivered";
            reader.report.warn(key.path, at, warning);
        }
        if let Ok(timeout) = &ack_timeout
            && timeout.value < SHORT_ACK_TIMEOUT
            && !matches!(acknowledgement, Ok(Acknowledgement::Off))
        {
            let warning = "a cluster that is busy or restarts may take longer to acknowledge, and \
                 what it takes longer for is sent twice; write at least 1m";
            reader.report.warn(table::ACK_TIMEOUT.path, timeout.at, warning);
        }
        let (initial, max) = (initial?, max?);
        if max.value < initial.value {
            let text = |time: &Placed<Duration>| duration::text(time.value);
            let problem = format!(
                "{} is less than destination.retry_initial ({})",
                text(&max),
                text(&initial)
            );
            let fix = format!("write at least {}, or a shorter retry_initial", text(&initial));
            let at = max.at.or(initial.at);
            let key = table::RETRY_MAX.path;
            return Err(reader.report.mistake(Scope::File, key, at, problem, fix));
        }
        Ok(Self {
            lanes: lanes?,
            max_lanes: max_lanes?,
            recall: recall?.value,
            window: window?,
            acknowledgement: acknowledgement?,
            ack_timeout: ack_timeout?.value,
            retry: RetryLimits { initial: initial.value, max: max.value, hold: hold?.value },
        })
    }

    fn with(
        self,
        endpoints: NonZeroUsize,
        batch: BatchLimits,
        affinity: Affinity,
    ) -> delivery::Config {
        let own = affinity == Affinity::Connection;
        delivery::Config {
            endpoints,
            lanes_per_endpoint: self.lanes,
            max_lanes_per_endpoint: self.max_lanes.max(self.lanes),
            // The last process's connections are gone, and with them the ways to its channels.
            recall: if own { Duration::ZERO } else { self.recall },
            // Well before a connection that is not used may be closed.
            longest_poll: if own { OWN_POLL } else { LONGEST_POLL },
            believe_refusals: false,
            window: self.window,
            batch,
            acknowledgement: self.acknowledgement,
            ack_timeout: self.ack_timeout,
            retry: self.retry,
        }
    }
}

/// `[destination.batch]`.
#[derive(Debug)]
struct Batch {
    max_bytes: Placed<ByteSize>,
    max_events: NonZeroUsize,
    linger: Duration,
}

impl Batch {
    const fn limits(&self) -> BatchLimits {
        BatchLimits {
            max_bytes: self.max_bytes.value,
            max_events: self.max_events,
            linger: self.linger,
        }
    }
}

fn batch(section: Option<&RawSection<'_>>, report: &mut Report<'_>) -> Result<Batch, Reported> {
    let mut reader = Reader::new(section, report);
    let max_bytes = reader.size(&table::BATCH_MAX_BYTES);
    let max_events = reader.some(&table::BATCH_MAX_EVENTS);
    let linger = reader.time(&table::BATCH_LINGER);
    Ok(Batch { max_bytes: max_bytes?, max_events: max_events?, linger: linger?.value })
}

/// `[destination.dead_letters]`.
fn dead_letters(
    section: Option<&RawSection<'_>>,
    report: &mut Report<'_>,
) -> Result<DeadLetters, Reported> {
    let mut reader = Reader::new(section, report);
    let max_size = reader.size(&table::LETTERS_MAX_SIZE);
    let max_age = reader.time(&table::LETTERS_MAX_AGE);
    Ok(DeadLetters { max_size: max_size?.value, max_age: max_age?.value })
}

/// `[destination.event]` and `[destination.filter]`.
#[derive(Debug)]
struct Event {
    mapping: MappingConfig,
    max: Placed<ByteSize>,
}

fn event(
    destination: &RawSection<'_>,
    drains: &Drains,
    report: &mut Report<'_>,
) -> Result<Event, Reported> {
    let section = destination.one("destination.event");
    let fields_section = section.and_then(|section| section.one("destination.event.fields"));
    let filter_section = destination.one("destination.filter");
    let kinds = filter::kinds(filter_section, report);
    let filter = filter::resolve(filter_section, drains, report);
    let (fields, fields_read) = Reader::new(fields_section, report).open(&table::EVENT_FIELDS);

    let mut reader = Reader::new(section, report);
    let format = reader.choice(
        &table::EVENT_FORMAT,
        &[("text", Format::Text), ("json", Format::Json), ("auto", Format::Auto)],
    );
    let nul = reader.choice(&table::EVENT_NUL, &[("keep", Nul::Keep), ("replace", Nul::Replace)]);
    let router_fields = reader.flag(&table::EVENT_ROUTER_FIELDS);
    let query = filter::texts(&mut reader, &table::EVENT_QUERY);
    let max = reader.size(&table::EVENT_MAX_BYTES);
    let host = template(&mut reader, &table::EVENT_HOST);
    let source = template(&mut reader, &table::EVENT_SOURCE);
    let sourcetype = template(&mut reader, &table::EVENT_SOURCETYPE);
    let index = template(&mut reader, &table::EVENT_INDEX);
    let event_id = reader.flag(&table::EVENT_ID);

    // Made of whatever could be read, so that mistakes in the other templates are found too.
    let mut mistakes = fields_read;
    let mapping = MappingConfig {
        host: or_default(host, &mut mistakes),
        source: or_default(source, &mut mistakes),
        sourcetype: or_default(sourcetype, &mut mistakes),
        index: or_default(index, &mut mistakes),
        fields,
        event_id: or_default(event_id.map(|flag| flag.value), &mut mistakes),
        kinds: or_default(kinds, &mut mistakes),
        filter: or_default(filter, &mut mistakes),
        format: or_default(format, &mut mistakes),
        nul: or_default(nul, &mut mistakes),
        router_fields: or_default(router_fields.map(|flag| flag.value), &mut mistakes),
        query: or_default(query, &mut mistakes),
        drains: Arc::clone(drains),
        node: String::new(),
    };
    compiles(&mapping, section, fields_section, filter_section, report)?;
    mistakes?;
    Ok(Event { mapping, max: max? })
}

/// A value, or its default and the note that it could not be read.
fn or_default<T: Default>(value: Result<T, Reported>, mistakes: &mut Result<(), Reported>) -> T {
    value.unwrap_or_else(|reported| {
        *mistakes = Err(reported);
        T::default()
    })
}

/// The template as it was written. Without one the mapping's own default holds, which is the
/// one in the table: a test compares them.
fn template(reader: &mut Reader<'_, '_, '_>, key: &Key) -> Result<Option<String>, Reported> {
    Ok(reader.written(key)?.map(|words| words.value.text))
}

/// Whether every template and every pattern is one; told at its line.
fn compiles(
    mapping: &MappingConfig,
    section: Option<&RawSection<'_>>,
    fields: Option<&RawSection<'_>>,
    filter: Option<&RawSection<'_>>,
    report: &mut Report<'_>,
) -> Result<(), Reported> {
    // A drain's own mistakes are told at the drain.
    let own = MappingConfig { drains: Arc::default(), ..mapping.clone() };
    let Err(errors) = Mapping::compile(&own) else { return Ok(()) };
    let mut result = Ok(());
    for error in errors {
        let (first, rest) = error.key.split_once('.').unwrap_or((&error.key, ""));
        let (section, name, key) = match first {
            "fields" => (fields, rest, format!("destination.event.{}", error.key)),
            "include" | "exclude" => (filter, first, format!("destination.filter.{first}")),
            _ => (section, first, format!("destination.event.{first}")),
        };
        let at = Reader::new(section, report).place(name);
        let fix = match first {
            "include" | "exclude" | "query" => "docs/configuration.md says what may be written",
            _ => "docs/configuration.md says what a template may use",
        };
        let reported = report.mistake(Scope::Key, key, at, error.message, fix);
        result = result.and(Err(reported));
    }
    result
}

/// A batch has room for at least one message.
fn fits(
    event: &Placed<ByteSize>,
    batch: &Placed<ByteSize>,
    report: &mut Report<'_>,
) -> Result<(), Reported> {
    if event.value <= batch.value {
        return Ok(());
    }
    let problem =
        format!("{} is more than destination.batch.max_bytes ({})", event.value, batch.value);
    let fix = format!("write at most {}, or make batch.max_bytes larger", batch.value);
    let at = event.at.or(batch.at);
    Err(report.mistake(Scope::File, table::EVENT_MAX_BYTES.path, at, problem, fix))
}
