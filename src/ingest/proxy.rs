//! The PROXY protocol, version 2 (haproxy, doc/proxy-protocol.txt): a TCP proxy says for whom it
//! connects. It is believed only from networks that the configuration names, and there it must
//! come: a connection from a trusted proxy without it would be counted as the proxy's own.

use std::io;
use std::net::IpAddr;

use ppp::v2::{Addresses, Command, Header};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Signature, version, family and length.
const START: usize = 16;

/// The most bytes of addresses and extensions that are read.
const LONGEST: usize = 2048;

/// Reads the header, and no byte more. None: the proxy connects for itself, as for a health
/// check, or does not say for whom.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut bytes = vec![0; START];
    stream.read_exact(&mut bytes).await?;
    if !bytes.starts_with(ppp::v2::PROTOCOL_PREFIX) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no PROXY protocol v2 header"));
    }
    let length = match bytes.get(14..START) {
        Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    };
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the PROXY header is too long"));
    }
    bytes.resize(START.saturating_add(length), 0);
    stream.read_exact(bytes.get_mut(START..).unwrap_or_default()).await?;
    let header = Header::try_from(bytes.as_slice())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    Ok(match (header.command, header.addresses) {
        (Command::Local, _) | (Command::Proxy, Addresses::Unspecified | Addresses::Unix(_)) => None,
        (Command::Proxy, Addresses::IPv4(ipv4)) => Some(ipv4.source_address.into()),
        (Command::Proxy, Addresses::IPv6(ipv6)) => Some(ipv6.source_address.into()),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;

    use ppp::v2::{Builder, Protocol, Version};

    use super::*;

    /// A header that says that this address connects.
    pub(in super::super) fn header(source: &str) -> Vec<u8> {
        let source: SocketAddr = format!("{source}:4711").parse().unwrap();
        let target: SocketAddr = "192.0.2.1:443".parse().unwrap();
        Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, (source, target))
            .build()
            .unwrap()
    }

    async fn read_all(bytes: &[u8]) -> (io::Result<Option<IpAddr>>, usize) {
        let mut rest = bytes;
        let found = read(&mut rest).await;
        (found, rest.len())
    }

    #[tokio::test]
    async fn the_address_is_read_and_nothing_behind_it() {
        let bytes = [header("203.0.113.9"), b"POST".to_vec()].concat();
        let (found, left) = read_all(&bytes).await;
        assert_eq!((found.unwrap(), left), (Some("203.0.113.9".parse().unwrap()), 4));
        // A health check of the proxy itself.
        let mut local = header("203.0.113.9");
        local[12] = 0x20;
        assert_eq!(read_all(&local).await.0.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let good = header("203.0.113.9");
        let mut long = good.clone();
        (long[14], long[15]) = (0xff, 0xff);
        let mut version = good.clone();
        version[12] = 0x31;
        for bad in [
            &b"POST /logs HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n",
            &good[..good.len() - 1],
            &long,
            &version,
            b"",
        ] {
            assert!(read_all(bad).await.0.is_err(), "{}", bad.escape_ascii());
        }
    }
}
