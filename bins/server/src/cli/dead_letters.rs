//! `dead-letters …`: jobs that were given up, beside a running server. Every act is in the audit log, without an actor and
//! with `"via": "cli"`.

use std::fmt::Write as _;
use std::time::Duration;

use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_reliability::jobs::{JobId, JobRecord, JobState, LetterFilter, redacted};
use plimsoll_storage::platform::letters::{LetterDone, ReplayRange, Replays, check_reason};
use serde_json::{Value, json};

use super::user_admin::{Opened, Said, act};
use super::{DeadLettersCommand, WhichLetters};
use crate::bootstrap::StartError;
use crate::config::{Environment, Settings};

/// Something was left as it was.
const LEFT: u8 = 3;
/// Letters of one transaction.
const AT_ONCE: usize = 200;

impl From<WhichLetters> for LetterFilter {
    fn from(which: WhichLetters) -> Self {
        let WhichLetters { queue, kind, error, from, to } = which;
        Self { queue, kind, error, from, to }
    }
}

/// Runs a command on dead letters.
///
/// # Errors
/// It is refused, or the database cannot be used.
pub(super) fn run(
    settings: &Settings,
    environment: &Environment,
    command: DeadLettersCommand,
) -> Result<u8, StartError> {
    let opened = Opened::beside(settings, environment)?;
    match command {
        DeadLettersCommand::List { which, limit, json } => {
            list(&opened, &which.into(), usize::from(limit))?.print(json);
            Ok(0)
        }
        DeadLettersCommand::Show { id, json } => {
            show(&opened, JobId(id))?.print(json);
            Ok(0)
        }
        DeadLettersCommand::Replay { id: Some(id), json, .. } => {
            replay(&opened, JobId(id))?.print(json);
            Ok(0)
        }
        DeadLettersCommand::Replay { id: None, which, all, limit, per_second, dry_run, json } => {
            let filter = LetterFilter::from(which);
            if filter == LetterFilter::default() && !all {
                let why = "say which: a number, --queue, --kind, --error, --from, --to, or --all";
                return Err(StartError::Refused(why.to_owned()));
            }
            let pace = Duration::from_secs(1) / per_second.max(1);
            let (said, left) = replay_many(&opened, &filter, usize::from(limit), pace, dry_run)?;
            said.print(json);
            Ok(if left == 0 { 0 } else { LEFT })
        }
        DeadLettersCommand::Discard { id, reason, json } => {
            discard(&opened, JobId(id), &reason)?.print(json);
            Ok(0)
        }
    }
}

fn refused(why: &str) -> StartError {
    StartError::Refused(why.to_owned())
}

fn done<T>(outcome: LetterDone<T>) -> Result<T, StartError> {
    match outcome {
        LetterDone::Done(done) => Ok(done),
        LetterDone::Refused(why) => Err(refused(why.as_str())),
        LetterDone::Resolved(how) => Err(refused(&format!("the dead letter was {how} already"))),
        LetterDone::NotFound => Err(refused("there is no such dead letter")),
    }
}

fn in_json(letter: &JobRecord) -> Value {
    let resolved = letter.resolved.as_ref();
    json!({
        "id": letter.id.0,
        "queue": letter.queue,
        "kind": letter.kind,
        "attempt": letter.attempt,
        "max_attempts": letter.max_attempts,
        "crash_count": letter.crash_count,
        "dedup_key": letter.dedup_key,
        "payload": redacted(&letter.payload),
        "last_error": letter.last_error,
        "errors": letter.errors,
        "parent_id": letter.parent.map(|id| id.0),
        "created_at": letter.created_at,
        "finished_at": letter.finished_at,
        "resolution": resolved.map(|resolved| resolved.how.as_str()),
        "resolution_reason": resolved.and_then(|resolved| resolved.reason.as_deref()),
        "replay_id": resolved.and_then(|resolved| resolved.replay).map(|id| id.0),
    })
}

