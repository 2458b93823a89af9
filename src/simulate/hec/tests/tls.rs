//! TLS: certificates that are good, and that are not.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(issuer: &Issuer) -> (String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

async fn health(
    world: &World,
    issuer: &Issuer,
    client: Option<&(String, String)>,
) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let stream = TcpStream::connect(world.handle.local_addr()).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    let request = request("GET", "/services/collector/health", &[("Connection", "close")], "");
    stream.write_all(&request).await.ok()?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().ok()?;
    Some(answer)
}

#[tokio::test]
async fn clients_may_need_a_certificate() {
    let (servers, clients) = (authority(), authority());
    let (chain, key) = leaf(&servers);
    let plain = HecTls::from_pem(chain.as_bytes(), key.as_bytes(), None).unwrap();
    let world = World::with(HecConfig { tls: Some(plain), ..config() });
    let answer = health(&world, &servers, None).await.unwrap();
    assert!(answer.contains("\"code\":17"), "{answer}");
    assert!(health(&world, &clients, None).await.is_none(), "signed by somebody else");

    let ca = clients.pem();
    let strict = HecTls::from_pem(chain.as_bytes(), key.as_bytes(), Some(ca.as_bytes())).unwrap();
    let world = World::with(HecConfig { tls: Some(strict), ..config() });
    assert!(health(&world, &servers, None).await.is_none());
    assert!(health(&world, &servers, Some(&leaf(&servers))).await.is_none());
    let answer = health(&world, &servers, Some(&leaf(&clients))).await.unwrap();
    assert!(answer.contains("\"code\":17"), "{answer}");
}

#[test]
fn what_is_no_certificate_is_named() {
    let (chain, key) = leaf(&authority());
    let error = HecTls::from_pem(b"", key.as_bytes(), None).unwrap_err();
    assert_eq!(error.to_string(), "the certificate: there is no certificate in it");
    assert!(HecTls::from_pem(chain.as_bytes(), b"", None).is_err());
    let (_, other) = leaf(&authority());
    assert!(HecTls::from_pem(chain.as_bytes(), other.as_bytes(), None).is_err());
    let shown = format!("{:?}", HecTls::from_pem(chain.as_bytes(), key.as_bytes(), None).unwrap());
    assert!(!shown.contains("PRIVATE"), "{shown}");
}
