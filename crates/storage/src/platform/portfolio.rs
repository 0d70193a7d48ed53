//! Fills, positions and what follows from them.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::fill::{Execution, Fill};
use plimsoll_core_domain::position::Position;
use plimsoll_core_domain::views::{Holding, PnlView};
use plimsoll_core_domain::{AccountId, FillId, OrderId, Price, Quantity, StoreError, Symbol, UserId};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// The name space of fill ids (RFC 9562 version 5): the same fill learnt again has the same id.
const FILLS: Uuid = Uuid::from_u128(0x6f1d_0f0e_8a3c_4d57_9a3b_51b2_2f0f_5c11);

/// After every fill; a round day within both chrono's and PostgreSQL's range.
const END_OF_TIME: DateTime<Utc> =
    DateTime::from_timestamp(253_402_300_799, 0).expect("the year 9999 is in range");

/// The id of the fill of `order` that reaches `cum_qty`.
pub(crate) fn fill_id(order: OrderId, cum_qty: Quantity) -> FillId {
    FillId(Uuid::new_v5(&FILLS, format!("{order}/{cum_qty}").as_bytes()))
}

#[derive(QueryableByName)]
struct HoldingRow {
    #[diesel(sql_type = BigInt)]
    account_id: i64,
    #[diesel(sql_type = Text)]
    symbol: String,
    #[diesel(sql_type = Numeric)]
    qty: Decimal,
    #[diesel(sql_type = Numeric)]
    cost_basis: Decimal,
    #[diesel(sql_type = Numeric)]
    realized_pl: Decimal,
    #[diesel(sql_type = Nullable<Numeric>)]
    last_price: Option<Decimal>,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
}

impl TryFrom<HoldingRow> for Holding {
    type Error = StoreError;
    fn try_from(row: HoldingRow) -> Result<Self, StoreError> {
        let bad = |column: &str, why: String| {
            StoreError::inconsistent("positions", column, format!("{}/{}", row.account_id, row.symbol), why)
        };
        Ok(Holding {
            account_id: AccountId(row.account_id),
            symbol: Symbol::new(row.symbol.clone()).map_err(|why| bad("symbol", why.to_string()))?,
            position: Position {
                qty: row.qty.normalize(),
                cost_basis: row.cost_basis.normalize(),
                realized_pl: row.realized_pl.normalize(),
            },
            last_price: row
                .last_price
                .map(Price::new)
                .transpose()
                .map_err(|why| bad("last_price", why.to_string()))?,
            updated_at: row.updated_at,
        })
    }
}

#[derive(QueryableByName)]
struct FillRow {
    #[diesel(sql_type = BigInt)]
    account_id: i64,
    #[diesel(sql_type = SqlUuid)]
    order_id: Uuid,
    #[diesel(sql_type = Numeric)]
    cum_qty: Decimal,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    symbol: String,
    #[diesel(sql_type = Text)]
    side: String,
    #[diesel(sql_type = Numeric)]
    qty: Decimal,
    #[diesel(sql_type = Numeric)]
    price: Decimal,
    #[diesel(sql_type = Numeric)]
    fee: Decimal,
    #[diesel(sql_type = Numeric)]
    realized_pl: Decimal,
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Nullable<Text>)]
    broker_execution_id: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    executed_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

/// A SELECT of [`FillRow`]s.
macro_rules! select_fills {
    ($rest:literal) => {
        concat!(
            "SELECT account_id, order_id, cum_qty, id, symbol, side, qty, price, fee, realized_pl, source, \
             broker_execution_id, executed_at, created_at FROM fills ",
            $rest
        )
    };
}

