//! What may not be in a log line.

use std::borrow::Cow;

/// Stands in for a value that was not written.
pub const REDACTED: &str = "[redacted]";

const SECRET_NAMES: [&str; 11] = [
    "secret",
    "token",
    "password",
    "passwd",
    "passphrase",
    "pass_phrase",
    "authorization",
    "api_key",
    "apikey",
    "cookie",
    "encryption_key",
];

/// Whether a field of this name is never written: its name, without regard to case and with hyphens as underscores,
/// contains a word such as `secret`, `token`, `password`, `authorization`, `api_key`.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

/// The text without what looks like a credential: API tokens (`plm_…`), webhook secrets (`whsec_…`), what follows
/// `Bearer` or `Basic`, and the password in an address (`scheme://user:password@host`).
#[must_use]
pub fn scrub(text: &str) -> Cow<'_, str> {
    let mut clean = Cow::Borrowed(text);
    for marker in ["plm_", "whsec_", "Bearer ", "bearer ", "Basic ", "basic "] {
        if clean.contains(marker) {
            clean = Cow::Owned(scrub_after(&clean, marker));
        }
    }
    if clean.contains("://") {
        clean = Cow::Owned(scrub_userinfo(&clean));
    }
    clean
}

/// Shortest run after a marker that counts as a credential; shorter ones are words.
const MIN_CREDENTIAL_CHARS: usize = 12;

fn scrub_after(text: &str, marker: &str) -> String {
    let credential =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '+' | '/' | '=');
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(found) = rest.find(marker) {
        let (before, after) = rest.split_at(found + marker.len());
        clean.push_str(before);
        let end = after.find(|c| !credential(c)).unwrap_or(after.len());
        if end >= MIN_CREDENTIAL_CHARS {
            clean.push_str(REDACTED);
            rest = &after[end..];
        } else {
            rest = after;
        }
    }
    clean + rest
}

fn scrub_userinfo(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(found) = rest.find("://") {
        let (before, after) = rest.split_at(found + 3);
        clean.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"'))
            .unwrap_or(after.len());
        let (authority, next) = after.split_at(end);
        match authority.rsplit_once('@').map(|(user, host)| (user.split_once(':'), host)) {
            Some((Some((user, _)), host)) => clean.extend([user, ":", REDACTED, "@", host]),
            _ => clean.push_str(authority),
        }
        rest = next;
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "password",
            "new_password",
            "api_key",
            "X-Api-Key",
            "Authorization",
            "session.token",
            "SecretKey",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["order.id", "key_id", "symbol", "idempotency_key", "message", "duration_ms"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn credentials_are_known_by_their_forms() {
        let token = "a2".repeat(30);
        for (text, clean) in [
            (format!("using plm_{token}, twice plm_{token}"), "using plm_[redacted], twice plm_[redacted]"),
            ("secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw.".to_owned(), "secret whsec_[redacted]"),
            (
                "Authorization: Bearer abcdefghijklm; next".to_owned(),
                "Authorization: Bearer [redacted]; next",
            ),
            ("bearer of good news".to_owned(), "bearer of good news"),
            ("at postgres://app:s3cret@db:5432/x?y".to_owned(), "at postgres://app:[redacted]@db:5432/x?y"),
            (
                "at postgres://app:a@b:c@db and http://h/p@q".to_owned(),
                "at postgres://app:[redacted]@db and http://h/p@q",
            ),
            ("http://user@host/ plm_short".to_owned(), "http://user@host/ plm_short"),
            ("nothing to hide".to_owned(), "nothing to hide"),
        ] {
            assert_eq!(scrub(&text), clean);
        }
        assert!(matches!(scrub("nothing to hide"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn a_token_is_found_wherever_it_stands(before in "\\PC{0,20}", body in "[a-z2-7]{60}", after in "\\PC{0,20}") {
            let text = format!("{before} plm_{body} {after}");
            prop_assert!(!scrub(&text).contains(&body));
        }
    }
}
