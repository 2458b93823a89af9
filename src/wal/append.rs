//! Frames on their way into the log.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::logplex::Profile;
use crate::record::{Checkpoint, PreparedRecord, Record};
use crate::types::{ByteSize, DestinationName, Offset, UnixMicros};

use super::dedupe;
use super::error::{AppendError, CommitError};
use super::gaps::Floor;
use super::group::Appended;
use super::keys::Digest;
use super::letters::{LetterChange, LetterError};
use super::replays::ReplayChange;

/// A frame as ingest has it.
#[derive(Clone, Debug)]
pub struct NewFrame {
    /// `Logplex-Drain-Token`.
    pub drain_token: Option<String>,
    /// The id that makes retries recognisable: `Logplex-Frame-Id`, or log-shuttle's
    /// `X-Request-Id`. Without one a frame is never taken for a duplicate.
    pub frame_id: Option<String>,
    /// Where the id is unique: the drain token, or the user for log-shuttle.
    pub dedupe_scope: String,
    /// `Logplex-Msg-Count`.
    pub messages_claimed: Option<u32>,
    /// Messages that octet counting found.
    pub messages: u32,
    /// Time of arrival.
    pub received: UnixMicros,
    /// The sender.
    pub peer: IpAddr,
    /// The query string, as it came.
    pub query: String,
    /// Who sent it.
    pub profile: Profile,
    /// The body, byte for byte.
    pub body: Bytes,
}

/// A frame, encoded and with its crc, ready for the appender.
#[derive(Debug)]
pub struct PreparedFrame {
    pub(super) record: PreparedRecord,
    pub(super) identity: Option<Digest>,
}

impl PreparedFrame {
    pub(super) fn new(frame: NewFrame) -> Self {
        let identity = frame.frame_id.as_deref().map(|id| dedupe::digest(&frame.dedupe_scope, id));
        let record = Record {
            drain_token: frame.drain_token,
            frame_id: frame.frame_id,
            messages_claimed: frame.messages_claimed,
            messages: frame.messages,
            messages_before: 0,
            received: frame.received,
            peer: frame.peer.to_string(),
            query: frame.query,
            profile: frame.profile,
            body: frame.body,
        };
        Self { record: PreparedRecord::new(&record), identity }
    }
}

/// What the appender is asked to do. Each request owns its answer: when a request is dropped, its
/// sender is told at once, so a dying appender turns into 503s and not into hung connections.
pub(super) enum Request {
    /// Put a frame into the log.
    Append(Box<PendingAppend>),
    /// Make a checkpoint durable. May wait for the next group.
    Commit(PendingCommit),
    /// Write, mark or remove dead letters. May wait for the next group.
    Letters(PendingLetters),
    /// Begin, advance or cancel a replay. May wait for the next group.
    Replay(PendingReplay),
    /// Move the trim point. May wait for the next group.
    Trim(PendingTrim),
    /// Seal the active segment, so that it may go too. May wait for the next group.
    Seal(oneshot::Sender<Result<(), CommitError>>),
    /// Say that the appender is alive, between two groups.
    Probe(oneshot::Sender<()>),
    /// Move the cursors that lie below a floor onto it. Makes a group at once.
    Lift(PendingLift),
    /// Forget a destination's checkpoint. May wait for the next group.
    Remove(PendingRemove),
    /// Write what is left and end.
    Close,
}

pub(super) struct PendingAppend {
    pub(super) frame: PreparedFrame,
    pub(super) answer: oneshot::Sender<Result<Appended, AppendError>>,
    /// What the sender holds for the frame's bytes, given back when they are durable or refused.
    pub(super) permit: Box<dyn Send>,
    /// Told what has become of the frame when it is durable, whoever still waits.
    pub(super) note: Note,
}

/// Takes a note of a frame that is durable.
pub(super) type Note = Box<dyn FnOnce(Appended) + Send>;

pub(super) struct PendingCommit {
    pub(super) destination: DestinationName,
    pub(super) checkpoint: Checkpoint,
    pub(super) answer: oneshot::Sender<Result<(), CommitError>>,
}

pub(super) struct PendingLetters {
    pub(super) destination: DestinationName,
    pub(super) changes: Vec<LetterChange>,
    /// The most bytes that the destination's letters may take.
    pub(super) limit: ByteSize,
    pub(super) answer: oneshot::Sender<Result<u64, LetterError>>,
}

pub(super) struct PendingReplay {
    pub(super) change: ReplayChange,
    pub(super) answer: oneshot::Sender<Result<bool, CommitError>>,
}

pub(super) struct PendingTrim {
    /// The new first offset.
    pub(super) first: Offset,
    pub(super) messages_before: u64,
    /// How many of the oldest segments leave the catalogue.
    pub(super) segments: usize,
    pub(super) answer: oneshot::Sender<Result<(), CommitError>>,
}

pub(super) struct PendingLift {
    pub(super) floor: Floor,
    pub(super) answer: oneshot::Sender<Result<(), CommitError>>,
}

pub(super) struct PendingRemove {
    pub(super) destination: DestinationName,
    pub(super) answer: oneshot::Sender<Result<(), CommitError>>,
}

/// How long a checkpoint waits for a frame's group before it makes one of its own.
pub(super) const COMPANY: Duration = Duration::from_millis(200);
