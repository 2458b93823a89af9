//! The end of a relay's parts, and which exit code it makes.

use std::io;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use crate::sink::Ended;
use crate::wal::Closed;

use super::Exit;

/// What ends.
pub(super) enum Part {
    Ingest,
    Admin(io::Result<()>),
    Sink(Ended),
}

/// A part that ends before it is told to has failed.
pub(super) fn ended_early(ended: Option<Result<Part, JoinError>>) -> Exit {
    match ended {
        Some(Ok(Part::Sink(Ended::LogGone))) => Exit::Storage,
        Some(Ok(Part::Admin(Err(error)))) => {
            tracing::error!(%error, "stopping: the admin listener has failed");
            Exit::Bug
        }
        Some(Err(error)) => {
            tracing::error!(%error, "stopping: bug: a task has panicked");
            Exit::Bug
        }
        Some(Ok(Part::Ingest | Part::Admin(Ok(())) | Part::Sink(_))) | None => {
            tracing::error!("stopping: bug: a task has ended without being told to");
            Exit::Bug
        }
    }
}

/// Waits for all parts that still run, and says whether one had to be cut short, or could not go on.
pub(super) async fn finish(parts: &mut JoinSet<Part>, limit: Duration) -> Exit {
    let mut exit = Exit::Stopped;
    let all = async {
        while let Some(ended) = parts.join_next().await {
            exit = exit.and(match ended {
                Ok(Part::Sink(Ended::CutShort)) => {
                    tracing::warn!(
                        "a destination did not settle in time what it had sent; the next start \
                         sends it again"
                    );
                    Exit::DeadlinePassed
                }
                Ok(Part::Sink(Ended::LogGone)) => Exit::Storage,
                Ok(Part::Ingest | Part::Admin(_) | Part::Sink(Ended::Clean)) => Exit::Stopped,
                Err(error) => {
                    tracing::error!(%error, "bug: a task has panicked");
                    Exit::Bug
                }
            });
        }
    };
    if tokio::time::timeout(limit, all).await.is_err() {
        tracing::error!(left = parts.len(), "the stop's time is over, parts are cut off");
        return exit.and(Exit::DeadlinePassed);
    }
    exit
}

/// What the log's last write has come to.
pub(super) fn closed(closing: Result<Closed, JoinError>) -> Exit {
    match closing {
        Ok(Closed::InOrder) => Exit::Stopped,
        Ok(closed @ (Closed::Failed | Closed::Hangs)) => {
            tracing::error!(
                ?closed,
                "the log did not close in order: what it wrote last may not be on the disk. The next \
                 start recovers"
            );
            Exit::Storage
        }
        Err(error) => {
            tracing::error!(%error, "bug: closing the log has panicked");
            Exit::Bug
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn end_of(ends: impl IntoIterator<Item = Ended>, limit: Duration) -> Exit {
        let mut parts = JoinSet::new();
        let mut before = Vec::new();
        for end in ends {
            // One after the other, in this order.
            let (ended, wait) = tokio::sync::oneshot::channel::<()>();
            let first = before.pop();
            before.push(wait);
            parts.spawn(async move {
                if let Some(first) = first {
                    drop(first.await);
                }
                drop(ended);
                Part::Sink(end)
            });
        }
        finish(&mut parts, limit).await
    }

    #[tokio::test]
    async fn a_log_that_is_gone_is_said_whatever_ends_besides() {
        use Ended::{Clean, CutShort, LogGone};
        assert_eq!(end_of([Clean, Clean], LONG).await, Exit::Stopped);
        assert_eq!(end_of([Clean, CutShort, Clean], LONG).await, Exit::DeadlinePassed);
        for order in [[LogGone, CutShort], [CutShort, LogGone]] {
            assert_eq!(end_of(order, LONG).await, Exit::Storage, "{order:?}");
        }
        // The time is over while a part still runs: what another has said counts.
        let mut parts = JoinSet::new();
        parts.spawn(async { Part::Sink(LogGone) });
        parts.spawn(std::future::pending());
        assert_eq!(finish(&mut parts, Duration::from_millis(300)).await, Exit::Storage);
    }

    /// However many have ended before.
    #[tokio::test]
    async fn every_part_that_runs_is_waited_for() {
        let mut parts = JoinSet::new();
        let (let_go, held) = tokio::sync::oneshot::channel::<()>();
        parts.spawn(async { Part::Ingest });
        parts.spawn(async {
            drop(held.await);
            Part::Sink(Ended::CutShort)
        });
        let wait = async {
            tokio::task::yield_now().await;
            drop(let_go);
        };
        let (exit, ()) = tokio::join!(finish(&mut parts, LONG), wait);
        assert_eq!((exit, parts.len()), (Exit::DeadlinePassed, 0));
    }

    #[test]
    fn a_log_that_did_not_close_in_order_is_74() {
        assert_eq!(closed(Ok(Closed::InOrder)), Exit::Stopped);
        for bad in [Closed::Failed, Closed::Hangs] {
            assert_eq!(closed(Ok(bad)), Exit::Storage, "{bad:?}");
        }
        let worst = [Exit::Stopped, Exit::DeadlinePassed, Exit::Bug, Exit::Storage];
        for (n, one) in worst.into_iter().enumerate() {
            for other in worst.into_iter().take(n) {
                assert_eq!((one.and(other), other.and(one)), (one, one));
            }
        }
    }
}
