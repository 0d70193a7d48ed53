//! The first administrator: a token that is shown at the terminal once, while there is none.

use chrono::{DateTime, Utc};
use plimsoll_auth::setup::issue;
use plimsoll_auth::{AccountPolicy, Act, StoreError};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::SecretToken;
use plimsoll_storage::Db;
use secrecy::ExposeSecret;

use crate::service::random_id;

/// A setup token, to be shown to the operator and to nobody else. It is never logged.
pub struct SetupToken {
    token: SecretToken,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// Issues a setup token, which voids earlier ones. `None` when there is an administrator.
///
/// # Errors
/// The store's own.
pub fn setup_token(
    db: &Db,
    policy: &AccountPolicy,
    now: DateTime<Utc>,
) -> Result<Option<SetupToken>, StoreError> {
    let (id, token) = (random_id(&mut OsRandom), SecretToken::generate(&mut OsRandom));
    let act = Act::without_request(now);
    let until = db.run_blocking(|tx| issue(tx, policy, id, &token, &act))?;
    Ok(until.map(|expires_at| SetupToken { token, expires_at }))
}

impl SetupToken {
    /// What the operator is told: the token, and the request that it is good for.
    #[must_use]
    pub fn notice(&self, url: &str) -> String {
        let until = self.expires_at.format("%H:%M:%S UTC");
        let text = self.token.expose_text();
        let token = text.expose_secret();
        format!(
            "\nThere is no administrator yet. Until {until}, this makes one, once:\n\n  \
             curl {url}/auth/setup -H 'content-type: application/json' \\\n    \
             -d '{{\"setup_token\":\"{token}\",\"email\":\"you@example.com\",\"password\":\"...\"}}'\n\n  \
             A new token: plimsoll user setup-token   Without one: plimsoll user create-admin EMAIL\n"
        )
    }
}

impl std::fmt::Debug for SetupToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetupToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notice_has_the_token_and_debug_has_not() {
        let token = SecretToken::generate(&mut OsRandom);
        let text = token.expose_text();
        let shown = SetupToken { token, expires_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap() };
        let notice = shown.notice("http://127.0.0.1:8080");
        assert!(notice.contains(text.expose_secret()) && notice.contains("08:00:00 UTC"), "{notice}");
        assert!(notice.contains("http://127.0.0.1:8080/auth/setup"), "{notice}");
        assert!(!format!("{shown:?}").contains(text.expose_secret()));
    }
}
