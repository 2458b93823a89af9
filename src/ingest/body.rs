//! Reading bodies, up to a limit.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::memory::{Growing, NoRoom};

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is larger than the limit.
    TooLarge,
    /// It broke off, or was not framed as HTTP frames bodies.
    Broken,
    /// There is no memory for it.
    NoRoom,
}

impl From<NoRoom> for BodyError {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// The length a body says it has; `None` when it comes in chunks.
pub(super) fn declared_len(body: &Incoming) -> Option<u64> {
    body.size_hint().exact()
}

/// Reads a body that says how long it is, into memory that is there already. A body that comes in
/// one piece is not copied.
pub(super) async fn collect_declared(
    body: &mut Incoming,
    declared: u64,
) -> Result<Bytes, BodyError> {
    let declared = usize::try_from(declared).unwrap_or(usize::MAX);
    let Some(first) = next(body).await? else { return Ok(Bytes::new()) };
    if first.len() >= declared {
        return Ok(first);
    }
    let mut all = BytesMut::with_capacity(declared);
    all.extend_from_slice(&first);
    drop(first);
    // hyper gives no more than was declared.
    while let Some(bytes) = next(body).await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all.freeze())
}

/// Reads any body, and takes memory as it comes.
pub(super) async fn collect(
    body: &mut Incoming,
    limit: usize,
    memory: &mut Growing<'_>,
) -> Result<Bytes, BodyError> {
    let mut all = Vec::new();
    while let Some(bytes) = next(body).await? {
        let len = all.len().saturating_add(bytes.len());
        if len > limit {
            return Err(BodyError::TooLarge);
        }
        memory.grow(len).await?;
        extend(&mut all, &bytes, memory.granted());
    }
    all.shrink_to_fit();
    Ok(all.into())
}

/// Appends, and allocates no more than there is memory for.
fn extend(all: &mut Vec<u8>, bytes: &[u8], granted: usize) {
    let len = all.len().saturating_add(bytes.len());
    if len > all.capacity() {
        let capacity = all.capacity().saturating_mul(2).min(granted).max(len);
        all.reserve_exact(capacity.saturating_sub(all.len()));
    }
    all.extend_from_slice(bytes);
}

