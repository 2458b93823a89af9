//! What an operator asks of a destination that runs.

use tokio::sync::{mpsc, oneshot};

use crate::record::Moved;
use crate::types::DestinationName;
use crate::wal::{Place, SeekError};

use super::SinkHandle;

/// The most requests that wait; an operator is one person.
pub(super) const WAITING: usize = 16;

/// Something an operator asks for. The answer comes when it is durable.
#[derive(Debug)]
pub(super) enum Control {
    /// Send nothing more (true), or go on.
    Pause(bool, oneshot::Sender<()>),
    /// Write down how far it has come.
    Save(oneshot::Sender<()>),
    /// Go on from another place.
    Seek(Seek),
}

/// Where a cursor is to be moved.
#[derive(Debug)]
pub(super) struct Seek {
    pub(super) to: Place,
    /// Whether messages may be skipped.
    pub(super) may_skip: bool,
    pub(super) answer: oneshot::Sender<Result<Moved, SeekError>>,
}

/// Who waits for the next commit.
#[derive(Debug)]
pub(super) struct Asked {
    /// What it is that was asked for, where the log tells of it: pause, or go on.
    pub(super) paused: Option<bool>,
    pub(super) answer: oneshot::Sender<()>,
}

impl Asked {
    /// It is durable. The log tells of it here, whether whoever asked still waits or not.
    pub(super) fn done(self, destination: &DestinationName) {
        match self.paused {
            Some(true) => {
                tracing::warn!(%destination, "paused by an operator: nothing more is sent");
            }
            Some(false) => tracing::info!(%destination, "resumed by an operator"),
            None => {}
        }
        self.answer.send(()).ok();
    }
}

/// A cursor was moved by an operator. Told where it happens: whoever asked may have gone.
pub(super) fn tell_moved(destination: &DestinationName, moved: &Moved) {
    let Moved { from, to, skipped, rewound } = moved;
    tracing::warn!(
        %destination, %from, %to, skipped, rewound,
        "an operator has moved the cursor: what is skipped is never sent, what is rewound is \
         sent again, with the ids it had"
    );
}

/// Where a destination hears of it.
pub(super) type Controls = mpsc::Receiver<Control>;

/// The destination does not run any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the destination is stopping")]
pub struct Stopping;

impl SinkHandle {
    /// Has the destination send nothing more, or go on. Resolves when that is durable. What is in
    /// flight is seen through.
    ///
    /// # Errors
    /// When the destination is stopping.
    pub async fn pause(&self, paused: bool) -> Result<(), Stopping> {
        self.ask(|answer| Control::Pause(paused, answer)).await
    }

    /// Moves the cursor: the destination settles what it can of what is in flight, and goes on from
    /// there. Resolves when that is durable.
    ///
    /// # Errors
    /// When the cursor stays where it is. Then nothing is disturbed.
    pub async fn seek(&self, to: Place, may_skip: bool) -> Result<Moved, SeekRefused> {
        // The stored cursor is a moment behind: what is settled beyond it would count as skipped.
        self.ask(Control::Save).await?;
        let (wal, name) = (self.wal.clone(), self.name.clone());
        // Before anything stops.
        let plan = tokio::task::spawn_blocking(move || wal.plan_seek(&name, to, may_skip));
        plan.await.map_err(|_| Stopping)??;
        Ok(self.ask(|answer| Control::Seek(Seek { to, may_skip, answer })).await??)
    }

    async fn ask<T>(
        &self,
        what: impl FnOnce(oneshot::Sender<T>) -> Control,
    ) -> Result<T, Stopping> {
        let (answer, answered) = oneshot::channel();
        self.control.send(what(answer)).await.map_err(|_| Stopping)?;
        answered.await.map_err(|_| Stopping)
    }
}

/// A cursor stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum SeekRefused {
    /// For a reason of the log.
    #[error(transparent)]
    Log(#[from] SeekError),
    /// The relay stops.
    #[error(transparent)]
    Stopping(#[from] Stopping),
}
