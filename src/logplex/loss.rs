//! Loss that happened before us, as the sender reports it in the stream.

use memchr::memmem;

use super::syslog::Message;

/// Who lost messages, by Heroku's error code.
///
/// L11 is not here: it reports loss from a `heroku logs --tail` session, which is not a drain's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossCode {
    /// Logplex dropped from a drain's buffer, because the drain was too slow or gone.
    L10,
    /// log-shuttle dropped from its own buffer.
    L12,
    /// log-shuttle could not deliver a batch.
    L13,
}

impl LossCode {
    /// Every code.
    pub const ALL: [Self; 3] = [Self::L10, Self::L12, Self::L13];

    /// The code as Heroku writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L10 => "L10",
            Self::L12 => "L12",
            Self::L13 => "L13",
        }
    }
}

/// A sender's report of messages that will never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Who lost them.
    pub code: LossCode,
    /// How many.
    pub messages: u64,
}

/// The loss a message reports, if it does.
///
/// An app can print the same text, so only what comes from Logplex or log-shuttle counts. Their
/// wordings differ by code and over the years; in all of them a code comes first and the number
/// stands before the word `messages`:
///
/// ```text
/// Error L10 (output buffer overflow): 1 messages dropped since 2014-11-07T23:29:45+00:00.
/// Error L10 (output buffer overflow): drain 'd.x' dropped 3 messages since 2020-06-01T…
/// Error L13: 7 messages lost since 2015-04-02T…
/// ```
#[must_use]
pub fn loss(message: &Message<'_>) -> Option<Loss> {
    let header = message.header.as_ref()?;
    if !matches!(header.proc_id, b"logplex" | b"log-shuttle") {
        return None;
    }
    let (code, rest) = code(message.text)?;
    Some(Loss { code, messages: number(rest)? })
}

/// The first loss code of a text and what follows it.
fn code(text: &[u8]) -> Option<(LossCode, &[u8])> {
    const SIGN: &[u8] = b"Error ";
    memmem::find_iter(text, SIGN).find_map(|at| {
        let (code, rest) = text.get(at.checked_add(SIGN.len())?..)?.split_at_checked(3)?;
        let ends = !rest.first().is_some_and(u8::is_ascii_alphanumeric);
        let code = LossCode::ALL.into_iter().find(|known| known.as_str().as_bytes() == code)?;
        ends.then_some((code, rest))
    })
}

/// The first number that stands before ` messages`. One that no `u64` holds is no number.
fn number(text: &[u8]) -> Option<u64> {
    memmem::find_iter(text, b" messages").find_map(|at| {
        let before = text.get(..at)?;
        let digits = before.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = before.get(at.checked_sub(digits)?..)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Profile, parse};
    use super::*;

    /// The loss reported by a message from this source with this text.
    fn reported(source: &str, text: &str) -> Option<Loss> {
        let line = format!("<172>1 2026-01-02T03:04:05+00:00 {source} - {text}");
        loss(&parse(line.as_bytes(), Profile::Logplex))
    }

    fn some(code: LossCode, messages: u64) -> Option<Loss> {
        Some(Loss { code, messages })
    }

    #[test]
    fn every_known_wording_is_read() {
        for (source, text, expected) in [
            (
                "host heroku logplex",
                "Error L10 (output buffer overflow): 1 messages dropped since \
                 2014-11-07T23:29:45+00:00.",
                some(LossCode::L10, 1),
            ),
            (
                "host heroku logplex",
                "Error L10 (output buffer overflow): drain \
                 'd.437d5ca9-9e1b-4959-8e73-da79368b4add' dropped 1024 messages since \
                 2020-06-01T00:00:00.000000+00:00.",
                some(LossCode::L10, 1024),
            ),
            (
                "heroku myapp log-shuttle",
                "Error L12: 12 messages dropped since 2015-04-02T00:00:00+00:00\n",
                some(LossCode::L12, 12),
            ),
            (
                "heroku myapp log-shuttle",
                "Error L13: 7 messages lost since 2015-04-02T00:00:00+00:00\n",
                some(LossCode::L13, 7),
            ),
        ] {
            assert_eq!(reported(source, text), expected, "{text}");
        }
    }

    #[test]
    fn an_app_cannot_report_loss() {
        let text = "Error L10 (output buffer overflow): 1 messages dropped since 2014.";
        assert_eq!(reported("host app web.1", text), None);
        assert_eq!(reported("host heroku web.1", text), None);
        assert_eq!(loss(&parse(text.as_bytes(), Profile::Logplex)), None);
    }

    #[test]
    fn what_is_no_report_is_none() {
        for text in [
            "",
            "Error ",
            "Error L1",
            "Error L10",
            "Error L10: messages",
            "Error L10:  messages dropped",
            "Error L10 99999999999999999999999 messages",
            "Error L100: 5 messages",
            "Error L11: 5 messages",
            "Error L14 (certificate validation): error=\"x\" uri=\"y\"",
            "5 messages Error L10",
        ] {
            assert_eq!(reported("host heroku logplex", text), None, "{text}");
        }
        assert_eq!(
            reported("host heroku logplex", "Error L11, Error L10: no messages, 6 messages"),
            some(LossCode::L10, 6)
        );
    }
}
