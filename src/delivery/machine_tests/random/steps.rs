//! What may happen to the machine, and how often.

use proptest::prelude::*;

use super::super::rig::BATCH;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Wait(u64),
    Grow(u64),
    Read {
        most: u64,
        filtered: u64,
    },
    Encode,
    /// Where a batch is cut is looked up, or a dead letter is written, if there is room.
    Look {
        room: bool,
    },
    Post {
        pick: usize,
        outcome: Answer,
    },
    Poll {
        pick: usize,
        outcome: Answer,
    },
    Commit,
    Stop,
    /// An operator pauses it, or lets it go on.
    Pause(bool),
    Save,
    Nonsense(Nonsense),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// For a POST: an id that rises. For a poll: all that was asked.
    Good,
    /// For a POST: this id. For a poll: this id alone, asked or not.
    Id(u64),
    Nothing,
    Busy,
    Unreachable,
    Doubt,
    Severed,
    Fault,
    /// For a POST: this event is refused, and those before it are taken if there is an id.
    Refused {
        bad: Option<u64>,
        ack: bool,
    },
    TooLarge,
}

#[derive(Clone, Debug)]
pub(super) enum Nonsense {
    Read {
        batch: u64,
        from: u64,
        to: u64,
    },
    Encoded(u64),
    Posted {
        lane: usize,
        id: u64,
    },
    Polled {
        channel: u128,
        id: u64,
    },
    /// About a channel that is or was, asked or not.
    PolledUnasked {
        pick: usize,
        id: u64,
    },
    Committed,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let answer = prop_oneof![
        6 => Just(Answer::Good),
        2 => (0..6u64).prop_map(Answer::Id),
        1 => Just(Answer::Nothing),
        1 => Just(Answer::Busy),
        1 => Just(Answer::Unreachable),
        1 => Just(Answer::Doubt),
        1 => Just(Answer::Severed),
        1 => Just(Answer::Fault),
        3 => (proptest::option::of(0..6u64), any::<bool>())
            .prop_map(|(bad, ack)| Answer::Refused { bad, ack }),
        1 => Just(Answer::TooLarge),
    ];
    let nonsense = prop_oneof![
        (0..40u64, 0..60u64, 0..80u64).prop_map(|(batch, from, to)| Nonsense::Read {
            batch,
            from,
            to
        }),
        (0..40u64).prop_map(Nonsense::Encoded),
        (0..9usize, 0..9u64).prop_map(|(lane, id)| Nonsense::Posted { lane, id }),
        (any::<u128>(), 0..9u64).prop_map(|(channel, id)| Nonsense::Polled { channel, id }),
        (0..9usize, 0..9u64).prop_map(|(pick, id)| Nonsense::PolledUnasked { pick, id }),
        Just(Nonsense::Committed),
    ];
    prop_oneof![
        6 => (1..4000u64).prop_map(Step::Wait),
        4 => (1..12u64).prop_map(Step::Grow),
        8 => (1..=BATCH, 0..3u64).prop_map(|(most, filtered)| Step::Read { most, filtered }),
        4 => Just(Step::Encode),
        5 => any::<bool>().prop_map(|room| Step::Look { room }),
        10 => (any::<usize>(), answer.clone())
            .prop_map(|(pick, outcome)| Step::Post { pick, outcome }),
        8 => (any::<usize>(), answer).prop_map(|(pick, outcome)| Step::Poll { pick, outcome }),
        4 => Just(Step::Commit),
        1 => Just(Step::Stop),
        1 => Just(Step::Pause(true)),
        2 => Just(Step::Pause(false)),
        1 => Just(Step::Save),
        3 => nonsense.prop_map(Step::Nonsense),
    ]
}