fn list(opened: &Opened, filter: &LetterFilter, most: usize) -> Result<Said, StartError> {
    let letters = opened.db.run_blocking(|tx| {
        let letters = tx.letters(filter, None, None, most)?;
        let detail = json!({ "queue": filter.queue, "kind": filter.kind, "via": "cli" });
        let entry = act().entry("admin.dead_letters_list", AuditOutcome::Success, None, None, detail);
        tx.append_audit(None, &entry)?;
        Ok::<_, StoreError>(letters)
    })?;
    let mut line = String::new();
    for letter in &letters {
        let at = letter.finished_at.map(|at| at.to_rfc3339()).unwrap_or_default();
        let error = letter.last_error.as_deref().unwrap_or_default();
        // A String takes whatever is written.
        let _ = writeln!(line, "{}  {}  {}  {at}  {error}", letter.id, letter.queue, letter.kind);
    }
    let line = if letters.is_empty() { "there are none".to_owned() } else { line.trim_end().to_owned() };
    Ok(Said { line, json: letters.iter().map(in_json).collect() })
}

fn show(opened: &Opened, id: JobId) -> Result<Said, StartError> {
    let letter = opened.db.run_blocking(|tx| {
        let letter = tx.job_record(id)?.filter(|job| job.state == JobState::Dead);
        if let Some(letter) = &letter {
            let detail = json!({ "job": id.0, "kind": letter.kind, "via": "cli" });
            let entry = act().entry("admin.dead_letter_read", AuditOutcome::Success, None, None, detail);
            tx.append_audit(None, &entry)?;
        }
        Ok::<_, StoreError>(letter)
    })?;
    let json = in_json(&letter.ok_or_else(|| refused("there is no such dead letter"))?);
    let line = serde_json::to_string_pretty(&json).expect("texts and numbers serialise");
    Ok(Said { line, json })
}

fn replay(opened: &Opened, id: JobId) -> Result<Said, StartError> {
    let replay =
        done(opened.db.run_blocking(|tx| tx.replay_letter(&act(), None, id)).map_err(StartError::Store)?)?;
    Ok(Said {
        line: format!("job {} does the work of the dead letter {id}", replay.job),
        json: json!({ "id": id.0, "replay_id": replay.job.0 }),
    })
}

/// Also how many were left as they were.
fn replay_many(
    opened: &Opened,
    filter: &LetterFilter,
    most: usize,
    pace: Duration,
    dry_run: bool,
) -> Result<(Said, usize), StartError> {
    let mut all = Replays::default();
    let up_to = opened.db.read_blocking(|tx| tx.newest_letter()).map_err(StartError::Store)?;
    let mut after = up_to.map(|_| JobId(0));
    while let (Some(from), Some(up_to)) = (after.filter(|_| all.matched < most), up_to) {
        let range = ReplayRange { after: from, up_to, most: AT_ONCE.min(most - all.matched), pace };
        let part = opened
            .db
            .run_blocking(|tx| tx.replay_letters(&act(), None, filter, &range, dry_run))
            .map_err(StartError::Store)?;
        all.matched += part.matched;
        all.replayed += part.replayed;
        all.refused.extend(part.refused);
        all.last_run_at = part.last_run_at.or(all.last_run_at);
        after = part.next;
    }
    let what = if dry_run { "would be replayed" } else { "are replayed" };
    let mut line = format!("{} of {} dead letters {what}", all.replayed, all.matched);
    if let Some(at) = all.last_run_at {
        let _ = write!(line, ", the last one at {}", at.to_rfc3339());
    }
    for (id, why) in &all.refused {
        let _ = write!(line, "\n{id} is not: {}", why.as_str());
    }
    let refusals: Vec<_> =
        all.refused.iter().map(|(id, why)| json!({ "id": id.0, "reason": why.as_str() })).collect();
    let json = json!({
        "dry_run": dry_run,
        "matched": all.matched,
        "replayed": all.replayed,
        "refused": all.refused.len(),
        "refusals": refusals,
        "last_run_at": all.last_run_at,
    });
    Ok((Said { line, json }, all.refused.len()))
}

fn discard(opened: &Opened, id: JobId, reason: &str) -> Result<Said, StartError> {
    let reason = check_reason(reason).map_err(|why| refused(&format!("--reason {why}")))?;
    done(
        opened
            .db
            .run_blocking(|tx| tx.discard_letter(&act(), None, id, reason))
            .map_err(StartError::Store)?,
    )?;
    Ok(Said {
        line: format!("the dead letter {id} is discarded"),
        json: json!({ "id": id.0, "discarded": true }),
    })
}