impl TryFrom<FillRow> for Fill {
    type Error = StoreError;
    fn try_from(row: FillRow) -> Result<Self, StoreError> {
        let id = row.id;
        let bad =
            |column: &'static str| move |why: String| StoreError::inconsistent("fills", column, id, why);
        Ok(Fill {
            id: FillId(id),
            order_id: OrderId(row.order_id),
            account_id: AccountId(row.account_id),
            symbol: Symbol::new(row.symbol).map_err(|why| bad("symbol")(why.to_string()))?,
            side: row
                .side
                .parse()
                .map_err(|why: plimsoll_core_domain::order::UnknownWord| bad("side")(why.to_string()))?,
            execution: Execution {
                qty: Quantity::new(row.qty).map_err(|why| bad("qty")(why.to_string()))?,
                price: Price::new(row.price).map_err(|why| bad("price")(why.to_string()))?,
                cum_qty: Quantity::new(row.cum_qty).map_err(|why| bad("cum_qty")(why.to_string()))?,
                source: row.source.parse().map_err(|why: &str| bad("source")(why.to_owned()))?,
                executed_at: row.executed_at,
                broker_id: row.broker_execution_id,
            },
            fee: row.fee.normalize(),
            realized_pl: row.realized_pl.normalize(),
        })
    }
}

/// Where a page of fills goes on: the last row of the page before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FillCursor {
    /// When that fill was booked.
    pub created_at: DateTime<Utc>,
    /// Its id.
    pub id: FillId,
}

