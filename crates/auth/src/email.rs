use std::fmt;
use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;

/// Longest address in bytes of UTF-8 (RFC 5321 4.5.3.1.3, less the angle brackets).
pub const MAX_EMAIL_BYTES: usize = 254;

const MAX_LOCAL_BYTES: usize = 64;
const MAX_LABEL_BYTES: usize = 63;

/// Why a text is no e-mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    /// Over [`MAX_EMAIL_BYTES`].
    #[error("the address is longer than {MAX_EMAIL_BYTES} bytes")]
    TooLong,
    /// White space or a control character, line ends and NUL among them.
    #[error("the address contains white space or control characters")]
    Blank,
    /// Not of the form `local@domain`: display names, quotes, comments and address literals are not taken.
    #[error("the address is not of the form name@domain")]
    Malformed,
}

/// An e-mail address: NFC, domain in lower case, otherwise as typed. Nothing is trimmed.
///
/// Two addresses that differ in letter case only are one account: [`EmailAddress::folded`] is what must be unique.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EmailAddress {
    text: String,
    folded: String,
}

impl EmailAddress {
    /// Reads an address as typed.
    ///
    /// # Errors
    ///
    /// See [`EmailError`].
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        // Composition never makes a text more than three times shorter, and nobody waits for megabytes of it.
        if text.len() > 3 * MAX_EMAIL_BYTES {
            return Err(EmailError::TooLong);
        }
        let text: String = text.nfc().collect();
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(EmailError::Blank);
        }
        let (local, domain) = text.split_once('@').ok_or(EmailError::Malformed)?;
        let domain = lower(domain);
        if !is_dotted(local, MAX_LOCAL_BYTES, is_local_char) || !is_domain(&domain) {
            return Err(EmailError::Malformed);
        }
        let folded = format!("{}@{domain}", lower(local));
        let text = format!("{local}@{domain}");
        if text.len().max(folded.len()) > MAX_EMAIL_BYTES {
            return Err(EmailError::TooLong);
        }
        Ok(Self { text, folded })
    }

    /// The address to show and to send to.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The form under which it is unique and looked up: the whole in lower case.
    #[must_use]
    pub fn folded(&self) -> &str {
        &self.folded
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmailAddress({:?})", self.text)
    }
}

impl FromStr for EmailAddress {
    type Err = EmailError;

    fn from_str(text: &str) -> Result<Self, EmailError> {
        Self::parse(text)
    }
}

fn lower(text: &str) -> String {
    text.to_lowercase().nfc().collect()
}

/// Parts between single dots, none of them empty.
fn is_dotted(text: &str, max_bytes: usize, allowed: impl Fn(char) -> bool) -> bool {
    text.len() <= max_bytes && text.split('.').all(|part| !part.is_empty() && part.chars().all(&allowed))
}

/// RFC 5322 `atext` and, as RFC 6531 has it, everything beyond ASCII.
fn is_local_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii()
}

fn is_domain(domain: &str) -> bool {
    let label =
        |label: &str| label.len() <= MAX_LABEL_BYTES && !label.starts_with('-') && !label.ends_with('-');
    is_dotted(domain, MAX_EMAIL_BYTES, |c| c.is_alphanumeric() || c == '-' || is_mark(c))
        && domain.split('.').all(label)
}

/// A combining mark: letters of some scripts cannot be written without.
fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_normalised_and_folded() {
        for (typed, text, folded) in [
            ("Ann@Example.COM", "Ann@example.com", "ann@example.com"),
            ("a.b+tag@localhost", "a.b+tag@localhost", "a.b+tag@localhost"),
            ("u\u{308}ser@exa\u{308}mple.org", "\u{fc}ser@ex\u{e4}mple.org", "\u{fc}ser@ex\u{e4}mple.org"),
            ("\u{dc}@B\u{dc}CHER.example", "\u{dc}@b\u{fc}cher.example", "\u{fc}@b\u{fc}cher.example"),
            (
                "o'hara/x=y@sub.domain-1.example",
                "o'hara/x=y@sub.domain-1.example",
                "o'hara/x=y@sub.domain-1.example",
            ),
        ] {
            let address = EmailAddress::parse(typed).unwrap();
            assert_eq!((address.as_str(), address.folded()), (text, folded));
            assert_eq!(address.to_string().parse(), Ok(address));
        }
    }

    #[test]
    fn anything_that_could_smuggle_is_refused() {
        use EmailError::{Blank, Malformed};
        for (typed, error) in [
            ("", Malformed),
            ("ann", Malformed),
            ("@example.com", Malformed),
            ("ann@", Malformed),
            ("ann@@example.com", Malformed),
            ("ann@b@example.com", Malformed),
            ("ann@example..com", Malformed),
            ("ann@.example.com", Malformed),
            ("ann@example.com.", Malformed),
            ("ann@-example.com", Malformed),
            ("ann@example-.com", Malformed),
            ("ann@exa_mple.com", Malformed),
            (".ann@example.com", Malformed),
            ("a..b@example.com", Malformed),
            ("Ann<ann@example.com>", Malformed),
            ("\"ann\"@example.com", Malformed),
            ("ann(comment)@example.com", Malformed),
            ("ann@[127.0.0.1]", Malformed),
            ("ann,bob@example.com", Malformed),
            (" ann@example.com", Blank),
            ("ann@example.com ", Blank),
            ("ann@example.com\r\nBcc: bob@example.com", Blank),
            ("ann\0@example.com", Blank),
            ("ann\u{a0}@example.com", Blank),
            ("ann\u{85}@example.com", Blank),
        ] {
            assert_eq!(EmailAddress::parse(typed), Err(error), "{typed:?}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let domain = |bytes: usize| format!("{}.example", "d.".repeat(200))[..bytes].to_owned();
        let address = format!("ann@{}d", domain(249));
        assert_eq!(address.len(), 254);
        assert!(EmailAddress::parse(&address).is_ok());
        assert_eq!(EmailAddress::parse(&format!("ann@{}d", domain(251))), Err(EmailError::TooLong));
        assert!(EmailAddress::parse(&format!("{}@example.com", "x".repeat(64))).is_ok());
        assert_eq!(
            EmailAddress::parse(&format!("{}@example.com", "x".repeat(65))),
            Err(EmailError::Malformed)
        );
        assert_eq!(EmailAddress::parse(&format!("ann@{}.com", "x".repeat(64))), Err(EmailError::Malformed));
        assert_eq!(EmailAddress::parse(&"x".repeat(10_000_000)), Err(EmailError::TooLong));
    }

    proptest! {
        #[test]
        fn whatever_parses_is_stable_and_short(text in "[a-zA-Z\u{c4}\u{130}a\u{308}.]{1,8}@[A-Za-z\u{dc}\u{df}.-]{1,12}") {
            if let Ok(address) = EmailAddress::parse(&text) {
                prop_assert_eq!(&EmailAddress::parse(address.as_str()).unwrap(), &address);
                let folded = EmailAddress::parse(address.folded()).unwrap();
                prop_assert_eq!(folded.folded(), address.folded());
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,300}") {
            let _ = EmailAddress::parse(&text);
        }
    }
}
