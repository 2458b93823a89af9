//! What an operator asks of a destination that runs.

use tokio::sync::{mpsc, oneshot};

use super::SinkHandle;

/// The most requests that wait; an operator is one person.
pub(super) const WAITING: usize = 16;

/// Something an operator asks for. The answer comes when it is durable.
#[derive(Debug)]
pub(super) enum Control {
    /// Send nothing more (true), or go on.
    Pause(bool, oneshot::Sender<()>),
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
        let (answer, answered) = oneshot::channel();
        let asked = self.control.send(Control::Pause(paused, answer)).await;
        asked.map_err(|_| Stopping)?;
        answered.await.map_err(|_| Stopping)?;
        if paused {
            tracing::warn!(destination = %self.name, "paused by an operator: nothing more is sent");
        } else {
            tracing::info!(destination = %self.name, "resumed by an operator");
        }
        Ok(())
    }
}
