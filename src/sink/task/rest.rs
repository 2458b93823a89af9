//! What is written down, and what is still written when another machine is to go on.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::record::Checkpoint;
use crate::wal::CommitError;

use super::super::Ended;
use super::{Done, Task};

impl Task {
    /// Makes durable how far it has come. Whoever waits for the next commit waits for this one.
    pub(super) fn commit(&mut self, mut checkpoint: Checkpoint) {
        checkpoint.saved = clock::unix_micros();
        checkpoint.endpoints.clone_from(&self.config.endpoints);
        let (wal, name) = (self.wal.clone(), self.config.name.clone());
        let commit = self.ledger.commit(checkpoint);
        self.committing.append(&mut self.asked);
        self.commits.spawn(async move { Done::Committed(commit.write(&wal, &name).await) });
    }

    /// Drops what is on its way to the collectors, and writes down what is settled.
    ///
    /// What the log was asked to write is written before this returns. A checkpoint that came to the
    /// store behind the back of the next machine would not be what that one has begun with, and its
    /// first one would take it back: what is acknowledged would be sent again (I4). A dead letter
    /// would not be taken back with its message. So a disk that hangs is waited for, but not for
    /// longer than `grace` after a `stop`.
    pub(super) async fn write_the_rest(
        &mut self,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Result<(), Ended> {
        self.jobs.shutdown().await;
        let too_long = async move {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            written = self.write_all() => written.map_err(|_| Ended::LogGone),
            () = too_long => Err(Ended::CutShort),
        }
    }

    async fn write_all(&mut self) -> Result<(), CommitError> {
        self.written().await?;
        // What has settled since, and was not written: its answers are here, and come no more. The
        // log writes in the order in which it is asked to, so dead letters are there, too.
        let last = self.machine.checkpoint();
        self.commit(last);
        self.written().await?;
        self.committing.drain(..).for_each(|asked| asked.done(&self.config.name));
        Ok(())
    }

    /// Waits for the commit that is on its way.
    async fn written(&mut self) -> Result<(), CommitError> {
        while let Some(done) = self.commits.join_next().await {
            match done {
                Ok(Done::Committed(result)) => result?,
                Ok(_) => {}
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
        Ok(())
    }
}
