//! The job table in memory: the same rules as in the database, for comparison and for tests without one.

use std::time::Duration;

use chrono::DateTime;
use plimsoll_core_domain::{StoreError, StoreErrorKind};
use uuid::Uuid;

use super::store::{MemoryTx, StoredJob};
use crate::jobs::{
    Claim, Job, JobId, JobLease, JobQueue, JobState, MAX_CRASHES, NewJob, Reaped, Schedule, Settlement,
    job_topic,
};
use crate::retry::{Jitter, Policy};

impl MemoryTx<'_> {
    fn leased(&mut self, lease: JobLease) -> Option<&mut StoredJob> {
        let row = self.state.jobs.get_mut(&lease.id)?;
        (row.state == JobState::Leased && row.job.lease.token == lease.token).then_some(row)
    }
}

impl JobQueue for MemoryTx<'_> {
    fn enqueue(&mut self, job: &NewJob) -> Result<Option<JobId>, StoreError> {
        if job.max_attempts == 0 {
            return Err(StoreError::new(StoreErrorKind::Other, "a job has at least one attempt"));
        }
        let open = |row: &StoredJob| matches!(row.state, JobState::Ready | JobState::Leased | JobState::Held);
        let twin = job.dedup_key.is_some()
            && self
                .state
                .jobs
                .values()
                .any(|row| open(row) && row.job.kind == job.kind && row.job.dedup_key == job.dedup_key);
        if twin {
            return Ok(None);
        }
        let id = JobId(self.state.jobs.last_key_value().map_or(1, |(id, _)| id.0 + 1));
        let row = StoredJob {
            job: Job {
                lease: JobLease { id, token: 0 },
                queue: job.queue.clone(),
                kind: job.kind.clone(),
                attempt: 0,
                max_attempts: job.max_attempts,
                crash_count: 0,
                dedup_key: job.dedup_key.clone(),
                payload: job.payload.clone(),
                parent: job.parent,
                created_at: self.now,
            },
            state: JobState::Ready,
            priority: job.priority,
            run_at: self.now + job.delay,
            lease_until: DateTime::UNIX_EPOCH,
            owner: Uuid::nil(),
            crashed_at: None,
            last_error: None,
            finished_at: None,
        };
        self.state.jobs.insert(id, row);
        if job.delay.is_zero() {
            self.topics.push(job_topic(&job.queue));
        }
        Ok(Some(id))
    }

    fn claim(&mut self, claim: &Claim<'_>) -> Result<Vec<Job>, StoreError> {
        let now = self.now;
        let mut due: Vec<_> = self
            .state
            .jobs
            .values_mut()
            .filter(|row| row.state == JobState::Ready && row.run_at <= now && row.job.queue == claim.queue)
            .filter(|row| claim.kinds.contains(&row.job.kind))
            .filter(|row| {
                let account = row.job.payload.get("account_id").map(ToString::to_string);
                account.is_none_or(|account| !claim.except.contains(&account))
            })
            .collect();
        due.sort_by_key(|row| (row.priority, row.run_at, row.job.lease.id));
        Ok(due
            .into_iter()
            .take(claim.limit)
            .map(|row| {
                row.state = JobState::Leased;
                row.job.attempt += 1;
                row.job.lease.token += 1;
                row.owner = claim.owner;
                row.lease_until = now + claim.lease;
                row.job.clone()
            })
            .collect())
    }

    fn hold_job(&mut self, lease: JobLease) -> Result<bool, StoreError> {
        Ok(self.leased(lease).is_some())
    }

    fn settle(&mut self, lease: JobLease, settlement: &Settlement) -> Result<bool, StoreError> {
        let now = self.now;
        let Some(row) = self.leased(lease) else { return Ok(false) };
        let mut end = |state| {
            row.state = state;
            row.finished_at = Some(now);
        };
        match settlement {
            Settlement::Done => end(JobState::Done),
            Settlement::Dead { error } => {
                end(JobState::Dead);
                row.last_error = Some(error.clone());
            }
            Settlement::Retry { after, error } => {
                row.state = JobState::Ready;
                row.run_at = now + *after;
                row.last_error = Some(error.clone());
            }
            Settlement::Snooze { after } => {
                row.state = JobState::Ready;
                row.run_at = now + *after;
                row.job.attempt -= 1;
            }
        }
        Ok(true)
    }

    fn settle_done(&mut self, leases: &[JobLease]) -> Result<usize, StoreError> {
        let now = self.now;
        let mut done = 0;
        for lease in leases {
            if let Some(row) = self.leased(*lease) {
                row.state = JobState::Done;
                row.finished_at = Some(now);
                done += 1;
            }
        }
        Ok(done)
    }

    fn enqueue_slot(&mut self, schedule: &Schedule) -> Result<Option<JobId>, StoreError> {
        let (period, (slot, begins)) = (schedule.period_ms(), schedule.next_slot(self.now));
        let place = (schedule.queue.clone(), schedule.kind.clone());
        let overdue = self.now - chrono::TimeDelta::milliseconds(period.min(i64::MAX / 2_000));
        let waits = |row: &StoredJob| {
            row.state == JobState::Ready
                && row.run_at <= overdue
                && (&row.job.queue, &row.job.kind) == (&schedule.queue, &schedule.kind)
        };
        let asked = self.state.slots.get(&place).is_some_and(|last| last.0 == period && last.1 >= begins);
        if asked || self.state.jobs.values().any(waits) {
            return Ok(None);
        }
        self.state.slots.insert(place, (period, begins));
        self.enqueue(&schedule.job(slot, begins - self.now))
    }

    fn renew(&mut self, leases: &[JobLease], lease: Duration) -> Result<Vec<JobId>, StoreError> {
        let until = self.now + lease;
        Ok(leases
            .iter()
            .filter_map(|lease| {
                let row = self.leased(*lease)?;
                row.lease_until = until;
                Some(lease.id)
            })
            .collect())
    }

    fn reap(
        &mut self,
        policy: &Policy,
        memory: Duration,
        jitter: Jitter,
        limit: usize,
    ) -> Result<Reaped, StoreError> {
        let now = self.now;
        let mut reaped = Reaped::default();
        let expired = |row: &&mut StoredJob| row.state == JobState::Leased && row.lease_until < now;
        for row in self.state.jobs.values_mut().filter(expired).take(limit) {
            row.job.attempt -= 1;
            let forgotten = row.crashed_at.is_some_and(|at| at + memory < now);
            row.job.crash_count = if forgotten { 1 } else { row.job.crash_count + 1 };
            row.crashed_at = Some(now);
            row.last_error = Some("the worker vanished with it".into());
            if row.job.crash_count >= MAX_CRASHES as u32 {
                row.state = JobState::Dead;
                row.finished_at = Some(now);
                row.last_error = Some("crash loop: its workers vanished again and again".into());
                reaped.dead += 1;
            } else {
                row.state = JobState::Ready;
                row.run_at = now + policy.delay(row.job.crash_count, jitter, None);
                reaped.ready += 1;
            }
        }
        Ok(reaped)
    }

    fn give_back(&mut self, leases: &[JobLease]) -> Result<usize, StoreError> {
        let now = self.now;
        let mut given = 0;
        for lease in leases {
            if let Some(row) = self.leased(*lease) {
                row.state = JobState::Ready;
                row.job.attempt -= 1;
                row.run_at = now;
                given += 1;
            }
        }
        Ok(given)
    }

    fn prune(&mut self, keep_done: Duration, keep_dead: Duration, limit: usize) -> Result<usize, StoreError> {
        let now = self.now;
        let old = |row: &StoredJob| {
            let keep = match row.state {
                JobState::Done | JobState::Cancelled => keep_done,
                JobState::Dead => keep_dead,
                _ => return false,
            };
            row.finished_at.is_some_and(|at| at + keep <= now)
        };
        let ids: Vec<_> =
            self.state.jobs.iter().filter(|(_, row)| old(row)).map(|(id, _)| *id).take(limit).collect();
        for id in &ids {
            self.state.jobs.remove(id);
        }
        Ok(ids.len())
    }
}
