//! The job that compares one order with the broker: fetches it and its fills, and applies both.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::broker::{BrokerError, BrokerOrder, FillQuery};
use plimsoll_core_domain::fill::{Execution, FillBook, FillSource};
use plimsoll_core_domain::money::round_money;
use plimsoll_core_domain::{Clock, Price, Quantity};
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement};
use plimsoll_storage::Db;
use plimsoll_storage::platform::orders::{Applied, ApplyError, OrderReport, SyncPayload};
use rust_decimal::Decimal;

use super::apply::report_of_order;
use super::catch_up::{CatchUpError, look, read_fills};
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

fn failure(error: CatchUpError) -> JobFailure {
    match error {
        CatchUpError::Broker(BrokerError::Throttled { retry_after }) => {
            // it was not asked: that uses up no attempt
            JobFailure::put_off(retry_after, "the broker takes no more requests for now")
        }
        CatchUpError::Store(error) => error.into(),
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
            Ok::<_, CatchUpError>((seen, fills))
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

/// Fills for the units that the order's total covers and no known execution does, priced so that the order's average
/// comes out: `known` are quantity, cumulative quantity and price of every known execution, repeats allowed.
fn inferred(seen: &BrokerOrder, known: &[(Decimal, Decimal, Decimal)]) -> Vec<Execution> {
    let mut distinct: Vec<(Decimal, Decimal, Decimal)> = known.to_vec();
    distinct.sort_unstable();
    distinct.dedup_by_key(|row| (row.0, row.1));
    let book = FillBook::new(distinct.iter().map(|(qty, cum, _)| (*qty, *cum)));
    let gaps = book.gaps(seen.filled_qty);
    let gap: Decimal = gaps.iter().map(|(from, to)| to - from).sum();
    let Some(average) = seen.filled_avg_price.filter(|_| !gap.is_zero()) else { return Vec::new() };
    let value: Decimal = distinct.iter().map(|(qty, _, price)| qty * price).sum();
    let price = round_money((average * seen.filled_qty - value) / gap).round_dp(9);
    let Ok(price) = Price::new(price).or_else(|_| Price::new(average.round_dp(9))) else { return Vec::new() };
    gaps.into_iter()
        .filter_map(|(from, to)| {
            Some(Execution {
                qty: Quantity::new(to - from).ok()?,
                price,
                cum_qty: Quantity::new(to).ok()?,
                source: FillSource::Inferred,
                executed_at: seen.updated_at,
                broker_id: None,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_core_domain::broker::BrokerStatus;
    use plimsoll_core_domain::order::OrderStatus;

    fn seen(filled: i64, average: &str) -> BrokerOrder {
        BrokerOrder {
            id: "b".parse().unwrap(),
            client_order_id: "c".into(),
            symbol: "SPY".into(),
            side: None,
            order_type: None,
            time_in_force: None,
            class: None,
            role: None,
            qty: None,
            notional: None,
            limit_price: None,
            stop_price: None,
            trail_price: None,
            trail_percent: None,
            extended_hours: false,
            status: BrokerStatus::Known(OrderStatus::Filled),
            filled_qty: filled.into(),
            filled_avg_price: Some(average.parse().unwrap()),
            submitted_at: None,
            updated_at: chrono::DateTime::UNIX_EPOCH,
            replaces: None,
            replaced_by: None,
            legs: Vec::new(),
        }
    }

    #[test]
    fn what_no_execution_covers_is_priced_from_the_average() {
        let known = [(Decimal::from(4), Decimal::from(4), Decimal::from(100))];
        let fills = inferred(&seen(10, "106"), &known);
        assert_eq!(fills.len(), 1);
        assert_eq!(fills[0].qty.get(), Decimal::from(6));
        assert_eq!(fills[0].cum_qty.get(), Decimal::from(10));
        assert_eq!(fills[0].price.get(), Decimal::from(110));
        assert_eq!(fills[0].source, FillSource::Inferred);
    }

    #[test]
    fn nothing_is_inferred_when_everything_is_covered() {
        let known = [
            (Decimal::from(10), Decimal::from(10), Decimal::from(106)),
            (Decimal::from(10), Decimal::from(10), Decimal::from(106)),
        ];
        assert!(inferred(&seen(10, "106"), &known).is_empty());
        assert!(inferred(&seen(0, "0"), &[]).is_empty());
    }
}
