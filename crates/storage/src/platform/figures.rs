//! What operators watch: how many orders stand open and where, how large the database is.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::order::OrderStatus;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// The database's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseFigures {
    /// Orders on record; from 100,000 on the planner's estimate.
    pub orders: u64,
    /// Users, deleted ones left out.
    pub users: u64,
    /// Bytes on disk, indexes among them.
    pub size_bytes: u64,
}

/// How comparisons stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComparisonFigures {
    /// When the account was compared to the end that was so the longest ago.
    pub oldest: Option<DateTime<Utc>>,
    /// Accounts that never were.
    pub never: u64,
    /// Open differences that need a human.
    pub needs_human: u64,
    /// Open differences that settle by themselves.
    pub timing: u64,
}

#[derive(QueryableByName)]
struct ComparisonRow {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    oldest: Option<DateTime<Utc>>,
    #[diesel(sql_type = BigInt)]
    never: i64,
    #[diesel(sql_type = BigInt)]
    open: i64,
    #[diesel(sql_type = BigInt)]
    needs_human: i64,
}

#[derive(QueryableByName)]
struct StatusRow {
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = BigInt)]
    orders: i64,
}

#[derive(QueryableByName)]
struct FiguresRow {
    #[diesel(sql_type = BigInt)]
    orders: i64,
    #[diesel(sql_type = BigInt)]
    users: i64,
    #[diesel(sql_type = BigInt)]
    size_bytes: i64,
}

#[derive(QueryableByName)]
struct NowRow {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

impl Tx<'_> {
    /// The time by the database's clock, which leases and schedules go by.
    ///
    /// # Errors
    /// The store's own.
    pub fn database_now(&mut self) -> Result<DateTime<Utc>, StoreError> {
        Ok(prepared("SELECT now() AS now").get_result::<NowRow>(self.conn()).store()?.now)
    }

    /// How many orders are open, by status. Statuses that no order has are left out.
    ///
    /// # Errors
    /// The store's own.
    pub fn open_order_counts(&mut self) -> Result<Vec<(OrderStatus, u64)>, StoreError> {
        let rows = prepared(
            "SELECT status, count(*) AS orders FROM orders WHERE closed_at IS NULL GROUP BY status ORDER BY status",
        )
        .load::<StatusRow>(self.conn())
        .store()?;
        rows.into_iter()
            .map(|row| {
                let status = row.status.parse().map_err(|_| {
                    StoreError::inconsistent("orders", "status", &row.status, "not an order status")
                })?;
                Ok((status, u64::try_from(row.orders).unwrap_or_default()))
            })
            .collect()
    }

    /// How the comparisons of the accounts that are connected with brokers stand.
    ///
    /// # Errors
    /// The store's own.
    pub fn comparison_figures(&mut self) -> Result<ComparisonFigures, StoreError> {
        let row = prepared(
            "SELECT min(a.reconciled_at) AS oldest, count(*) FILTER (WHERE a.reconciled_at IS NULL) AS never, \
             (SELECT count(*) FROM discrepancies d WHERE d.resolved_at IS NULL) AS open, \
             (SELECT count(*) FROM discrepancies d WHERE d.resolved_at IS NULL AND d.class = 'needs_human') AS needs_human \
             FROM accounts a JOIN broker_credentials c ON c.user_id = a.user_id AND c.broker = a.broker \
             AND c.environment = a.environment AND c.state <> 'invalid' WHERE a.state = 'active'",
        )
        .get_result::<ComparisonRow>(self.conn())
        .store()?;
        let positive = |number: i64| u64::try_from(number).unwrap_or_default();
        Ok(ComparisonFigures {
            oldest: row.oldest,
            never: positive(row.never),
            needs_human: positive(row.needs_human),
            timing: positive(row.open - row.needs_human),
        })
    }

    /// How much is stored.
    ///
    /// # Errors
    /// The store's own.
    pub fn database_figures(&mut self) -> Result<DatabaseFigures, StoreError> {
        let row = prepared(
            "SELECT CASE WHEN c.reltuples < 100000 THEN (SELECT count(*) FROM orders) \
             ELSE c.reltuples::bigint END AS orders, (SELECT count(*) FROM users WHERE deleted_at IS NULL) AS users, \
             pg_database_size(current_database()) AS size_bytes \
             FROM pg_class c WHERE c.oid = 'orders'::regclass",
        )
        .get_result::<FiguresRow>(self.conn())
        .store()?;
        let positive = |number: i64| u64::try_from(number).unwrap_or_default();
        Ok(DatabaseFigures {
            orders: positive(row.orders),
            users: positive(row.users),
            size_bytes: positive(row.size_bytes),
        })
    }
}
