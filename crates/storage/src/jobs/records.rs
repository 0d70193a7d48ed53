//! Jobs as operators see them, and what they do with dead letters.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_reliability::jobs::{
    JobCount, JobFilter, JobId, JobRecord, JobState, LetterFilter, Resolution, Resolved, job_topic,
};

use super::{limit, micros};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Held while replays get their times, so that two sets of them do not get the same.
const REPLAYS: i64 = 0x706c_6d5f_7265_706c;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = SmallInt)]
    priority: i16,
    #[diesel(sql_type = Timestamptz)]
    run_at: DateTime<Utc>,
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
    #[diesel(sql_type = Nullable<Text>)]
    last_error: Option<String>,
    #[diesel(sql_type = Jsonb)]
    errors: serde_json::Value,
    #[diesel(sql_type = Nullable<BigInt>)]
    parent_id: Option<i64>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    finished_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    resolved_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    resolution: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    resolved_by: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    resolution_reason: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    replay_id: Option<i64>,
}

macro_rules! columns {
    () => {
        "id, queue, kind, state, priority, run_at, attempt, max_attempts, crash_count, dedup_key, payload, last_error, \
         errors, parent_id, created_at, finished_at, resolved_at, resolution, resolved_by, resolution_reason, replay_id"
    };
}

impl TryFrom<Row> for JobRecord {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let bad = |column: &str, why: String| StoreError::inconsistent("jobs", column, row.id, why);
        let count = |column: &str, value: i32| {
            u32::try_from(value).map_err(|_| bad(column, "is negative".to_owned()))
        };
        let resolved = match (row.resolved_at, row.resolution.as_deref()) {
            (Some(at), Some(how)) => Some(Resolved {
                how: how.parse::<Resolution>().map_err(|why| bad("resolution", why.to_string()))?,
                at,
                by: row.resolved_by.map(UserId),
                reason: row.resolution_reason,
                replay: row.replay_id.map(JobId),
            }),
            _ => None,
        };
        Ok(Self {
            id: JobId(row.id),
            state: row.state.parse::<JobState>().map_err(|why| bad("state", why.to_string()))?,
            attempt: count("attempt", row.attempt)?,
            max_attempts: count("max_attempts", row.max_attempts)?,
            crash_count: count("crash_count", row.crash_count)?,
            queue: row.queue,
            kind: row.kind,
            priority: row.priority,
            run_at: row.run_at,
            dedup_key: row.dedup_key,
            payload: row.payload,
            last_error: row.last_error,
            errors: row.errors,
            parent: row.parent_id.map(JobId),
            created_at: row.created_at,
            finished_at: row.finished_at,
            resolved,
        })
    }
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = BigInt)]
    jobs: i64,
    #[diesel(sql_type = Timestamptz)]
    oldest: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Fresh {
    #[diesel(sql_type = BigInt)]
    letter: i64,
    #[diesel(sql_type = BigInt)]
    replay: i64,
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Timestamptz)]
    run_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Highest {
    #[diesel(sql_type = Nullable<BigInt>)]
    id: Option<i64>,
}

#[derive(QueryableByName)]
struct UntoldRow {
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = BigInt)]
    letters: i64,
    #[diesel(sql_type = Nullable<Text>)]
    error: Option<String>,
}

/// A job that does the work of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayJob {
    /// The letter.
    pub letter: JobId,
    /// The job.
    pub job: JobId,
    /// Not before.
    pub run_at: DateTime<Utc>,
}

/// Dead letters of a kind that administrators have not heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntoldLetters {
    /// The queue.
    pub queue: String,
    /// The kind.
    pub kind: String,
    /// How many.
    pub letters: u64,
    /// The error of one of them.
    pub error: Option<String>,
}

/// Begins and ends with what makes `LIKE` find a part; the part stands for itself.
fn part_of(text: &str) -> String {
    format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"))
}

fn records(rows: Vec<Row>) -> Result<Vec<JobRecord>, StoreError> {
    rows.into_iter().map(JobRecord::try_from).collect()
}

