//! The listening socket, forebay's own or the service manager's.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::net::TcpListener;

use super::Listen;

/// Connections the kernel keeps while we are not accepting.
const BACKLOG: i32 = 4096;

/// `BPF_RET | BPF_K` with nothing to keep, a packet filter which drops whatever comes (`man 2 bpf`,
/// `linux/bpf_common.h`).
const DROP_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);

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

    /// Takes no connection from now on. The port stays ours: on Linux a listening socket that is
    /// shut down for reading is a bound socket that does not listen, also for everybody else who
    /// has it.
    ///
    /// So what the service manager has handed over goes on listening. Nothing of this process would
    /// run when it is killed, the service manager would take a socket that hung up for broken, and
    /// then no start would get one. A filter drops what asks for a connection; a sender gives the
    /// attempt up when its own patience ends, which costs no try either.
    pub(super) fn refuse(&mut self) -> io::Result<()> {
        self.listening = None;
        let socket = SockRef::from(&self.socket);
        if self.inherited {
            socket.attach_filter(&[DROP_ALL])
        } else {
            socket.shutdown(std::net::Shutdown::Read)
        }
    }

    /// Listens again.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        socket.listen(BACKLOG)?;
        if self.inherited {
            detach(&socket)?;
        }
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

/// Takes the filter off, if there is one: this process put it there, or one that was killed.
fn detach(socket: &Socket) -> io::Result<()> {
    match socket.detach_filter() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
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
    use std::time::Duration;

    use tokio::net::TcpStream;
    use tokio::time::timeout;

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

    /// The service manager's end of a socket, and the address.
    fn handed_over() -> (StdListener, SocketAddr) {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        SockRef::from(&socket).listen(1).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    /// forebay's end of it.
    fn inheriting(manager: &StdListener) -> Listener {
        let (socket, address) = (manager.try_clone().unwrap(), manager.local_addr().unwrap());
        let mut listener = Listener { socket, listening: None, address, inherited: true };
        listener.resume().unwrap();
        listener
    }

    /// The service manager polls the same socket, and takes one that hangs up for broken for good: on
    /// Linux that is one that does not listen, of which `accept` says `EINVAL`.
    #[tokio::test]
    async fn an_inherited_socket_goes_on_listening_and_takes_no_connection_meanwhile() {
        const SHORT: Duration = Duration::from_millis(300);
        let (manager, address) = handed_over();
        let listens = || manager.accept().map(drop).map_err(|error| error.kind());
        let mut listener = inheriting(&manager);
        for _ in 0..2 {
            listener.refuse().unwrap();
            let attempt = timeout(SHORT, TcpStream::connect(address)).await;
            assert!(attempt.is_err(), "taken: {attempt:?}");
            assert_eq!(listens(), Err(io::ErrorKind::WouldBlock));
            listener.resume().unwrap();
            let (client, accepted) =
                tokio::join!(TcpStream::connect(address), listener.get().unwrap().accept());
            assert!(client.is_ok() && accepted.is_ok());
        }
        // Killed while it takes none: nothing of it runs.
        listener.refuse().unwrap();
        std::mem::forget(listener);
        assert_eq!(listens(), Err(io::ErrorKind::WouldBlock));
        let listener = inheriting(&manager);
        let (client, accepted) =
            tokio::join!(TcpStream::connect(address), listener.get().unwrap().accept());
        assert!(client.is_ok() && accepted.is_ok());
    }

    /// The service manager has the same socket, and its users must not find it deaf.
    #[tokio::test]
    async fn an_inherited_socket_listens_when_its_user_is_gone() {
        let (socket, address) = handed_over();
        let mut listener = inheriting(&socket);
        listener.refuse().unwrap();
        drop(listener);
        assert!(TcpStream::connect(address).await.is_ok());
    }
}
