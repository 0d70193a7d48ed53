//! Setting halts and ending them, and bringing that to the accounts.

use std::time::Duration;

use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_storage::platform::risk::{carry_halts, insist};
use plimsoll_storage::{Db, Tx};

use crate::problem::Problem;

/// How long a halt is tried: longer than the database lets an idle transaction live.
const WITHIN: Duration = Duration::from_secs(45);
/// How long the answer waits for accounts that somebody holds.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Does `work` in a transaction and brings what it changed to the accounts of `user`, or of everybody. Both are tried on
/// when the caller has gone. Answers what `work` did, and to how many accounts it was not brought yet.
///
/// # Errors
/// The store's, as problems; for `work` alone. What cannot be brought now is counted.
pub(super) async fn brought<T, F>(
    db: &Db,
    seed: u64,
    user: Option<UserId>,
    work: F,
) -> Result<(T, Option<u64>), Problem>
where
    T: Send + 'static,
    F: FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Clone + Send + 'static,
{
    let lost = |error: tokio::task::JoinError| Problem::internal(error.to_string());
    let own = db.clone();
    let done = tokio::spawn(async move { insist(&own, seed, WITHIN, work).await }).await.map_err(lost)??;
    let own = db.clone();
    let bringing = tokio::spawn(async move { carry_halts(&own, user, WITHIN).await });
    let left = match tokio::time::timeout(ANSWER_WITHIN, bringing).await {
        Ok(brought) => match brought.map_err(lost)? {
            Ok(left) => Some(u64::try_from(left).unwrap_or(u64::MAX)),
            Err(error) => {
                tracing::error!(%error, "a halt was set or lifted and is left to the sweep of halts");
                None
            }
        },
        Err(_) => None,
    };
    Ok((done, left))
}
