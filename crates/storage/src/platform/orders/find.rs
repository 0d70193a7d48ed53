//! Finding orders: one by any of its ids, those still open.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::order::Order;
use plimsoll_core_domain::views::{At, HistoryView};
use plimsoll_core_domain::{AccountId, BrokerOrderId, OrderId, StoreError, UserId};
use uuid::Uuid;

use super::row::{OrderColumns, OrderRow, order_columns, orders};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct HistoryRow {
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Text>)]
    from_status: Option<String>,
    #[diesel(sql_type = Text)]
    to_status: String,
    #[diesel(sql_type = Text)]
    cause: String,
    #[diesel(sql_type = Nullable<Text>)]
    detail: Option<String>,
}

impl Tx<'_> {
    /// An order of an account.
    ///
    /// # Errors
    /// The store's own.
    pub fn order(&mut self, account: AccountId, id: OrderId) -> Result<Option<Order>, StoreError> {
        self.one_order(
            concat!("SELECT ", order_columns!(), " FROM orders o WHERE o.account_id = ? AND o.id = ?"),
            account,
            id,
        )
    }

    /// An order of an account, locked until the transaction ends.
    ///
    /// # Errors
    /// The store's own.
    pub fn lock_order(&mut self, account: AccountId, id: OrderId) -> Result<Option<Order>, StoreError> {
        self.one_order(
            concat!(
                "SELECT ",
                order_columns!(),
                " FROM orders o WHERE o.account_id = ? AND o.id = ? FOR NO KEY UPDATE"
            ),
            account,
            id,
        )
    }

    /// An order of whichever account, locked until the transaction ends.
    pub(crate) fn lock_order_anywhere(&mut self, id: OrderId) -> Result<Option<Order>, StoreError> {
        prepared(concat!("SELECT ", order_columns!(), " FROM orders o WHERE o.id = ? FOR NO KEY UPDATE"))
            .bind::<SqlUuid, _>(id.0)
            .typed::<OrderColumns>()
            .get_result::<OrderRow>(self.conn())
            .optional()
            .store()?
            .map(Order::try_from)
            .transpose()
    }

    /// The account of a user that has an order, also one that the user does not trade with at present.
    ///
    /// # Errors
    /// The store's own.
    pub fn account_with_order(&mut self, user: UserId, id: OrderId) -> Result<Option<AccountId>, StoreError> {
        #[derive(QueryableByName)]
        struct Of {
            #[diesel(sql_type = BigInt)]
            account_id: i64,
        }
        let row = prepared("SELECT account_id FROM orders WHERE id = ? AND user_id = ?")
            .bind::<SqlUuid, _>(id.0)
            .bind::<BigInt, _>(user.0)
            .get_result::<Of>(self.conn())
            .optional()
            .store()?;
        Ok(row.map(|row| AccountId(row.account_id)))
    }

    fn one_order(
        &mut self,
        text: &'static str,
        account: AccountId,
        id: OrderId,
    ) -> Result<Option<Order>, StoreError> {
        prepared(text)
            .bind::<BigInt, _>(account.0)
            .bind::<SqlUuid, _>(id.0)
            .typed::<OrderColumns>()
            .get_result::<OrderRow>(self.conn())
            .optional()
            .store()?
            .map(Order::try_from)
            .transpose()
    }

    /// The id of the order that the broker knows under either id.
    ///
    /// # Errors
    /// The store's own.
    pub fn order_id_at_broker(
        &mut self,
        account: AccountId,
        broker_order_id: &BrokerOrderId,
        client_order_id: &str,
    ) -> Result<Option<OrderId>, StoreError> {
        #[derive(QueryableByName)]
        struct Found {
            #[diesel(sql_type = SqlUuid)]
            id: Uuid,
        }
        let found = prepared(
            "SELECT id FROM orders WHERE account_id = ? AND broker_order_id = ? \
             UNION SELECT id FROM orders WHERE account_id = ? AND client_order_id = ? LIMIT 1",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(broker_order_id.as_str())
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(client_order_id)
        .get_result::<Found>(self.conn())
        .optional()
        .store()?;
        Ok(found.map(|row| OrderId(row.id)))
    }

    /// The legs of an order, oldest first.
    ///
    /// # Errors
    /// The store's own.
    pub fn legs_of(&mut self, account: AccountId, parents: &[OrderId]) -> Result<Vec<Order>, StoreError> {
        if parents.is_empty() {
            return Ok(Vec::new());
        }
        let rows = prepared(concat!(
            "SELECT ",
            order_columns!(),
            " FROM orders o WHERE o.account_id = ? AND o.parent_id = ANY(?) ORDER BY o.id"
        ))
        .bind::<BigInt, _>(account.0)
        .bind::<diesel::sql_types::Array<SqlUuid>, _>(parents.iter().map(|id| id.0).collect::<Vec<_>>())
        .typed::<OrderColumns>()
        .load::<OrderRow>(self.conn())
        .store()?;
        orders(rows)
    }

    /// Every order of an account that is not final, oldest first; all but those that were never sent.
    ///
    /// # Errors
    /// The store's own.
    pub fn open_orders(&mut self, account: AccountId) -> Result<Vec<Order>, StoreError> {
        let rows = prepared(concat!(
            "SELECT ",
            order_columns!(),
            " FROM orders o WHERE o.account_id = ? AND o.closed_at IS NULL ORDER BY o.id"
        ))
        .bind::<BigInt, _>(account.0)
        .typed::<OrderColumns>()
        .load::<OrderRow>(self.conn())
        .store()?;
        orders(rows)
    }

    /// As [`open_orders`](Self::open_orders), each locked until the transaction ends; in the order of their ids, so that
    /// two who lock many never wait for each other.
    ///
    /// # Errors
    /// The store's own.
    pub fn lock_open_orders(&mut self, account: AccountId) -> Result<Vec<Order>, StoreError> {
        let rows = prepared(concat!(
            "SELECT ",
            order_columns!(),
            " FROM orders o WHERE o.account_id = ? AND o.closed_at IS NULL ORDER BY o.id FOR NO KEY UPDATE"
        ))
        .bind::<BigInt, _>(account.0)
        .typed::<OrderColumns>()
        .load::<OrderRow>(self.conn())
        .store()?;
        orders(rows)
    }

    /// An order's history, oldest first.
    ///
    /// # Errors
    /// The store's own.
    pub fn order_history(&mut self, account: AccountId, id: OrderId) -> Result<Vec<HistoryView>, StoreError> {
        let rows = prepared(
            "SELECT at, from_status, to_status, cause, detail FROM order_history \
             WHERE account_id = ? AND order_id = ? ORDER BY version",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<SqlUuid, _>(id.0)
        .load::<HistoryRow>(self.conn())
        .store()?;
        let view = |row: HistoryRow| HistoryView {
            at: At(row.at),
            from: row.from_status,
            to: row.to_status,
            cause: row.cause,
            detail: row.detail,
        };
        Ok(rows.into_iter().map(view).collect())
    }
}
