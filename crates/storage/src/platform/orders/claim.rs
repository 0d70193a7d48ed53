//! What came from outside the platform becomes the user's here: from then on halts and limits treat it as placed here.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::order::{Order, Side, SourceKind};
use plimsoll_core_domain::stream::StreamId;
use plimsoll_core_domain::{AccountId, OrderId, StoreError, Symbol, UserId};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::events::order_event;
use super::write::HistoryLine;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// What became of a claim of an order.
#[derive(Clone, Debug)]
pub enum OrderClaim {
    /// The user has no such order.
    NoOrder,
    /// It was placed here, or is claimed already.
    NotOutside,
    /// Done.
    Done {
        /// The order after it.
        order: Box<Order>,
        /// Its legs.
        legs: Vec<Order>,
        /// All that is claimed: the order, its group, and what it replaces or is replaced by.
        all: Vec<OrderId>,
    },
}

/// What became of a claim of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionClaim {
    /// Nothing of it came from outside.
    NothingOutside,
    /// So many units are the user's now; negative when short.
    Done(Decimal),
}

impl Tx<'_> {
    /// Claims an order that was placed outside the platform, with its whole group and chain of replacements.
    ///
    /// # Errors
    /// The store's own.
    pub fn claim_order(
        &mut self,
        user: UserId,
        id: OrderId,
        now: DateTime<Utc>,
    ) -> Result<OrderClaim, StoreError> {
        let Some(account) = self.account_with_order(user, id)? else { return Ok(OrderClaim::NoOrder) };
        // An order that is accepted right now counts limits under this lock.
        self.lock_account(account)?;
        let family = self.outside_family(account, id)?;
        if !family.contains(&id) {
            return Ok(OrderClaim::NotOutside);
        }
        let mut claimed: Vec<(Order, Order)> = Vec::new();
        for one in family {
            let Some(before) = self.lock_order(account, one)? else { continue };
            if before.source.kind == SourceKind::External {
                let mut after = before.clone();
                after.source.kind = SourceKind::Api;
                after.updated_at = now.max(after.updated_at);
                after.version += 1;
                claimed.push((before, after));
            }
        }
        let mut events = Vec::new();
        for (before, after) in &claimed {
            self.note_claim(before, after)?;
            let legs: Vec<Order> = claimed
                .iter()
                .map(|(_, order)| order)
                .filter(|leg| leg.parent_id == Some(after.id))
                .cloned()
                .collect();
            events.extend(order_event(before, after, &legs));
            self.claim_units(after)?;
        }
        self.append_events(StreamId::User(user), &events, now)?;
        let all = claimed.iter().map(|(_, order)| order.id).collect();
        let mut orders: Vec<Order> = claimed.into_iter().map(|(_, order)| order).collect();
        let Some(at) = orders.iter().position(|order| order.id == id) else {
            return Ok(OrderClaim::NotOutside);
        };
        let order = orders.swap_remove(at);
        let legs = self.legs_of(account, &[id])?;
        Ok(OrderClaim::Done { order: Box::new(order), legs, all })
    }

    /// Claims the units of a position that came from outside the platform, in the account that the user trades with.
    ///
    /// # Errors
    /// The store's own.
    pub fn claim_position(&mut self, user: UserId, symbol: &Symbol) -> Result<PositionClaim, StoreError> {
        #[derive(QueryableByName)]
        struct Units {
            #[diesel(sql_type = Numeric)]
            qty: Decimal,
        }
        let Some(account) = self.account_of_user(user)? else { return Ok(PositionClaim::NothingOutside) };
        self.lock_account(account.id)?;
        let rows = prepared(
            "UPDATE positions p SET outside_qty = 0, version = p.version + 1 FROM (SELECT outside_qty AS qty \
             FROM positions WHERE account_id = ? AND symbol = ? FOR NO KEY UPDATE) b \
             WHERE p.account_id = ? AND p.symbol = ? AND b.qty <> 0 RETURNING b.qty",
        )
        .bind::<BigInt, _>(account.id.0)
        .bind::<Text, _>(symbol.as_str())
        .bind::<BigInt, _>(account.id.0)
        .bind::<Text, _>(symbol.as_str())
        .load::<Units>(self.conn())
        .store()?;
        Ok(rows.first().map_or(PositionClaim::NothingOutside, |row| PositionClaim::Done(row.qty.normalize())))
    }

    /// The orders from outside that belong to one: itself, its group, what it replaces and what replaces it. In ascending
    /// order; without `id` when that one is not from outside.
    fn outside_family(&mut self, account: AccountId, id: OrderId) -> Result<Vec<OrderId>, StoreError> {
        #[derive(QueryableByName)]
        struct Member {
            #[diesel(sql_type = SqlUuid)]
            id: Uuid,
        }
        let rows = prepared(
            "WITH RECURSIVE family AS (SELECT account_id, id, parent_id, replaces, replaced_by FROM orders \
               WHERE account_id = ? AND id = ? AND source_kind = 'external' \
             UNION SELECT o.account_id, o.id, o.parent_id, o.replaces, o.replaced_by FROM family f \
               JOIN orders o ON o.account_id = f.account_id AND o.source_kind = 'external' \
               AND (o.id = ANY(ARRAY[f.parent_id, f.replaces, f.replaced_by]) OR o.parent_id = f.id)) \
             SELECT id FROM family ORDER BY id",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<SqlUuid, _>(id.0)
        .load::<Member>(self.conn())
        .store()?;
        Ok(rows.into_iter().map(|row| OrderId(row.id)).collect())
    }

    fn note_claim(&mut self, before: &Order, after: &Order) -> Result<(), StoreError> {
        prepared(
            "UPDATE orders SET source_kind = ?, updated_at = ?, version = ? WHERE account_id = ? AND id = ?",
        )
        .bind::<Text, _>(after.source.kind.as_str())
        .bind::<Timestamptz, _>(after.updated_at)
        .bind::<BigInt, _>(after.version)
        .bind::<BigInt, _>(after.account_id.0)
        .bind::<SqlUuid, _>(after.id.0)
        .execute(self.conn())
        .store()?;
        let line = HistoryLine {
            version: after.version,
            at: after.updated_at,
            from: Some(before.status),
            to: after.status,
            cause: "claimed",
            detail: None,
        };
        self.insert_history(after, &line)
    }

    /// What the order filled of the position is not from outside any more.
    fn claim_units(&mut self, order: &Order) -> Result<(), StoreError> {
        if order.filled_qty.is_zero() {
            return Ok(());
        }
        let filled = match order.terms.side {
            Side::Buy => order.filled_qty,
            Side::Sell => -order.filled_qty,
        };
        prepared(
            "UPDATE positions SET outside_qty = CASE WHEN qty < 0 THEN least(0, greatest(outside_qty - ?, qty)) \
             ELSE greatest(0, least(outside_qty - ?, qty)) END, version = version + 1 \
             WHERE account_id = ? AND symbol = ?",
        )
        .bind::<Numeric, _>(filled)
        .bind::<Numeric, _>(filled)
        .bind::<BigInt, _>(order.account_id.0)
        .bind::<Text, _>(order.terms.symbol.as_str())
        .execute(self.conn())
        .store()?;
        Ok(())
    }
}
