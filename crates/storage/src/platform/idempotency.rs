//! Idempotency keys of routes whose effect and reply are one transaction.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::vault::{existing_ring, user_ring};
use plimsoll_core_domain::{OrderId, StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::{Aad, OsRandom, open, seal};
use plimsoll_reliability::idempotency::{
    Claimed, Fingerprint, IdempotencyKey, IdempotencyStore, KeyClaim, KeyRecord, StoredReply,
};

use secrecy::ExposeSecret;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct Fresh {
    #[diesel(sql_type = Bool)]
    #[expect(dead_code, reason = "that there is a row is the answer")]
    fresh: bool,
}

#[derive(QueryableByName)]
struct Record {
    #[diesel(sql_type = Binary)]
    fingerprint: Vec<u8>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    status: Option<i16>,
    #[diesel(sql_type = Nullable<Binary>)]
    body: Option<Vec<u8>>,
    #[diesel(sql_type = Bool)]
    provisional: bool,
}

impl IdempotencyStore for Tx<'_> {
    fn claim_key(&mut self, claim: &KeyClaim) -> Result<Claimed, StoreError> {
        // An expired key is taken over in place; a live one makes the statement return nothing.
        let fresh = prepared(
            "INSERT INTO idempotency_keys AS k (user_id, key, route, fingerprint, in_flight_until, expires_at) \
             VALUES (?, ?, ?, ?, now() + interval '5 seconds', now() + ? * interval '1 second') \
             ON CONFLICT (user_id, key) DO UPDATE SET route = excluded.route, fingerprint = excluded.fingerprint, \
             order_id = NULL, status = NULL, body = NULL, provisional = true, created_at = now(), \
             in_flight_until = excluded.in_flight_until, expires_at = excluded.expires_at \
             WHERE k.expires_at < now() RETURNING true AS fresh",
        )
        .bind::<BigInt, _>(claim.user.0)
        .bind::<Text, _>(claim.key.as_str())
        .bind::<Text, _>(claim.route.as_str())
        .bind::<Binary, _>(claim.fingerprint.0.as_slice())
        .bind::<BigInt, _>(i64::try_from(claim.keep.as_secs()).unwrap_or(i64::MAX))
        .get_result::<Fresh>(self.conn())
        .optional()
        .store()?;
        if fresh.is_some() {
            return Ok(Claimed::Fresh);
        }
        let record = prepared(
            "SELECT fingerprint, status, body, provisional FROM idempotency_keys WHERE user_id = ? AND key = ?",
        )
        .bind::<BigInt, _>(claim.user.0)
        .bind::<Text, _>(claim.key.as_str())
        .get_result::<Record>(self.conn())
        .store()?;
        let bad = |column: &str, why: &str| {
            StoreError::inconsistent("idempotency_keys", column, format!("user {}", claim.user), why)
        };
        let fingerprint: [u8; 32] =
            record.fingerprint.try_into().map_err(|_| bad("fingerprint", "not 32 bytes"))?;
        let reply = match (record.provisional, record.status, record.body) {
            (false, Some(status), Some(body)) => Some(StoredReply {
                status: u16::try_from(status).map_err(|_| bad("status", "negative"))?,
                body,
            }),
            _ => None,
        };
        Ok(Claimed::Taken(KeyRecord { fingerprint: Fingerprint(fingerprint), reply }))
    }

    fn store_reply(&mut self, claim: &KeyClaim, reply: &StoredReply) -> Result<(), StoreError> {
        if self.finish_key(claim.user, &claim.key, reply)? {
            return Ok(());
        }
        Err(StoreError::new(StoreErrorKind::Other, "the claimed key vanished inside its transaction"))
    }
}

/// The place that a reply is sealed for.
fn place(user: UserId, key: &IdempotencyKey) -> Aad<'_> {
    Aad { table: "idempotency_keys", column: "body", row: key.as_str(), owner: Some(user.0) }
}

