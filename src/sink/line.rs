//! One connection that carries all POSTs and all questions of a channel, one at a time.
//!
//! Behind a load balancer of layer 4 a connection leads to one indexer, and the next connection may
//! lead to another, which knows nothing of the channel. So a channel has one connection in its life.
//! It is opened by the channel's first POST, and never by a question. When it is lost, or was not
//! used for so long that it may be, the channel is over, and whoever uses it is told so
//! ([`Broken::Severed`]).

use std::error::Error as _;
use std::future::{Future, pending};
use std::io;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::clock;

use super::client::{Heard, Unreadable};
use super::http::POOL_IDLE;

/// Where a connection leads.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) host: String,
    pub(super) port: u16,
    /// With which name and what trust, if not in the clear.
    pub(super) tls: Option<(ServerName<'static>, TlsConnector)>,
    /// How long opening it may take, the handshake included.
    pub(super) patience: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// There was never a connection.
    Unreachable(String),
    /// The handshake fails, for a reason that does not pass by itself.
    Tls(rustls::Error),
    /// There was one, and it is lost. Whether the request was on its way.
    Severed { sent: bool },
}

/// A channel's connection.
#[derive(Default)]
pub(super) struct Line(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    New,
    Open(Open),
    Lost,
}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Reads and writes while it is polled; done when the connection is over.
    driver: Driver,
    over: bool,
    /// When it was used last; none before the first answer.
    used: Option<Instant>,
}

impl Line {
    /// Sends a request and reads the answer, up to `limit` bytes of its body. Only a POST of events
    /// `opens` the connection.
    pub(super) async fn exchange(
        &self,
        way: &Way,
        request: Request<Full<Bytes>>,
        opens: bool,
        (limit, patience): (usize, Duration),
    ) -> Result<Heard, Broken> {
        let mut state = self.0.lock().await;
        // Lost, unless all goes well: also when nobody waits for the answer any more.
        let mut open = match std::mem::replace(&mut *state, State::Lost) {
            State::New if opens => way.open().await?,
            State::Open(open) if !open.is_stale() => open,
            State::New | State::Open(_) | State::Lost => {
                return Err(Broken::Severed { sent: false });
            }
        };
        let exchanged = timeout(patience, open.exchange(request, limit)).await;
        let heard = exchanged.unwrap_or(Err(Broken::Severed { sent: true }))?;
        if heard.body.is_ok() && !open.over {
            open.used = Some(clock::instant());
            *state = State::Open(open);
        }
        Ok(heard)
    }
}

impl Open {
    /// Whether the collector may have closed it, as Splunk does after 12 s when it is busy.
    fn is_stale(&self) -> bool {
        self.used.is_some_and(|used| used.elapsed() >= POOL_IDLE)
    }

    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Heard, Broken> {
        let Self { sender, driver, over, used } = self;
        let unsent = || match used {
            Some(_) => Broken::Severed { sent: false },
            // It was closed as soon as it was opened.
            None => Broken::Unreachable("the connection was closed at once".to_owned()),
        };
        let ready = async { (sender.ready().await, sender) };
        let (ready, sender) = drive(driver, over, ready).await;
        if ready.is_err() {
            return Err(unsent());
        }
        let answer = async {
            let mut response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => {
                    let unused = error.take_message().is_some();
                    return Err(if unused { unsent() } else { Broken::Severed { sent: true } });
                }
            };
            let (status, retry_after) = Heard::head(response.status(), response.headers());
            let body = read_capped(response.body_mut(), limit).await;
            Ok(Heard { status, retry_after, body })
        };
        drive(driver, over, answer).await
    }
}

/// Does some work on a connection, which only lives while somebody polls it. It goes first: what it
/// has to say, such as that it was closed, is known before anything is sent.
async fn drive<T>(driver: &mut Driver, over: &mut bool, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            () = async { if *over { pending().await } else { driver.as_mut().await } } => {
                *over = true;
            }
            done = &mut work => return done,
        }
    }
}

