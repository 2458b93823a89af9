//! One connection, from accept to close.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Watched};
use super::handler::Handler;
use crate::clock;

/// The most fields a head may have. Logplex sends nine.
const MAX_HEADERS: usize = 64;

/// The largest head, and the most that is read ahead of a body's reader.
///
/// It is what an idle connection keeps once it has sent something, so it decides what thousands
/// of them cost: with 8 KiB 10,000 connections that have sent 20 KB frames keep 220 MB, with 64
/// KiB 580 MB. A larger one saves reads and was no faster, with frames of 2, 20 and 200 KB.
const MAX_READ_AHEAD: usize = 8 * 1024;

/// Serves requests until the connection ends, is idle for too long, does not get a head done, or
/// `stop` says to stop: then a request in flight is answered and an idle connection is closed.
pub(super) async fn serve<S>(
    stream: S,
    peer: IpAddr,
    handler: Arc<Handler>,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _open = handler.metrics.connection();
    let activity = Arc::new(Activity::new(clock::instant()));
    let service = {
        let (handler, activity) = (Arc::clone(&handler), Arc::clone(&activity));
        service_fn(move |request| {
            let (handler, activity) = (Arc::clone(&handler), Arc::clone(&activity));
            async move { handler.handle(request, peer, &activity).await }
        })
    };
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let connection = http1::Builder::new()
        // Would also close idle connections: see `activity`.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_READ_AHEAD)
        .max_buf_size(MAX_READ_AHEAD)
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
        Some(Err(error)) => tracing::debug!(%peer, %error, "connection ended"),
        None => tracing::debug!(%peer, "connection idle or slow: closed"),
    }
}
