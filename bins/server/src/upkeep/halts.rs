//! Limits and halts that were not brought to an account, and halts that are not carried out: something was opened or filled
//! late, or the job that did it was given up.

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
    let (more, accounts) = tx.sweep_halts()?;
    if accounts > 0 {
        tracing::warn!(accounts, "halts of accounts are carried out again");
    }
    Ok(if more { Progress::More } else { Progress::All })
}
