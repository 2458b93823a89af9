//! A simulated HEC that can go away and come back on its port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use forebay::simulate::hec::{AckMode, HecConfig, HecHandle, HecServer, HecToken};
use forebay::simulate::ledger::HecLedger;
use forebay::types::Secret;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Port, TOKEN};

/// A collector: its address and its book outlive its servers.
#[derive(Debug)]
pub(crate) struct Hec {
    pub(crate) ledger: Arc<HecLedger>,
    port: Port,
    ack: AckMode,
    /// The indexes its token may write to. Empty: any.
    pub(crate) indexes: Vec<String>,
    /// What is not the port, the token or the acknowledgement.
    base: HecConfig,
    /// In place of the port, if any.
    at: Option<SocketAddr>,
    /// In place of the one usual token, if any.
    tokens: Vec<HecToken>,
    running: Option<(HecHandle, CancellationToken, JoinSet<()>)>,
}

impl Hec {
    /// One that is not listening yet.
    pub(crate) fn down(ack: AckMode) -> Self {
        let ledger = Arc::new(HecLedger::new(1 << 24, 10_000));
        Self {
            ledger,
            port: Port::free(),
            ack,
            base: HecConfig::default(),
            at: None,
            tokens: Vec::new(),
            indexes: Vec::new(),
            running: None,
        }
    }

    pub(crate) fn up(ack: AckMode) -> Self {
        let mut hec = Self::down(ack);
        hec.start();
        hec
    }

    /// One that acknowledges after 50 to 300 ms and is otherwise as `base` says.
    pub(crate) fn with(base: HecConfig) -> Self {
        let mut hec = Self { base, ..Self::down(usual_ack()) };
        hec.start();
        hec
    }

    /// One that acknowledges after 50 to 300 ms.
    pub(crate) fn usual() -> Self {
        Self::up(usual_ack())
    }

    /// Another one with this one's port and book, at another address.
    pub(crate) fn beside(&self, ip: Ipv4Addr) -> Self {
        let at = Some(SocketAddr::from((ip, self.address().port())));
        let (ledger, base) = (Arc::clone(&self.ledger), self.base.clone());
        let mut hec = Self { ledger, base, at, ..Self::down(self.ack) };
        hec.start();
        hec
    }

    /// The tokens it knows after its next start.
    pub(crate) fn tokens(&mut self, tokens: Vec<HecToken>) {
        self.tokens = tokens;
    }

    /// Changes what it will be after its next start.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut HecConfig)) {
        change(&mut self.base);
    }

    pub(crate) fn start(&mut self) {
        let token = HecToken {
            value: Secret::new(TOKEN.to_owned()),
            indexes: self.indexes.clone(),
            ..HecToken::default()
        };
        let tokens = if self.tokens.is_empty() { vec![token] } else { self.tokens.clone() };
        let config =
            HecConfig { listen: self.address(), tokens, ack: self.ack, ..self.base.clone() };
        let server = HecServer::bind(config, Arc::clone(&self.ledger)).unwrap();
        let (handle, stop) = (server.handle(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(stop.clone()));
        self.running = Some((handle, stop, tasks));
    }

    /// As a process that dies: what it had accepted and not indexed is gone.
    pub(crate) async fn stop(&mut self) {
        let (_, stop, tasks) = self.running.take().unwrap();
        stop.cancel();
        tasks.join_all().await;
    }

    pub(crate) fn handle(&self) -> &HecHandle {
        &self.running.as_ref().unwrap().0
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.at.unwrap_or_else(|| self.port.address())
    }
}

/// 50 to 300 ms.
pub(crate) const fn usual_ack() -> AckMode {
    AckMode::After { min: Duration::from_millis(50), max: Duration::from_millis(300) }
}
