//! Delivery of the log, from wherever an operator wants it to go on.
//!
//! Within one machine the cursor never moves back, and the endpoints stay. A seek ends the machine:
//! what is in flight may settle for a moment, the stored checkpoint is moved, and another machine
//! begins there. So it is when the endpoints' names have other addresses, but for the move.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Epoch;
use crate::types::{DestinationName, Position};
use crate::wal::{SeekError, Wal};

use super::control::{self, Seek};
use super::ledger::Ledger;
use super::renew::Renewable;
use super::task::{Makings, Task, Wanted};
use super::{ClientError, Config, Ended, KnownDrains, inherit, packer, withdraw};

/// Delivers until told to stop.
pub(super) async fn deliver(
    mut makings: Makings,
    drains: Arc<watch::Sender<KnownDrains>>,
    stop: &CancellationToken,
    grace: Duration,
) -> Ended {
    let epoch = Epoch::start();
    let (mut config, wal, mut client) =
        (makings.config.clone(), makings.wal.clone(), Arc::clone(&makings.client));
    let (shown, mut set) = (makings.shown.clone(), makings.set.clone());
    loop {
        let task = Task::new(makings, epoch);
        let (ended, wanted) = Box::pin(task.run_until_wanted(stop, grace)).await;
        let Some((wanted, controls)) = wanted else { return ended };
        if ended == Ended::LogGone {
            // Whoever asked hears of it by the answer that is dropped.
            return ended;
        }
        if let Some(shown) = &shown {
            // What was chosen holds until the process ends.
            config.delivery.acknowledgement = shown.borrow().delivery.acknowledgement;
        }
        let mut asked = None;
        match wanted {
            Wanted::Endpoints => {
                let before = config.clone();
                // The next machine hears of changes after this one.
                if let Some(set) = &mut set {
                    config.at(&set.borrow_and_update());
                }
                match client_at(&client, &config).await {
                    Ok(other) => client = other,
                    // Their URLs were good before: what is left is that the system gives nothing.
                    Err(error) => {
                        tracing::error!(
                            destination = %config.name, %error,
                            "the endpoints have other addresses, and no client can be made for \
                             them: the old ones stay"
                        );
                        config = before;
                    }
                }
            }
            Wanted::Seek(Seek { to, may_skip, answer }) => {
                let (log, name) = (wal.clone(), config.name.clone());
                let moving = tokio::task::spawn_blocking(move || log.seek(&name, to, may_skip));
                let moved = match moving.await {
                    Ok(moved) => moved,
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => return Ended::CutShort,
                };
                if let Err(SeekError::Commit(_)) = &moved {
                    return Ended::LogGone;
                }
                if let Ok(moved) = &moved {
                    control::tell_moved(&config.name, moved);
                }
                asked = Some((answer, moved));
            }
        }
        // Whether it was moved or not: go on from what is stored.
        let checkpoint = match stored(&wal, &config.name).await {
            Ok(Some(checkpoint)) => checkpoint,
            Ok(None) => return Ended::LogGone,
            Err(error) => {
                tracing::error!(destination = %config.name, %error, "the checkpoint cannot be read");
                return Ended::LogGone;
            }
        };
        if withdraw(&config, &wal, &checkpoint).await.is_err() {
            return Ended::LogGone;
        }
        let end = Position::at(wal.status().tail.end);
        let checkpoint = inherit(&config, &wal, checkpoint, end);
        // It compiled when the destination was opened.
        let Ok(source) = packer(&config, &wal, &drains) else { return Ended::LogGone };
        let machine = super::machine(&config, &checkpoint);
        if let Some(shown) = &shown {
            // Whoever asked may look at once.
            let (delivery, tail) = (machine.status(), wal.status().tail);
            shown.send_modify(|status| {
                status.oldest = delivery.oldest_unsettled;
                status.delivery = delivery;
                status.endpoints = config.endpoints.clone().into();
                status.tail = tail;
            });
        }
        makings = Makings {
            tail: wal.tail(),
            machine,
            source: Box::new(source),
            config: config.clone(),
            wal: wal.clone(),
            client: Arc::clone(&client),
            ledger: Ledger::Log,
            shown: shown.clone(),
            control: Some(controls),
            set: set.clone(),
            pace: None,
        };
        if let Some((answer, moved)) = asked {
            // Whoever asked may have given up waiting.
            answer.send(moved).ok();
        }
    }
}

/// A client for the endpoints of a configuration. What it is made of may be read from a disk.
async fn client_at(
    client: &Arc<Renewable>,
    config: &Config,
) -> Result<Arc<Renewable>, ClientError> {
    let (own, new) = (Arc::clone(client), config.clone());
    match tokio::task::spawn_blocking(move || own.at(&new)).await {
        Ok(made) => made,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends.
        Err(_) => Ok(Arc::clone(client)),
    }
}

async fn stored(
    wal: &Wal,
    name: &DestinationName,
) -> Result<Option<crate::record::Checkpoint>, crate::wal::OpenError> {
    let (wal, name) = (wal.clone(), name.clone());
    match tokio::task::spawn_blocking(move || wal.checkpoint(&name)).await {
        Ok(read) => read,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Ok(None),
    }
}
