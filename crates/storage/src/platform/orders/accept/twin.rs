//! The order that was accepted before under the same internal key.
//!
//! Read under the account's lock, in a statement of its own: the snapshot of the first one is older than its locks.

use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::{AccountId, ClientOrderId, OrderId, StoreError};
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
}
