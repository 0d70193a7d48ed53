//! The job table.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::sql_types::{
    Array, BigInt, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_reliability::jobs::{
    Claim, DEFAULT_ATTEMPTS, Job, JobId, JobLease, JobQueue, MAX_CRASHES, NewJob, Reaped, Schedule,
    Settlement, clip_error, job_topic,
};
use plimsoll_reliability::retry::{Jitter, Policy};

use super::{limit, micros};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct JobRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    lease_token: i64,
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Integer)]
    max_attempts: i32,
    #[diesel(sql_type = Integer)]
    crash_count: i32,
    #[diesel(sql_type = Nullable<Text>)]
    dedup_key: Option<String>,
    #[diesel(sql_type = Jsonb)]
    payload: serde_json::Value,
    #[diesel(sql_type = Nullable<BigInt>)]
    parent_id: Option<i64>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

impl TryFrom<JobRow> for Job {
    type Error = StoreError;

    fn try_from(row: JobRow) -> Result<Self, StoreError> {
        let count = |column: &str, value: i32| {
            u32::try_from(value).map_err(|_| StoreError::inconsistent("jobs", column, row.id, "is negative"))
        };
        Ok(Self {
            lease: JobLease { id: JobId(row.id), token: row.lease_token },
            attempt: count("attempt", row.attempt)?,
            max_attempts: count("max_attempts", row.max_attempts)?,
            crash_count: count("crash_count", row.crash_count)?,
            queue: row.queue,
            kind: row.kind,
            dedup_key: row.dedup_key,
            payload: row.payload,
            parent: row.parent_id.map(JobId),
            created_at: row.created_at,
        })
    }
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

#[derive(QueryableByName)]
struct State {
    #[diesel(sql_type = Text)]
    state: String,
}

#[derive(QueryableByName)]
struct Queue {
    #[diesel(sql_type = Text)]
    queue: String,
}

macro_rules! claim_jobs {
    ($condition:literal) => {
        concat!(
            "WITH pick AS MATERIALIZED (SELECT id FROM jobs \
               WHERE state = 'ready' AND queue = ? AND kind = ANY(?) AND run_at <= now() ",
            $condition,
            "ORDER BY priority, run_at, id LIMIT ? FOR UPDATE SKIP LOCKED), \
             taken AS (UPDATE jobs j SET state = 'leased', attempt = attempt + 1, lease_token = lease_token + 1, \
               lease_owner = ?, lease_until = now() + ? * interval '1 microsecond' \
               FROM pick WHERE j.id = pick.id RETURNING j.*) \
             SELECT id, lease_token, queue, kind, attempt, max_attempts, crash_count, dedup_key, payload, parent_id, \
               created_at FROM taken ORDER BY priority, run_at, id"
        )
    };
}

impl Tx<'_> {
    /// Lets go the twin of a job that a restore holds: what is wished for now is not of the past.
    ///
    /// # Errors
    /// The store's own.
    pub(crate) fn let_go(&mut self, job: &NewJob) -> Result<(), StoreError> {
        let let_go = prepared(
            "UPDATE jobs SET state = 'ready', run_at = now() WHERE kind = ? AND dedup_key = ? AND state = 'held'",
        )
        .bind::<Text, _>(job.kind.as_str())
        .bind::<Nullable<Text>, _>(job.dedup_key.as_deref())
        .execute(self.conn())
        .store()?;
        if let_go > 0 {
            self.wake(job_topic(&job.queue));
        }
        Ok(())
    }
}

