//! What operators watch: how many orders stand open and where, how large the database is.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Text, Timestamptz};
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
