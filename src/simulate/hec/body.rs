//! The body of a request: read, or drained.

use std::io::Read as _;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::indexer::Indexer;
use super::reply::{self, Answer, INVALID_DATA};

/// A body that was read.
pub(super) struct Read {
    /// Bytes as they came.
    pub(super) received: usize,
    /// The body, decompressed.
    pub(super) content: Bytes,
}

/// Reads and decompresses a body, both up to the limit.
pub(super) async fn read(
    body: Incoming,
    encoding: Option<&[u8]>,
    indexer: &Indexer,
) -> Result<Read, Answer> {
    let limit = indexer.config.max_content_length;
    let gzip = match encoding {
        None | Some(b"identity") => false,
        Some(name) if name.eq_ignore_ascii_case(b"gzip") => true,
        Some(_) => {
            let page = reply::html(
                415,
                "Unsupported Media Type",
                "The request's Content-Encoding is not supported.",
            );
            return Err(refuse(body, page).await);
        }
    };
    let too_large = |length: u64| {
        let text = format!("Content-Length of {length} too large (maximum is {limit})");
        reply::html(413, "Content-Length too large", &text)
    };
    let announced = body.size_hint().exact().unwrap_or(0);
    if announced > limit as u64 {
        return Err(refuse(body, too_large(announced)).await);
    }
    let mut content = Vec::with_capacity(usize::try_from(announced).unwrap_or(limit).min(limit));
    let mut body = body;
    while let Some(frame) = body.frame().await {
        // A body that breaks off has nobody left who would read this answer.
        let frame = frame.map_err(|_| INVALID_DATA.answer())?;
        let Ok(data) = frame.into_data() else { continue };
        if content.len() + data.len() > limit {
            let length = (content.len() + data.len()) as u64;
            return Err(refuse(body, too_large(length)).await);
        }
        content.extend_from_slice(&data);
    }
    let received = content.len();
    if gzip {
        let mut plain = Vec::with_capacity((content.len() * 8).min(limit));
        let cap = limit as u64 + 1;
        let decoder = flate2::bufread::GzDecoder::new(content.as_slice());
        decoder.take(cap).read_to_end(&mut plain).map_err(|_| INVALID_DATA.answer())?;
        if plain.len() > limit {
            return Err(too_large(plain.len() as u64));
        }
        content = plain;
    }
    Ok(Read { received, content: content.into() })
}

/// Reads the rest of a refused body, so that the client gets to read the answer: bytes left in
/// the socket when it closes turn into a reset that can overtake the answer. Up to 64 MiB.
pub(super) async fn refuse(mut body: Incoming, answer: Answer) -> Answer {
    let mut left = 64usize << 20;
    while let Some(Ok(frame)) = body.frame().await {
        let taken = frame.data_ref().map_or(0, |data| data.remaining());
        left = left.saturating_sub(taken);
        if left == 0 {
            break;
        }
    }
    answer
}
