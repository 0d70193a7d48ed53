//! Replaying and discarding dead letters, on record.
//!
//! `by` is the administrator who acts; `None` is an operator at the command line.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_auth::Act;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_reliability::jobs::{JobId, JobRecord, JobState, LetterFilter, Resolution};
use plimsoll_reliability::submit::{REPLACE_ORDER, SUBMIT_ORDER};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::jobs::ReplayJob;

/// The longest reason for discarding a letter, in characters.
pub const LONGEST_REASON: usize = 500;
/// Ids of one audit entry.
const NAMED: usize = 200;

/// Why a letter is not replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreplayable {
    /// The order that it would send may not be sent any more.
    PastDeadline,
    /// A job with its key is open already.
    Open,
}

impl Unreplayable {
    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PastDeadline => "the deadline for sending its order has passed",
            Self::Open => "an open job does the same already",
        }
    }
}

/// What came of replaying or discarding one letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterDone<T> {
    /// It was done.
    Done(T),
    /// It cannot be replayed.
    Refused(Unreplayable),
    /// Something became of it already.
    Resolved(Resolution),
    /// There is no such letter.
    NotFound,
}

/// What came of replaying a number of letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replays {
    /// Letters that were looked at.
    pub matched: usize,
    /// Jobs that were inserted, or would be.
    pub replayed: usize,
    /// Letters that cannot be replayed, and why.
    pub refused: Vec<(JobId, Unreplayable)>,
    /// When the last of the jobs is due.
    pub last_run_at: Option<DateTime<Utc>>,
    /// The last letter that was looked at; `None`: there are no more.
    pub next: Option<JobId>,
}

/// What to replay of the letters that a filter finds.
#[derive(Clone, Copy, Debug)]
pub struct ReplayRange {
    /// Ids above.
    pub after: JobId,
    /// Ids up to: letters that die while others are replayed are left.
    pub up_to: JobId,
    /// At most so many letters.
    pub most: usize,
    /// Between two replays.
    pub pace: Duration,
}

#[derive(QueryableByName)]
struct Late {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

fn detail(by: Option<UserId>, mut fields: Value) -> Value {
    if by.is_none() {
        fields["via"] = "cli".into();
    }
    fields
}

fn order_of(letter: &JobRecord) -> Option<Uuid> {
    let sends = letter.kind == SUBMIT_ORDER || letter.kind == REPLACE_ORDER;
    letter.payload.get("order_id").and_then(Value::as_str).filter(|_| sends)?.parse().ok()
}

impl Tx<'_> {
    /// The letters that would send an order after its deadline.
    fn past_deadline(&mut self, letters: &[JobRecord]) -> Result<BTreeSet<JobId>, StoreError> {
        let orders: HashMap<JobId, Uuid> =
            letters.iter().filter_map(|letter| Some((letter.id, order_of(letter)?))).collect();
        if orders.is_empty() {
            return Ok(BTreeSet::new());
        }
        let ids: Vec<Uuid> = orders.values().copied().collect();
        let late: BTreeSet<Uuid> =
            prepared("SELECT id FROM orders WHERE id = ANY(?) AND submit_deadline < clock_timestamp()")
                .bind::<Array<SqlUuid>, _>(ids)
                .load::<Late>(self.conn())
                .store()?
                .into_iter()
                .map(|row| row.id)
                .collect();
        Ok(orders.into_iter().filter(|(_, order)| late.contains(order)).map(|(letter, _)| letter).collect())
    }

    /// Replays one dead letter at once: a new job with its key and payload, which names it as its parent.
    ///
    /// # Errors
    /// The store's own.
    pub fn replay_letter(
        &mut self,
        act: &Act,
        by: Option<UserId>,
        id: JobId,
    ) -> Result<LetterDone<ReplayJob>, StoreError> {
        let letter = match self.open_letter(id)? {
            LetterDone::Done(letter) => letter,
            LetterDone::Refused(why) => return Ok(LetterDone::Refused(why)),
            LetterDone::Resolved(how) => return Ok(LetterDone::Resolved(how)),
            LetterDone::NotFound => return Ok(LetterDone::NotFound),
        };
        if !self.past_deadline(std::slice::from_ref(&letter))?.is_empty() {
            return Ok(LetterDone::Refused(Unreplayable::PastDeadline));
        }
        let Some(replay) = self.insert_replays(&[id], by, Duration::ZERO)?.pop() else {
            // Somebody else was faster, or an open job has its key.
            return Ok(match self.open_letter(id)? {
                LetterDone::Resolved(how) => LetterDone::Resolved(how),
                _ => LetterDone::Refused(Unreplayable::Open),
            });
        };
        let fields = json!({ "job": id.0, "kind": letter.kind, "replay": replay.job.0 });
        let entry = act.entry("dead_letter.replay", AuditOutcome::Success, by, None, detail(by, fields));
        self.append_audit(None, &entry)?;
        Ok(LetterDone::Done(replay))
    }