/// Reads and forgets what is left of a body, so that the sender comes to read the answer: a
/// connection that is closed on unread bytes is reset, and the answer may be lost with it. Gives
/// up, and so lets the connection be closed, when more than `limit` bytes are to come.
pub(super) async fn discard(body: &mut Incoming, limit: usize) {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    if body.size_hint().lower() > limit {
        return;
    }
    let mut seen = 0_u64;
    while let Ok(Some(bytes)) = next(body).await {
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
    /// The content is larger than the limit, or than its gzip may say.
    TooLarge,
    /// It is no gzip, or a damaged one: the bytes as they came.
    Damaged(Bytes),
}

/// Reads a gzip body and decompresses it as it comes, so that a bomb is found before all of it is
/// there. Takes memory as it comes, and never holds more than `limit` bytes of gzip and as many of
/// content.
pub(super) async fn collect_gzip(
    body: &mut Incoming,
    limit: usize,
    ratio: usize,
    memory: &mut Growing<'_>,
) -> Result<Gunzipped, BodyError> {
    let mut gunzip = Gunzip::new(limit, ratio);
    let mut raw = Vec::new();
    while let Some(piece) = next(body).await? {
        let len = raw.len().saturating_add(piece.len());
        if len > limit {
            return Ok(Gunzipped::TooLarge);
        }
        memory.grow(len).await?;
        // Kept because damage shows at the end, and then the bytes are stored as they came.
        extend(&mut raw, &piece, memory.granted());
        gunzip.comes(piece.len());
        let mut rest = &piece[..];
        while !rest.is_empty() {
            // No more at once than there is memory for what may come out of it.
            let mut fits = gunzip.fits(memory.granted());
            if fits < LEAST {
                let ahead = gunzip.content().saturating_add(LEAST * MOST_RATIO);
                memory.grow(ahead.min(limit)).await?;
                // At the limit, the limit is what stops it.
                fits = gunzip.fits(memory.granted()).max(LEAST);
            }
            let (now, later) = rest.split_at(fits.min(rest.len()));
            if !gunzip.feed(now, memory.granted()) {
                return Ok(Gunzipped::TooLarge);
            }
            rest = later;
        }
    }
    match gunzip.end() {
        Ok(content) => {
            // The last of it was in the decompressor until now.
            memory.grow(content.len()).await?;
            Ok(Gunzipped::Content(content))
        }
        Err(NoContent::TooLarge) => Ok(Gunzipped::TooLarge),
        Err(NoContent::Damaged) => Ok(Gunzipped::Damaged(raw.into())),
    }
}

/// The most bytes that come out of one: a match of 258 bytes takes two bits at least (RFC 1951,
/// 3.2.5).
const MOST_RATIO: usize = 1032;

/// The fewest bytes that are decompressed at once.
const LEAST: usize = 32;

/// A gzip stream being decompressed.
struct Gunzip {
    /// None once the stream is damaged.
    decoder: Option<MultiGzDecoder<Capped>>,
    limit: usize,
    ratio: usize,
    /// The bytes of it that have come.
    come: usize,
}

/// Content up to a limit.
struct Capped {
    content: Vec<u8>,
    limit: usize,
    granted: usize,
    over: bool,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.content.len().saturating_add(bytes.len()) > self.limit {
            self.over = true;
            return Err(io::Error::other("more content than the limit"));
        }
        extend(&mut self.content, bytes, self.granted);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The content that is worth no look at the ratio. Many equal lines compress well, and a batch of
/// them must not be lost for it.
const SMALL: usize = 1 << 20;

impl Gunzip {
    fn new(limit: usize, ratio: usize) -> Self {
        let capped = Capped { content: Vec::new(), limit: 0, granted: 0, over: false };
        Self { decoder: Some(MultiGzDecoder::new(capped)), limit, ratio, come: 0 }
    }

    /// So many more bytes have come.
    const fn comes(&mut self, bytes: usize) {
        self.come = self.come.saturating_add(bytes);
    }

    /// How long the content is so far.
    fn content(&self) -> usize {
        self.decoder.as_ref().map_or(0, |decoder| decoder.get_ref().content.len())
    }

    /// How many bytes can be decompressed, whatever they are, with memory for `granted` bytes of
    /// content.
    fn fits(&self, granted: usize) -> usize {
        match &self.decoder {
            Some(_) => granted.saturating_sub(self.content()) / MOST_RATIO,
            // Nothing will come out any more.
            None => usize::MAX,
        }
    }

    /// Decompresses bytes that have come. False: too much content came out of them.
    fn feed(&mut self, bytes: &[u8], granted: usize) -> bool {
        let allowed = self.come.saturating_mul(self.ratio).max(SMALL).min(self.limit);
        let Some(decoder) = &mut self.decoder else { return true };
        let capped = decoder.get_mut();
        (capped.limit, capped.granted) = (allowed, granted);
        if decoder.write_all(bytes).is_err() {
            let over = decoder.get_ref().over;
            self.decoder = None;
            return !over;
        }
        true
    }

    /// The content, if the stream is whole. Its last bytes may come only now.
    fn end(self) -> Result<Bytes, NoContent> {
        let mut decoder = self.decoder.ok_or(NoContent::Damaged)?;
        let ended = decoder.try_finish();
        if decoder.get_ref().over {
            return Err(NoContent::TooLarge);
        }
        let capped = ended.and_then(|()| decoder.finish()).map_err(|_| NoContent::Damaged)?;
        Ok(capped.content.into())
    }
}

/// Why there is no content at the end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoContent {
    TooLarge,
    Damaged,
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn gunzip(body: &[u8], piece: usize, limit: usize, ratio: usize) -> Result<Bytes, NoContent> {
        let mut gunzip = Gunzip::new(limit, ratio);
        for bytes in body.chunks(piece) {
            gunzip.comes(bytes.len());
            if !gunzip.feed(bytes, limit) {
                return Err(NoContent::TooLarge);
            }
        }
        gunzip.end()
    }

    #[test]
    fn gzip_is_decompressed_up_to_the_limit_in_any_pieces() {
        let content = [b'x'; 1000];
        let body = gzip(&content);
        for piece in [1, 7, 1000] {
            assert_eq!(gunzip(&body, piece, 1000, 1000).as_deref(), Ok(&content[..]));
            assert_eq!(gunzip(&body, piece, 999, 1000), Err(NoContent::TooLarge));
            // Two members are one stream.
            let two = [body.clone(), gzip(b"y")].concat();
            let both = [&content[..], b"y"].concat();
            assert_eq!(gunzip(&two, piece, 2000, 1000).as_deref(), Ok(&both[..]));
            assert_eq!(gunzip(&gzip(b""), piece, 0, 1000).as_deref(), Ok(&b""[..]));
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 16 << 20]);
        assert!(bomb.len() < 100_000);
        let mut gunzip = Gunzip::new(8 << 20, 2000);
        let mut fed = 0;
        gunzip.comes(bomb.len());
        while gunzip.feed(&bomb[fed..fed + 1000], 8 << 20) {
            fed += 1000;
        }
        assert!(fed < bomb.len() * 6 / 10, "half of it was enough: {fed}");
    }

    #[test]
    fn content_is_no_larger_than_its_gzip_can_mean() {
        // A ratio of 1000, more than any log has.
        let bomb = gzip(&vec![0; 4 << 20]);
        assert_eq!(gunzip(&bomb, 1000, 8 << 20, 200), Err(NoContent::TooLarge));
        // Small content may compress as well as it likes.
        assert!(gunzip(&gzip(&vec![0; 1 << 20]), 1000, 8 << 20, 200).is_ok());
        let lines: Vec<u8> = (0..60_000_u32)
            .flat_map(|n| format!("{n} the same line again and again and again\n").into_bytes())
            .collect();
        assert!(lines.len() > 2 << 20);
        assert!(gunzip(&gzip(&lines), 1000, 8 << 20, 200).is_ok());
    }

    /// What comes out is never more than there is memory for, but for what the decompressor gives
    /// out of its own.
    #[test]
    fn no_more_comes_out_than_fits() {
        let bomb = gzip(&vec![0; 4 << 20]);
        let mut gunzip = Gunzip::new(8 << 20, MOST_RATIO);
        gunzip.comes(bomb.len());
        let (mut rest, mut granted) = (&bomb[..], 0);
        while !rest.is_empty() {
            let fits = gunzip.fits(granted);
            if fits < LEAST {
                granted = gunzip.content() + LEAST * MOST_RATIO;
                continue;
            }
            let (now, later) = rest.split_at(fits.min(rest.len()));
            assert!(gunzip.feed(now, granted));
            assert!(gunzip.content() <= granted + 32 * 1024, "{} {granted}", gunzip.content());
            rest = later;
        }
        assert_eq!(gunzip.end().unwrap().len(), 4 << 20);
    }

    #[test]
    fn damage_is_told_from_size() {
        let body = gzip(&[b'x'; 1000]);
        let mut flipped = body.clone();
        flipped[body.len() - 6] ^= 1;
        for bad in [&b"not gzip"[..], &body[..body.len() - 1], &flipped, b""] {
            for piece in [1, 1000] {
                assert_eq!(
                    gunzip(bad, piece, 1000, 1000),
                    Err(NoContent::Damaged),
                    "{}",
                    bad.escape_ascii()
                );
            }
        }
    }
}
