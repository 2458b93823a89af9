//! TLS over a real socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::{Identity, Live};
use super::server::{BODY, Server, logplex, post, until};

/// A certificate for localhost in files, and what trusts it.
struct Pair {
    _dir: TempDir,
    certificate: PathBuf,
    key: PathBuf,
    der: CertificateDer<'static>,
}

impl Pair {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let dir = TempDir::new().unwrap();
        let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Self { _dir: dir, certificate, key, der: made.cert.der().clone() }
    }

    fn live(&self) -> Live {
        Live { tls: Some(Identity::load(&self.certificate, &self.key).unwrap()), ..Live::default() }
    }

    /// A client that trusts this certificate, speaks these versions, and offers these protocols.
    async fn connect(
        &self,
        server: &Server,
        versions: &[&'static rustls::SupportedProtocolVersion],
        protocols: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let mut provider = rustls::crypto::ring::default_provider();
        // What Heroku's Erlang offers.
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("AES_128"));
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

async fn ask(stream: &mut TlsStream<TcpStream>, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", answer.escape_ascii());
    }
    String::from_utf8(answer).unwrap()
}

const ALL: &[&rustls::SupportedProtocolVersion] = rustls::ALL_VERSIONS;

#[tokio::test]
async fn both_versions_are_spoken_with_aes_128() {
    let pair = Pair::new();
    let server = Server::with(|setup| setup.ingest.live = pair.live()).await;
    for (version, expected) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut stream = pair.connect(&server, &[version], &[b"h2", b"http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        for id in ["A", "B"] {
            let answer = ask(&mut stream, &post(&logplex(id), BODY)).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    assert_eq!(server.stored().len(), 2, "the second client sent duplicates");
    assert!(server.handle.status().certificate_not_after.is_some());
    // Plain HTTP is not understood, and costs only its own connection.
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(&post("", BODY)).await.unwrap();
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"HTTP"), "{}", answer.escape_ascii());
}

/// A connection that is open goes on with the certificate it began with.
#[tokio::test]
async fn the_certificate_changes_without_closing_a_connection() {
    let (old, new) = (Pair::new(), Pair::new());
    let server = Server::with(|setup| setup.ingest.live = old.live()).await;
    let mut before = old.connect(&server, ALL, &[]).await.unwrap();
    assert!(ask(&mut before, &post(&logplex("A"), BODY)).await.starts_with("HTTP/1.1 200"));
    server.handle.reload(new.live());
    let mut after = new.connect(&server, ALL, &[]).await.unwrap();
    assert!(ask(&mut after, &post(&logplex("B"), BODY)).await.starts_with("HTTP/1.1 200"));
    assert!(ask(&mut before, &post(&logplex("C"), BODY)).await.starts_with("HTTP/1.1 200"));
    assert!(old.connect(&server, ALL, &[]).await.is_err(), "nobody gets the old one any more");
}

#[tokio::test]
async fn a_handshake_has_its_time_and_no_more() {
    let pair = Pair::new();
    let server = Server::with(|setup| {
        setup.ingest.live = pair.live();
        setup.handshake = Duration::from_millis(500);
    })
    .await;
    for bytes in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut client = server.connect().await;
        client.send(bytes).await;
        client.closed().await;
    }
    until("every connection is closed", || server.handle.status().connections == 0).await;
    assert!(pair.connect(&server, ALL, &[]).await.is_ok());
}

/// The sender has lost nothing: the request was not sent.
#[tokio::test]
async fn a_stop_does_not_wait_for_handshakes() {
    let pair = Pair::new();
    let mut server = Server::with(|setup| setup.ingest.live = pair.live()).await;
    let mut silent = server.connect().await;
    until("it is there", || server.handle.status().connections == 1).await;
    server.begin_stop();
    silent.closed().await;
    server.stopped().await;
}