    /// Replays open dead letters, or with `dry_run` only says which. Work through a filter's letters by calling it again
    /// with `next`, each time in a transaction of its own.
    ///
    /// # Errors
    /// The store's own.
    pub fn replay_letters(
        &mut self,
        act: &Act,
        by: Option<UserId>,
        filter: &LetterFilter,
        range: &ReplayRange,
        dry_run: bool,
    ) -> Result<Replays, StoreError> {
        let letters = self.letters_after(filter, range.after, range.up_to, range.most)?;
        let late = self.past_deadline(&letters)?;
        let good: Vec<JobId> =
            letters.iter().map(|letter| letter.id).filter(|id| !late.contains(id)).collect();
        let mut done = Replays {
            matched: letters.len(),
            refused: late.into_iter().map(|id| (id, Unreplayable::PastDeadline)).collect(),
            next: letters.last().filter(|_| letters.len() >= range.most).map(|letter| letter.id),
            ..Replays::default()
        };
        if dry_run {
            done.replayed = good.len();
            return Ok(done);
        }
        let replays = self.insert_replays(&good, by, range.pace)?;
        let inserted: BTreeSet<JobId> = replays.iter().map(|replay| replay.letter).collect();
        done.refused
            .extend(good.iter().filter(|id| !inserted.contains(id)).map(|id| (*id, Unreplayable::Open)));
        done.replayed = replays.len();
        done.last_run_at = replays.iter().map(|replay| replay.run_at).max();
        for part in replays.chunks(NAMED) {
            let jobs: Vec<i64> = part.iter().map(|replay| replay.letter.0).collect();
            let fields = json!({ "jobs": jobs, "replays_from": part[0].job.0, "filter": shown(filter) });
            let entry = act.entry("dead_letter.replay", AuditOutcome::Success, by, None, detail(by, fields));
            self.append_audit(None, &entry)?;
        }
        Ok(done)
    }

    /// Resolves a dead letter as one that nobody has to do. It stays on record for as long as any other.
    ///
    /// # Errors
    /// The store's own.
    pub fn discard_letter(
        &mut self,
        act: &Act,
        by: Option<UserId>,
        id: JobId,
        reason: &str,
    ) -> Result<LetterDone<()>, StoreError> {
        let letter = match self.open_letter(id)? {
            LetterDone::Done(letter) => letter,
            LetterDone::Refused(why) => return Ok(LetterDone::Refused(why)),
            LetterDone::Resolved(how) => return Ok(LetterDone::Resolved(how)),
            LetterDone::NotFound => return Ok(LetterDone::NotFound),
        };
        if !self.discard_open_letter(id, by, reason)? {
            // Between the two statements somebody else was faster.
            return self.open_letter(id).map(|now| match now {
                LetterDone::Resolved(how) => LetterDone::Resolved(how),
                _ => LetterDone::NotFound,
            });
        }
        let fields = json!({ "job": id.0, "kind": letter.kind, "reason": reason });
        let entry = act.entry("dead_letter.discard", AuditOutcome::Success, by, None, detail(by, fields));
        self.append_audit(None, &entry)?;
        Ok(LetterDone::Done(()))
    }

    fn open_letter(&mut self, id: JobId) -> Result<LetterDone<JobRecord>, StoreError> {
        let letter = self.job_record(id)?.filter(|job| job.state == JobState::Dead);
        Ok(match letter {
            None => LetterDone::NotFound,
            Some(letter) => match &letter.resolved {
                Some(resolved) => LetterDone::Resolved(resolved.how),
                None => LetterDone::Done(letter),
            },
        })
    }
}

/// A filter in an audit entry.
fn shown(filter: &LetterFilter) -> Value {
    json!({
        "queue": filter.queue, "kind": filter.kind, "error": filter.error,
        "from": filter.from.map(|at| at.to_rfc3339()), "to": filter.to.map(|at| at.to_rfc3339()),
    })
}

/// Checks the reason for discarding a letter.
///
/// # Errors
/// It is empty, too long, or not on one line.
pub fn check_reason(reason: &str) -> Result<&str, &'static str> {
    let reason = reason.trim();
    let length = reason.chars().count();
    if length == 0 || length > LONGEST_REASON || reason.chars().any(char::is_control) {
        return Err("must be a reason of 1 to 500 characters on one line");
    }
    Ok(reason)
}
