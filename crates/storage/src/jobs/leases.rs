//! Leases with their fences.

use std::time::Duration;

use diesel::sql_types::{BigInt, Bool, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::StoreError;
use plimsoll_reliability::leases::{FenceToken, LeaseStore};
use uuid::Uuid;

use super::micros;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct Acquired {
    #[diesel(sql_type = Bool)]
    changed: bool,
}

#[derive(QueryableByName)]
struct Fence {
    #[diesel(sql_type = BigInt)]
    token: i64,
}

impl LeaseStore for Tx<'_> {
    fn acquire_lease(
        &mut self,
        name: &str,
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Option<FenceToken>, StoreError> {
        let acquired = prepared(
            "INSERT INTO leases AS l (name, owner, expires_at, acquired_at) \
             VALUES (?, ?, now() + ? * interval '1 microsecond', now()) \
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at, \
             acquired_at = CASE WHEN l.owner = excluded.owner THEN l.acquired_at ELSE excluded.acquired_at END \
             WHERE l.owner = excluded.owner OR l.expires_at < now() RETURNING acquired_at = now() AS changed",
        )
        .bind::<Text, _>(name)
        .bind::<SqlUuid, _>(owner)
        .bind::<BigInt, _>(micros(ttl))
        .get_result::<Acquired>(self.conn())
        .optional()
        .store()?;
        let Some(acquired) = acquired else { return Ok(None) };
        let text = if acquired.changed {
            // waits for the effects of the owner before, which hold the row
            "INSERT INTO lease_fences AS f (name, token) VALUES (?, 1) \
             ON CONFLICT (name) DO UPDATE SET token = f.token + 1 RETURNING token"
        } else {
            "SELECT token FROM lease_fences WHERE name = ?"
        };
        let fence = prepared(text).bind::<Text, _>(name).get_result::<Fence>(self.conn()).store()?;
        Ok(Some(FenceToken(fence.token)))
    }

    fn release_lease(&mut self, name: &str, owner: Uuid) -> Result<bool, StoreError> {
        let rows = prepared("DELETE FROM leases WHERE name = ? AND owner = ?")
            .bind::<Text, _>(name)
            .bind::<SqlUuid, _>(owner)
            .execute(self.conn())
            .store()?;
        Ok(rows == 1)
    }

    fn hold_fence(&mut self, name: &str, token: FenceToken) -> Result<bool, StoreError> {
        let fence = prepared("SELECT token FROM lease_fences WHERE name = ? AND token = ? FOR SHARE")
            .bind::<Text, _>(name)
            .bind::<BigInt, _>(token.0)
            .get_result::<Fence>(self.conn())
            .optional()
            .store()?;
        Ok(fence.is_some())
    }
}
