//! What ties a channel to one indexer behind a load balancer (`destination.affinity`).

use std::collections::HashMap;
use std::sync::Arc;

use crate::types::ChannelId;

use super::config::Affinity;
use super::jar::Jar;
use super::line::Line;

/// The ties of one task's channels. There is one for each channel that is in use, or asked about,
/// and they go with the task at the latest.
pub(super) struct Links {
    affinity: Affinity,
    open: HashMap<ChannelId, Arc<Link>>,
}

/// What ties a channel.
pub(super) enum Link {
    /// Nothing: every request goes over any connection.
    Free,
    /// The balancer's cookies.
    Cookies(Jar),
    /// One connection.
    Line(Line),
}

impl Links {
    pub(super) fn new(affinity: Affinity) -> Self {
        Self { affinity, open: HashMap::new() }
    }

    /// What ties this channel.
    pub(super) fn of(&mut self, channel: ChannelId) -> Arc<Link> {
        let new = match self.affinity {
            Affinity::None => return Arc::new(Link::Free),
            Affinity::Cookie => || Link::Cookies(Jar::default()),
            Affinity::Connection => || Link::Line(Line::default()),
        };
        Arc::clone(self.open.entry(channel).or_insert_with(|| Arc::new(new())))
    }

    /// The channel is not used any more.
    pub(super) fn close(&mut self, channel: ChannelId) {
        self.open.remove(&channel);
    }
}
