//! The idempotency keys of requests: what is on record under one, and its final reply.

use diesel::sql_types::{BigInt, Binary, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::{OrderId, StoreError, StoreErrorKind, UserId};
use plimsoll_reliability::idempotency::{Fingerprint, IdempotencyKey, StoredReply};
use uuid::Uuid;

use super::{AcceptKey, AcceptOrder, KeyState};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

impl Tx<'_> {
    /// A refusal without an effect leaves no key behind.
    pub(super) fn withdraw_key(&mut self, accept: &AcceptOrder) -> Result<(), StoreError> {
        let AcceptKey::Request(request) = &accept.key else { return Ok(()) };
        prepared("DELETE FROM idempotency_keys WHERE user_id = ? AND key = ?")
            .bind::<BigInt, _>(accept.user.0)
            .bind::<Text, _>(request.key.as_str())
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    /// What is on record under a key; `None` when no request has claimed it. In a statement of its own: the claim's
    /// does not see a twin that committed after it began.
    ///
    /// # Errors
    /// The store's own.
    pub fn key_state(
        &mut self,
        user: UserId,
        key: &IdempotencyKey,
        fingerprint: &Fingerprint,
    ) -> Result<Option<KeyState>, StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Binary)]
            fingerprint: Vec<u8>,
            #[diesel(sql_type = Nullable<SmallInt>)]
            status: Option<i16>,
            #[diesel(sql_type = Nullable<Binary>)]
            body: Option<Vec<u8>>,
            #[diesel(sql_type = Bool)]
            provisional: bool,
            #[diesel(sql_type = Bool)]
            running: bool,
            #[diesel(sql_type = Nullable<SqlUuid>)]
            order_id: Option<Uuid>,
        }
        let row = prepared(
            "SELECT fingerprint, status, body, provisional, in_flight_until > clock_timestamp() AS running, order_id \
             FROM idempotency_keys WHERE user_id = ? AND key = ?",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(key.as_str())
        .get_result::<Row>(self.conn())
        .optional()
        .store()?;
        let Some(row) = row else { return Ok(None) };
        if row.fingerprint != fingerprint.0 {
            return Ok(Some(KeyState::Reused));
        }
        Ok(Some(match (row.provisional, row.status, row.body) {
            (false, Some(status), Some(body)) => {
                let status = u16::try_from(status)
                    .map_err(|why| StoreError::inconsistent("idempotency_keys", "status", user, why))?;
                KeyState::Replay(StoredReply { status, body })
            }
            _ if row.running => KeyState::InFlight,
            _ => KeyState::Unanswered(row.order_id.map(OrderId)),
        }))
    }

    /// Stores a request's final reply before it is sent; `false` when one is stored already, which then holds.
    ///
    /// # Errors
    /// The store's own.
    pub fn finish_key(
        &mut self,
        user: UserId,
        key: &IdempotencyKey,
        reply: &StoredReply,
    ) -> Result<bool, StoreError> {
        let status = i16::try_from(reply.status)
            .map_err(|_| StoreError::new(StoreErrorKind::Other, "a status beyond 32767"))?;
        let changed = prepared(
            "UPDATE idempotency_keys SET status = ?, body = ?, provisional = false \
             WHERE user_id = ? AND key = ? AND provisional",
        )
        .bind::<SmallInt, _>(status)
        .bind::<Binary, _>(reply.body.as_slice())
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(key.as_str())
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }
}
