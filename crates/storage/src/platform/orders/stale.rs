//! Orders that comparisons with the broker flag or end.

use chrono::{DateTime, Utc};
use diesel::RunQueryDsl;
use diesel::sql_types::BigInt;
use plimsoll_core_domain::order::Order;
use plimsoll_core_domain::stream::StreamId;
use plimsoll_core_domain::{StoreError, UserId};

use super::events::order_event;
use super::row::{OrderColumns, OrderRow, order_columns, orders};
use super::write::HistoryLine;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

impl Tx<'_> {
    /// The orders of a user that are flagged as stale, oldest first, at most 500.
    ///
    /// # Errors
    /// The store's own.
    pub fn stale_orders(&mut self, user: UserId) -> Result<Vec<Order>, StoreError> {
        let rows = prepared(concat!(
            "SELECT ",
            order_columns!(),
            " FROM orders o JOIN discrepancies d ON d.account_id = o.account_id AND d.order_id = o.id \
             WHERE d.user_id = ? AND d.kind = 'stale' AND d.resolved_at IS NULL AND o.closed_at IS NULL \
             ORDER BY o.id LIMIT 500"
        ))
        .bind::<BigInt, _>(user.0)
        .typed::<OrderColumns>()
        .load::<OrderRow>(self.conn())
        .store()?;
        orders(rows)
    }

    /// Writes the end of an order that somebody decided on, with its event.
    pub(crate) fn end_order(
        &mut self,
        before: &Order,
        after: &Order,
        cause: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.update_order_row(after)?;
        let line = HistoryLine {
            version: after.version,
            at: now,
            from: Some(before.status),
            to: after.status,
            cause,
            detail: after.status_reason.as_deref(),
        };
        self.insert_history(after, &line)?;
        let events: Vec<_> = order_event(before, after, &[]).into_iter().collect();
        self.append_events(StreamId::User(after.user_id), &events, now)?;
        Ok(())
    }
}
