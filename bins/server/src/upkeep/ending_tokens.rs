//! API tokens that end soon.

use chrono::{DateTime, Utc};
use plimsoll_auth::{AccountPolicy, api_tokens};
use plimsoll_core_domain::StoreError;
use plimsoll_storage::Tx;

use super::{Progress, mail_id};

pub(super) const KIND: &str = "tell_ending_api_tokens";
/// Tokens of one transaction.
const BATCH: usize = 100;

pub(super) fn batch(
    tx: &mut Tx<'_>,
    policy: &AccountPolicy,
    now: DateTime<Utc>,
) -> Result<Progress, StoreError> {
    let due = api_tokens::due_notices(tx, policy, BATCH, now)?;
    for notice in &due {
        api_tokens::give_notice(tx, notice, mail_id(), now)?;
    }
    Ok(Progress::of(due.len(), BATCH))
}
