//! What is read under the account's lock, in statements of their own: the snapshot of the first statement is older than
//! its locks.

use diesel::sql_types::{BigInt, Numeric, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::order::NewOrder;
use plimsoll_core_domain::{AccountId, ClientOrderId, OrderId, StoreError};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

impl Tx<'_> {
    /// The order that has this client order id already.
    pub(super) fn twin(
        &mut self,
        account: AccountId,
        client_order_id: &ClientOrderId,
    ) -> Result<Option<OrderId>, StoreError> {
        #[derive(QueryableByName)]
        struct Twin {
            #[diesel(sql_type = SqlUuid)]
            id: Uuid,
        }
        let twin = prepared("SELECT id FROM orders WHERE account_id = ? AND client_order_id = ?")
            .bind::<BigInt, _>(account.0)
            .bind::<Text, _>(client_order_id.as_str())
            .get_result::<Twin>(self.conn())
            .optional()
            .store()?;
        Ok(twin.map(|row| OrderId(row.id)))
    }

    /// What an order on this side can close of the position, when every open order on its side fills. A statement of its
    /// own, begun under the account's lock: it sees every order that was accepted before.
    pub(super) fn closable(&mut self, account: AccountId, terms: &NewOrder) -> Result<Decimal, StoreError> {
        #[derive(QueryableByName)]
        struct Closable {
            #[diesel(sql_type = Numeric)]
            closable: Decimal,
        }
        let row = prepared(
            "SELECT coalesce((SELECT CASE WHEN ? = 'sell' THEN p.qty ELSE -p.qty END FROM positions p \
               WHERE p.account_id = ? AND p.symbol = ?), 0) \
             - coalesce((SELECT sum(o.qty - o.filled_qty) FROM orders o WHERE o.account_id = ? AND o.symbol = ? \
               AND o.side = ? AND o.closed_at IS NULL AND o.status <> 'held'), 0) AS closable",
        )
        .bind::<Text, _>(terms.side.as_str())
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(terms.symbol.as_str())
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(terms.symbol.as_str())
        .bind::<Text, _>(terms.side.as_str())
        .get_result::<Closable>(self.conn())
        .store()?;
        Ok(row.closable.normalize())
    }
}
