//! Resets of second factors whose delay is over.

use chrono::{DateTime, Utc};
use plimsoll_auth::{AccountPolicy, two_factor_reset};
use plimsoll_core_domain::StoreError;
use plimsoll_storage::Tx;

use super::{Progress, mail_id};

pub(super) const KIND: &str = "complete_two_factor_resets";

pub(super) fn batch(
    tx: &mut Tx<'_>,
    _policy: &AccountPolicy,
    now: DateTime<Utc>,
) -> Result<Progress, StoreError> {
    let done = two_factor_reset::complete_due(tx, now, &mut mail_id)?;
    Ok(Progress::of(done.len(), 1))
}