impl Tx<'_> {
    /// The fills of an order, in the order of their cumulative quantities.
    ///
    /// # Errors
    /// The store's own.
    pub fn fills_of(&mut self, account: AccountId, order: OrderId) -> Result<Vec<Fill>, StoreError> {
        prepared(select_fills!("WHERE account_id = ? AND order_id = ? ORDER BY cum_qty"))
            .bind::<BigInt, _>(account.0)
            .bind::<SqlUuid, _>(order.0)
            .load::<FillRow>(self.conn())
            .store()?
            .into_iter()
            .map(Fill::try_from)
            .collect()
    }

    /// A page of a user's fills, newest first, each with the cursor of what follows it.
    ///
    /// # Errors
    /// The store's own.
    pub fn fills_page(
        &mut self,
        user: UserId,
        symbol: Option<&str>,
        before: Option<FillCursor>,
        limit: i64,
    ) -> Result<Vec<(Fill, FillCursor)>, StoreError> {
        let Some(account) = self.account_of_user(user)? else { return Ok(Vec::new()) };
        // Later than every row where no cursor is given: a plain bound, which an index scan can start from.
        let (at, id) = before.map_or((END_OF_TIME, Uuid::max()), |row| (row.created_at, row.id.0));
        let rows = prepared(select_fills!(
            "WHERE account_id = ? AND (created_at, id) < (?, ?) AND (?::text IS NULL OR symbol = ?) \
             ORDER BY account_id DESC, created_at DESC, id DESC LIMIT ?"
        ))
        .bind::<BigInt, _>(account.id.0)
        .bind::<Timestamptz, _>(at)
        .bind::<SqlUuid, _>(id)
        .bind::<Nullable<Text>, _>(symbol)
        .bind::<Nullable<Text>, _>(symbol)
        .bind::<BigInt, _>(limit)
        .load::<FillRow>(self.conn())
        .store()?;
        rows.into_iter()
            .map(|row| {
                let cursor = FillCursor { created_at: row.created_at, id: FillId(row.id) };
                Ok((Fill::try_from(row)?, cursor))
            })
            .collect()
    }

    /// Books a fill's row.
    pub(crate) fn insert_fill(
        &mut self,
        user: UserId,
        fill: &Fill,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        prepared(
            "INSERT INTO fills (account_id, order_id, cum_qty, id, user_id, symbol, side, qty, price, fee, realized_pl, \
             source, broker_execution_id, executed_at, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind::<BigInt, _>(fill.account_id.0)
        .bind::<SqlUuid, _>(fill.order_id.0)
        .bind::<Numeric, _>(fill.execution.cum_qty.get())
        .bind::<SqlUuid, _>(fill.id.0)
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(fill.symbol.as_str())
        .bind::<Text, _>(fill.side.as_str())
        .bind::<Numeric, _>(fill.execution.qty.get())
        .bind::<Numeric, _>(fill.execution.price.get())
        .bind::<Numeric, _>(fill.fee)
        .bind::<Numeric, _>(fill.realized_pl)
        .bind::<Text, _>(fill.execution.source.as_str())
        .bind::<Nullable<Text>, _>(fill.execution.broker_id.as_deref())
        .bind::<Timestamptz, _>(fill.execution.executed_at)
        .bind::<Timestamptz, _>(now)
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    /// What an account holds of a symbol, made flat when it was never held, and locked until the transaction ends.
    pub(crate) fn lock_holding(
        &mut self,
        account: AccountId,
        user: UserId,
        symbol: &Symbol,
        now: DateTime<Utc>,
    ) -> Result<Holding, StoreError> {
        const LOCK: &str = "SELECT account_id, symbol, qty, cost_basis, realized_pl, last_price, updated_at \
                            FROM positions WHERE account_id = ? AND symbol = ? FOR NO KEY UPDATE";
        for made in [false, true] {
            let row = prepared(LOCK)
                .bind::<BigInt, _>(account.0)
                .bind::<Text, _>(symbol.as_str())
                .get_result::<HoldingRow>(self.conn())
                .optional()
                .store()?;
            if let Some(row) = row {
                return row.try_into();
            }
            if made {
                break;
            }
            prepared(
                "INSERT INTO positions (account_id, symbol, user_id, qty, cost_basis, realized_pl, updated_at) \
                 VALUES (?, ?, ?, 0, 0, 0, ?) ON CONFLICT (account_id, symbol) DO NOTHING",
            )
            .bind::<BigInt, _>(account.0)
            .bind::<Text, _>(symbol.as_str())
            .bind::<BigInt, _>(user.0)
            .bind::<Timestamptz, _>(now)
            .execute(self.conn())
            .store()?;
        }
        Err(StoreError::inconsistent(
            "positions",
            "symbol",
            format!("{account}/{symbol}"),
            "gone after its insert",
        ))
    }

    /// Writes a holding that this transaction has locked. `outside` are the units that came from outside the platform by
    /// this change, negative when they went; of those that came so before no more are left than are held.
    pub(crate) fn save_holding(&mut self, holding: &Holding, outside: Decimal) -> Result<(), StoreError> {
        prepared(
            "UPDATE positions SET qty = ?, cost_basis = ?, realized_pl = ?, last_price = ?, updated_at = ?, \
             outside_qty = CASE WHEN n.qty < 0 THEN least(0, greatest(outside_qty + n.outside, n.qty)) \
               ELSE greatest(0, least(outside_qty + n.outside, n.qty)) END, \
             version = version + 1 FROM (SELECT ?::numeric AS qty, ?::numeric AS outside) n \
             WHERE account_id = ? AND symbol = ?",
        )
        .bind::<Numeric, _>(holding.position.qty)
        .bind::<Numeric, _>(holding.position.cost_basis)
        .bind::<Numeric, _>(holding.position.realized_pl)
        .bind::<Nullable<Numeric>, _>(holding.last_price.map(Price::get))
        .bind::<Timestamptz, _>(holding.updated_at)
        .bind::<Numeric, _>(holding.position.qty)
        .bind::<Numeric, _>(outside)
        .bind::<BigInt, _>(holding.account_id.0)
        .bind::<Text, _>(holding.symbol.as_str())
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    /// Everything that a user holds or ever held, by symbol.
    ///
    /// # Errors
    /// The store's own.
    pub fn holdings(&mut self, user: UserId) -> Result<Vec<Holding>, StoreError> {
        let Some(account) = self.account_of_user(user)? else { return Ok(Vec::new()) };
        prepared(
            "SELECT account_id, symbol, qty, cost_basis, realized_pl, last_price, updated_at FROM positions \
             WHERE account_id = ? ORDER BY symbol",
        )
        .bind::<BigInt, _>(account.id.0)
        .load::<HoldingRow>(self.conn())
        .store()?
        .into_iter()
        .map(Holding::try_from)
        .collect()
    }

    /// What each symbol of a user realised since midnight in New York, by the time of booking.
    ///
    /// # Errors
    /// The store's own.
    pub fn realized_today(
        &mut self,
        user: UserId,
        now: DateTime<Utc>,
    ) -> Result<Vec<(Symbol, Decimal)>, StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            symbol: String,
            #[diesel(sql_type = Numeric)]
            amount: Decimal,
        }
        let Some(account) = self.account_of_user(user)? else { return Ok(Vec::new()) };
        let rows = prepared(
            "SELECT symbol, sum(realized_pl) AS amount FROM fills WHERE account_id = ? \
             AND created_at >= date_trunc('day', ? AT TIME ZONE 'America/New_York') AT TIME ZONE 'America/New_York' \
             GROUP BY symbol",
        )
        .bind::<BigInt, _>(account.id.0)
        .bind::<Timestamptz, _>(now)
        .load::<Row>(self.conn())
        .store()?;
        rows.into_iter()
            .map(|row| {
                let symbol = Symbol::new(row.symbol).map_err(|why| {
                    StoreError::inconsistent("fills", "symbol", format!("user {user}"), why)
                })?;
                Ok((symbol, row.amount.normalize()))
            })
            .collect()
    }

    /// A user's profit and loss; `prices` gives a fresher price of a symbol than the last one on record, where known.
    ///
    /// # Errors
    /// The store's own.
    pub fn pnl(
        &mut self,
        user: UserId,
        prices: &dyn Fn(&Symbol) -> Option<Price>,
        now: DateTime<Utc>,
    ) -> Result<PnlView, StoreError> {
        let mut holdings = self.holdings(user)?;
        for holding in &mut holdings {
            holding.last_price = prices(&holding.symbol).or(holding.last_price);
        }
        let today = self.realized_today(user, now)?;
        Ok(PnlView::new(&holdings, &today, now))
    }
}

