//! TLS: rustls with ring, TLS 1.2 and 1.3, reloaded without closing a connection.
//!
//! Logplex checks no certificate and knows only AES-128 suites (Dev Center, "Log Drains"), so
//! nothing is narrowed: rustls' own suites are all good, and both versions stay. There is no ALPN:
//! the sender does not know it, and a client that offers HTTP/2 without an answer speaks HTTP/1.1.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{InconsistentKeys, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::types::UnixMicros;

/// How long a handshake may take, with a PROXY header before it. Logplex gives up after 3 s
/// (Logplex source, logplex_http_drain.erl), which costs it no try.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(3);

/// A certificate with its key, ready to be used. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    config: Arc<ServerConfig>,
    certificate: PathBuf,
    not_after: UnixMicros,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificate", &self.certificate)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Why a certificate and a key cannot be used. Nothing of the key is in it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The certificate.
    #[error("{}: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key.
    #[error("{}: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Identity {
    /// Reads a certificate with its chain, and its private key, both PEM.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else, and when the key is another
    /// certificate's.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let bad_certificate =
            |why: String| IdentityError::Certificate { path: certificate.to_owned(), why };
        let bad_key = |why: String| IdentityError::Key { path: key.to_owned(), why };

        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| bad_certificate(in_words(&error, "certificate")))?;
        let first = chain.first().ok_or_else(|| bad_certificate("holds no certificate".into()))?;
        let (_, parsed) = X509Certificate::from_der(first)
            .map_err(|error| bad_certificate(format!("is no certificate: {error}")))?;
        let not_after = parsed.validity().not_after.timestamp();
        let not_after = UnixMicros::new(not_after.saturating_mul(1_000_000));

        let private_key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| bad_key(in_words(&error, "private key")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad_certificate(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, private_key)
            .map_err(|error| {
                let mismatch = rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
                bad_key(if error == mismatch {
                    format!("does not fit the certificate in {}", certificate.display())
                } else {
                    format!("cannot be used: {error}")
                })
            })?;
        Ok(Self { config: Arc::new(config), certificate: certificate.to_owned(), not_after })
    }

    /// The end of the certificate's life.
    #[must_use]
    pub const fn not_after(&self) -> UnixMicros {
        self.not_after
    }

    /// Makes a connection a secure one.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await
    }
}

/// A mistake in a PEM file. The crate's own words show numbers of the file's content.
fn in_words(error: &pem::Error, what: &str) -> String {
    if let pem::Error::Io(error) = error {
        return format!("cannot be read: {error}");
    }
    if matches!(error, pem::Error::NoItemsFound) {
        return format!("holds no {what} in PEM form");
    }
    "is damaged: not the PEM form it should be".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a certificate for localhost, and its key.
    fn pair(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[test]
    fn a_pair_is_read_with_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(dir.path(), "a");
        let identity = Identity::load(&certificate, &key).unwrap();
        // rcgen's default is the beginning of the year 4096.
        assert_eq!(identity.not_after(), UnixMicros::new(67_090_118_400_000_000));
        let versions = [rustls::ProtocolVersion::TLSv1_2, rustls::ProtocolVersion::TLSv1_3];
        let suites: Vec<_> = identity.config.crypto_provider().cipher_suites.iter().collect();
        for version in versions {
            let aes_128 = suites.iter().any(|suite| {
                let name = format!("{:?}", suite.suite());
                suite.version().version == version && name.contains("AES_128_GCM")
            });
            assert!(aes_128, "{version:?}");
        }
        let shown = format!("{identity:?}");
        assert!(shown.contains("a.crt") && !shown.contains("PRIVATE"), "{shown}");
    }

    #[test]
    fn a_bad_pair_is_refused_by_file_and_reason() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(dir.path(), "a");
        let (_, other_key) = pair(dir.path(), "b");
        let missing = dir.path().join("missing");
        let text = dir.path().join("text");
        std::fs::write(&text, "no PEM at all").unwrap();
        let broken = dir.path().join("broken");
        std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n")
            .unwrap();
        let hollow = dir.path().join("hollow");
        std::fs::write(&hollow, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .unwrap();
        for (certificate, key, file, reason) in [
            (&missing, &key, "missing", "cannot be read"),
            (&text, &key, "text", "holds no certificate"),
            (&broken, &key, "broken", "damaged"),
            (&hollow, &key, "hollow", "is no certificate"),
            (&certificate, &missing, "missing", "cannot be read"),
            (&certificate, &text, "text", "holds no private key"),
            (&certificate, &certificate, "a.crt", "holds no private key"),
            (&certificate, &other_key, "b.key", "does not fit the certificate in"),
        ] {
            let error = Identity::load(certificate, key).unwrap_err().to_string();
            assert!(error.contains(file) && error.contains(reason), "{file} {reason}: {error}");
        }
    }
}
