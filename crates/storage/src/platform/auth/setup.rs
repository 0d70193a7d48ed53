//! The token that makes the first administrator.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Bool, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_auth::ports::SetupStore;
use plimsoll_core_domain::StoreError;
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// The advisory lock of the first administrator.
const SETUP_LOCK: i64 = 0x706c_696d_0000_0002;

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

impl SetupStore for Tx<'_> {
    fn lock_setup(&mut self) -> Result<(), StoreError> {
        prepared("SELECT pg_advisory_xact_lock(?)")
            .bind::<BigInt, _>(SETUP_LOCK)
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    fn is_set_up(&mut self) -> Result<bool, StoreError> {
        let answer = prepared(
            "SELECT EXISTS (SELECT 1 FROM users WHERE role = 'admin') \
             OR EXISTS (SELECT 1 FROM setup_tokens WHERE used_at IS NOT NULL) AS yes",
        )
        .get_result::<Answer>(self.conn())
        .store()?;
        Ok(answer.yes)
    }

    fn replace_setup_token(
        &mut self,
        id: Uuid,
        digest: &TokenDigest,
        created_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        prepared("DELETE FROM setup_tokens WHERE used_at IS NULL").execute(self.conn()).store()?;
        prepared("INSERT INTO setup_tokens (id, token_digest, created_at, expires_at) VALUES (?, ?, ?, ?)")
            .bind::<SqlUuid, _>(id)
            .bind::<Binary, _>(digest.as_bytes().as_slice())
            .bind::<Timestamptz, _>(created_at)
            .bind::<Timestamptz, _>(expires_at)
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    fn setup_token_is_live(&mut self, digest: &TokenDigest, at: DateTime<Utc>) -> Result<bool, StoreError> {
        let answer = prepared(
            "SELECT EXISTS (SELECT 1 FROM setup_tokens WHERE token_digest = ? AND used_at IS NULL AND expires_at > ?) \
             AS yes",
        )
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(at)
        .get_result::<Answer>(self.conn())
        .store()?;
        Ok(answer.yes)
    }

    fn use_setup_token(&mut self, digest: &TokenDigest, at: DateTime<Utc>) -> Result<bool, StoreError> {
        let used = prepared(
            "UPDATE setup_tokens SET used_at = ? WHERE token_digest = ? AND used_at IS NULL AND expires_at > ?",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        Ok(used == 1)
    }
}
