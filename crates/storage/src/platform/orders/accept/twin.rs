//! The order that was accepted before under the same internal key.
//!
//! Read under the account's lock, in a statement of its own: the snapshot of the first one is older than its locks.

use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::order::Order;
use plimsoll_core_domain::{AccountId, ClientOrderId, OrderId, StoreError, UserId};
use plimsoll_crypto::OrderOrigin;
use plimsoll_reliability::idempotency::IdempotencyKey;
use uuid::Uuid;

use super::ClientOrderIds;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// The cause in the history of an order that was found at the broker under an id of ours.
pub(crate) const IMPORTED: &str = "imported";

impl Tx<'_> {
    /// The order that an idempotency key made before its row was lost, and that came back from the broker.
    ///
    /// # Errors
    /// The store's own.
    pub fn imported_order(
        &mut self,
        account: AccountId,
        user: UserId,
        key: &IdempotencyKey,
        ids: &dyn ClientOrderIds,
    ) -> Result<Option<Order>, StoreError> {
        let id = ids.derive(account, user, OrderOrigin::IdempotencyKey(key.as_str()));
        let Some(twin) = self.twin(account, &id)? else { return Ok(None) };
        let history = self.order_history(account, twin)?;
        if history.first().is_none_or(|first| first.cause != IMPORTED) {
            return Ok(None);
        }
        self.order(account, twin)
    }

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