impl Way {
    async fn open(&self) -> Result<Open, Broken> {
        match timeout(self.patience, self.connect()).await {
            Ok(opened) => opened,
            Err(_) => Err(Broken::Unreachable("no connection in time".to_owned())),
        }
    }

    async fn connect(&self) -> Result<Open, Broken> {
        let unreachable = |error: io::Error| Broken::Unreachable(error.to_string());
        let stream =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let Some((name, connector)) = &self.tls else { return handshake(stream).await };
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => handshake(stream).await,
            Err(error) => {
                Err(match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
                    Some(tls) => Broken::Tls(tls.clone()),
                    None => unreachable(error),
                })
            }
        }
    }
}

async fn handshake<S>(stream: S) -> Result<Open, Broken>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opened = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = opened.map_err(|error| Broken::Unreachable(error.to_string()))?;
    let driver: Driver = Box::pin(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, cause = ?error.source(), "a channel's connection has ended");
        }
    });
    Ok(Open { sender, driver, over: false, used: None })
}

/// The body of an answer, refused over `limit` bytes.
async fn read_capped(
    response: &mut hyper::body::Incoming,
    limit: usize,
) -> Result<Vec<u8>, Unreadable> {
    let mut body = Vec::new();
    while let Some(frame) = response.frame().await {
        let Ok(data) = frame.map_err(|_| Unreadable)?.into_data() else { continue };
        if body.len() + data.len() > limit {
            return Err(Unreadable);
        }
        body.extend_from_slice(&data);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    async fn collector() -> (TcpListener, Way) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Way { host: "127.0.0.1".to_owned(), port, tls: None, patience: SOON };
        (listener, way)
    }

    /// A POST of events, which `opens`, or a question.
    async fn ask(line: &Line, way: &Way, opens: bool) -> Result<Heard, Broken> {
        let body = Full::new(Bytes::from_static(b"x"));
        let request = Request::post("/").header("Host", "x").body(body).unwrap();
        line.exchange(way, request, opens, (1000, SOON)).await
    }

    /// A line whose first POST was answered, and the other end of its connection.
    async fn used(listener: &TcpListener, way: &Way) -> (Line, TcpStream) {
        let line = Line::default();
        let answer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\nx") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "closed");
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            stream
        };
        let (heard, stream) = tokio::join!(ask(&line, way, true), answer);
        assert_eq!(heard.unwrap().status, 200);
        (line, stream)
    }

    /// Whatever is asked, the channel is over, and no connection is opened for it.
    async fn is_over(line: &Line, listener: &TcpListener, way: &Way) {
        for opens in [false, true, false, true] {
            let heard = ask(line, way, opens).await.map(|heard| heard.status);
            assert!(matches!(heard, Err(Broken::Severed { sent: false })), "{opens}: {heard:?}");
        }
        // Connections are accepted in the order in which they come: the first is the test's own.
        let own = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, own.local_addr().unwrap());
    }

    #[tokio::test]
    async fn no_question_opens_a_connection() {
        let (listener, way) = collector().await;
        is_over(&Line::default(), &listener, &way).await;
    }

    #[tokio::test]
    async fn a_connection_that_is_lost_is_never_replaced() {
        let (listener, way) = collector().await;
        let (line, stream) = used(&listener, &way).await;
        drop(stream);
        // Whether that is known before the request is sent is up to the kernel.
        let heard = ask(&line, &way, true).await.map(|heard| heard.status);
        assert!(matches!(heard, Err(Broken::Severed { .. })), "{heard:?}");
        is_over(&line, &listener, &way).await;
    }

    /// The collector may be about to close it.
    #[tokio::test]
    async fn a_connection_that_was_not_used_for_long_is_not_trusted_with_a_request() {
        let (listener, way) = collector().await;
        let (line, mut stream) = used(&listener, &way).await;
        if let State::Open(open) = &mut *line.0.lock().await {
            open.used = clock::instant().checked_sub(POOL_IDLE);
        }
        is_over(&line, &listener, &way).await;
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "closed, and nothing was sent");
    }
}