impl Tx<'_> {
    /// The broker's time of the execution that was booked last for an account. A later execution may have been booked
    /// before it: who reads on from here reads some minutes again.
    ///
    /// # Errors
    /// The store's own.
    pub fn last_execution(&mut self, account: AccountId) -> Result<Option<DateTime<Utc>>, StoreError> {
        #[derive(QueryableByName)]
        struct Last {
            #[diesel(sql_type = Timestamptz)]
            at: DateTime<Utc>,
        }
        let row = prepared(
            "SELECT executed_at AS at FROM fills WHERE account_id = ? \
             ORDER BY account_id DESC, created_at DESC, id DESC LIMIT 1",
        )
        .bind::<BigInt, _>(account.0)
        .get_result::<Last>(self.conn())
        .optional()
        .store()?;
        Ok(row.map(|row| row.at))
    }

    /// Whether an order of ours at the broker lacks one of the fills with these cumulative quantities.
    ///
    /// # Errors
    /// The store's own.
    pub fn lacks_fills(
        &mut self,
        account: AccountId,
        broker_order_id: &plimsoll_core_domain::BrokerOrderId,
        cumulative: &[Quantity],
    ) -> Result<bool, StoreError> {
        #[derive(QueryableByName)]
        struct Lacking {
            #[diesel(sql_type = diesel::sql_types::Bool)]
            lacking: bool,
        }
        let sums: Vec<Decimal> = cumulative.iter().map(|sum| sum.get()).collect();
        let row = prepared(
            "SELECT EXISTS (SELECT 1 FROM orders o, unnest(?) AS c(sum) WHERE o.account_id = ? AND o.broker_order_id = ? \
             AND NOT EXISTS (SELECT 1 FROM fills f WHERE f.account_id = o.account_id AND f.order_id = o.id \
             AND f.cum_qty >= c.sum AND f.cum_qty - f.qty < c.sum)) AS lacking",
        )
        .bind::<diesel::sql_types::Array<Numeric>, _>(sums)
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(broker_order_id.as_str())
        .get_result::<Lacking>(self.conn())
        .store()?;
        Ok(row.lacking)
    }
}
