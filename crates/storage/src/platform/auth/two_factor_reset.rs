//! Resets of lost second factors.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Nullable, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::ports::TwoFactorResetStore;
use plimsoll_auth::two_factor::OpenReset;
use plimsoll_core_domain::{StoreError, UserId};
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct ResetRow {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    due_at: DateTime<Utc>,
}

impl From<ResetRow> for OpenReset {
    fn from(row: ResetRow) -> Self {
        Self { user: UserId(row.user_id), id: row.id, due_at: row.due_at }
    }
}

impl TwoFactorResetStore for Tx<'_> {
    fn open_reset_of(&mut self, user: UserId) -> Result<Option<OpenReset>, StoreError> {
        let row = prepared(
            "SELECT user_id, id, due_at FROM two_factor_resets WHERE user_id = ? AND cancelled_at IS NULL \
             AND done_at IS NULL",
        )
        .bind::<BigInt, _>(user.0)
        .get_result::<ResetRow>(self.conn())
        .optional()
        .store()?;
        Ok(row.map(OpenReset::from))
    }

    fn insert_two_factor_reset(
        &mut self,
        reset: &OpenReset,
        requested_by: Option<UserId>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        prepared(
            "INSERT INTO two_factor_resets (user_id, id, requested_by, created_at, due_at) VALUES (?, ?, ?, ?, ?)",
        )
        .bind::<BigInt, _>(reset.user.0)
        .bind::<SqlUuid, _>(reset.id)
        .bind::<Nullable<BigInt>, _>(requested_by.map(|by| by.0))
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(reset.due_at)
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    fn cancel_two_factor_reset(
        &mut self,
        user: UserId,
        reset: Option<Uuid>,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let changed = prepared(
            "UPDATE two_factor_resets SET cancelled_at = ? WHERE user_id = ? AND id = coalesce(?, id) \
             AND cancelled_at IS NULL AND done_at IS NULL",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<Nullable<SqlUuid>, _>(reset)
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }

    fn due_two_factor_resets(&mut self, at: DateTime<Utc>, most: u32) -> Result<Vec<OpenReset>, StoreError> {
        let rows = prepared(
            "SELECT user_id, id, due_at FROM two_factor_resets WHERE due_at <= ? AND cancelled_at IS NULL \
             AND done_at IS NULL ORDER BY user_id LIMIT ?",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(i64::from(most))
        .load::<ResetRow>(self.conn())
        .store()?;
        Ok(rows.into_iter().map(OpenReset::from).collect())
    }

    fn finish_two_factor_reset(
        &mut self,
        user: UserId,
        reset: Uuid,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let changed = prepared(
            "UPDATE two_factor_resets SET done_at = ? WHERE user_id = ? AND id = ? AND due_at <= ? \
             AND cancelled_at IS NULL AND done_at IS NULL",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(reset)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }
}
