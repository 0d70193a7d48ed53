//! The submit protocol's port on the store.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::order::{Environment, Order};
use plimsoll_core_domain::stream::{EventKind, NewEvent, StreamId};
use plimsoll_core_domain::views::json;
use plimsoll_core_domain::{AccountId, BrokerOrderId, OrderId, StoreError};
use plimsoll_reliability::jobs::{JobQueue, NewJob, job_topic};
use plimsoll_reliability::submit::{BROKER_QUEUE, CANCEL_ORDER, LockedOrder, OrderEvent, SubmitStore};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::events::{event, order_event};
use super::write::HistoryLine;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::platform::risk::HaltColumns;

/// The kind of the job that asks the broker for one order and its fills.
pub const SYNC_ORDER: &str = "sync_order";

/// Which order to ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncPayload {
    /// Whose.
    pub account_id: AccountId,
    /// Ours.
    pub order_id: OrderId,
}

impl SyncPayload {
    /// The job; a second one for the same order is not queued while one waits.
    #[must_use]
    pub fn job(account_id: AccountId, order_id: OrderId) -> NewJob {
        NewJob::new(BROKER_QUEUE, SYNC_ORDER, &Self { account_id, order_id }).dedup(order_id.to_string())
    }
}

impl SubmitStore for Tx<'_> {
    fn lock_order(&mut self, id: OrderId) -> Result<Option<LockedOrder>, StoreError> {
        #[derive(QueryableByName)]
        struct Place {
            #[diesel(sql_type = Timestamptz)]
            now: DateTime<Utc>,
            #[diesel(sql_type = Bool)]
            live_enabled: bool,
            #[diesel(embed)]
            halts: HaltColumns,
        }
        let Some(order) = self.lock_order_anywhere(id)? else { return Ok(None) };
        // After the order is locked, which a halt waits for: either this sees the halt, or the halt comes after it.
        let place = prepared(
            "SELECT clock_timestamp() AS now, live_enabled, halt_user, halt_global FROM accounts WHERE id = ?",
        )
        .bind::<BigInt, _>(order.account_id.0)
        .get_result::<Place>(self.conn())
        .store()?;
        let forbidden = if order.environment == Environment::Live && !place.live_enabled {
            Some("trading with real money was forbidden before it could be sent".to_owned())
        } else {
            let halts = place.halts.halts(order.account_id)?;
            self.halted(&order, halts)?.map(|refusal| format!("it could not be sent before {refusal}"))
        };
        Ok(Some(LockedOrder { order, now: place.now, forbidden }))
    }

    fn sent_before(&mut self, order: &Order) -> Result<Option<BrokerOrderId>, StoreError> {
        #[derive(QueryableByName)]
        struct Known {
            #[diesel(sql_type = Text)]
            id: String,
        }
        // Ids grow with time. Well before: the two times may be of two clocks.
        let known = prepared(
            "SELECT broker_order_id AS id FROM orders WHERE account_id = ? AND id < ? AND broker_order_id IS NOT NULL \
             AND submit_started_at < ?::timestamptz - interval '10 minutes' ORDER BY id DESC LIMIT 1",
        )
        .bind::<BigInt, _>(order.account_id.0)
        .bind::<SqlUuid, _>(order.id.0)
        .bind::<Timestamptz, _>(order.created_at)
        .get_result::<Known>(self.conn())
        .optional()
        .store()?;
        known
            .map(|known| {
                known
                    .id
                    .parse()
                    .map_err(|why| StoreError::inconsistent("orders", "broker_order_id", order.id, why))
            })
            .transpose()
    }

    fn filled_of(&mut self, account: AccountId, id: OrderId) -> Result<Decimal, StoreError> {
        #[derive(QueryableByName)]
        struct Filled {
            #[diesel(sql_type = Numeric)]
            filled: Decimal,
        }
        let row = prepared(
            "SELECT greatest(filled_qty, broker_filled_qty) AS filled FROM orders WHERE account_id = ? AND id = ?",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<SqlUuid, _>(id.0)
        .get_result::<Filled>(self.conn())
        .store()?;
        Ok(row.filled.normalize())
    }

    fn save_order(
        &mut self,
        before: &Order,
        after: &Order,
        change: &OrderEvent<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let coded;
        let after = match change {
            // The broker's own code is kept before its words.
            OrderEvent::Rejected { code: Some(code) } => {
                let words = after.status_reason.as_deref().unwrap_or("no reason given");
                let reason: String = format!("{code}: {words}").chars().take(500).collect();
                coded = Order { status_reason: Some(reason), ..after.clone() };
                &coded
            }
            _ => after,
        };
        // Jobs first: in the lock order they stand before stream heads.
        let revived = match change {
            OrderEvent::Revived(_) => Some(self.revived(after)?),
            _ => None,
        };
        if after.unbooked_qty() > Decimal::ZERO || change.seen().is_some_and(|seen| !seen.legs.is_empty()) {
            self.enqueue(&SyncPayload::job(after.account_id, after.id))?;
        }
        self.update_order_row(after)?;
        if before.status != after.status {
            let line = HistoryLine {
                version: after.version,
                at: now,
                from: Some(before.status),
                to: after.status,
                cause: change.cause(),
                detail: after.status_reason.as_deref(),
            };
            self.insert_history(after, &line)?;
        }
        let mut events = Vec::new();
        let taken = match change {
            OrderEvent::Taken(seen) | OrderEvent::Found(seen) | OrderEvent::Revived(seen) => Some(*seen),
            _ => None,
        };
        if let Some(seen) = taken {
            self.add_legs(after, seen, now, &mut events)?;
        }
        let legs = if taken.is_some_and(|seen| !seen.legs.is_empty()) {
            self.legs_of(after.account_id, &[after.id])?
        } else {
            Vec::new()
        };
        events.extend(order_event(before, after, &legs));
        events.extend(self.settle_replaced(after, change, now)?);
        events.extend(revived);
        if matches!(change, OrderEvent::Conflict(_)) {
            events.push(conflict(after));
        }
        if events.is_empty() {
            return Ok(());
        }
        self.append_events(StreamId::User(after.user_id), &events, now)?;
        Ok(())
    }
}

impl Tx<'_> {
    /// An order that counted as not sent is alive: a cancel that waits for that is due at once. Answers the alert, for the
    /// order's user; the log has it too, for whoever runs the platform.
    pub(super) fn revived(&mut self, order: &Order) -> Result<NewEvent, StoreError> {
        tracing::error!(order.id = %order.id, client_order_id = %order.client_order_id, status = %order.status, "an order that counted as not sent is at the broker");
        let due = prepared(
            "UPDATE jobs SET run_at = now() WHERE kind = ? AND dedup_key = ? AND state = 'ready' AND run_at > now()",
        )
        .bind::<Text, _>(CANCEL_ORDER)
        .bind::<Text, _>(order.id.to_string())
        .execute(self.conn())
        .store()?;
        if due > 0 {
            self.wake(job_topic(BROKER_QUEUE));
        }
        let message = format!(
            "order {} ({}) counted as not sent and is at the broker after all: it is {} there",
            order.id, order.terms.symbol, order.status
        );
        Ok(alert(&message))
    }
}

/// The alert of an order that is another one at the broker.
pub(super) fn conflict(order: &Order) -> NewEvent {
    tracing::error!(order.id = %order.id, client_order_id = %order.client_order_id, "the broker holds another order under an order's id");
    alert(&format!("order {} is another order at the broker: look at both before trading on", order.id))
}

fn alert(message: &str) -> NewEvent {
    event(EventKind::SystemAlert, json(&serde_json::json!({ "message": message, "severity": "critical" })))
}
