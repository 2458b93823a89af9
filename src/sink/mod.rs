//! One destination at work: it reads the log, sends to the collectors, and saves its checkpoint,
//! as the pure machine in `delivery` decides.
//!
//! Destinations share nothing but the log (I6): each has its own task, connections, bodies and
//! cursor. What stays in memory is bounded by the lanes (bodies) and the window (ranges), not by
//! the backlog (I7).

mod chosen;
mod client;
mod config;
mod control;
mod cut;
#[cfg(test)]
mod cut_tests;
mod expiry;
#[cfg(test)]
mod expiry_tests;
mod http;
mod jar;
mod judge;
mod ledger;
mod line;
mod link;
mod names;
mod numbers;
mod outage;
mod pace;
mod pack;
#[cfg(test)]
mod pack_tests;
mod pick;
pub mod probe;
mod progress;
mod redrive;
mod renew;
#[cfg(test)]
mod renew_tests;
mod replay;
#[cfg(test)]
mod rig;
mod seek;
#[cfg(test)]
mod seek_tests;
mod task;
mod token;
mod trail;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::delivery::{Acknowledgement, Delivery, Status};
use crate::hec::encoder::Encoder;
use crate::hec::mapping::{DrainSettings, Mapping, MappingError};
use crate::record::{Ahead, Checkpoint, Fate};
use crate::types::{ByteSize, DestinationName, Position, UnixMicros};
use crate::wal::{CommitError, GapCause, LetterBook, LetterError, OpenError, Removal, Wal};

pub use config::{Affinity, Compression, Config, DeadLetters, Proxy, RawSource, Start};
pub use control::{SeekRefused, Stopping};
pub use http::ClientError;
pub use names::Place;
pub use progress::{ReplayRun, Trouble};
pub use token::TokenReload;
pub use trust::{Trust, TrustError, TrustPart, TrustParts};

/// Why a destination cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Its checkpoint cannot be read.
    #[error("destination {name}: {source}")]
    Checkpoint {
        /// Which.
        name: DestinationName,
        /// Why.
        source: OpenError,
    },
    /// Its first checkpoint cannot be written.
    #[error("destination {name}: {source}")]
    Commit {
        /// Which.
        name: DestinationName,
        /// Why.
        source: CommitError,
    },
    /// Its checkpoint lies outside of the log.
    #[error("destination {name}: its checkpoint is {position}, the log has [{first}, {end})")]
    Outside {
        /// Which.
        name: DestinationName,
        /// Where the checkpoint is.
        position: Position,
        /// The first retained position.
        first: Position,
        /// The position behind the last.
        end: Position,
    },
    /// A template does not compile; `config` has checked that before.
    #[error("destination {name}: {}", list(.errors))]
    Mapping {
        /// Which.
        name: DestinationName,
        /// Why.
        errors: Vec<MappingError>,
    },
    /// No HTTP client.
    #[error("destination {name}: {source}")]
    Client {
        /// Which.
        name: DestinationName,
        /// Why.
        source: ClientError,
    },
}

fn list(errors: &[MappingError]) -> String {
    let all: Vec<_> =
        errors.iter().map(|error| format!("{}: {}", error.key, error.message)).collect();
    all.join("; ")
}

/// How a destination's task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything that was sent is settled and checkpointed.
    Clean,
    /// The stop's time was over first: what is in flight is sent again by the next start.
    CutShort,
    /// The log is closed or poisoned.
    LogGone,
}

/// A destination that is ready to run.
#[derive(Debug)]
pub struct Sink {
    config: Config,
    names: Option<names::Names>,
    wal: Wal,
    calendar: expiry::Calendar,
    machine: Delivery,
    packer: pack::Packer,
    client: Arc<renew::Renewable>,
    status: Arc<watch::Sender<SinkStatus>>,
    drains: Arc<watch::Sender<KnownDrains>>,
    /// The replay that is being sent.
    replay: Arc<watch::Sender<Option<ReplayRun>>>,
    /// Both ends: the handles take the one, the task the other.
    control: (mpsc::Sender<control::Control>, control::Controls),
}

/// Looks at a destination from outside. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SinkHandle {
    name: DestinationName,
    client: Arc<renew::Renewable>,
    status: watch::Receiver<SinkStatus>,
    replay: watch::Receiver<Option<ReplayRun>>,
    drains: Arc<watch::Sender<KnownDrains>>,
    control: mpsc::Sender<control::Control>,
    wal: Wal,
}