impl Tx<'_> {
    /// Jobs, newest first, at most `most`; with `before`, only those with a smaller id.
    ///
    /// # Errors
    /// The store's own; kind `Inconsistent` for a row that is none of ours.
    pub fn job_records(
        &mut self,
        filter: &JobFilter,
        before: Option<JobId>,
        most: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let rows = prepared(concat!(
            "SELECT ",
            columns!(),
            " FROM jobs WHERE id < ? AND state = coalesce(?, state) AND queue = coalesce(?, queue) \
             AND kind = coalesce(?, kind) ORDER BY id DESC LIMIT ?"
        ))
        .bind::<BigInt, _>(before.map_or(i64::MAX, |id| id.0))
        .bind::<Nullable<Text>, _>(filter.state.map(JobState::as_str))
        .bind::<Nullable<Text>, _>(filter.queue.as_deref())
        .bind::<Nullable<Text>, _>(filter.kind.as_deref())
        .bind::<BigInt, _>(limit(most))
        .load::<Row>(self.conn())
        .store()?;
        records(rows)
    }

    /// One job.
    ///
    /// # Errors
    /// As [`job_records`](Self::job_records).
    pub fn job_record(&mut self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        let row = prepared(concat!("SELECT ", columns!(), " FROM jobs WHERE id = ?"))
            .bind::<BigInt, _>(id.0)
            .get_result::<Row>(self.conn())
            .optional()
            .store()?;
        row.map(JobRecord::try_from).transpose()
    }

    /// Dead letters that nothing became of yet, or with `how` those that this became of; newest first, at most `most`; with
    /// `before`, only those with a smaller id.
    ///
    /// # Errors
    /// As [`job_records`](Self::job_records).
    pub fn letters(
        &mut self,
        filter: &LetterFilter,
        how: Option<Resolution>,
        before: Option<JobId>,
        most: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let statement = if how.is_none() {
            prepared(concat!(
                "SELECT ",
                columns!(),
                " FROM jobs WHERE state = 'dead' AND resolved_at IS NULL AND resolution IS NOT DISTINCT FROM ? AND id < ? \
                 AND queue = coalesce(?, queue) AND kind = coalesce(?, kind) \
                 AND (? IS NULL OR coalesce(last_error, '') ILIKE ?) \
                 AND finished_at >= coalesce(?, '-infinity') AND finished_at < coalesce(?, 'infinity') \
                 ORDER BY id DESC LIMIT ?"
            ))
        } else {
            prepared(concat!(
                "SELECT ",
                columns!(),
                " FROM jobs WHERE state = 'dead' AND resolution = ? AND id < ? \
                 AND queue = coalesce(?, queue) AND kind = coalesce(?, kind) \
                 AND (? IS NULL OR coalesce(last_error, '') ILIKE ?) \
                 AND finished_at >= coalesce(?, '-infinity') AND finished_at < coalesce(?, 'infinity') \
                 ORDER BY id DESC LIMIT ?"
            ))
        };
        let error = filter.error.as_deref().map(part_of);
        let rows = statement
            .bind::<Nullable<Text>, _>(how.map(Resolution::as_str))
            .bind::<BigInt, _>(before.map_or(i64::MAX, |id| id.0))
            .bind::<Nullable<Text>, _>(filter.queue.as_deref())
            .bind::<Nullable<Text>, _>(filter.kind.as_deref())
            .bind::<Nullable<Text>, _>(error.clone())
            .bind::<Nullable<Text>, _>(error)
            .bind::<Nullable<Timestamptz>, _>(filter.from)
            .bind::<Nullable<Timestamptz>, _>(filter.to)
            .bind::<BigInt, _>(limit(most))
            .load::<Row>(self.conn())
            .store()?;
        records(rows)
    }

    /// Open dead letters with ids above `after` and up to `up_to`, by id, at most `most`: for working through them.
    ///
    /// # Errors
    /// As [`job_records`](Self::job_records).
    pub fn letters_after(
        &mut self,
        filter: &LetterFilter,
        after: JobId,
        up_to: JobId,
        most: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        let error = filter.error.as_deref().map(part_of);
        let rows = prepared(concat!(
            "SELECT ",
            columns!(),
            " FROM jobs WHERE state = 'dead' AND resolved_at IS NULL AND id > ? AND id <= ? \
             AND queue = coalesce(?, queue) AND kind = coalesce(?, kind) \
             AND (? IS NULL OR coalesce(last_error, '') ILIKE ?) \
             AND finished_at >= coalesce(?, '-infinity') AND finished_at < coalesce(?, 'infinity') \
             ORDER BY id LIMIT ?"
        ))
        .bind::<BigInt, _>(after.0)
        .bind::<BigInt, _>(up_to.0)
        .bind::<Nullable<Text>, _>(filter.queue.as_deref())
        .bind::<Nullable<Text>, _>(filter.kind.as_deref())
        .bind::<Nullable<Text>, _>(error.clone())
        .bind::<Nullable<Text>, _>(error)
        .bind::<Nullable<Timestamptz>, _>(filter.from)
        .bind::<Nullable<Timestamptz>, _>(filter.to)
        .bind::<BigInt, _>(limit(most))
        .load::<Row>(self.conn())
        .store()?;
        records(rows)
    }

    /// The id of the newest open dead letter.
    ///
    /// # Errors
    /// The store's own.
    pub fn newest_letter(&mut self) -> Result<Option<JobId>, StoreError> {
        let row = prepared("SELECT max(id) AS id FROM jobs WHERE state = 'dead' AND resolved_at IS NULL")
            .get_result::<Highest>(self.conn())
            .store()?;
        Ok(row.id.map(JobId))
    }

    /// Inserts a job for each of these dead letters that is open, with the letter's key and payload, and resolves the
    /// letter. They stand behind the other jobs of their queue: ten thousand of them must not keep an order from going out.
    /// The first is due when the replays that wait already have begun, each further one `pace` later. A letter
    /// whose key an open job has stays as it is, and so does one that is no letter any more.
    ///
    /// # Errors
    /// The store's own.
    pub fn insert_replays(
        &mut self,
        letters: &[JobId],
        by: Option<UserId>,
        pace: Duration,
    ) -> Result<Vec<ReplayJob>, StoreError> {
        if letters.is_empty() {
            return Ok(Vec::new());
        }
        prepared("SELECT pg_advisory_xact_lock(?)")
            .bind::<BigInt, _>(REPLAYS)
            .execute(self.conn())
            .store()?;
        let ids: Vec<i64> = letters.iter().map(|id| id.0).collect();
        let rows = prepared(
            "WITH letters AS MATERIALIZED (SELECT id, queue, kind, priority, max_attempts, dedup_key, payload FROM jobs \
               WHERE id = ANY(?) AND state = 'dead' AND resolved_at IS NULL ORDER BY id FOR UPDATE), \
             base AS (SELECT greatest(now(), max(run_at) + ? * interval '1 microsecond') AS at FROM jobs \
               WHERE state = 'ready' AND parent_id IS NOT NULL AND attempt = 0 AND run_at > now()), \
             fresh AS (INSERT INTO jobs (queue, kind, priority, run_at, max_attempts, dedup_key, payload, parent_id) \
               SELECT queue, kind, least(priority + 10, 32767)::smallint, \
                 base.at + (row_number() OVER (ORDER BY id) - 1) * ? * interval '1 microsecond', \
                 max_attempts, dedup_key, payload, id FROM letters, base ORDER BY id \
               ON CONFLICT (kind, dedup_key) WHERE state IN ('ready', 'leased', 'held') DO NOTHING \
               RETURNING id, parent_id, queue, run_at) \
             UPDATE jobs j SET resolved_at = now(), resolution = 'replayed', resolved_by = ?, replay_id = fresh.id \
             FROM fresh WHERE j.id = fresh.parent_id \
             RETURNING j.id AS letter, fresh.id AS replay, fresh.queue, fresh.run_at",
        )
        .bind::<Array<BigInt>, _>(ids)
        .bind::<BigInt, _>(micros(pace))
        .bind::<BigInt, _>(micros(pace))
        .bind::<Nullable<BigInt>, _>(by.map(|user| user.0))
        .load::<Fresh>(self.conn())
        .store()?;
        let mut replays = Vec::with_capacity(rows.len());
        for row in rows {
            self.wake(job_topic(&row.queue));
            replays.push(ReplayJob { letter: JobId(row.letter), job: JobId(row.replay), run_at: row.run_at });
        }
        replays.sort_by_key(|replay| replay.letter);
        Ok(replays)
    }

    /// Resolves an open dead letter as one that nobody has to do. `false`: it is no open letter.
    ///
    /// # Errors
    /// The store's own.
    pub fn discard_open_letter(
        &mut self,
        id: JobId,
        by: Option<UserId>,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let rows = prepared(
            "UPDATE jobs SET resolved_at = now(), resolution = 'discarded', resolved_by = ?, resolution_reason = ? \
             WHERE id = ? AND state = 'dead' AND resolved_at IS NULL",
        )
        .bind::<Nullable<BigInt>, _>(by.map(|user| user.0))
        .bind::<Text, _>(reason)
        .bind::<BigInt, _>(id.0)
        .execute(self.conn())
        .store()?;
        Ok(rows == 1)
    }

    /// How many jobs of each kind are open or are dead letters that nothing became of.
    ///
    /// # Errors
    /// As [`job_records`](Self::job_records).
    pub fn job_counts(&mut self) -> Result<Vec<JobCount>, StoreError> {
        let rows = prepared(
            "SELECT queue, kind, state, count(*) AS jobs, min(run_at) AS oldest FROM jobs \
             WHERE state IN ('ready', 'leased', 'held') GROUP BY queue, kind, state \
             UNION ALL SELECT queue, kind, state, count(*), min(finished_at) FROM jobs \
             WHERE state = 'dead' AND resolved_at IS NULL GROUP BY queue, kind, state \
             ORDER BY queue, kind, state",
        )
        .load::<CountRow>(self.conn())
        .store()?;
        rows.into_iter()
            .map(|row| {
                let state = row
                    .state
                    .parse()
                    .map_err(|_| StoreError::inconsistent("jobs", "state", &row.kind, "not a job state"))?;
                Ok(JobCount {
                    queue: row.queue,
                    kind: row.kind,
                    state,
                    jobs: u64::try_from(row.jobs).unwrap_or_default(),
                    oldest: row.oldest,
                })
            })
            .collect()
    }

    /// Takes at most `most` open dead letters that administrators have not been told of, and counts them as told.
    ///
    /// # Errors
    /// The store's own.
    pub fn take_untold_letters(&mut self, most: usize) -> Result<Vec<UntoldLetters>, StoreError> {
        let rows = prepared(
            "WITH untold AS MATERIALIZED (SELECT id FROM jobs \
               WHERE state = 'dead' AND resolved_at IS NULL AND told_at IS NULL ORDER BY id LIMIT ? FOR UPDATE), \
             told AS (UPDATE jobs j SET told_at = now() FROM untold WHERE j.id = untold.id \
               RETURNING j.queue, j.kind, j.last_error) \
             SELECT queue, kind, count(*) AS letters, max(last_error) AS error FROM told \
             GROUP BY queue, kind ORDER BY queue, kind",
        )
        .bind::<BigInt, _>(limit(most))
        .load::<UntoldRow>(self.conn())
        .store()?;
        Ok(rows
            .into_iter()
            .map(|row| UntoldLetters {
                queue: row.queue,
                kind: row.kind,
                letters: u64::try_from(row.letters).unwrap_or_default(),
                error: row.error,
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::part_of;

    #[test]
    fn what_is_looked_for_stands_for_itself() {
        assert_eq!(part_of("50 %"), "%50 \\%%");
        assert_eq!(part_of("a_b\\c"), "%a\\_b\\\\c%");
    }
}
