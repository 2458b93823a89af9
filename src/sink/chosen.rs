//! What counts as delivered, for those who may have to wait until it is known.

use tokio::sync::watch;

use crate::delivery::Acknowledgement;

use super::SinkStatus;

/// Looks at what the destination's machine has chosen ([`Acknowledgement::Auto`]). Replays and
/// redrives go by the same choice, and send nothing before it is made.
pub(super) struct Chosen(watch::Receiver<SinkStatus>);

impl Chosen {
    pub(super) fn of(status: &watch::Sender<SinkStatus>) -> Self {
        Self(status.subscribe())
    }

    /// The choice, if it is made.
    pub(super) fn now(&self) -> Option<Acknowledgement> {
        known(self.0.borrow().delivery.acknowledgement)
    }

    /// Resolves when the choice is made.
    pub(super) async fn known(&mut self) {
        let made = |status: &SinkStatus| known(status.delivery.acknowledgement).is_some();
        if self.0.wait_for(made).await.is_err() {
            // The destination is gone, and with it whoever waits here.
            std::future::pending::<()>().await;
        }
    }
}

fn known(mode: Acknowledgement) -> Option<Acknowledgement> {
    (mode != Acknowledgement::Auto).then_some(mode)
}
