//! Halts that are not carried out: something was opened or filled late, or the job that did it was given up.

use chrono::{DateTime, Utc};
use plimsoll_auth::AccountPolicy;
use plimsoll_core_domain::StoreError;
use plimsoll_storage::Tx;

use super::Progress;

pub(super) const KIND: &str = "sweep_halts";

pub(super) fn batch(
    tx: &mut Tx<'_>,
    _policy: &AccountPolicy,
    _now: DateTime<Utc>,
) -> Result<Progress, StoreError> {
    let accounts = tx.sweep_halts()?;
    if accounts > 0 {
        tracing::warn!(accounts, "halts of accounts are carried out again");
    }
    Ok(Progress::All)
}
