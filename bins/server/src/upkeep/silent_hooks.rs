//! Hooks that should have fired and did not: their owners are told.

use chrono::{DateTime, Utc};
use plimsoll_auth::AccountPolicy;
use plimsoll_auth::ports::VaultStore;
use plimsoll_auth::vault::{Alert, Audience};
use plimsoll_core_domain::StoreError;
use plimsoll_storage::Tx;

use super::Progress;

pub(super) const KIND: &str = "tell_silent_hooks";
/// Hooks of one transaction.
const BATCH: usize = 100;

pub(super) fn batch(
    tx: &mut Tx<'_>,
    _policy: &AccountPolicy,
    now: DateTime<Utc>,
) -> Result<Progress, StoreError> {
    let due = tx.silent_hooks(i64::try_from(BATCH).unwrap_or(i64::MAX), now)?;
    for hook in &due {
        let since = hook.silent_since.format("%Y-%m-%d %H:%M:%S");
        let message = format!(
            "The webhook {:?} has had no signal since {since} UTC; you expect one every {} seconds.",
            hook.name, hook.after_s
        );
        tracing::warn!(hook.id = %hook.id, user.id = %hook.user, "a webhook that should fire is silent");
        tx.alert(Audience::User(hook.user), &Alert { message, severity: "warning" }, now)?;
    }
    Ok(Progress::of(due.len(), BATCH))
}
