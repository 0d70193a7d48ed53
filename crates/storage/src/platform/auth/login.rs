//! Attempts to sign in, and what is remembered of them.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::login::{AttemptRecord, PasswordState, Place};
use plimsoll_auth::ports::{CancelPurpose, CancelStore, CancelToken, LoginStore};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = Integer)]
    n: i32,
}

#[derive(QueryableByName)]
struct Yes {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

fn count(row: Count) -> u32 {
    u32::try_from(row.n).unwrap_or(0)
}

impl LoginStore for Tx<'_> {
    fn password_state(&mut self, user: UserId) -> Result<PasswordState, StoreError> {
        #[derive(QueryableByName)]
        struct State {
            #[diesel(sql_type = Integer)]
            password_failures: i32,
            #[diesel(sql_type = Nullable<Timestamptz>)]
            password_disabled_at: Option<DateTime<Utc>>,
        }
        let row = prepared("SELECT password_failures, password_disabled_at FROM users WHERE id = ?")
            .bind::<BigInt, _>(user.0)
            .get_result::<State>(self.conn())
            .store()?;
        Ok(PasswordState {
            failures: u32::try_from(row.password_failures).unwrap_or(0),
            disabled_at: row.password_disabled_at,
        })
    }

    fn add_password_failure(&mut self, user: UserId) -> Result<u32, StoreError> {
        prepared(
            "UPDATE users SET password_failures = password_failures + 1 WHERE id = ? \
             RETURNING password_failures AS n",
        )
        .bind::<BigInt, _>(user.0)
        .get_result::<Count>(self.conn())
        .store()
        .map(count)
    }

    fn clear_password_failures(&mut self, user: UserId) -> Result<(), StoreError> {
        prepared("UPDATE users SET password_failures = 0, password_disabled_at = NULL WHERE id = ?")
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()
            .map(|_| ())
    }

    fn disable_password(&mut self, user: UserId, at: DateTime<Utc>) -> Result<(), StoreError> {
        prepared("UPDATE users SET password_disabled_at = ? WHERE id = ?")
            .bind::<Timestamptz, _>(at)
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()
            .map(|_| ())
    }

    fn record_login_attempt(&mut self, attempt: &AttemptRecord) -> Result<(), StoreError> {
        prepared(
            "INSERT INTO login_attempts (at, user_id, identifier, outcome, factor, ip, user_agent, request_id) \
             VALUES (?, ?, ?, ?, ?, ?::inet, ?, ?)",
        )
        .bind::<Timestamptz, _>(attempt.at)
        .bind::<Nullable<BigInt>, _>(attempt.user.map(|user| user.0))
        .bind::<Binary, _>(attempt.identifier.as_slice())
        .bind::<Text, _>(attempt.outcome)
        .bind::<Text, _>(attempt.factor.as_str())
        .bind::<Nullable<Text>, _>(attempt.ip.map(|ip| ip.to_string()))
        .bind::<Nullable<Text>, _>(attempt.user_agent.as_deref())
        .bind::<Nullable<SqlUuid>, _>(attempt.request_id)
        .execute(self.conn())
        .store()
        .map(|_| ())
    }