impl JobQueue for Tx<'_> {
    fn enqueue(&mut self, job: &NewJob) -> Result<Option<JobId>, StoreError> {
        let attempts = i32::try_from(job.max_attempts)
            .map_err(|_| StoreError::new(StoreErrorKind::Other, "a job has at most 2147483647 attempts"))?;
        let inserted = prepared(
            "INSERT INTO jobs (queue, kind, priority, run_at, max_attempts, dedup_key, payload, parent_id) \
             VALUES (?, ?, ?, now() + ? * interval '1 microsecond', ?, ?, ?, ?) \
             ON CONFLICT (kind, dedup_key) WHERE state IN ('ready', 'leased', 'held') DO NOTHING RETURNING id",
        )
        .bind::<Text, _>(job.queue.as_str())
        .bind::<Text, _>(job.kind.as_str())
        .bind::<SmallInt, _>(job.priority)
        .bind::<BigInt, _>(micros(job.delay))
        .bind::<Integer, _>(attempts)
        .bind::<Nullable<Text>, _>(job.dedup_key.as_deref())
        .bind::<Jsonb, _>(&job.payload)
        .bind::<Nullable<BigInt>, _>(job.parent.map(|id| id.0))
        .get_result::<Id>(self.conn())
        .optional()
        .store()?;
        if inserted.is_some() && job.delay.is_zero() {
            self.wake(job_topic(&job.queue));
        }
        Ok(inserted.map(|row| JobId(row.id)))
    }

    fn claim(&mut self, claim: &Claim<'_>) -> Result<Vec<Job>, StoreError> {
        let text = if claim.except.is_empty() {
            claim_jobs!("")
        } else {
            claim_jobs!("AND coalesce(payload ->> 'account_id', '') <> ALL(?) ")
        };
        let mut statement = prepared(text).bind::<Text, _>(claim.queue).bind::<Array<Text>, _>(claim.kinds);
        if !claim.except.is_empty() {
            statement = statement.bind::<Array<Text>, _>(claim.except);
        }
        let rows = statement
            .bind::<BigInt, _>(limit(claim.limit))
            .bind::<SqlUuid, _>(claim.owner)
            .bind::<BigInt, _>(micros(claim.lease))
            .load::<JobRow>(self.conn())
            .store()?;
        rows.into_iter().map(Job::try_from).collect()
    }

    fn hold_job(&mut self, lease: JobLease) -> Result<bool, StoreError> {
        let held =
            prepared("SELECT id FROM jobs WHERE id = ? AND state = 'leased' AND lease_token = ? FOR SHARE")
                .bind::<BigInt, _>(lease.id.0)
                .bind::<BigInt, _>(lease.token)
                .get_result::<Id>(self.conn())
                .optional()
                .store()?;
        Ok(held.is_some())
    }

    fn settle(&mut self, lease: JobLease, settlement: &Settlement) -> Result<bool, StoreError> {
        let statement = match settlement {
            Settlement::Done => prepared(
                "UPDATE jobs SET state = 'done', finished_at = now(), lease_owner = NULL, lease_until = NULL \
                 WHERE id = ? AND state = 'leased' AND lease_token = ?",
            ),
            Settlement::Snooze { after } => prepared(
                "UPDATE jobs SET state = 'ready', attempt = greatest(attempt - 1, 0), \
                 run_at = now() + ? * interval '1 microsecond', lease_owner = NULL, lease_until = NULL \
                 WHERE id = ? AND state = 'leased' AND lease_token = ?",
            )
            .bind::<BigInt, _>(micros(*after)),
            Settlement::Retry { after, error } => prepared(
                "UPDATE jobs SET state = 'ready', run_at = now() + ? * interval '1 microsecond', \
                 last_error = ?, errors = CASE WHEN jsonb_array_length(errors) >= 10 THEN errors - 0 ELSE errors END \
                   || jsonb_build_object('at', now(), 'attempt', attempt, 'error', ?), \
                 lease_owner = NULL, lease_until = NULL \
                 WHERE id = ? AND state = 'leased' AND lease_token = ?",
            )
            .bind::<BigInt, _>(micros(*after))
            .bind::<Text, _>(clip_error(error))
            .bind::<Text, _>(clip_error(error)),
            Settlement::Dead { error } => prepared(
                "UPDATE jobs SET state = 'dead', finished_at = now(), last_error = ?, \
                 errors = CASE WHEN jsonb_array_length(errors) >= 10 THEN errors - 0 ELSE errors END \
                   || jsonb_build_object('at', now(), 'attempt', attempt, 'error', ?), \
                 lease_owner = NULL, lease_until = NULL \
                 WHERE id = ? AND state = 'leased' AND lease_token = ?",
            )
            .bind::<Text, _>(clip_error(error))
            .bind::<Text, _>(clip_error(error)),
        };
        let rows = statement
            .bind::<BigInt, _>(lease.id.0)
            .bind::<BigInt, _>(lease.token)
            .execute(self.conn())
            .store()?;
        Ok(rows == 1)
    }

    fn settle_done(&mut self, leases: &[JobLease]) -> Result<usize, StoreError> {
        let (ids, tokens) = split(leases);
        prepared(
            "WITH held AS MATERIALIZED (SELECT j.id FROM jobs j \
               JOIN unnest(?, ?) AS h (id, token) ON h.id = j.id AND h.token = j.lease_token \
               WHERE j.state = 'leased' ORDER BY j.id FOR UPDATE OF j) \
             UPDATE jobs j SET state = 'done', finished_at = now(), lease_owner = NULL, lease_until = NULL FROM held \
             WHERE j.id = held.id",
        )
        .bind::<Array<BigInt>, _>(ids)
        .bind::<Array<BigInt>, _>(tokens)
        .execute(self.conn())
        .store()
    }

    fn enqueue_slot(&mut self, schedule: &Schedule) -> Result<Option<JobId>, StoreError> {
        let period = schedule.period_ms();
        let inserted = prepared(
            "WITH coming AS (SELECT floor(extract(epoch FROM now()) * 1000)::bigint / ? + 1 AS slot), \
             moved AS (INSERT INTO job_slots AS s (queue, kind, period_ms, begins_at) \
               SELECT ?, ?, ?, to_timestamp(least(slot::numeric * ?, 253370764800000) / 1000) FROM coming \
               WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE state = 'ready' AND queue = ? AND kind = ? \
                 AND run_at <= now() - least(?, 31536000000000) * interval '1 millisecond') \
               ON CONFLICT (queue, kind) DO UPDATE SET begins_at = excluded.begins_at, period_ms = excluded.period_ms \
               WHERE s.begins_at < excluded.begins_at OR s.period_ms <> excluded.period_ms RETURNING begins_at) \
             INSERT INTO jobs (queue, kind, run_at, max_attempts, dedup_key, payload) \
             SELECT ?, ?, begins_at, ?, slot::text, jsonb_build_object('slot', slot) FROM coming, moved \
             ON CONFLICT (kind, dedup_key) WHERE state IN ('ready', 'leased', 'held') DO NOTHING RETURNING id",
        )
        .bind::<BigInt, _>(period)
        .bind::<Text, _>(schedule.queue.as_str())
        .bind::<Text, _>(schedule.kind.as_str())
        .bind::<BigInt, _>(period)
        .bind::<BigInt, _>(period)
        .bind::<Text, _>(schedule.queue.as_str())
        .bind::<Text, _>(schedule.kind.as_str())
        .bind::<BigInt, _>(period)
        .bind::<Text, _>(schedule.queue.as_str())
        .bind::<Text, _>(schedule.kind.as_str())
        .bind::<Integer, _>(i32::try_from(DEFAULT_ATTEMPTS).unwrap_or(i32::MAX))
        .get_result::<Id>(self.conn())
        .optional()
        .store()?;
        Ok(inserted.map(|row| JobId(row.id)))
    }

    fn renew(&mut self, leases: &[JobLease], lease: Duration) -> Result<Vec<JobId>, StoreError> {
        let (ids, tokens) = split(leases);
        let rows = prepared(
            "WITH held AS MATERIALIZED (SELECT j.id FROM jobs j \
               JOIN unnest(?, ?) AS h (id, token) ON h.id = j.id AND h.token = j.lease_token \
               WHERE j.state = 'leased' ORDER BY j.id FOR UPDATE OF j) \
             UPDATE jobs j SET lease_until = now() + ? * interval '1 microsecond' FROM held \
             WHERE j.id = held.id RETURNING j.id",
        )
        .bind::<Array<BigInt>, _>(ids)
        .bind::<Array<BigInt>, _>(tokens)
        .bind::<BigInt, _>(micros(lease))
        .load::<Id>(self.conn())
        .store()?;
        Ok(rows.into_iter().map(|row| JobId(row.id)).collect())
    }

    fn reap(
        &mut self,
        policy: &Policy,
        memory: Duration,
        jitter: Jitter,
        rows: usize,
    ) -> Result<Reaped, StoreError> {
        // one pause for each number of crashes that is not the last
        let pauses: Vec<i64> =
            (1..=MAX_CRASHES.unsigned_abs()).map(|crash| micros(policy.delay(crash, jitter, None))).collect();
        let states = prepared(
            "WITH gone AS MATERIALIZED (SELECT id, \
               CASE WHEN crashed_at < now() - ? * interval '1 microsecond' THEN 1 ELSE crash_count + 1 END AS crash \
               FROM jobs WHERE state = 'leased' AND lease_until < now() \
               ORDER BY lease_until LIMIT ? FOR UPDATE SKIP LOCKED) \
             UPDATE jobs j SET crash_count = crash, crashed_at = now(), attempt = greatest(attempt - 1, 0), \
               state = CASE WHEN crash >= ? THEN 'dead' ELSE 'ready' END, \
               finished_at = CASE WHEN crash >= ? THEN now() END, \
               run_at = now() + coalesce((?)[crash], 0) * interval '1 microsecond', \
               last_error = CASE WHEN crash >= ? THEN 'crash loop: its workers vanished again and again' \
                 ELSE 'the worker vanished with it' END, \
               lease_owner = NULL, lease_until = NULL \
             FROM gone WHERE j.id = gone.id RETURNING j.state",
        )
        .bind::<BigInt, _>(micros(memory))
        .bind::<BigInt, _>(limit(rows))
        .bind::<Integer, _>(MAX_CRASHES)
        .bind::<Integer, _>(MAX_CRASHES)
        .bind::<Array<BigInt>, _>(pauses)
        .bind::<Integer, _>(MAX_CRASHES)
        .load::<State>(self.conn())
        .store()?;
        let dead = states.iter().filter(|row| row.state == "dead").count();
        Ok(Reaped { ready: states.len() - dead, dead })
    }

    fn give_back(&mut self, leases: &[JobLease]) -> Result<usize, StoreError> {
        let (ids, tokens) = split(leases);
        let rows = prepared(
            "WITH held AS MATERIALIZED (SELECT j.id FROM jobs j \
               JOIN unnest(?, ?) AS h (id, token) ON h.id = j.id AND h.token = j.lease_token \
               WHERE j.state = 'leased' ORDER BY j.id FOR UPDATE OF j) \
             UPDATE jobs j SET state = 'ready', attempt = greatest(attempt - 1, 0), run_at = now(), \
               lease_owner = NULL, lease_until = NULL FROM held WHERE j.id = held.id RETURNING j.queue",
        )
        .bind::<Array<BigInt>, _>(ids)
        .bind::<Array<BigInt>, _>(tokens)
        .load::<Queue>(self.conn())
        .store()?;
        let queues: BTreeSet<&str> = rows.iter().map(|row| row.queue.as_str()).collect();
        for queue in queues {
            self.wake(job_topic(queue));
        }
        Ok(rows.len())
    }

    fn prune(&mut self, keep_done: Duration, keep_dead: Duration, rows: usize) -> Result<usize, StoreError> {
        prepared(
            "WITH done AS (SELECT id FROM jobs WHERE state IN ('done', 'cancelled') \
               AND finished_at <= now() - ? * interval '1 microsecond' \
               ORDER BY finished_at LIMIT ? FOR UPDATE SKIP LOCKED), \
             dead AS (SELECT id FROM jobs WHERE state = 'dead' \
               AND finished_at <= now() - ? * interval '1 microsecond' \
               ORDER BY finished_at LIMIT ? FOR UPDATE SKIP LOCKED) \
             DELETE FROM jobs WHERE id IN (SELECT id FROM done UNION ALL SELECT id FROM dead)",
        )
        .bind::<BigInt, _>(micros(keep_done))
        .bind::<BigInt, _>(limit(rows))
        .bind::<BigInt, _>(micros(keep_dead))
        .bind::<BigInt, _>(limit(rows))
        .execute(self.conn())
        .store()
    }
}

fn split(leases: &[JobLease]) -> (Vec<i64>, Vec<i64>) {
    leases.iter().map(|lease| (lease.id.0, lease.token)).unzip()
}
