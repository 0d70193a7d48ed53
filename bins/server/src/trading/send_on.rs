//! Jobs for orders that are to be sent and have none.

use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::order::{Order, OrderStatus};
use plimsoll_reliability::jobs::JobQueue;
use plimsoll_reliability::submit::SubmitPayload;
use plimsoll_storage::Db;

use super::connection::Connection;

/// Gives a job to every open order that is to be sent, or whose sending is unclear, and has none. A replacement is sent
/// by its own kind of job only, a leg with its entry.
pub(super) async fn send_on(connection: &Connection, db: &Db) -> Result<(), StoreError> {
    let account = connection.account;
    let made = db
        .run(move |tx| {
            let mut made = 0_usize;
            if !tx.open_orders(account)?.iter().any(to_be_sent) {
                return Ok(0);
            }
            // Locked: a job settles with its order, so that none ends between this look and the new one's insertion.
            for order in tx.lock_open_orders(account)?.iter().filter(|order| to_be_sent(order)) {
                made += usize::from(tx.enqueue(&SubmitPayload::job(order))?.is_some());
            }
            Ok::<_, StoreError>(made)
        })
        .await?;
    if made > 0 {
        tracing::warn!(account.id = %account, made, "orders that were to be sent had no job and have one again");
    }
    Ok(())
}

fn to_be_sent(order: &Order) -> bool {
    use OrderStatus::{PendingSubmit, Submitting, Unknown};
    order.replaces.is_none()
        && order.parent_id.is_none()
        && matches!(order.status, PendingSubmit | Submitting | Unknown)
}
