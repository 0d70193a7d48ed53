//! Right passwords that wait for their second factor.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::challenges::Challenge;
use plimsoll_auth::ports::ChallengeStore;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    transport: String,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
    #[diesel(sql_type = Bool)]
    after_failures: bool,
    #[diesel(sql_type = SmallInt)]
    wrong_codes: i16,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    ended_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    ip: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    user_agent: Option<String>,
}

impl TryFrom<Row> for Challenge {
    type Error = StoreError;
    fn try_from(row: Row) -> Result<Self, StoreError> {
        let bad = |column: &'static str, why: String| {
            StoreError::inconsistent("login_challenges", column, row.id, why)
        };
        let ip = row.ip.as_deref().map(str::parse::<IpAddr>).transpose();
        Ok(Self {
            id: row.id,
            user: UserId(row.user_id),
            transport: row.transport.parse().map_err(|why: &str| bad("transport", why.to_owned()))?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            after_failures: row.after_failures,
            tries: u32::try_from(row.wrong_codes).map_err(|why| bad("wrong_codes", why.to_string()))?,
            ended_at: row.ended_at,
            ip: ip.map_err(|why| bad("ip", why.to_string()))?,
            user_agent: row.user_agent,
        })
    }
}

impl ChallengeStore for Tx<'_> {
    fn insert_challenge(&mut self, digest: &TokenDigest, challenge: &Challenge) -> Result<(), StoreError> {
        prepared(
            "INSERT INTO login_challenges (user_id, id, token_digest, transport, created_at, expires_at, after_failures, ip, \
             user_agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?::inet, ?)",
        )
        .bind::<BigInt, _>(challenge.user.0)
        .bind::<SqlUuid, _>(challenge.id)
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Text, _>(challenge.transport.as_str())
        .bind::<Timestamptz, _>(challenge.created_at)
        .bind::<Timestamptz, _>(challenge.expires_at)
        .bind::<Bool, _>(challenge.after_failures)
        .bind::<Nullable<Text>, _>(challenge.ip.map(|ip| ip.to_string()))
        .bind::<Nullable<Text>, _>(challenge.user_agent.as_deref())
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    fn challenge_by_digest(&mut self, digest: &TokenDigest) -> Result<Option<Challenge>, StoreError> {
        prepared(
            "SELECT id, user_id, transport, created_at, expires_at, after_failures, wrong_codes, \
             coalesce(used_at, voided_at) AS ended_at, host(ip) AS ip, user_agent FROM login_challenges WHERE token_digest = ?",
        )
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .get_result::<Row>(self.conn())
        .optional()
        .store()?
        .map(Challenge::try_from)
        .transpose()
    }

    fn take_challenge_try(
        &mut self,
        user: UserId,
        challenge: Uuid,
        most: u32,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let changed = prepared(
            "UPDATE login_challenges SET wrong_codes = wrong_codes + 1 WHERE user_id = ? AND id = ? AND wrong_codes < ? \
             AND used_at IS NULL AND voided_at IS NULL AND expires_at > ?",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(challenge)
        .bind::<SmallInt, _>(i16::try_from(most).unwrap_or(i16::MAX))
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }

    fn use_challenge(
        &mut self,
        user: UserId,
        challenge: Uuid,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let changed = prepared(
            "UPDATE login_challenges SET used_at = ? WHERE user_id = ? AND id = ? AND used_at IS NULL \
             AND voided_at IS NULL AND expires_at > ?",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(challenge)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }
}
