//! Right passwords whose second factor did not come.

use chrono::{DateTime, Utc};
use plimsoll_auth::AccountPolicy;
use plimsoll_auth::unfinished::tell_unfinished;
use plimsoll_core_domain::StoreError;
use plimsoll_storage::Tx;

use super::{Progress, mail_id};

pub(super) const KIND: &str = "tell_unfinished_sign_ins";
/// Challenges of one transaction.
const BATCH: usize = 50;

pub(super) fn batch(
    tx: &mut Tx<'_>,
    policy: &AccountPolicy,
    now: DateTime<Utc>,
) -> Result<Progress, StoreError> {
    let seen = tell_unfinished(tx, policy, BATCH, now, &mut mail_id)?;
    Ok(Progress::of(seen, BATCH))
}
