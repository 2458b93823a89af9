//! Frames out of a file, as `forebay wal export --format frames` writes them and
//! `docs/wal-export.md` describes them.
//!
//! The texts are found by an own reading of the octet counts, for the ledger: of a frame whose
//! framing is damaged it knows the messages before the damage.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::Deserialize;
use tokio::sync::mpsc;

use super::frame::{Frame, frame_id};
use crate::simulate::text_hash;

/// No body is longer: ingest takes none.
const LONGEST_BODY: u64 = 64 << 20;
/// No line of facts is longer.
const LONGEST_LINE: u64 = 64 << 10;

/// Why a file cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("the file of frames cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("this is no file of frames: its first line is not {{\"format\":\"forebay-frames\"…")]
    Foreign,
    #[error("the file of frames has version {0}, this program reads version 1")]
    Version(u32),
    #[error("frame {number} of the file: {what}")]
    Frame { number: u64, what: String },
}

#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Deserialize)]
struct Facts {
    profile: Profile,
    drain_token: Option<String>,
    frame_id: Option<String>,
    messages_claimed: Option<u32>,
    messages: u32,
    #[serde(default)]
    query: String,
    length: u64,
}

/// Who sent a frame.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Profile {
    Logplex,
    Shuttle,
    Other,
}

/// What a frame out of a file brings along.
#[derive(Debug)]
pub(super) struct Origin {
    profile: Profile,
    drain_token: Option<String>,
    frame_id: Option<String>,
    messages_claimed: Option<u32>,
    pub(super) query: String,
}

impl Origin {
    /// The headers that its sender wrote, to the end of the head.
    pub(super) fn headers(&self, frame: &Frame) -> String {
        let mut lines = String::new();
        let mut line = |name: &str, value: &str| {
            lines.push_str(&[name, ": ", value, "\r\n"].concat());
        };
        let count = self.messages_claimed.map(|count| count.to_string());
        if let Some(count) = &count {
            line("Logplex-Msg-Count", count);
        }
        let (id, agent) = match self.profile {
            Profile::Logplex => ("Logplex-Frame-Id", "Logplex/v73"),
            Profile::Shuttle => ("X-Request-Id", "log-shuttle/0.22.1"),
            Profile::Other => ("X-Frame-Id", "forebay"),
        };
        if let Some(value) = &self.frame_id {
            line(id, value);
        }
        if let Some(token) = self.drain_token.as_ref().filter(|_| self.profile == Profile::Logplex)
        {
            line("Logplex-Drain-Token", token);
        }
        line("User-Agent", agent);
        line("Content-Length", &frame.body.len().to_string());
        lines.push_str("\r\n");
        lines
    }
}

