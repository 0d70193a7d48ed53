//! Right passwords whose second factor did not come: somebody else may know the password, so its owner is told.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::AuditOutcome;
use serde_json::json;
use uuid::Uuid;

use crate::challenges::Challenge;
use crate::mail::{Circumstances, Mail};
use crate::ports::AuthStore;
use crate::throttle::Verdict;
use crate::{Account, AccountPolicy, Act, ClientInfo};

/// Counts these mails of a user.
const BUDGET: &str = "unfinished_mail";

/// A challenge that led to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The challenge.
    pub challenge: Challenge,
    /// Whether the user began again from the same address and finished that: nothing to tell of.
    pub repeated: bool,
}

/// Deals with at most `limit` challenges that are older than the time in which a code should come, and returns how many
/// there were; call it again while it returns `limit`. A user gets one mail for all of them, and only so many an hour.
///
/// # Errors
///
/// When the store fails.
pub fn tell_unfinished<S>(
    store: &mut S,
    policy: &AccountPolicy,
    limit: usize,
    now: DateTime<Utc>,
    ids: &mut dyn FnMut() -> Uuid,
) -> Result<usize, StoreError>
where
    S: AuthStore + ?Sized,
{
    let due = store.unfinished_challenges(now - policy.two_factor.unfinished_after, limit)?;
    let seen = due.len();
    let mut by_user: BTreeMap<i64, Vec<Unfinished>> = BTreeMap::new();
    for unfinished in due {
        by_user.entry(unfinished.challenge.user.0).or_default().push(unfinished);
    }
    // one order for everybody: all accounts by their ids, then what is theirs, then the audit log
    let mut accounts: Vec<(Account, Vec<Unfinished>)> = Vec::with_capacity(by_user.len());
    for due in by_user.into_values() {
        let Some(first) = due.first() else { continue };
        if let Some(account) = store.lock_account_of(first.challenge.user)? {
            accounts.push((account, due));
        }
    }
    let mut entries = Vec::new();
    for (account, due) in accounts {
        let user = &account.user;
        let mut told: Vec<Challenge> = Vec::new();
        for Unfinished { challenge, repeated } in due {
            if store.mark_challenge_told(user.id, challenge.id, now)? && !repeated {
                told.push(challenge);
            }
        }
        if let Some(last) = told.last() {
            let verdict =
                store.take(BUDGET, &user.id.0.to_be_bytes(), policy.two_factor.unfinished_mails, now)?;
            if verdict == Verdict::Allowed {
                let circumstances = Circumstances {
                    at: last.created_at,
                    ip: last.ip.map(|ip| ip.to_string()),
                    user_agent: last.user_agent.clone(),
                };
                let mail = Mail::UnfinishedSignIn { circumstances };
                store.post_mail(ids(), &user.email, Some(user.id), &mail, now)?;
            }
        }
        for challenge in told {
            let client = ClientInfo::new(challenge.ip, challenge.user_agent.as_deref());
            let act = Act { client, ..Act::without_request(now) };
            let detail = json!({ "password_at": challenge.created_at, "tries": challenge.tries });
            let entry =
                act.entry("login.unfinished", AuditOutcome::Denied, Some(user.id), Some(user.id), detail);
            entries.push((user.id, entry));
        }
    }
    for (user, entry) in &entries {
        store.append_audit(Some(*user), entry)?;
    }
    Ok(seen)
}

#[cfg(test)]
mod tests;
