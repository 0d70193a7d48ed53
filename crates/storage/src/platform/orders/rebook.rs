//! Inferred fills that make room for real ones: the order's rows, and the position that follows from all fills of the
//! symbol.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Numeric, Text, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::fill::{Execution, Fill};
use plimsoll_core_domain::order::{ObserveError, Order, Side, SourceKind};
use plimsoll_core_domain::position::Position;
use plimsoll_core_domain::views::Holding;
use plimsoll_core_domain::{Price, Quantity, StoreError};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::apply::ApplyError;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::platform::portfolio::fill_id;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    order_id: Uuid,
    #[diesel(sql_type = Numeric)]
    cum_qty: Decimal,
    #[diesel(sql_type = Text)]
    side: String,
    #[diesel(sql_type = Numeric)]
    qty: Decimal,
    #[diesel(sql_type = Numeric)]
    price: Decimal,
    #[diesel(sql_type = Numeric)]
    realized_pl: Decimal,
}

#[derive(QueryableByName)]
struct Base {
    #[diesel(sql_type = Numeric)]
    qty: Decimal,
    #[diesel(sql_type = Numeric)]
    cost: Decimal,
}

impl Tx<'_> {
    /// Takes `next` for the booked fills of an order that this transaction has locked: what came is written, what made
    /// room is deleted, and the position is computed anew. The fills that came, and the holding.
    pub(crate) fn rebook(
        &mut self,
        order: &Order,
        booked: &[Fill],
        next: &[Execution],
        now: DateTime<Utc>,
    ) -> Result<(Vec<Fill>, Holding), ApplyError> {
        let mut holding = self.lock_holding(order.account_id, order.user_id, &order.terms.symbol, now)?;
        for gone in booked.iter().filter(|fill| !next.contains(&fill.execution)) {
            prepared("DELETE FROM fills WHERE account_id = ? AND order_id = ? AND cum_qty = ?")
                .bind::<BigInt, _>(order.account_id.0)
                .bind::<SqlUuid, _>(order.id.0)
                .bind::<Numeric, _>(gone.execution.cum_qty.get())
                .execute(self.conn())
                .store()?;
        }
        let mut came = Vec::new();
        for execution in next.iter().filter(|one| !booked.iter().any(|fill| fill.execution == **one)) {
            let fill = Fill {
                id: fill_id(order.id, execution.cum_qty),
                order_id: order.id,
                account_id: order.account_id,
                symbol: order.terms.symbol.clone(),
                side: order.terms.side,
                execution: execution.clone(),
                fee: Decimal::ZERO,
                realized_pl: Decimal::ZERO,
            };
            self.insert_fill(order.user_id, &fill, now)?;
            came.push(fill);
        }
        let overflow = || ApplyError::Contradiction { order: order.id, why: ObserveError::Overflow };
        holding.position = self.position_anew(order)?.ok_or_else(overflow)?;
        holding.updated_at = now.max(holding.updated_at);
        // What was inferred and what came cover the same units, or nearly.
        let units = |of: &mut dyn Iterator<Item = Decimal>| order.terms.side.signed(of.sum());
        let outside = match order.source.kind {
            SourceKind::External => {
                units(&mut next.iter().map(|execution| execution.qty.get()))
                    - units(&mut booked.iter().map(|fill| fill.execution.qty.get()))
            }
            _ => Decimal::ZERO,
        };
        self.save_holding(&holding, outside)?;
        Ok((came, holding))
    }

    /// The position that follows from the ledger and every fill of the symbol, in the order of execution; what each fill
    /// realised is corrected where it differs. `None` when a number leaves the range.
    fn position_anew(&mut self, order: &Order) -> Result<Option<Position>, StoreError> {
        let (account, symbol) = (order.account_id, order.terms.symbol.as_str());
        let base = prepared(
            "SELECT coalesce(sum(qty), 0) AS qty, coalesce(sum(cost), 0) AS cost FROM account_ledger \
             WHERE account_id = ? AND symbol = ?",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(symbol)
        .get_result::<Base>(self.conn())
        .store()?;
        let mut position = Position {
            qty: base.qty.normalize(),
            cost_basis: base.cost.normalize(),
            realized_pl: Decimal::ZERO,
        };
        let rows = prepared(
            "SELECT order_id, cum_qty, side, qty, price, realized_pl FROM fills WHERE account_id = ? AND symbol = ? \
             ORDER BY executed_at, order_id, cum_qty",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(symbol)
        .load::<Row>(self.conn())
        .store()?;
        for row in rows {
            let bad = |what| StoreError::inconsistent("fills", what, row.order_id, "it does not parse");
            let side: Side = row.side.parse().map_err(|_| bad("side"))?;
            let qty = Quantity::new(row.qty).map_err(|_| bad("qty"))?;
            let price = Price::new(row.price).map_err(|_| bad("price"))?;
            let Ok(realized) = position.apply(side, qty, price) else { return Ok(None) };
            if realized != row.realized_pl {
                prepared(
                    "UPDATE fills SET realized_pl = ? WHERE account_id = ? AND order_id = ? AND cum_qty = ?",
                )
                .bind::<Numeric, _>(realized)
                .bind::<BigInt, _>(account.0)
                .bind::<SqlUuid, _>(row.order_id)
                .bind::<Numeric, _>(row.cum_qty)
                .execute(self.conn())
                .store()?;
            }
        }
        Ok(Some(position))
    }

    /// The fills of an order that are inferred.
    pub(crate) fn inferred_fills(&mut self, order: &Order) -> Result<i64, StoreError> {
        #[derive(QueryableByName)]
        struct Count {
            #[diesel(sql_type = BigInt)]
            n: i64,
        }
        prepared(
            "SELECT count(*) AS n FROM fills WHERE account_id = ? AND order_id = ? AND source = 'inferred'",
        )
        .bind::<BigInt, _>(order.account_id.0)
        .bind::<SqlUuid, _>(order.id.0)
        .get_result::<Count>(self.conn())
        .store()
        .map(|count| count.n)
    }
}
