//! Idempotency keys of routes whose effect and reply are one transaction.

use diesel::sql_types::{BigInt, Binary, Bool, Nullable, SmallInt, Text};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_reliability::idempotency::{
    Claimed, Fingerprint, IdempotencyStore, KeyClaim, KeyRecord, StoredReply,
};

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

impl Tx<'_> {
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
