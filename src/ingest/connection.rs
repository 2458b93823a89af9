//! One connection, from accept to close.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Watched};
use super::addresses::Place;
use super::handler::Handler;
use super::metrics::Unwelcome;
use super::proxy;
use crate::clock;

/// The most fields a head may have. Logplex sends nine.
const MAX_HEADERS: usize = 64;

/// The largest head, and the most that is read ahead of a body's reader.
///
/// It is what an idle connection keeps once it has sent something, so it decides what thousands
/// of them cost: 10,000 that have sent a frame of 2 KB take 165 MB with these 16 KiB. With 64 KiB
/// and frames of 20 KB it was 580 MB. A larger one saves reads and was no faster, with frames of 2,
/// 20 and 200 KB.
pub(super) const MAX_HEAD: usize = 16 * 1024;

/// Takes a connection as far as its first request: who it is, whether it may come, TLS. Then
/// serves it.
pub(super) async fn run(
    stream: TcpStream,
    peer: IpAddr,
    handler: Arc<Handler>,
    stop: CancellationToken,
) {
    let _open = handler.metrics.connection();
    let welcome = timeout(handler.handshake, welcome(stream, peer, &handler));
    let welcomed = tokio::select! {
        welcomed = welcome => welcomed.unwrap_or(Err((Unwelcome::Slow, None))),
        // Nothing of a request has been read: the sender has lost no try.
        () = stop.cancelled() => return,
    };
    match welcomed {
        Ok(Welcomed { stream: Stream::Plain(stream), peer, place }) => {
            serve(stream, peer, &handler, stop).await;
            drop(place);
        }
        Ok(Welcomed { stream: Stream::Tls(stream), peer, place }) => {
            serve(stream, peer, &handler, stop).await;
            drop(place);
        }
        Err((why, error)) => {
            handler.metrics.unwelcome(why);
            let error = error.map(|error| error.to_string());
            tracing::debug!(%peer, why = why.as_str(), error, "a connection is not served");
        }
    }
}

/// A connection that may send requests.
struct Welcomed {
    stream: Stream,
    peer: IpAddr,
    place: Place,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// Why there will be no requests.
type Refused = (Unwelcome, Option<io::Error>);

async fn welcome(
    mut stream: TcpStream,
    mut peer: IpAddr,
    handler: &Handler,
) -> Result<Welcomed, Refused> {
    let access = handler.access();
    if access.is_proxy(peer) {
        match proxy::read(&mut stream).await {
            Ok(Some(source)) => peer = source,
            Ok(None) => {}
            Err(error) => return Err((Unwelcome::Proxy, Some(error))),
        }
    }
    if !access.allows(peer) {
        return Err((Unwelcome::Address, None));
    }
    let Some(place) = handler.addresses.enter(peer) else {
        return Err((Unwelcome::TooMany, None));
    };
    let stream = match &access.tls {
        None => Stream::Plain(stream),
        Some(identity) => match identity.accept(stream).await {
            Ok(stream) => Stream::Tls(Box::new(stream)),
            Err(error) => return Err((Unwelcome::Tls, Some(error))),
        },
    };
    Ok(Welcomed { stream, peer, place })
}

/// Serves requests until the connection ends, is idle for too long, does not get a head done, or
/// `stop` says to stop: then a request in flight is answered and an idle connection is closed.
async fn serve<S>(stream: S, peer: IpAddr, handler: &Arc<Handler>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Arc::new(Activity::new(clock::instant()));
    let service = {
        let (handler, activity) = (Arc::clone(handler), Arc::clone(&activity));
        service_fn(move |request| {
            let (handler, activity) = (Arc::clone(&handler), Arc::clone(&activity));
            async move { handler.handle(request, peer, &activity).await }
        })
    };
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let connection = http1::Builder::new()
        // A sender that has written all it will write still waits for its answer. Without, hyper
        // takes the end of its bytes for its end, and what was being stored is cancelled.
        .half_close(true)
        // Would also close idle connections: see `activity`.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_HEAD)
        .title_case_headers(true)
        .serve_connection(io, service);

    let mut connection = pin!(connection);
    let mut stopped = pin!(stop.cancelled());
    let mut stopping = false;
    let mut alarm = pin!(sleep_until(Instant::from_std(clock::instant())));
    let result = poll_fn(|cx| {
        if !stopping && stopped.as_mut().poll(cx).is_ready() {
            stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        // The alarm is set anew only when it would ring too late, or has rung too early: not at
        // every request.
        while let Some(deadline) = activity.deadline(handler.timeouts) {
            let deadline = Instant::from_std(deadline);
            if alarm.is_elapsed() || alarm.deadline() > deadline {
                alarm.as_mut().reset(deadline);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if alarm.deadline() >= deadline {
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    })
    .await;
    match result {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            if error.is_parse() {
                handler.unreadable(peer, &error);
            }
            tracing::debug!(%peer, %error, "connection ended");
        }
        None => tracing::debug!(%peer, "connection idle or slow: closed"),
    }
}
