//! Rows that nothing needs any more. Whether a token, session or block is over is decided by its own time, never by its
//! row being gone: a clean-up that never runs costs room and nothing else.

use chrono::{DateTime, Utc};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::{AuditLog, AuditOutcome};
use serde_json::json;

use crate::ports::CleanUpStore;
use crate::{AccountPolicy, Act};

macro_rules! old {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// What is deleted once it is old.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Old { $($(#[$doc])* $name),+ }

        impl Old {
            /// All of them, in the order in which they are cleared away.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The word for it in logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

old! {
    /// Links that confirm an address, by their end.
    VerificationTokens = "verification_tokens",
    /// Links that reset a password, by their end.
    ResetTokens = "reset_tokens",
    /// Asked changes of an address, by their end.
    EmailChanges = "email_changes",
    /// Links that stop something, by their end.
    CancelTokens = "cancel_tokens",
    /// Tokens of the first administrator, by their end.
    SetupTokens = "setup_tokens",
    /// What registrations are asked about by, by their end.
    Registrations = "registrations",
    /// Second steps of logins, by their end.
    Challenges = "challenges",
    /// Second factors that were never confirmed, by their end. An enabled factor stays.
    PendingFactors = "pending_factors",
    /// Tickets for WebSockets, by their end.
    WsTickets = "ws_tickets",
    /// Sessions, by their absolute end.
    Sessions = "sessions",
    /// API tokens, by their end.
    ApiTokens = "api_tokens",
    /// Attempts to sign in.
    LoginAttempts = "login_attempts",
    /// Codes and passwords tried.
    FactorAttempts = "factor_attempts",
    /// Devices and networks that were not seen for long.
    LoginPlaces = "login_places",
    /// Counters that are at rest: neither in use nor blocking.
    Throttles = "throttles",
    /// Pairs of account and password that failed.
    FailedPairs = "failed_pairs",
    /// Mails that were sent.
    SentMails = "sent_mails",
    /// Mails that were given up, or for which no server was ever configured.
    UnsentMails = "unsent_mails",
    /// Accounts whose address was never confirmed, after their last link's end.
    UnverifiedAccounts = "unverified_accounts",
}

impl Old {
    /// What ended, or was last used, before this time is old.
    #[must_use]
    pub fn before(self, policy: &AccountPolicy, now: DateTime<Utc>) -> DateTime<Utc> {
        let keep = &policy.retention;
        let age = match self {
            Self::VerificationTokens
            | Self::ResetTokens
            | Self::EmailChanges
            | Self::CancelTokens
            | Self::SetupTokens
            | Self::Registrations
            | Self::Challenges => keep.links,
            Self::PendingFactors | Self::WsTickets => chrono::TimeDelta::zero(),
            Self::Sessions => keep.sessions,
            Self::ApiTokens => keep.api_tokens,
            Self::LoginAttempts | Self::FactorAttempts => keep.attempts,
            Self::LoginPlaces => keep.places,
            Self::Throttles => keep.throttles,
            Self::FailedPairs => policy.login.spray_window,
            Self::SentMails => keep.sent_mails,
            Self::UnsentMails => keep.unsent_mails,
            Self::UnverifiedAccounts => keep.unverified,
        };
        now - age
    }
}

/// Deletes at most `limit` old rows of one kind, and returns how many; fewer than `limit` means that no more is due. Each
/// account that goes leaves an entry.
///
/// # Errors
///
/// When the store fails.
pub fn batch<S>(
    store: &mut S,
    policy: &AccountPolicy,
    what: Old,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<usize, StoreError>
where
    S: CleanUpStore + AuditLog + ?Sized,
{
    let before = what.before(policy, now);
    if what != Old::UnverifiedAccounts {
        return store.delete_old(what, before, limit);
    }
    let gone = store.delete_unverified(before, limit)?;
    let act = Act::without_request(now);
    for user in &gone {
        let detail = json!({ "reason": "unverified" });
        let entry = act.entry("user.expire", AuditOutcome::Success, None, Some(*user), detail);
        store.append_audit(Some(*user), &entry)?;
    }
    Ok(gone.len())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    /// CLN-1: nothing is deleted while it could still matter, whatever the kind.
    #[test]
    fn nothing_counts_as_old_while_it_matters() {
        let policy = AccountPolicy::default();
        let now = DateTime::from_timestamp(1_780_000_000, 0).unwrap();
        let age = |what: Old| now - what.before(&policy, now);
        for what in Old::ALL {
            assert!(age(*what) >= TimeDelta::zero(), "{what:?}");
        }
        assert!(age(Old::Throttles) > policy.login.spray_block);
        assert!(age(Old::Throttles) > policy.two_factor.per_day.per);
        assert!(age(Old::Throttles) > policy.login.failure_window + policy.login.longest_block);
        assert!(age(Old::FailedPairs) >= policy.login.spray_window);
        assert!(age(Old::LoginPlaces) > policy.login.device_cookie);
        assert!(age(Old::UnverifiedAccounts) > policy.registration.verification);
        assert!(age(Old::UnsentMails) >= age(Old::SentMails));
    }
}
