//! A connection to the drain, plain or with TLS as Heroku's senders speak it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::ConfigError;
use crate::tls::AnyCertificate;

/// A connection.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// How a sender speaks TLS: only suites with AES-128, and no certificate is checked (Dev Center,
/// "Log Drains"; Logplex source, logplex_http_client.erl, which asks for no verification).
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// For a drain at this `Host`, in these versions.
    pub(super) fn new(
        host: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Self, ConfigError> {
        let without_port = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let name = without_port.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|_| ConfigError::TlsName)?;
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("AES_128"));
        let provider = Arc::new(provider);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|_| ConfigError::TlsName)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(provider)))
            .with_no_client_auth();
        // A node of Logplex has nothing of a connection that it had before.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Connects.
pub(super) async fn open(target: SocketAddr, tls: Option<&Tls>) -> io::Result<Stream> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let Some(Tls { connector, name }) = tls else { return Ok(Either::Left(stream)) };
    let stream = connector.connect(name.clone(), stream).await?;
    Ok(Either::Right(Box::new(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_asked_for_without_its_port() {
        for (host, name) in [
            ("logs.example.com:8443", "logs.example.com"),
            ("127.0.0.1:8443", "127.0.0.1"),
            ("[::1]:8443", "::1"),
            ("logs.example.com", "logs.example.com"),
        ] {
            let tls = Tls::new(host, rustls::ALL_VERSIONS).unwrap();
            assert_eq!(tls.name, ServerName::try_from(name).unwrap(), "{host}");
        }
        let wrong = Tls::new("no name:443", rustls::ALL_VERSIONS).err();
        assert_eq!(wrong, Some(ConfigError::TlsName));
    }
}