/// What is configured about drains, and which of them are delivered.
type KnownDrains = Arc<DrainSettings>;

/// A destination's state, as of at most half a second ago.
#[derive(Clone, Debug)]
pub struct SinkStatus {
    /// The collectors' URLs, in the order of [`Status::endpoints`].
    pub endpoints: Arc<[String]>,
    /// The machine's.
    pub delivery: Status,
    /// The log's end at the same moment.
    pub tail: crate::types::Tail,
    /// When the oldest message arrived that is not settled, whether it is read yet or not. `None`:
    /// all are settled, or that is being looked up.
    pub oldest: Option<UnixMicros>,
    /// Why the log cannot be read, or no dead letter be written, if that is so.
    pub stuck: Option<String>,
    /// The dead letters.
    pub letters: LetterBook,
}

impl SinkStatus {
    /// How old the oldest message is that is not settled.
    #[must_use]
    pub fn lag(&self, now: UnixMicros) -> Duration {
        Duration::from_micros(self.oldest.map_or(0, |oldest| now.since(oldest)))
    }
}

impl SinkHandle {
    /// The destination's name.
    #[must_use]
    pub const fn name(&self) -> &DestinationName {
        &self.name
    }

    /// What counts as delivered at this moment.
    #[must_use]
    pub fn acknowledgement(&self) -> Acknowledgement {
        self.status.borrow().delivery.acknowledgement
    }

    /// From the next batch on, drains have these names, and these of them are delivered.
    pub fn set_drains(&self, drains: DrainSettings) {
        self.drains.send_if_modified(|known| {
            let changes = **known != drains;
            if changes {
                *known = Arc::new(drains);
            }
            changes
        });
    }

    /// Whether the collectors' certificates are checked.
    #[must_use]
    pub fn tls_verified(&self) -> bool {
        self.client.tls_verified()
    }

    /// From the next request on, TLS and the proxy are as in another configuration. Requests that
    /// are on their way end as they began.
    pub fn renew(&self, config: &Config) {
        self.client.renew(config);
    }

    /// Reads the token's file again, as a SIGHUP asks. Blocking.
    #[must_use]
    pub fn reload_token(&self) -> TokenReload {
        self.client.now().reload_token()
    }

    /// The state at this moment.
    #[must_use]
    pub fn status(&self) -> SinkStatus {
        self.status.borrow().clone()
    }

    /// Why the collector of this URL took nothing the last time; none when it took something.
    #[must_use]
    pub fn outage(&self, url: &str) -> Option<String> {
        self.client.now().outages.why(url)
    }

    /// Why the collector of this URL did not say the last time what is acknowledged; none when it did.
    #[must_use]
    pub fn unanswered(&self, url: &str) -> Option<String> {
        let why = self.client.now().unanswered.why(url)?;
        Some(format!("it does not say what is acknowledged: {why}"))
    }

    /// The replay that is being sent to it, if there is one.
    #[must_use]
    pub fn replay(&self) -> Option<ReplayRun> {
        self.replay.borrow().clone()
    }

    /// Resolves when the state satisfies `wanted`.
    pub async fn wait_for(&self, wanted: impl FnMut(&SinkStatus) -> bool) {
        let mut status = self.status.clone();
        // The task that is gone changes nothing any more.
        drop(status.wait_for(wanted).await);
    }
}

