//! From what the broker tells to what the store applies.

use std::time::Duration;

use plimsoll_core_domain::StoreErrorKind;
use plimsoll_core_domain::broker::{BrokerOrder, FillActivity, TradeUpdate};
use plimsoll_core_domain::fill::{Execution, FillSource};
use plimsoll_core_domain::{AccountId, Clock, Quantity};
use plimsoll_reliability::jobs::JobQueue;
use plimsoll_storage::Db;
use plimsoll_storage::platform::orders::{Applied, ApplyError, OrderReport, SyncPayload};

use super::fence::Fence;

/// Pauses between tries while the store is away; the last one repeats.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// The report that a message of the order stream makes.
pub(super) fn report_of_update(update: TradeUpdate) -> OrderReport {
    let cum_qty = Quantity::new(update.order.filled_qty).ok();
    let execution = update.fill.zip(cum_qty).map(|((qty, price), cum_qty)| Execution {
        qty,
        price,
        cum_qty,
        source: FillSource::Stream,
        executed_at: update.at,
        broker_id: update.event_id.clone(),
    });
    OrderReport {
        cause: format!("stream:{}", update.event).chars().take(64).collect(),
        seen: update.order,
        executions: execution.into_iter().collect(),
        reason: update.reason,
    }
}

/// The execution that a row of the broker's book of fills tells of.
pub(super) fn execution_of_activity(row: &FillActivity) -> Execution {
    Execution {
        qty: row.qty,
        price: row.price,
        cum_qty: row.cum_qty,
        source: FillSource::Rest,
        executed_at: row.at,
        broker_id: Some(row.id.clone()),
    }
}

/// The report that an order and its book of fills make.
pub(super) fn report_of_order(seen: BrokerOrder, fills: &[FillActivity], cause: &str) -> OrderReport {
    let executions = fills.iter().filter(|row| row.order_id == seen.id).map(execution_of_activity).collect();
    OrderReport { seen, executions, cause: cause.to_owned(), reason: None }
}

/// Applies a report in a transaction of its own. While the store is away it tries on: what the stream brought is not
/// sent again. Fills that the report names only by their sum are fetched by a job.
///
/// Answers whether the report's order is known here. When another instance has the account by now nothing is written:
/// it fetches what this one missed.
pub(super) async fn apply(
    db: &Db,
    clock: &dyn Clock,
    fence: &Fence,
    account: AccountId,
    report: OrderReport,
) -> bool {
    let mut tries = 0;
    loop {
        let (report, fence, now) = (report.clone(), fence.clone(), clock.now());
        let seed = u64::from(now.timestamp_subsec_micros());
        let done = db
            .run_retrying(seed, move |tx| {
                if !fence.hold(tx)? {
                    return Ok(None);
                }
                let applied = tx.apply_report(account, &report, now)?;
                if let Applied::Known { id, unbooked, lacks_legs } = &applied
                    && (!unbooked.is_zero() || *lacks_legs)
                {
                    tx.enqueue(&SyncPayload::job(account, *id))?;
                }
                Ok::<_, ApplyError>(Some(applied))
            })
            .await;
        match done {
            Ok(Some(Applied::UnknownOrder)) => return false,
            Ok(Some(Applied::Known { .. })) => return true,
            Ok(None) => {
                tracing::debug!(account.id = %account, "a report of the broker is left to the instance that has the account now");
                return true;
            }
            Err(ApplyError::Contradiction { order, why }) => {
                tracing::warn!(order.id = %order, %why, "the broker's report contradicts the record; the order is compared anew");
                let job = SyncPayload::job(account, order);
                if let Err(error) = db.run(move |tx| tx.enqueue(&job)).await {
                    tracing::error!(%error, "the comparison could not be queued");
                }
                return true;
            }
            Err(ApplyError::Store(error)) => match error.kind() {
                StoreErrorKind::Unavailable | StoreErrorKind::Contention | StoreErrorKind::CommitUnknown => {
                    let pause = PAUSES.get(tries).or(PAUSES.last()).copied().unwrap_or_default();
                    tries += 1;
                    if tries == 1 {
                        tracing::warn!(%error, "a report of the broker waits for the store");
                    }
                    tokio::time::sleep(pause).await;
                }
                _ => {
                    tracing::error!(%error, "a report of the broker could not be stored");
                    return true;
                }
            },
        }
    }
}
