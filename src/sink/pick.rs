//! Which frames of its stretch a replay sends.

use crate::record::{Record, ReplayFilter};
use crate::types::ByteSize;

use super::KnownDrains;

/// So much of what is not sent, because a replay does not ask for it or a filter takes it out, is
/// read at a time: a stop must not wait for a log of gigabytes, and the cursor moves meanwhile.
pub(super) const PASSED_OVER: ByteSize = ByteSize::mib(16);

/// A replay's filter, with the names it needs.
#[derive(Debug)]
pub(super) struct Pick {
    filter: ReplayFilter,
    drains: KnownDrains,
}

impl Pick {
    pub(super) const fn new(filter: ReplayFilter, drains: KnownDrains) -> Self {
        Self { filter, drains }
    }

    /// Other names for drains.
    pub(super) fn set_drains(&mut self, drains: KnownDrains) {
        self.drains = drains;
    }

    /// Whether a frame is one of those asked for.
    pub(super) fn takes(&self, record: &Record) -> bool {
        let ReplayFilter { drain, app, from, to } = &self.filter;
        let token = record.drain_token.as_deref().unwrap_or_default();
        from.is_none_or(|from| record.received >= from)
            && to.is_none_or(|to| record.received < to)
            && drain.as_ref().is_none_or(|drain| token.starts_with(drain.as_str()))
            && app.as_ref().is_none_or(|app| self.app(record).as_deref() == Some(app))
    }

    /// The app a frame comes from: as the configuration names its drain, or else as its URL does.
    fn app(&self, record: &Record) -> Option<String> {
        let known = record.drain_token.as_ref().and_then(|token| self.drains.known.get(token));
        let known = known.map(|info| info.app.clone()).filter(|app| !app.is_empty());
        known.or_else(|| {
            let url = reqwest::Url::parse(&format!("http://drain/?{}", record.query)).ok()?;
            let app = url.query_pairs().find(|(name, _)| name == "app");
            app.map(|(_, app)| app.into_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::hec::mapping::{DrainInfo, DrainSettings};
    use crate::logplex::Profile;
    use crate::types::UnixMicros;

    fn record(token: Option<&str>, received: i64, query: &str) -> Record {
        Record {
            drain_token: token.map(str::to_owned),
            frame_id: None,
            messages_claimed: None,
            messages: 1,
            messages_before: 0,
            received: UnixMicros::new(received),
            peer: String::new(),
            query: query.to_owned(),
            profile: Profile::Logplex,
            body: Bytes::new(),
        }
    }

    #[test]
    fn what_is_asked_for_is_taken_and_nothing_else() {
        let info = DrainInfo { app: "shop".to_owned(), ..DrainInfo::default() };
        let known = Arc::new(BTreeMap::from([("d.1".to_owned(), info)]));
        let drains = Arc::new(DrainSettings { known, ..DrainSettings::default() });
        let all = [
            record(Some("d.1"), 10, ""),
            record(Some("d.2"), 20, "app=shop"),
            record(Some("d.22"), 30, "app=cart"),
            record(None, 40, ""),
        ];
        let takes = |filter: ReplayFilter| {
            let pick = Pick::new(filter, Arc::clone(&drains));
            all.iter().map(|record| u8::from(pick.takes(record))).collect::<Vec<_>>()
        };
        let none = ReplayFilter::default();
        let at = |micros| Some(UnixMicros::new(micros));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(takes(none.clone()), [1, 1, 1, 1]);
        assert_eq!(takes(ReplayFilter { from: at(20), ..none.clone() }), [0, 1, 1, 1]);
        assert_eq!(takes(ReplayFilter { to: at(20), ..none.clone() }), [1, 0, 0, 0]);
        assert_eq!(takes(ReplayFilter { drain: text("d.2"), ..none.clone() }), [0, 1, 1, 0]);
        assert_eq!(takes(ReplayFilter { app: text("shop"), ..none.clone() }), [1, 1, 0, 0]);
        let both = ReplayFilter { app: text("shop"), drain: text("d.2"), ..none };
        assert_eq!(takes(both), [0, 1, 0, 0]);
    }
}