impl Sink {
    /// Loads the checkpoint, or makes and saves the first one, so that from now on no segment
    /// this destination needs can be dropped.
    ///
    /// # Errors
    /// When the checkpoint cannot be had, or the configuration is no good after all.
    pub async fn open(mut config: Config, wal: Wal) -> Result<Self, SinkError> {
        let own = config.name.clone();
        let name = || own.clone();
        let stored = wal
            .checkpoint(&config.name)
            .map_err(|source| SinkError::Checkpoint { name: name(), source })?;
        let checkpoint = match stored {
            Some(checkpoint) => checkpoint,
            None => first_checkpoint(&config, &wal).await?,
        };
        // Before this process writes anything: its clock may be wrong.
        let newest = wal.segments().iter().map(|segment| segment.last_received).max();
        let newest = newest.unwrap_or_default().max(checkpoint.saved);
        let calendar = expiry::Calendar::from(newest, crate::clock::instant());
        let (first, end) = (Position::at(wal.first()), Position::at(wal.status().tail.end));
        let position = checkpoint.position;
        if position < first || position > end {
            return Err(SinkError::Outside { name: name(), position, first, end });
        }
        let names = names::Names::new(&config);
        if let Some(names) = &names {
            // Before the checkpoint is read: what was in flight was in flight to one of these.
            config.at(&names.at_the_start().await);
        }
        let checkpoint = inherit(&config, &wal, checkpoint, end);
        withdraw(&config, &wal, &checkpoint).await?;
        let client = renew::Renewable::new(&config)
            .map_err(|source| SinkError::Client { name: name(), source })?;
        config.mapping.node = wal.node().to_owned();
        let drains = watch::Sender::new(Arc::new(DrainSettings::of(&config.mapping)));
        let packer = packer(&config, &wal, &drains)
            .map_err(|errors| SinkError::Mapping { name: config.name.clone(), errors })?;
        let machine = machine(&config, &checkpoint);
        let letters = wal.letter_book(&config.name);
        let (delivery, tail) = (machine.status(), wal.status().tail);
        let (endpoints, oldest) = (config.endpoints.clone().into(), delivery.oldest_unsettled);
        let status = SinkStatus { endpoints, delivery, tail, oldest, stuck: None, letters };
        let status = Arc::new(watch::Sender::new(status));
        let (drains, control) = (Arc::new(drains), mpsc::channel(control::WAITING));
        let replay = Arc::new(watch::Sender::new(None));
        Ok(Self {
            config,
            names,
            wal,
            calendar,
            machine,
            packer,
            client,
            status,
            drains,
            replay,
            control,
        })
    }

    /// A look from outside.
    #[must_use]
    pub fn handle(&self) -> SinkHandle {
        SinkHandle {
            name: self.config.name.clone(),
            client: Arc::clone(&self.client),
            status: self.status.subscribe(),
            replay: self.replay.subscribe(),
            drains: Arc::clone(&self.drains),
            control: self.control.0.clone(),
            wal: self.wal.clone(),
        }
    }

    /// Delivers until told to stop; then waits for what is in flight, for at most `grace`.
    pub async fn run(self, stop: CancellationToken, grace: Duration) -> Ended {
        let Self { config, names, wal, calendar, machine, packer, client, .. } = self;
        let (status, drains, control) = (self.status, self.drains, self.control);
        let replay = self.replay;
        let name = config.name.clone();
        let set = || names.as_ref().map(names::Names::subscribe);
        let redrive = redrive::Redrive {
            config: config.clone(),
            wal: wal.clone(),
            client: Arc::clone(&client),
            drains: drains.subscribe(),
            chosen: chosen::Chosen::of(&status),
            set: set(),
        };
        let expiry = expiry::Expiry { config: config.clone(), wal: wal.clone(), calendar };
        let replaying = replay::Replaying {
            config: config.clone(),
            wal: wal.clone(),
            client: Arc::clone(&client),
            drains: drains.subscribe(),
            shown: replay,
            chosen: chosen::Chosen::of(&status),
            set: set(),
        };
        let makings = task::Makings {
            tail: wal.tail(),
            config: config.clone(),
            wal: wal.clone(),
            machine,
            source: Box::new(packer),
            client,
            ledger: ledger::Ledger::Log,
            shown: Some(status),
            control: Some(control.1),
            set: set(),
            pace: None,
        };
        // What runs beside it ends with it.
        let beside = stop.child_token();
        let delivering = async {
            let ended = Box::pin(seek::deliver(makings, drains, &stop, grace)).await;
            beside.cancel();
            ended
        };
        let redriving = Box::pin(redrive.run(beside.clone(), grace));
        let expiring = Box::pin(expiry.run(beside.clone()));
        let replaying = Box::pin(replaying.run(beside.clone(), grace));
        let following = async {
            if let Some(names) = &names {
                names.follow(&beside).await;
            }
        };
        let (ended, (), (), (), ()) =
            tokio::join!(delivering, redriving, replaying, following, expiring);
        tracing::info!(destination = %name, ?ended, "destination stopped");
        ended
    }
}

