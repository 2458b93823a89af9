//! The spans and log lines by which a frame is followed from the log to its acknowledgement: by its
//! offset, which `ingest` has logged beside its request id. At `debug`, and once a batch.

use std::time::Duration;

use tracing::{Span, debug, debug_span, info, warn};

use crate::delivery::{
    Acknowledgement, EndpointId, PollOutcome, PostOutcome, Preflight, ReadBatch,
};
use crate::types::{BatchId, ChannelId, DestinationName, PositionRange};

/// The first and the last frame that a range has a part of.
fn frames(range: PositionRange) -> (u64, u64) {
    let (start, end) = (range.start, range.end);
    let last = if end.index > 0 { end.offset.get() } else { end.offset.get().saturating_sub(1) };
    (start.offset.get(), last)
}

/// A collector was asked whether it acknowledges.
pub(super) fn preflight(destination: &DestinationName, endpoint: EndpointId, said: &Preflight) {
    debug!(%destination, endpoint = endpoint.get(), ?said, "asked whether it acknowledges");
}

/// It was decided what counts as delivered. An operator should hear of it, whatever it is.
pub(super) fn chosen(destination: &DestinationName, mode: Acknowledgement) {
    let acknowledgement = mode.as_str();
    match mode {
        Acknowledgement::Required | Acknowledgement::Auto => info!(
            %destination, acknowledgement,
            "auto has chosen: a batch counts as delivered when the indexers acknowledge it"
        ),
        Acknowledgement::Off => warn!(
            %destination, acknowledgement,
            "auto has chosen: every collector says that indexer acknowledgement is disabled for the \
             token, so a batch counts as delivered when it is answered 200, although it can still \
             die between the collector and the indexers' disks; enable it (useACK) and start \
             forebay anew"
        ),
    }
}

/// A batch was made from the log.
pub(super) fn read(destination: &DestinationName, read: &ReadBatch) {
    let (first_offset, last_offset) = frames(read.range);
    debug!(
        %destination, batch = %read.batch, first_offset, last_offset, range = %read.range,
        messages = read.messages, filtered = read.filtered, "read"
    );
}

/// What a POST belongs to.
pub(super) fn post(
    destination: &DestinationName,
    batch: BatchId,
    range: Option<PositionRange>,
    channel: ChannelId,
) -> Span {
    let (first_offset, last_offset) = range.map(frames).unzip();
    debug_span!("post", %destination, %batch, %channel, first_offset, last_offset)
}

/// A POST has ended. Inside of its span.
pub(super) fn posted(outcome: &PostOutcome, took: Duration) {
    debug!(?outcome, took_ms = took.as_millis(), "posted");
}

/// What a question for acknowledgements belongs to.
pub(super) fn poll(destination: &DestinationName, channel: ChannelId) -> Span {
    debug_span!("poll", %destination, %channel)
}

/// A question has been answered. Inside of its span.
pub(super) fn polled(outcome: &PollOutcome) {
    debug!(?outcome, "polled");
}

/// A batch was acknowledged.
pub(super) fn acknowledged(
    destination: &DestinationName,
    batch: BatchId,
    range: PositionRange,
    after: Duration,
) {
    let (first_offset, last_offset) = frames(range);
    let after_ms = after.as_millis();
    debug!(%destination, %batch, first_offset, last_offset, after_ms, "acknowledged");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Offset, Position};

    #[test]
    fn a_range_names_the_frames_that_it_has_a_part_of() {
        let range = |start: (u64, u32), end: (u64, u32)| PositionRange {
            start: Position::new(Offset::new(start.0), start.1),
            end: Position::new(Offset::new(end.0), end.1),
        };
        assert_eq!(frames(range((3, 0), (5, 0))), (3, 4));
        assert_eq!(frames(range((3, 2), (5, 1))), (3, 5));
        assert_eq!(frames(range((3, 2), (3, 7))), (3, 3));
        assert_eq!(frames(range((0, 0), (0, 0))), (0, 0));
    }
}
