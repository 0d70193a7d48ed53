use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::{AuditLog, AuditOutcome};
use plimsoll_core_domain::{StoreError, UserId};
use serde_json::json;

use super::BrokerName;
use crate::ports::{AccountStore, TwoFactorStore, VaultStore};
use crate::{Act, two_factor};

/// What became of a change of who may trade with real money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveChange {
    /// It is so now.
    Done,
    /// Refused: real money needs a second factor. That it was tried is recorded.
    NeedsSecondFactor,
}

/// Allows or forbids a user's orders with real money. Allowing them needs a second factor; forbidding never does. The
/// caller has seen to it that a factor was proven lately.
///
/// # Errors
///
/// When the store fails.
pub fn set_live<S>(
    store: &mut S,
    user: UserId,
    broker: BrokerName,
    enabled: bool,
    act: &Act,
) -> Result<LiveChange, StoreError>
where
    S: VaultStore + AccountStore + TwoFactorStore + AuditLog + ?Sized,
{
    store.lock_account_of(user)?;
    let refused = enabled && !two_factor::is_enabled(store, user)?;
    let mut detail = json!({ "broker": broker.as_str(), "enabled": enabled });
    let outcome = if refused {
        detail["reason"] = "two_factor".into();
        AuditOutcome::Denied
    } else {
        detail["changed"] = store.set_live_enabled(user, broker, enabled, act.at)?.into();
        AuditOutcome::Success
    };
    let entry = act.entry("account.live", outcome, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(if refused { LiveChange::NeedsSecondFactor } else { LiveChange::Done })
}

/// Forbids real money because the user's second factor is gone. `true` when it was allowed before: [`record_withdrawn`]
/// puts that on record, as the last of the transaction.
pub(crate) fn withdraw<S>(store: &mut S, user: UserId, at: DateTime<Utc>) -> Result<bool, StoreError>
where
    S: VaultStore + ?Sized,
{
    let mut withdrawn = false;
    for broker in BrokerName::ALL {
        withdrawn |= store.set_live_enabled(user, broker, false, at)?;
    }
    Ok(withdrawn)
}

pub(crate) fn record_withdrawn<S>(store: &mut S, user: UserId, act: &Act) -> Result<(), StoreError>
where
    S: AuditLog + ?Sized,
{
    let detail = json!({ "enabled": false, "changed": true, "reason": "two_factor_removed" });
    let entry = act.entry("account.live", AuditOutcome::Success, None, Some(user), detail);
    store.append_audit(Some(user), &entry)
}