impl Tx<'_> {
    /// Writes the order that a claimed key stands for under it, with a provisional reply: the key's request waits for what
    /// becomes of the order, and a twin of it is told so for `in_flight` from now.
    ///
    /// # Errors
    /// The store's own.
    pub fn leave_key_open(
        &mut self,
        user: UserId,
        key: &IdempotencyKey,
        order: OrderId,
        reply: &StoredReply,
        in_flight: Duration,
    ) -> Result<(), StoreError> {
        let status = i16::try_from(reply.status)
            .map_err(|_| StoreError::new(StoreErrorKind::Other, "a status beyond 32767"))?;
        let changed = prepared(
            "UPDATE idempotency_keys SET order_id = ?, status = ?, body = ?, \
             in_flight_until = clock_timestamp() + ? * interval '1 millisecond' \
             WHERE user_id = ? AND key = ? AND provisional",
        )
        .bind::<SqlUuid, _>(order.0)
        .bind::<SmallInt, _>(status)
        .bind::<Binary, _>(reply.body.as_slice())
        .bind::<BigInt, _>(i64::try_from(in_flight.as_millis()).unwrap_or(i64::MAX))
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(key.as_str())
        .execute(self.conn())
        .store()?;
        if changed == 1 {
            return Ok(());
        }
        Err(StoreError::new(StoreErrorKind::Other, "the claimed key vanished inside its transaction"))
    }

    /// A reply that shows a secret as it is kept under a key: its body sealed under the user's data key. `None`: that key
    /// does not open.
    ///
    /// # Errors
    /// The store's own.
    pub fn seal_reply(
        &mut self,
        user: UserId,
        key: &IdempotencyKey,
        reply: StoredReply,
        at: DateTime<Utc>,
    ) -> Result<Option<StoredReply>, StoreError> {
        let keys = self.platform_keys()?;
        let ring = user_ring(self, &keys.ring, user, at, &mut OsRandom)?;
        let seal = |ring| seal(&ring, &place(user, key), &reply.body, &mut OsRandom);
        Ok(ring.ok().map(|ring| StoredReply { status: reply.status, body: seal(ring) }))
    }

    /// The reply that was sealed; `None` when it does not open.
    ///
    /// # Errors
    /// The store's own.
    pub fn open_reply(
        &mut self,
        user: UserId,
        key: &IdempotencyKey,
        reply: StoredReply,
    ) -> Result<Option<StoredReply>, StoreError> {
        let keys = self.platform_keys()?;
        let Some(Ok(ring)) = existing_ring(self, &keys.ring, user)? else { return Ok(None) };
        let plain = open(&ring, &place(user, key), &reply.body).ok();
        Ok(plain.map(|plain| StoredReply { status: reply.status, body: plain.expose_secret().to_vec() }))
    }

    /// Forgets a key that this transaction has claimed: its request had no effect.
    ///
    /// # Errors
    /// The store's own.
    pub fn release_key(&mut self, user: UserId, key: &IdempotencyKey) -> Result<(), StoreError> {
        prepared("DELETE FROM idempotency_keys WHERE user_id = ? AND key = ?")
            .bind::<BigInt, _>(user.0)
            .bind::<Text, _>(key.as_str())
            .execute(self.conn())
            .store()
            .map(drop)
    }

    /// Deletes expired keys, at most `batch`.
    ///
    /// # Errors
    /// The store's own.
    pub fn prune_keys(&mut self, batch: i64) -> Result<usize, StoreError> {
        prepared(
            "DELETE FROM idempotency_keys k USING (SELECT user_id, key FROM idempotency_keys WHERE expires_at < now() \
             LIMIT ? FOR UPDATE SKIP LOCKED) old WHERE k.user_id = old.user_id AND k.key = old.key",
        )
        .bind::<BigInt, _>(batch)
        .execute(self.conn())
        .store()
    }
}