/// What makes bodies of the log.
fn packer(
    config: &Config,
    wal: &Wal,
    drains: &watch::Sender<KnownDrains>,
) -> Result<pack::Packer, Vec<MappingError>> {
    let names = drains.subscribe();
    let mapping = Mapping::compile(&names.borrow().within(config.mapping.clone()))?;
    let encoder = Encoder::new(mapping, config.max_event.as_usize()).for_target(config.target);
    let (limits, compression) = (config.delivery.batch, config.compression);
    Ok(pack::Packer::new(wal.reader(), encoder, limits, compression).with_drains(names))
}

fn machine(config: &Config, checkpoint: &Checkpoint) -> Delivery {
    Delivery::new(config.delivery.clone(), checkpoint, uuid::Uuid::new_v4().as_u128())
}

/// The checkpoint as this process can use it: without what lies behind the log's end, and with
/// the endpoints counted as they are now. Where an endpoint is gone there is nobody to ask. What
/// has to be made from the log once more, and lies in a stretch that was given up meanwhile, is
/// read anew, with all behind it: reading passes over such a stretch, and counts it.
fn inherit(config: &Config, wal: &Wal, mut checkpoint: Checkpoint, end: Position) -> Checkpoint {
    let mut gaps = wal.gaps();
    gaps.retain(|gap| gap.cause == GapCause::Damage);
    let is_there = |ahead: &&Ahead| {
        let settled = matches!(ahead.fate, Fate::Acknowledged | Fate::DeadLettered | Fate::Dropped);
        settled
            || gaps.iter().all(|gap| {
                ahead.range.end <= Position::at(gap.range.start)
                    || Position::at(gap.range.end) <= ahead.range.start
            })
    };
    let known = checkpoint.known_ahead(end).take_while(is_there).copied().map(|ahead| {
        let Fate::InFlight { endpoint, channel, ack } = ahead.fate else { return ahead };
        let url = checkpoint.endpoints.get(endpoint as usize);
        let now = url.and_then(|url| config.endpoints.iter().position(|known| known == url));
        let now = now.and_then(|index| u32::try_from(index).ok());
        let in_flight = |endpoint| Fate::InFlight { endpoint, channel, ack };
        Ahead { fate: now.map_or(Fate::Unsent, in_flight), ..ahead }
    });
    checkpoint.window = known.collect();
    checkpoint.endpoints.clone_from(&config.endpoints);
    checkpoint
}

/// Takes back dead letters of messages that the checkpoint has not passed: they are sent again,
/// and refused again if they must be.
async fn withdraw(config: &Config, wal: &Wal, checkpoint: &Checkpoint) -> Result<(), SinkError> {
    let mut from = checkpoint.position;
    loop {
        let page = wal.letters(&config.name, from, WITHDRAWN, ByteSize::mib(8));
        let page =
            page.map_err(|source| SinkError::Checkpoint { name: config.name.clone(), source })?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        from = Position::new(last.offset, last.index.saturating_add(1));
        let passed = |at: &Position| {
            checkpoint.window.iter().any(|ahead| {
                ahead.fate == Fate::DeadLettered
                    && ahead.range.start <= *at
                    && *at < ahead.range.end
            })
        };
        let early: Vec<Position> =
            page.into_iter().map(|(at, _)| at).filter(|at| !passed(at)).collect();
        match wal.remove_letters(&config.name, &early, Removal::Withdrawn).await {
            Ok(_) | Err(LetterError::Full) => {}
            Err(LetterError::Commit(source)) => {
                return Err(SinkError::Commit { name: config.name.clone(), source });
            }
        }
    }
}

/// Dead letters that are looked at together.
const WITHDRAWN: usize = 1000;

async fn first_checkpoint(config: &Config, wal: &Wal) -> Result<Checkpoint, SinkError> {
    let (position, origin_messages) = match config.start {
        Start::Earliest => (Position::at(wal.first()), wal.messages_before_first()),
        Start::Latest => {
            let tail = wal.status().tail;
            (Position::at(tail.end), tail.messages)
        }
    };
    let saved = crate::clock::unix_micros();
    let checkpoint = Checkpoint { position, origin_messages, saved, ..Checkpoint::default() };
    wal.commit(&config.name, checkpoint.clone())
        .await
        .map_err(|source| SinkError::Commit { name: config.name.clone(), source })?;
    tracing::info!(destination = %config.name, %position, "new destination");
    Ok(checkpoint)
}
