//! What reads from the store waits for its turn, off the runtime's threads ([`Turns`]); what does
//! not, is answered when no turn is left.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use bytes::Bytes;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tempfile::TempDir;
use tokio::sync::watch;

use super::super::access::Access;
use super::super::server::Turns;
use super::super::{Config, KnownDrains, Listen, ReloadStatus, View};
use super::*;
use crate::ingest::{self, Ingest, Live};
use crate::logplex::{Framing, Profile};
use crate::record::DeadLetter;
use crate::types::{ByteSize, DestinationName, Position, UnixMicros};
use crate::wal::{self, Wal};

const LIMIT: ByteSize = ByteSize::mib(1);

fn log(dir: &Path) -> Wal {
    let config = wal::Config {
        dir: dir.to_owned(),
        segment_size: ByteSize::mib(16),
        max_size: ByteSize::mib(1024),
        min_free: ByteSize::bytes(0),
        retention: Duration::from_hours(1),
        dedupe_window: Duration::from_hours(1),
        dedupe_memory: LIMIT,
        when_full: wal::WhenFull::default(),
        durability: wal::Durability::default(),
        storage: wal::Storage::default(),
        on_damage: wal::OnDamage::default(),
    };
    Wal::open(config).unwrap().0
}

fn ingest(wal: &Wal) -> Ingest {
    let config = ingest::Config {
        listen: ingest::Listen::Address("127.0.0.1:0".parse().unwrap()),
        path: "/logs".to_owned(),
        max_body: LIMIT,
        max_gzip_ratio: 200,
        ack_deadline: Duration::from_secs(4),
        hold_after: Duration::from_secs(1),
        close_after: Duration::from_secs(1),
        max_connections: 1,
        max_connections_per_address: 1,
        max_in_flight: ByteSize::mib(4),
        idle_timeout: Duration::from_secs(1),
        live: Live::default(),
    };
    Ingest::bind(config, wal.clone()).unwrap()
}

fn letter() -> DeadLetter {
    DeadLetter {
        event_id: "F:0".to_owned(),
        code: Some(6),
        status: 400,
        text: "Invalid data format".to_owned(),
        endpoint: "http://hec:8088".to_owned(),
        refused: UnixMicros::new(1),
        message: Bytes::from_static(b"text"),
        framing: Framing::Counted,
        drain_token: None,
        frame_id: None,
        messages_claimed: None,
        messages: 1,
        query: String::new(),
        profile: Profile::Logplex,
        received: UnixMicros::new(1),
        refusals: 1,
        redrive: None,
    }
}

/// The state of a relay without destinations, in whose log is a dead letter of `splunk`.
async fn shared(dir: &TempDir) -> Shared {
    let wal = log(dir.path());
    let splunk = DestinationName::new("splunk").unwrap();
    wal.bury(&splunk, Position::ZERO, letter(), LIMIT).await.unwrap();
    let reload =
        ReloadStatus { successful: true, taken: UnixMicros::new(1), restart_needed: Vec::new() };
    let view = View {
        ingest: ingest(&wal).handle(),
        wal,
        sinks: Arc::from([]),
        phase: watch::channel(Phase::Ready).1,
        reload: watch::channel(reload).1,
        metrics: None,
        history: Arc::default(),
    };
    let config = Config {
        listen: Listen::Tcp("127.0.0.1:0".parse().unwrap()),
        token: None,
        drains: Vec::new(),
        apps_from_urls: false,
    };
    Shared {
        view,
        access: Access::Everybody,
        drains: KnownDrains::new(&config),
        readers: Turns::default(),
        status: Turns::default(),
    }
}

/// The status of the answer.
async fn ask(shared: &Shared, method: Method, path: &str) -> u16 {
    let body =
        if method == Method::POST { r#"{"destination": "splunk", "all": true}"# } else { "" };
    let request = Request::builder().method(method).uri(path);
    let request = request.header(CONTENT_TYPE, "application/json").body(Body::from(body)).unwrap();
    let service = TowerToHyperService::new(router(shared.clone()));
    service.call(request).await.unwrap().status().as_u16()
}

const READ: [(Method, &str); 4] = [
    (Method::GET, "/v1/cursors"),
    (Method::GET, "/v1/dead-letters?destination=splunk"),
    (Method::GET, "/v1/dead-letters/splunk/0:0"),
    // Chooses among what it reads. The last, as nothing is left behind it.
    (Method::POST, "/v1/dead-letters/purge"),
];

#[tokio::test]
async fn what_reads_from_the_store_waits_for_its_turn_and_nothing_else_does() {
    let dir = TempDir::new().unwrap();
    let all = shared(&dir).await;
    let busy = Shared { readers: Turns::none_left(), ..all.clone() };
    for (method, path) in READ {
        assert_eq!(ask(&busy, method, path).await, 503, "{path}");
    }
    assert_eq!(ask(&busy, Method::GET, "/v1/status").await, 200, "it has turns of its own");
    let busy = Shared { status: Turns::none_left(), ..busy };
    assert_eq!(ask(&busy, Method::GET, "/v1/status").await, 503);
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/v1/access",
        "/v1/dead-letters",
        "/v1/drains",
        "/v1/history",
        "/v1/replays",
        "/v1/segments",
        "/v1/warnings",
    ] {
        assert_eq!(ask(&busy, Method::GET, path).await, 200, "{path} reads memory only");
    }
    for (method, path) in READ {
        assert_eq!(ask(&all, method, path).await, 200, "{path}");
    }
    all.view.wal.close();
}
