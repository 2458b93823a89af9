//! TLS in front of the simulated HEC.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// A certificate, its key, and perhaps whose clients may connect.
#[derive(Clone)]
pub struct HecTls(pub(super) Arc<ServerConfig>);

impl fmt::Debug for HecTls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HecTls").finish_non_exhaustive()
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum HecTlsError {
    /// A file cannot be read, or holds something else.
    #[error("{what}: {problem}")]
    Pem {
        /// Which part.
        what: &'static str,
        /// Why.
        problem: String,
    },
    /// The parts do not fit together.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
}

impl HecTls {
    /// Of PEM texts: the certificate chain, its private key, and the certificate of the authority
    /// that clients need a certificate of, if they do.
    ///
    /// # Errors
    /// When one of them is none, or they do not fit together.
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        client_ca: Option<&[u8]>,
    ) -> Result<Self, HecTlsError> {
        let chain = certificates("the certificate", chain)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| pem("the private key", error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("the clients' authority", ca)? {
                    roots.add(certificate)?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| pem("the clients' authority", error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Of PEM files.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem), or when a file cannot be read.
    pub fn from_files(
        chain: &Path,
        key: &Path,
        client_ca: Option<&Path>,
    ) -> Result<Self, HecTlsError> {
        let read = |what, path: &Path| {
            std::fs::read(path).map_err(|error| pem(what, format!("{}: {error}", path.display())))
        };
        let chain = read("the certificate", chain)?;
        let key = read("the private key", key)?;
        let client_ca = client_ca.map(|path| read("the clients' authority", path)).transpose()?;
        Self::from_pem(&chain, &key, client_ca.as_deref())
    }
}

fn pem(what: &'static str, problem: String) -> HecTlsError {
    HecTlsError::Pem { what, problem }
}

fn certificates(
    what: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, HecTlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(pem(what, "there is no certificate in it".to_owned())),
        Ok(all) => Ok(all),
        Err(error) => Err(pem(what, error.to_string())),
    }
}
