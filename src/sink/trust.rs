//! Whom a destination trusts, and who it says it is: TLS to the collectors.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::tls::AnyCertificate;

/// TLS to a destination's collectors (`[destination.tls]`), checked and ready. Cheap to clone.
/// What is made of the same parts is equal.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    verified: bool,
    described: Arc<str>,
    /// Of the parts, contents of files included.
    digest: u64,
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Trust {}

impl fmt::Debug for Trust {
    /// Without keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trust").field(&self.described).finish()
    }
}

/// What TLS is made of, as it was read.
#[derive(Clone, Copy, Debug, Hash)]
pub struct TrustParts<'a> {
    /// PEM certificates of the authorities that collectors' certificates are signed by (`ca_file`).
    /// `None`: those that the system trusts.
    pub authorities: Option<&'a [u8]>,
    /// The client's certificate chain and private key, both PEM (`certificate`,
    /// `private_key_file`).
    pub client: Option<(&'a [u8], &'a [u8])>,
    /// The name a collector's certificate must have (`server_name`). `None`: the host of its URL.
    pub server_name: Option<&'a str>,
    /// Whether certificates are checked at all (`verify`).
    pub verify: bool,
}

impl Default for TrustParts<'_> {
    /// The system's authorities, no client certificate, and every check.
    fn default() -> Self {
        Self { authorities: None, client: None, server_name: None, verify: true }
    }
}

/// Which part is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustPart {
    /// `ca_file`, or the system's authorities without one.
    Authorities,
    /// `certificate`.
    Certificate,
    /// `private_key_file`.
    PrivateKey,
    /// `server_name`.
    ServerName,
}

/// Why there is no TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct TrustError {
    /// Which part.
    pub part: TrustPart,
    /// What is wrong with it.
    pub problem: String,
}

impl TrustError {
    fn new(part: TrustPart, problem: impl fmt::Display) -> Self {
        Self { part, problem: problem.to_string() }
    }
}

impl Trust {
    /// Checks the parts and puts them together.
    ///
    /// # Errors
    /// The first part that is no good.
    pub fn new(parts: &TrustParts<'_>) -> Result<Self, TrustError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let wrong = |error: rustls::Error| TrustError::new(TrustPart::Authorities, error);
        let verifier = verifier(parts, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match parts.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates(TrustPart::Certificate, chain)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
                    TrustError::new(TrustPart::PrivateKey, "there is no PEM private key in it")
                })?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| TrustError::new(TrustPart::PrivateKey, error))?
            }
        };
        // HEC over HTTP/2 is not described anywhere.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let described = format!(
            "{}{}{}",
            match (parts.verify, parts.authorities) {
                (false, _) => "not verified",
                (true, None) => "authorities of the system",
                (true, Some(_)) => "own authorities",
            },
            if parts.client.is_some() { ", client certificate" } else { "" },
            parts.server_name.map(|name| format!(", as {name}")).unwrap_or_default(),
        );
        let mut hasher = DefaultHasher::new();
        parts.hash(&mut hasher);
        Ok(Self {
            config: Arc::new(config),
            verified: parts.verify,
            described: described.into(),
            digest: hasher.finish(),
        })
    }

    /// What reqwest takes.
    pub(super) fn client_config(&self) -> ClientConfig {
        ClientConfig::clone(&self.config)
    }

    /// Whether certificates are checked.
    #[must_use]
    pub const fn verified(&self) -> bool {
        self.verified
    }
}

/// TLS that trusts nobody, for where none is spoken.
pub(super) fn nobody() -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::new(TrustPart::Authorities, error))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn certificates(part: TrustPart, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) | Err(_) => Err(TrustError::new(part, "there is no PEM certificate in it")),
    }
}

fn verifier(
    parts: &TrustParts<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
    if !parts.verify {
        return Ok(Arc::new(AnyCertificate::new(Arc::clone(provider))));
    }
    let wrong = |error: String| TrustError::new(TrustPart::Authorities, error);
    let verifier: Arc<dyn ServerCertVerifier> = match parts.authorities {
        None => Arc::new(
            rustls_platform_verifier::Verifier::new(Arc::clone(provider))
                .map_err(|error| wrong(error.to_string()))?,
        ),
        Some(text) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(TrustPart::Authorities, text)? {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map_err(|error| wrong(error.to_string()))?
        }
    };
    let Some(name) = parts.server_name else { return Ok(verifier) };
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| TrustError::new(TrustPart::ServerName, "this is no name of a server"))?;
    Ok(Arc::new(Named { verifier, name }))
}

/// Checks everything, but another name than that of the URL.
#[derive(Debug)]
struct Named {
    verifier: Arc<dyn ServerCertVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
