//! Ports that stay a test's own while nobody listens on them.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// A port on loopback, kept for whoever listens on it next.
///
/// Taken from below the range out of which the kernel gives ports to connections: there, a sender
/// that tries and tries to connect while nobody listens would at some time be given the very port
/// as its own and connect to itself. A socket that is bound and does not listen keeps the other
/// tests away, refuses connections, and leaves the port to whoever binds it with `SO_REUSEADDR`.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _kept: Socket,
}

impl Port {
    pub(crate) fn free() -> Self {
        for _ in 0..1000 {
            let number = fastrand::u16(10_000..30_000);
            // Without SO_REUSEADDR: fails if anybody has the port, listening or not.
            if bind(number, false).is_some()
                && let Some(kept) = bind(number, true)
            {
                return Self { number, _kept: kept };
            }
        }
        panic!("no port is free");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

fn bind(number: u16, share: bool) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.set_reuse_address(share).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, number)).into()).ok()?;
    Some(socket)
}