/// Reads a file to its end, or until nobody takes its frames any more. With `new_ids`, the run
/// that makes the frames' ids.
pub(super) fn read(
    path: &Path,
    new_ids: Option<u32>,
    frames: &mpsc::Sender<Frame>,
) -> Result<(), FileError> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let head: Head = match line(&mut file)? {
        Some(line) => serde_json::from_slice(&line).map_err(|_| FileError::Foreign)?,
        None => return Err(FileError::Foreign),
    };
    if head.format != "forebay-frames" {
        return Err(FileError::Foreign);
    }
    if head.version != 1 {
        return Err(FileError::Version(head.version));
    }
    for number in 0.. {
        let Some(line) = line(&mut file)? else { return Ok(()) };
        let frame = frame(&line, &mut file, number, new_ids)
            .map_err(|what| FileError::Frame { number, what })?;
        if frames.blocking_send(frame).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The next line, without its newline; none at the end of the file.
fn line(file: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    file.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() == Some(b'\n') {
        return Ok(Some(line));
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a line has no end"))
}

fn frame(
    line: &[u8],
    file: &mut BufReader<File>,
    number: u64,
    new_ids: Option<u32>,
) -> Result<Frame, String> {
    let facts: Facts = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if facts.length > LONGEST_BODY {
        return Err(format!("a body of {} bytes is longer than any", facts.length));
    }
    let safe = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let good = |text: &Option<String>| text.as_deref().is_none_or(safe);
    if !(good(&facts.drain_token) && good(&facts.frame_id) && safe(&facts.query)) {
        return Err("a token, an id or a query would break its header".to_owned());
    }
    let mut body = Vec::new();
    let read = file.take(facts.length).read_to_end(&mut body).map_err(|e| e.to_string())?;
    let mut end = [0];
    file.read_exact(&mut end).map_err(|error| error.to_string())?;
    if read as u64 != facts.length || end != *b"\n" {
        return Err("the body is not as long as it should be".to_owned());
    }
    let new = new_ids.map(|run| frame_id(run, 0, number));
    let id = new.map(|id| format!("{id:032X}")).or(facts.frame_id);
    // Of an id that is no number the ledger keeps a hash.
    let known = match id.as_deref() {
        Some(id) => {
            u128::from_str_radix(id, 16).unwrap_or_else(|_| text_hash(id.as_bytes()).into())
        }
        None => u128::from(number),
    };
    Ok(Frame {
        id: known,
        messages: facts.messages,
        hashes: texts_of(&body, facts.profile),
        body,
        origin: Some(Origin {
            profile: facts.profile,
            drain_token: facts.drain_token,
            frame_id: id,
            messages_claimed: facts.messages_claimed,
            query: facts.query,
        }),
    })
}

/// The hashes of the texts in a body, but of those that are blank: no event is made of them.
fn texts_of(body: &[u8], profile: Profile) -> Vec<u64> {
    let (mut rest, mut hashes) = (body, Vec::new());
    while let Some((message, behind)) = counted(rest) {
        rest = behind;
        let line = message.strip_suffix(b"\n").unwrap_or(message);
        // `<190>1`, time, host, app, process, id: the text is behind the sixth space.
        let Some(text) = line.splitn(7, |byte| *byte == b' ').nth(6) else { continue };
        let text = match profile {
            Profile::Logplex => text,
            Profile::Shuttle | Profile::Other => text.strip_prefix(b"- ").unwrap_or(text),
        };
        if !text.trim_ascii().is_empty() {
            hashes.push(text_hash(text));
        }
    }
    hashes
}

/// A message by its length, and what is behind it.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(9).position(|byte| *byte == b' ')?;
    let (digits, rest) = bytes.split_at_checked(space)?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    rest.get(1..)?.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "<190>1 2026-01-02T03:04:05.000001+00:00 host app web.1 - one two";

    fn file(content: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frames");
        std::fs::write(&path, content).unwrap();
        (dir, path)
    }

    fn read_all(content: &str, new_ids: Option<u32>) -> (Vec<Frame>, Result<(), FileError>) {
        let (_dir, path) = file(content);
        let (sender, mut receiver) = mpsc::channel(16);
        let result = read(&path, new_ids, &sender);
        drop(sender);
        (std::iter::from_fn(|| receiver.try_recv().ok()).collect(), result)
    }

    fn content(facts: &str, body: &str) -> String {
        format!("{{\"format\":\"forebay-frames\",\"version\":1}}\n{facts}\n{body}\n")
    }

    #[test]
    fn a_frame_comes_back_with_its_headers_and_texts() {
        let body = format!("{} {MESSAGE}", MESSAGE.len());
        let facts = format!(
            "{{\"profile\":\"logplex\",\"drain_token\":\"d.1\",\"frame_id\":\"0A\",\
             \"messages_claimed\":1,\"messages\":1,\"query\":\"app=x\",\"length\":{}}}",
            body.len()
        );
        let (frames, result) = read_all(&content(&facts, &body), None);
        result.unwrap();
        let [frame] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!((frame.id, frame.messages), (10, 1));
        assert_eq!(frame.body, body.as_bytes());
        assert_eq!(frame.hashes, [text_hash(b"one two")]);
        let origin = frame.origin.as_ref().unwrap();
        let expected = format!(
            "Logplex-Msg-Count: 1\r\nLogplex-Frame-Id: 0A\r\nLogplex-Drain-Token: d.1\r\n\
             User-Agent: Logplex/v73\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        assert_eq!(origin.headers(frame), expected);
        assert_eq!(origin.query, "app=x");

        let (frames, _) = read_all(&content(&facts, &body), Some(7));
        let id = frames[0].origin.as_ref().unwrap().frame_id.clone().unwrap();
        assert_eq!(id, format!("{:032X}", frame_id(7, 0, 0)));
    }

    #[test]
    fn what_is_no_such_file_or_ends_early_is_told() {
        let facts = "{\"profile\":\"other\",\"messages\":0,\"length\":5}";
        for (content, message) in [
            (String::new(), "this is no file of frames"),
            ("{}\n".to_owned(), "this is no file of frames"),
            ("{\"format\":\"forebay-frames\",\"version\":2}\n".to_owned(), "has version 2"),
            (content(facts, "abc"), "frame 0 of the file: "),
            (content(facts, "abcdefg"), "frame 0 of the file: the body is not as long"),
            (content("{\"profile\":\"heroku\"}", ""), "frame 0 of the file: unknown variant"),
            (content(facts, "abcde") + "{", "a line has no end"),
            (
                content(
                    "{\"profile\":\"other\",\"messages\":0,\"length\":0,\"query\":\"a\\r\\nb\"}",
                    "",
                ),
                "would break its header",
            ),
        ] {
            let error = read_all(&content, None).1.unwrap_err().to_string();
            assert!(error.contains(message), "{message}: {error}");
        }
    }
}
