//! Hooks that should have fired and did not.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Integer, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::{StoreError, UserId};
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// A hook that is silent for longer than its owner expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentHook {
    /// The hook.
    pub id: Uuid,
    /// Whose.
    pub user: UserId,
    /// What its owner calls it.
    pub name: String,
    /// Since its last signal, or since it was set up.
    pub silent_since: DateTime<Utc>,
    /// After so many seconds its owner is told.
    pub after_s: i32,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Timestamptz)]
    silent_since: DateTime<Utc>,
    #[diesel(sql_type = Integer)]
    silent_alert_after_s: i32,
}

impl Tx<'_> {
    /// Hooks whose owners are to be told now that they are silent, at most `limit`; they are marked as told, once for each
    /// silence. What others are at work on is passed over.
    ///
    /// # Errors
    /// The store's own.
    pub fn silent_hooks(&mut self, limit: i64, now: DateTime<Utc>) -> Result<Vec<SilentHook>, StoreError> {
        let rows = prepared(
            "WITH due AS (SELECT h.user_id, h.id, s.since FROM inbound_hooks h \
               JOIN users u ON u.id = h.user_id AND u.state = 'active' \
               CROSS JOIN LATERAL (SELECT greatest(h.armed_at, (SELECT g.received_at FROM signals g \
                 WHERE g.hook_id = h.id AND g.genuine ORDER BY g.id DESC LIMIT 1)) AS since) s \
               WHERE h.silent_alert_after_s IS NOT NULL AND h.enabled AND h.deleted_at IS NULL \
                 AND s.since + h.silent_alert_after_s * interval '1 second' <= ? \
                 AND (h.silent_alert_at IS NULL OR h.silent_alert_at < s.since) \
               ORDER BY h.id LIMIT ? FOR UPDATE OF h SKIP LOCKED) \
             UPDATE inbound_hooks h SET silent_alert_at = ? FROM due WHERE h.user_id = due.user_id AND h.id = due.id \
             RETURNING h.id, h.user_id, h.name, due.since AS silent_since, h.silent_alert_after_s",
        )
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(limit)
        .bind::<Timestamptz, _>(now)
        .load::<Row>(self.conn())
        .store()?;
        let mut hooks: Vec<SilentHook> = rows
            .into_iter()
            .map(|row| SilentHook {
                id: row.id,
                user: UserId(row.user_id),
                name: row.name,
                silent_since: row.silent_since,
                after_s: row.silent_alert_after_s,
            })
            .collect();
        // Their owners' streams are locked in ascending order.
        hooks.sort_by_key(|hook| (hook.user, hook.id));
        Ok(hooks)
    }

    /// When the last signal of its sender came through a hook.
    ///
    /// # Errors
    /// The store's own.
    pub fn last_signal_at(&mut self, hook: Uuid) -> Result<Option<DateTime<Utc>>, StoreError> {
        #[derive(QueryableByName)]
        struct At {
            #[diesel(sql_type = Timestamptz)]
            at: DateTime<Utc>,
        }
        let row = prepared(
            "SELECT received_at AS at FROM signals WHERE hook_id = ? AND genuine ORDER BY id DESC LIMIT 1",
        )
        .bind::<SqlUuid, _>(hook)
        .load::<At>(self.conn())
        .store()?;
        Ok(row.into_iter().next().map(|row| row.at))
    }
}
