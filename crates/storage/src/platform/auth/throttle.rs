//! Counters of attempts: each call is one statement, so parallel calls cannot pass the limit.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Text, Timestamptz};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_auth::ports::ThrottleStore;
use plimsoll_auth::throttle::{FailureRule, Limit, Verdict};
use plimsoll_core_domain::StoreError;
use std::time::Duration;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct Outcome {
    #[diesel(sql_type = Bool)]
    allowed: bool,
    /// Microseconds to wait.
    #[diesel(sql_type = BigInt)]
    wait: i64,
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        if outcome.allowed {
            return Self::Allowed;
        }
        Self::Blocked { retry_after: Duration::from_micros(u64::try_from(outcome.wait).unwrap_or(0)) }
    }
}

fn micros(time: chrono::TimeDelta) -> i64 {
    time.num_microseconds().unwrap_or(i64::MAX / 4)
}

impl ThrottleStore for Tx<'_> {
    fn take(
        &mut self,
        kind: &str,
        key: &[u8],
        limit: Limit,
        now: DateTime<Utc>,
    ) -> Result<Verdict, StoreError> {
        let each = micros(limit.per) / i64::from(limit.count.max(1));
        let room = each * i64::from(limit.burst.max(1) - 1);
        // The row is made first, so that the update below always locks one. A refused attempt leaves the arrival as it is.
        let row = prepared(
            "WITH old AS (INSERT INTO throttles AS t (kind, key, window_start, arrival, updated_at) \
               VALUES (?, ?, ?, ?::timestamptz + ? * interval '1 microsecond', ?) \
               ON CONFLICT (kind, key) DO UPDATE SET updated_at = excluded.updated_at, \
                 blocked_until = NULL, \
                 count = CASE WHEN greatest(t.arrival, excluded.window_start) \
                   <= excluded.window_start + ? * interval '1 microsecond' THEN 0 ELSE 1 END, \
                 arrival = CASE WHEN greatest(t.arrival, excluded.window_start) \
                     <= excluded.window_start + ? * interval '1 microsecond' \
                   THEN greatest(t.arrival, excluded.window_start) + ? * interval '1 microsecond' \
                   ELSE t.arrival END \
               RETURNING count, arrival) \
             SELECT count = 0 AS allowed, \
               (extract(epoch FROM arrival - ?::timestamptz) * 1000000)::bigint - ? AS wait FROM old",
        )
        .bind::<Text, _>(kind)
        .bind::<Binary, _>(key)
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(each)
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(room)
        .bind::<BigInt, _>(room)
        .bind::<BigInt, _>(each)
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(room)
        .get_result::<Outcome>(self.conn())
        .store()?;
        Ok(row.into())
    }

    fn count_failure(
        &mut self,
        kind: &str,
        key: &[u8],
        rule: FailureRule,
        now: DateTime<Utc>,
    ) -> Result<Verdict, StoreError> {
        #[derive(QueryableByName)]
        struct Counted {
            #[diesel(sql_type = Bool)]
            blocked: bool,
            #[diesel(sql_type = BigInt)]
            wait: i64,
            #[diesel(sql_type = Integer)]
            count: i32,
        }
        // Whether it was blocked is told by the time of the last failure, which a blocked attempt does not move.
        let row = prepared(
            "INSERT INTO throttles AS t (kind, key, count, window_start, updated_at) VALUES (?, ?, 1, ?, ?) \
             ON CONFLICT (kind, key) DO UPDATE SET \
               count = CASE WHEN t.blocked_until > excluded.updated_at THEN t.count \
                 WHEN greatest(t.window_start, t.blocked_until) + ? * interval '1 microsecond' < excluded.updated_at THEN 1 \
                 ELSE t.count + 1 END, \
               window_start = CASE WHEN t.blocked_until > excluded.updated_at THEN t.window_start \
                 ELSE excluded.updated_at END, \
               updated_at = excluded.updated_at \
             RETURNING coalesce(blocked_until > updated_at, false) AS blocked, count, \
               coalesce((extract(epoch FROM blocked_until - updated_at) * 1000000)::bigint, 0) AS wait",
        )
        .bind::<Text, _>(kind)
        .bind::<Binary, _>(key)
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(micros(rule.window))
        .get_result::<Counted>(self.conn())
        .store()?;
        if row.blocked {
            return Ok(Outcome { allowed: false, wait: row.wait }.into());
        }
        let block = rule.block_after(u32::try_from(row.count).unwrap_or(u32::MAX));
        if block > chrono::TimeDelta::zero() {
            // The row is locked since the statement before.
            prepared("UPDATE throttles SET blocked_until = ? WHERE kind = ? AND key = ?")
                .bind::<Timestamptz, _>(now + block)
                .bind::<Text, _>(kind)
                .bind::<Binary, _>(key)
                .execute(self.conn())
                .store()?;
        }
        Ok(Verdict::Allowed)
    }

    fn clear(&mut self, kind: &str, key: &[u8]) -> Result<bool, StoreError> {
        let deleted = prepared("DELETE FROM throttles WHERE kind = ? AND key = ?")
            .bind::<Text, _>(kind)
            .bind::<Binary, _>(key)
            .execute(self.conn())
            .store()?;
        Ok(deleted == 1)
    }
}
