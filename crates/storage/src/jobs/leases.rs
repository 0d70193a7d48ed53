//! Leases with their fences.

use std::time::Duration;

use diesel::sql_types::{Array, BigInt, Bool, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::StoreError;
use plimsoll_reliability::leases::{FenceToken, LeaseStore, LiveLease};
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

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    changed: bool,
}

#[derive(QueryableByName)]
struct NamedFence {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    token: i64,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Live {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = SqlUuid)]
    owner: Uuid,
    #[diesel(sql_type = Bool)]
    ready: bool,
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
             acquired_at = CASE WHEN l.owner = excluded.owner THEN l.acquired_at ELSE excluded.acquired_at END, \
             ready = l.ready AND l.owner = excluded.owner \
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

    fn acquire_leases(
        &mut self,
        names: &[String],
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Vec<(String, FenceToken)>, StoreError> {
        let taken = prepared(
            "INSERT INTO leases AS l (name, owner, expires_at, acquired_at) \
             SELECT n.name, ?, now() + ? * interval '1 microsecond', now() FROM unnest(?) AS n (name) ORDER BY n.name \
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at, \
             acquired_at = CASE WHEN l.owner = excluded.owner THEN l.acquired_at ELSE excluded.acquired_at END, \
             ready = l.ready AND l.owner = excluded.owner \
             WHERE l.owner = excluded.owner OR l.expires_at < now() RETURNING name, acquired_at = now() AS changed",
        )
        .bind::<SqlUuid, _>(owner)
        .bind::<BigInt, _>(micros(ttl))
        .bind::<Array<Text>, _>(names)
        .load::<Taken>(self.conn())
        .store()?;
        let (changed, kept): (Vec<_>, Vec<_>) = taken.into_iter().partition(|row| row.changed);
        let names = |rows: Vec<Taken>| rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
        let (changed, kept) = (names(changed), names(kept));
        let mut fences = Vec::new();
        // waits for the effects of the owners before, which hold these rows
        let raise = "INSERT INTO lease_fences AS f (name, token) \
             SELECT n.name, 1 FROM unnest(?) AS n (name) ORDER BY n.name \
             ON CONFLICT (name) DO UPDATE SET token = f.token + 1 RETURNING name, token";
        let read = "SELECT name, token FROM lease_fences WHERE name = ANY(?)";
        for (text, names) in [(raise, changed), (read, kept)] {
            if !names.is_empty() {
                let rows =
                    prepared(text).bind::<Array<Text>, _>(names).load::<NamedFence>(self.conn()).store()?;
                fences.extend(rows.into_iter().map(|row| (row.name, FenceToken(row.token))));
            }
        }
        fences.sort_unstable();
        Ok(fences)
    }

    fn renew_leases(
        &mut self,
        names: &[String],
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Vec<String>, StoreError> {
        let rows = prepared(
            "WITH held AS MATERIALIZED (SELECT name FROM leases WHERE owner = ? AND name = ANY(?) \
               ORDER BY name FOR UPDATE), \
             renewed AS (UPDATE leases l SET expires_at = now() + ? * interval '1 microsecond' FROM held \
               WHERE l.name = held.name RETURNING l.name) \
             SELECT name FROM renewed ORDER BY name",
        )
        .bind::<SqlUuid, _>(owner)
        .bind::<Array<Text>, _>(names)
        .bind::<BigInt, _>(micros(ttl))
        .load::<Named>(self.conn())
        .store()?;
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    fn live_leases(&mut self, kinds: &[&str]) -> Result<Vec<LiveLease>, StoreError> {
        let rows = prepared(
            "SELECT name, owner, ready FROM leases \
             WHERE expires_at >= now() AND split_part(name, ':', 1) = ANY(?) ORDER BY name",
        )
        .bind::<Array<Text>, _>(kinds)
        .load::<Live>(self.conn())
        .store()?;
        Ok(rows
            .into_iter()
            .map(|row| LiveLease { name: row.name, owner: row.owner, ready: row.ready })
            .collect())
    }

    fn mark_ready(&mut self, name: &str, owner: Uuid) -> Result<bool, StoreError> {
        let rows = prepared("UPDATE leases SET ready = true WHERE name = ? AND owner = ?")
            .bind::<Text, _>(name)
            .bind::<SqlUuid, _>(owner)
            .execute(self.conn())
            .store()?;
        Ok(rows == 1)
    }

    fn release_leases(&mut self, names: &[String], owner: Uuid) -> Result<usize, StoreError> {
        prepared(
            "WITH held AS MATERIALIZED (SELECT name FROM leases WHERE owner = ? AND name = ANY(?) \
               ORDER BY name FOR UPDATE) \
             DELETE FROM leases l USING held WHERE l.name = held.name",
        )
        .bind::<SqlUuid, _>(owner)
        .bind::<Array<Text>, _>(names)
        .execute(self.conn())
        .store()
    }

    fn forget_leases(&mut self, kinds: &[&str]) -> Result<usize, StoreError> {
        prepared("DELETE FROM leases WHERE split_part(name, ':', 1) = ANY(?)")
            .bind::<Array<Text>, _>(kinds)
            .execute(self.conn())
            .store()
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