    fn add_failed_pair(
        &mut self,
        network: &[u8; 32],
        pair: &[u8; 32],
        since: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Result<u32, StoreError> {
        prepared(
            "WITH noted AS (INSERT INTO failed_pairs (network, pair, at) VALUES (?, ?, ?) \
               ON CONFLICT (network, pair) DO UPDATE SET at = excluded.at RETURNING pair) \
             SELECT (1 + (SELECT count(*) FROM failed_pairs f WHERE f.network = ? AND f.at >= ? \
               AND f.pair NOT IN (SELECT pair FROM noted)))::int AS n",
        )
        .bind::<Binary, _>(network.as_slice())
        .bind::<Binary, _>(pair.as_slice())
        .bind::<Timestamptz, _>(at)
        .bind::<Binary, _>(network.as_slice())
        .bind::<Timestamptz, _>(since)
        .get_result::<Count>(self.conn())
        .store()
        .map(count)
    }

    fn block(
        &mut self,
        kind: &str,
        key: &[u8],
        until: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        prepared(
            "INSERT INTO throttles AS t (kind, key, window_start, blocked_until, updated_at) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (kind, key) DO UPDATE SET \
               blocked_until = greatest(t.blocked_until, excluded.blocked_until), updated_at = excluded.updated_at",
        )
        .bind::<Text, _>(kind)
        .bind::<Binary, _>(key)
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(until)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()
        .map(|_| ())
    }

    fn blocked_until(
        &mut self,
        kind: &str,
        key: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        #[derive(QueryableByName)]
        struct Until {
            #[diesel(sql_type = Timestamptz)]
            blocked_until: DateTime<Utc>,
        }
        let row =
            prepared("SELECT blocked_until FROM throttles WHERE kind = ? AND key = ? AND blocked_until > ?")
                .bind::<Text, _>(kind)
                .bind::<Binary, _>(key)
                .bind::<Timestamptz, _>(now)
                .get_result::<Until>(self.conn())
                .optional()
                .store()?;
        Ok(row.map(|row| row.blocked_until))
    }

    fn see_place(
        &mut self,
        user: UserId,
        place: Place,
        digest: &[u8; 32],
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        // A row that the statement itself made has no earlier version.
        prepared(
            "INSERT INTO login_places (user_id, kind, digest, first_seen_at, last_seen_at) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (user_id, kind, digest) DO UPDATE SET last_seen_at = excluded.last_seen_at \
             RETURNING xmax = 0 AS yes",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(place.as_str())
        .bind::<Binary, _>(digest.as_slice())
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(at)
        .get_result::<Yes>(self.conn())
        .store()
        .map(|row| row.yes)
    }

    fn has_places(&mut self, user: UserId) -> Result<bool, StoreError> {
        prepared("SELECT EXISTS (SELECT 1 FROM login_places WHERE user_id = ?) AS yes")
            .bind::<BigInt, _>(user.0)
            .get_result::<Yes>(self.conn())
            .store()
            .map(|row| row.yes)
    }
}

impl CancelStore for Tx<'_> {
    fn insert_cancel_token(&mut self, digest: &TokenDigest, token: &CancelToken) -> Result<(), StoreError> {
        prepared(
            "INSERT INTO cancel_tokens (user_id, id, token_digest, purpose, target, created_at, expires_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind::<BigInt, _>(token.user.0)
        .bind::<SqlUuid, _>(token.id)
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Text, _>(token.purpose.as_str())
        .bind::<Nullable<SqlUuid>, _>(token.target)
        .bind::<Timestamptz, _>(token.created_at)
        .bind::<Timestamptz, _>(token.expires_at)
        .execute(self.conn())
        .store()
        .map(|_| ())
    }

    fn cancel_token_owner(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<UserId>, StoreError> {
        #[derive(QueryableByName)]
        struct Owner {
            #[diesel(sql_type = BigInt)]
            user_id: i64,
        }
        let row = prepared(
            "SELECT user_id FROM cancel_tokens WHERE token_digest = ? AND used_at IS NULL AND expires_at > ?",
        )
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(now)
        .get_result::<Owner>(self.conn())
        .optional()
        .store()?;
        Ok(row.map(|row| UserId(row.user_id)))
    }

    fn take_cancel_token(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<CancelToken>, StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = SqlUuid)]
            id: Uuid,
            #[diesel(sql_type = BigInt)]
            user_id: i64,
            #[diesel(sql_type = Text)]
            purpose: String,
            #[diesel(sql_type = Nullable<SqlUuid>)]
            target: Option<Uuid>,
            #[diesel(sql_type = Timestamptz)]
            created_at: DateTime<Utc>,
            #[diesel(sql_type = Timestamptz)]
            expires_at: DateTime<Utc>,
        }
        let row = prepared(
            "UPDATE cancel_tokens SET used_at = ? WHERE token_digest = ? AND used_at IS NULL AND expires_at > ? \
             RETURNING id, user_id, purpose, target, created_at, expires_at",
        )
        .bind::<Timestamptz, _>(now)
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(now)
        .get_result::<Row>(self.conn())
        .optional()
        .store()?;
        row.map(|row| {
            let purpose = CancelPurpose::ALL.into_iter().find(|purpose| purpose.as_str() == row.purpose);
            Ok(CancelToken {
                id: row.id,
                user: UserId(row.user_id),
                purpose: purpose.ok_or_else(|| {
                    StoreError::inconsistent("cancel_tokens", "purpose", row.id, "unknown purpose")
                })?,
                target: row.target,
                created_at: row.created_at,
                expires_at: row.expires_at,
            })
        })
        .transpose()
    }
}
