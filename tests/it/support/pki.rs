//! Certificates for tests, in files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay::simulate::hec::HecTls;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// An authority and what it signs.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Good for 127.0.0.1.
    pub(crate) fn good(&self) -> Pair {
        self.sign(|params| {
            let address = std::net::Ipv4Addr::LOCALHOST.into();
            params.subject_alt_names = vec![SanType::IpAddress(address)];
        })
    }

    /// Good for 127.0.0.1, until 2020.
    pub(crate) fn expired(&self) -> Pair {
        self.sign(|params| {
            let address = std::net::Ipv4Addr::LOCALHOST.into();
            params.subject_alt_names = vec![SanType::IpAddress(address)];
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    /// Good for this name only.
    pub(crate) fn named(&self, name: &str) -> Pair {
        let name = name.try_into().unwrap();
        self.sign(|params| params.subject_alt_names = vec![SanType::DnsName(name)])
    }

    /// A client that trusts this authority alone.
    pub(crate) fn client(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "forebay test");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { chain, key: key.serialize_pem() }
    }
}

impl Pair {
    /// As a simulated collector takes it.
    pub(crate) fn tls(&self, clients: Option<&Authority>) -> HecTls {
        let clients = clients.map(Authority::pem);
        let clients = clients.as_ref().map(String::as_bytes);
        HecTls::from_pem(self.chain.as_bytes(), self.key.as_bytes(), clients).unwrap()
    }
}

/// Writes a file that only its owner reads.
pub(crate) fn private(dir: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}
