//! Right passwords whose second factor did not come.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_auth::ports::UnfinishedStore;
use plimsoll_auth::unfinished::Unfinished;
use plimsoll_core_domain::{StoreError, UserId};
use uuid::Uuid;

use super::challenges::Row;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct UnfinishedRow {
    #[diesel(embed)]
    challenge: Row,
    #[diesel(sql_type = Bool)]
    repeated: bool,
}

impl UnfinishedStore for Tx<'_> {
    fn unfinished_challenges(
        &mut self,
        until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Unfinished>, StoreError> {
        prepared(
            "SELECT c.id, c.user_id, c.transport, c.created_at, c.expires_at, c.after_failures, c.wrong_codes, \
             NULL::timestamptz AS ended_at, host(c.ip) AS ip, c.user_agent, \
             EXISTS (SELECT FROM login_challenges o WHERE o.user_id = c.user_id AND o.used_at IS NOT NULL \
               AND o.created_at > c.created_at AND o.ip IS NOT DISTINCT FROM c.ip) AS repeated \
             FROM login_challenges c \
             WHERE c.used_at IS NULL AND c.voided_at IS NULL AND c.notified_at IS NULL AND c.created_at <= ? \
             ORDER BY c.created_at LIMIT ?",
        )
        .bind::<Timestamptz, _>(until)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<UnfinishedRow>(self.conn())
        .store()?
        .into_iter()
        .map(|row| Ok(Unfinished { challenge: row.challenge.try_into()?, repeated: row.repeated }))
        .collect()
    }

    fn mark_challenge_told(
        &mut self,
        user: UserId,
        challenge: Uuid,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let changed = prepared(
            "UPDATE login_challenges SET notified_at = ? WHERE user_id = ? AND id = ? AND notified_at IS NULL \
             AND used_at IS NULL AND voided_at IS NULL",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(challenge)
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }
}
