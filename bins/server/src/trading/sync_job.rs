//! The job that compares one order with the broker: fetches it and its fills, and applies both.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::Clock;
use plimsoll_core_domain::broker::{BrokerError, FillQuery};
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement};
use plimsoll_reliability::reconcile::{ReconcileError, inferred, look, read_fills};
use plimsoll_storage::Db;
use plimsoll_storage::platform::orders::{Applied, ApplyError, OrderReport, SyncPayload};
use rust_decimal::Decimal;

use super::apply::report_of_order;
use super::connections::Connections;

/// From this attempt on, fills that the broker's book still lacks are inferred from the order's totals.
const INFER_FROM: u32 = 4;

/// Compares orders.
pub(super) struct SyncOrder {
    connections: Arc<Connections>,
    clock: Arc<dyn Clock>,
}

impl SyncOrder {
    pub(super) fn new(connections: Arc<Connections>, clock: Arc<dyn Clock>) -> Self {
        Self { connections, clock }
    }
}

fn failure(error: ReconcileError) -> JobFailure {
    match error {
        ReconcileError::Broker(BrokerError::Throttled { retry_after }) => {
            // it was not asked: that uses up no attempt
            JobFailure::put_off(retry_after, "the broker takes no more requests for now")
        }
        ReconcileError::Store(error) => error.into(),
        other => JobFailure::transient(other.to_string()),
    }
}

impl Handler<Db> for SyncOrder {
    fn run(&self, context: &JobContext<'_, Db>, job: &Job) -> Result<Settled, JobFailure> {
        let payload: SyncPayload = job.decode()?;
        let account = payload.account_id;
        let Some(connection) = self.connections.of_account(account) else {
            return context.finish(&Settlement::Snooze { after: Duration::from_secs(5) });
        };
        let order = context.transaction(|tx| Ok(tx.order(account, payload.order_id)?))?;
        let Some(order) = order else { return Err(JobFailure::permanent("there is no such order")) };
        let broker = &*connection.broker;
        let fetched = context.wait(context.timings().broker_call * 4, async {
            let seen = look(broker, &order).await?;
            let mut fills = Vec::new();
            for one in std::iter::once(&seen).chain(&seen.legs) {
                if !one.filled_qty.is_zero() {
                    let query = FillQuery { order_id: Some(one.id.clone()), ..FillQuery::default() };
                    fills.extend(read_fills(broker, &query).await?);
                }
            }
            Ok::<_, ReconcileError>((seen, fills))
        });
        let (seen, fills) = match fetched {
            Ok(fetched) => fetched.map_err(failure)?,
            Err(timed_out) => return Err(JobFailure::transient(timed_out.to_string())),
        };
        let infer = job.attempt >= INFER_FROM;
        let now = self.clock.now();
        // Each in a transaction of its own: a report locks its order before the stream's head, never the other way round.
        // The entry first: its report makes the legs that are not on record yet.
        let mut missing = Decimal::ZERO;
        for one in std::iter::once(&seen).chain(&seen.legs) {
            missing += context.transaction(|tx| {
                let mut report = report_of_order(one.clone(), &fills, "sync");
                if infer && let Some(known) = tx.order_id_at_broker(account, &one.id, &one.client_order_id)? {
                    let booked = tx.fills_of(account, known)?;
                    let pairs: Vec<_> = booked
                        .iter()
                        .map(|fill| &fill.execution)
                        .chain(&report.executions)
                        .map(|execution| {
                            (execution.qty.get(), execution.cum_qty.get(), execution.price.get())
                        })
                        .collect();
                    report.executions.extend(inferred(one, &pairs));
                }
                apply_one(tx, account, &report, now)
            })?;
        }
        if missing.is_zero() {
            return context.finish(&Settlement::Done);
        }
        Err(JobFailure::transient(format!("the broker's book lacks {missing} units so far")))
    }
}

fn apply_one(
    tx: &mut plimsoll_storage::Tx<'_>,
    account: plimsoll_core_domain::AccountId,
    report: &OrderReport,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Decimal, JobFailure> {
    match tx.apply_report(account, report, now) {
        Ok(Applied::Known { unbooked, .. }) => Ok(unbooked),
        Ok(Applied::UnknownOrder) => Ok(Decimal::ZERO),
        Err(ApplyError::Store(error)) => Err(error.into()),
        Err(error @ ApplyError::Contradiction { .. }) => Err(JobFailure::permanent(error.to_string())),
    }
}
