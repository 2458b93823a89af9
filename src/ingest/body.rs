//! Reading bodies, up to a limit.

use std::io::Read;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is larger than the limit.
    TooLarge,
    /// It broke off, or was not framed as HTTP frames bodies.
    Broken,
}

/// The length a body says it has; `None` when it comes in chunks.
pub(super) fn declared_len(body: &Incoming) -> Option<u64> {
    body.size_hint().exact()
}

/// Reads a body. A body that comes in one piece is not copied.
pub(super) async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let declared = declared_len(&body).map(|len| usize::try_from(len).unwrap_or(usize::MAX));
    if declared.is_some_and(|len| len > limit) {
        return Err(BodyError::TooLarge);
    }
    let Some(first) = next(&mut body).await? else { return Ok(Bytes::new()) };
    if Some(first.len()) == declared {
        return Ok(first);
    }
    let mut all = BytesMut::with_capacity(declared.unwrap_or_else(|| first.len()));
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        if all.len().saturating_add(bytes.len()) > limit {
            discard(body, limit).await;
            return Err(BodyError::TooLarge);
        }
        all.extend_from_slice(&bytes);
        piece = next(&mut body).await?;
    }
    Ok(all.freeze())
}

/// Reads and forgets what is left of a body, so that the sender comes to read the answer: a
/// connection that is closed on unread bytes is reset, and the answer may be lost with it. Gives
/// up, and so lets the connection be closed, when more than `limit` bytes are to come.
pub(super) async fn discard(mut body: Incoming, limit: usize) {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    if body.size_hint().lower() > limit {
        return;
    }
    let mut seen = 0_u64;
    while let Ok(Some(bytes)) = next(&mut body).await {
        seen = seen.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if seen > limit {
            return;
        }
    }
}

/// The next piece of a body; `None` at its end.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
    while let Some(frame) = body.frame().await {
        // What is no data is a trailer, which says nothing to us.
        if let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// What became of a gzip body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gunzipped {
    /// The content.
    Content(Bytes),
    /// The content is larger than the limit.
    TooLarge,
    /// It is no gzip, or a damaged one.
    Damaged,
}

/// Decompresses a body. Never produces more than `limit` bytes and one.
pub(super) fn gunzip(body: &[u8], limit: usize) -> Gunzipped {
    // What logs usually come to.
    let mut content = Vec::with_capacity(body.len().saturating_mul(8).min(limit));
    let cap = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match MultiGzDecoder::new(body).take(cap).read_to_end(&mut content) {
        Ok(len) if len > limit => Gunzipped::TooLarge,
        Ok(_) => Gunzipped::Content(content.into()),
        Err(_) => Gunzipped::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_decoded_up_to_the_limit() {
        let content = vec![b'x'; 1000];
        let body = gzip(&content);
        assert_eq!(gunzip(&body, 1000), Gunzipped::Content(content.clone().into()));
        assert_eq!(gunzip(&body, 999), Gunzipped::TooLarge);
        let two = [body, gzip(b"y")].concat();
        assert_eq!(gunzip(&two, 2000), Gunzipped::Content([&content[..], b"y"].concat().into()));
        assert_eq!(gunzip(&gzip(b""), 0), Gunzipped::Content(Bytes::new()));
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 16 << 20]);
        assert!(bomb.len() < 100_000);
        assert_eq!(gunzip(&bomb, 8 << 20), Gunzipped::TooLarge);
    }

    #[test]
    fn damage_is_told_from_size() {
        let body = gzip(&[b'x'; 1000]);
        assert_eq!(gunzip(b"not gzip", 1000), Gunzipped::Damaged);
        assert_eq!(gunzip(&body[..body.len() - 1], 1000), Gunzipped::Damaged);
        let mut flipped = body.clone();
        flipped[body.len() - 6] ^= 1;
        assert_eq!(gunzip(&flipped, 1000), Gunzipped::Damaged);
    }
}
