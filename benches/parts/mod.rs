//! What the benches of the log share.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use forebay::clock;
use forebay::logplex::Profile;
use forebay::types::ByteSize;
use forebay::wal::{self, Config, NewFrame};

/// A log in `dir` that is never full and deletes nothing.
pub(crate) fn config(dir: &Path, segment_size: ByteSize, min_free: ByteSize) -> Config {
    Config {
        dir: dir.join("wal"),
        segment_size,
        max_size: ByteSize::mib(1 << 20),
        min_free,
        retention: Duration::ZERO,
        dedupe_window: Duration::from_hours(24),
        dedupe_memory: ByteSize::mib(64),
        when_full: wal::WhenFull::default(),
        durability: wal::Durability::default(),
        storage: wal::Storage::default(),
        on_damage: wal::OnDamage::default(),
    }
}

/// A frame of so many messages, that came now: the log would roll for the age of an old one.
pub(crate) fn new_frame(id: u64, messages: u32, body: &Bytes) -> NewFrame {
    NewFrame {
        drain_token: Some("d.fc6b856b-3332-4546-93de-7d0ee272c3bd".to_owned()),
        frame_id: Some(format!("{id:032X}")),
        dedupe_scope: "d.fc6b856b-3332-4546-93de-7d0ee272c3bd".to_owned(),
        messages_claimed: Some(messages),
        messages,
        received: clock::unix_micros(),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        query: String::new(),
        profile: Profile::Logplex,
        body: body.clone(),
    }
}
