//! A change of an order whose answer waits for the broker's verdict.

use std::time::Duration;

use actix_web::HttpResponse;
use plimsoll_core_domain::stream::StreamId;
use plimsoll_core_domain::{OrderId, StoreErrorKind, UserId};
use plimsoll_reliability::idempotency::{Claimed, IdempotencyStore, KeyClaim, StoredReply};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::orders::KeyState;

use super::accept::{Keyed, answer, finish, verdict};
use crate::idempotent::{KEEP_ORDERS, in_flight, send};
use crate::problem::Problem;
use crate::state::AppState;

/// How much longer than it waits a request may still run, by the database's clock.
const GRACE: Duration = Duration::from_secs(5);

enum Asked {
    /// Written now.
    Now(StoredReply),
    /// The key was used before.
    Before(KeyState),
}

/// Runs an effect under a key, which writes the order `id` and answers a provisional reply; waits for the broker's verdict
/// on that order, stores the final reply and sends it. Without a wait the provisional reply is the final one.
///
/// # Errors
/// The effect's own, 409 while a twin runs, 422 when the key belongs to another request.
pub(super) async fn ask<F>(
    state: &AppState,
    user: UserId,
    keyed: Keyed,
    id: OrderId,
    wait: Duration,
    effect: F,
) -> Result<HttpResponse, Problem>
where
    F: FnOnce(&mut Tx<'_>) -> Result<StoredReply, Problem> + Send + 'static,
{
    let Keyed { key, route, fingerprint } = keyed;
    // Registered before the commit: the verdict may come right after it.
    let waiter =
        (!wait.is_zero()).then(|| (state.waiters.register(user, id), state.hub.watch(StreamId::User(user))));
    let waits = waiter.is_some();
    let claim = KeyClaim { user, key: key.clone(), route: route.to_owned(), fingerprint, keep: KEEP_ORDERS };
    let work = move |tx: &mut Tx<'_>| match tx.claim_key(&claim) {
        Ok(Claimed::Fresh) => {
            let reply = effect(tx)?;
            tx.leave_key_open(user, &claim.key, id, &reply, wait + GRACE)?;
            if !waits {
                tx.store_reply(&claim, &reply)?;
            }
            Ok(Asked::Now(reply))
        }
        // In a statement of its own: the claim's does not see a twin that committed after it began.
        Ok(Claimed::Taken(_)) => match tx.key_state(user, &claim.key, &claim.fingerprint)? {
            Some(known) => Ok(Asked::Before(known)),
            None => Err(in_flight()),
        },
        Err(error) if error.kind() == StoreErrorKind::Contention => Err(in_flight()),
        Err(error) => Err(error.into()),
    };
    match state.db.run(work).await? {
        Asked::Before(known) => answer(state, user, &key, fingerprint, known).await,
        Asked::Now(reply) => {
            let Some((waiter, _watch)) = waiter else { return Ok(send(reply, false)) };
            let reply = verdict(state, user, id, &waiter, wait).await?.unwrap_or(reply);
            drop(waiter);
            finish(state, user, &key, fingerprint, reply).await
        }
    }
}
