//! The listening socket, forebay's own or the service manager's.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;

use super::Listen;

/// Connections the kernel keeps while we are not accepting.
const BACKLOG: i32 = 4096;

/// A socket that can stop listening and begin again without giving up its port.
#[derive(Debug)]
pub(super) struct Listener {
    socket: StdListener,
    /// The same socket for as long as it listens. Made anew each time: tokio remembers of a socket
    /// that it was shut down, and would ask it for connections without end.
    listening: Option<TcpListener>,
    address: SocketAddr,
    /// Owned by the service manager, which keeps it when this process ends.
    inherited: bool,
}

impl Listener {
    /// Listens. Connections wait in the kernel until they are accepted.
    pub(super) fn open(listen: Listen) -> io::Result<Self> {
        let (socket, inherited) = match listen {
            Listen::Address(address) => (bind(address)?, false),
            Listen::Systemd => (inherit()?, true),
        };
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let mut listener = Self { socket, listening: None, address, inherited };
        // Also what is inherited: a process that died while it refused connections left it so.
        listener.resume()?;
        Ok(listener)
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket, when it listens.
    pub(super) const fn get(&self) -> Option<&TcpListener> {
        self.listening.as_ref()
    }

    /// Refuses connections from now on. The port stays ours: on Linux a listening socket that is
    /// shut down for reading is a bound socket that does not listen, also for everybody else who
    /// has it.
    pub(super) fn refuse(&mut self) -> io::Result<()> {
        self.listening = None;
        SockRef::from(&self.socket).shutdown(std::net::Shutdown::Read)
    }

    /// Listens again.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        SockRef::from(&self.socket).listen(BACKLOG)?;
        self.listening = Some(TcpListener::from_std(self.socket.try_clone()?)?);
        Ok(())
    }
}

impl Drop for Listener {
    /// The service manager's socket queues connections for the next process.
    fn drop(&mut self) {
        if self.inherited
            && self.listening.is_none()
            && let Err(error) = self.resume()
        {
            tracing::error!(%error, "the service manager's socket does not listen any more");
        }
    }
}

/// Binds an address that the process before may just have left.
fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    let socket = StdListener::from(socket);
    if address.port() == 0 {
        // A port that the kernel chose is given back when the socket stops listening, one that
        // was asked for is not. Asked for while this socket still has it.
        return bind(socket.local_addr()?);
    }
    Ok(socket)
}

/// The socket that the service manager has handed over.
fn inherit() -> io::Result<StdListener> {
    let mut sockets = ListenFd::from_env();
    if sockets.len() > 1 {
        let why = format!("the service manager hands over {} sockets, not one", sockets.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    sockets.take_tcp_listener(0)?.ok_or_else(|| {
        let why = "the service manager hands over no socket (LISTEN_FDS is not set)";
        io::Error::new(io::ErrorKind::NotFound, why)
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_socket_stops_listening_and_begins_again_on_its_port() {
        let mut listener = Listener::open(Listen::Address("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = listener.address();
        for _ in 0..3 {
            let (client, accepted) =
                tokio::join!(TcpStream::connect(address), listener.get().unwrap().accept());
            assert!(client.is_ok() && accepted.is_ok());
            listener.refuse().unwrap();
            assert!(TcpStream::connect(address).await.is_err());
            assert!(bind(address).is_ok_and(|other| other.local_addr().is_ok()), "only bound");
            listener.resume().unwrap();
        }
        assert_eq!(listener.get().unwrap().local_addr().unwrap(), address);
    }

    /// The service manager has the same socket, and its users must not find it deaf.
    #[tokio::test]
    async fn an_inherited_socket_listens_when_its_user_is_gone() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        SockRef::from(&socket).listen(1).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = socket.try_clone().unwrap();
        shared.set_nonblocking(true).unwrap();
        let mut listener = Listener { socket: shared, listening: None, address, inherited: true };
        listener.refuse().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
        drop(listener);
        assert!(TcpStream::connect(address).await.is_ok());
    }
}
