//! What became of a message: the kinds of failure, and what is kept of an answer.

use std::error::Error;

use super::resolver::{AddressRefused, NameUnknown};

/// Most characters of an answer that are kept.
const LONGEST_EXCERPT: usize = 200;
/// A run of so many letters and digits may be a secret.
const SHORTEST_SECRET: usize = 20;

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The address is not, or not any more, one that may be posted to.
    AddressRefused,
    /// The host's name leads nowhere.
    NameUnknown,
    /// No connection, or none that is trusted.
    NotConnected,
    /// The connection ended before the answer.
    BrokenOff,
    /// No answer in time.
    TimedOut,
    /// The answer is a redirect, which is not followed.
    Redirected,
    /// The answer is another one than a success.
    Status,
    /// The receiver said that it wants nothing any more (410).
    Gone,
}

impl Failure {
    /// A stable word for it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::AddressRefused => "address_refused",
            Self::NameUnknown => "name_unknown",
            Self::NotConnected => "not_connected",
            Self::BrokenOff => "broken_off",
            Self::TimedOut => "timed_out",
            Self::Redirected => "redirected",
            Self::Status => "status",
            Self::Gone => "gone",
        }
    }

    /// What an error without an answer means.
    pub(crate) fn of(error: &reqwest::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if error.is::<AddressRefused>() {
                return Self::AddressRefused;
            }
            if error.is::<NameUnknown>() {
                return Self::NameUnknown;
            }
            cause = error.source();
        }
        if error.is_timeout() {
            Self::TimedOut
        } else if error.is_connect() {
            Self::NotConnected
        } else {
            Self::BrokenOff
        }
    }
}

/// The beginning of an answer, on one line, at most 200 characters, without anything that may be a secret: of a long run
/// of letters and digits only its length is kept.
#[must_use]
pub fn excerpt(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let (mut out, mut run) = (String::new(), String::new());
    let end = |run: &mut String, out: &mut String| {
        if run.chars().count() >= SHORTEST_SECRET {
            out.push_str(&format!("[{} characters]", run.chars().count()));
        } else {
            out.push_str(run);
        }
        run.clear();
    };
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-' | '.') {
            run.push(c);
            continue;
        }
        end(&mut run, &mut out);
        let active = c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        out.push(if active { ' ' } else { c });
        if out.len() > 4 * LONGEST_EXCERPT {
            break;
        }
    }
    end(&mut run, &mut out);
    out.trim().chars().take(LONGEST_EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_plain_and_without_secrets() {
        assert_eq!(excerpt(b"ok"), "ok");
        assert_eq!(excerpt(b" {\"error\":\n\"no such user\"}\r\n"), "{\"error\": \"no such user\"}");
        let echoed = excerpt(b"got whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= and plm_abc");
        assert_eq!(echoed, "got [50 characters] and plm_abc");
        assert_eq!(excerpt("word ".repeat(100).as_bytes()).chars().count(), 200);
        assert_eq!(excerpt(&vec![b'a'; 5_000]), "[5000 characters]");
        assert_eq!(excerpt(b"\x1b[31mred\xff\xfe"), "[31mred\u{fffd}\u{fffd}");
        assert_eq!(excerpt("a\u{202e}b".as_bytes()), "a b");
        assert_eq!(excerpt(b""), "");
    }
}
