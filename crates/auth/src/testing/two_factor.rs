use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use super::MemoryStore;
use crate::backup_codes::StoredCode;
use crate::challenges::Challenge;
use crate::ports::{ChallengeStore, TwoFactorResetStore, TwoFactorStore};
use crate::totp::TotpSecret;
use crate::two_factor::{
    AttemptRecord, Budget, Factor, Method, OpenReset, PendingSecret, Status, StoredSecret,
};

#[derive(Debug, Default, Clone)]
struct Row {
    secret: Option<(TotpSecret, DateTime<Utc>)>,
    pending: Option<(TotpSecret, DateTime<Utc>)>,
    codes: Vec<StoredCode>,
    pending_codes: Vec<StoredCode>,
    last_step: i64,
    last_used_at: Option<DateTime<Utc>>,
    failures: [u32; 2],
    disabled_at: [Option<DateTime<Utc>>; 2],
}

#[derive(Debug, Clone)]
struct Reset {
    open: OpenReset,
    ended: bool,
}

/// Second factors, attempts, resets and challenges.
#[derive(Debug, Default, Clone)]
pub(super) struct Factors {
    rows: BTreeMap<i64, Row>,
    attempts: Vec<(UserId, AttemptRecord, String, Option<i16>)>,
    resets: Vec<Reset>,
    pub(super) challenges: Vec<(TokenDigest, Challenge)>,
    unreadable: bool,
}

impl MemoryStore {
    /// Lets every stored TOTP secret look as though it had been sealed with a lost key.
    pub fn lose_secrets(&mut self) {
        self.factors.unreadable = true;
    }

    /// Outcome and step offset of each attempt of a factor, oldest first.
    #[must_use]
    pub fn factor_attempts(&self) -> Vec<(AttemptRecord, String, Option<i16>)> {
        self.factors
            .attempts
            .iter()
            .map(|(_, a, outcome, offset)| (a.clone(), outcome.clone(), *offset))
            .collect()
    }

    /// All login challenges, oldest first.
    #[must_use]
    pub fn challenges(&self) -> Vec<Challenge> {
        self.factors.challenges.iter().map(|(_, challenge)| challenge.clone()).collect()
    }

    fn stored(&self, secret: &TotpSecret) -> StoredSecret {
        if self.factors.unreadable {
            StoredSecret::Unreadable
        } else {
            StoredSecret::Readable(secret.clone())
        }
    }
}

fn slots(codes: &[PasswordHash]) -> Vec<StoredCode> {
    codes.iter().zip(0..).map(|(hash, slot)| StoredCode { slot, hash: hash.clone(), used_at: None }).collect()
}

fn index(method: Method) -> usize {
    usize::from(method == Method::BackupCode)
}

impl TwoFactorStore for MemoryStore {
    fn factor_of(&mut self, user: UserId) -> Result<Option<Factor>, StoreError> {
        self.call()?;
        Ok(self.factors.rows.get(&user.0).map(|row| Factor {
            secret: row.secret.as_ref().map(|(secret, _)| self.stored(secret)),
            pending: row.pending.as_ref().map(|(secret, expires_at)| PendingSecret {
                secret: self.stored(secret),
                expires_at: *expires_at,
            }),
            totp_disabled_at: row.disabled_at[0],
            backup_disabled_at: row.disabled_at[1],
        }))
    }

    fn two_factor_status(&mut self, user: UserId) -> Result<Status, StoreError> {
        self.call()?;
        Ok(self.factors.rows.get(&user.0).map_or_else(Status::default, |row| Status {
            enabled_at: row.secret.as_ref().map(|(_, at)| *at),
            backup_codes_remaining: row.codes.iter().filter(|code| code.used_at.is_none()).count(),
            last_used_at: row.last_used_at,
        }))
    }

    fn set_pending_factor(
        &mut self,
        user: UserId,
        secret: &TotpSecret,
        expires_at: DateTime<Utc>,
        codes: &[PasswordHash],
        _at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.call()?;
        let row = self.factors.rows.entry(user.0).or_default();
        row.pending = Some((secret.clone(), expires_at));
        row.pending_codes = slots(codes);
        Ok(())
    }

    fn activate_pending_factor(
        &mut self,
        user: UserId,
        secret: &TotpSecret,
        step: i64,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        let Some(row) = self.factors.rows.get_mut(&user.0) else { return Ok(false) };
        if row.pending.as_ref().is_none_or(|(_, expires_at)| at >= *expires_at) {
            return Ok(false);
        }
        *row = Row {
            secret: Some((secret.clone(), at)),
            codes: std::mem::take(&mut row.pending_codes),
            last_step: step,
            last_used_at: Some(at),
            ..Row::default()
        };
        Ok(true)
    }

    fn use_totp_step(&mut self, user: UserId, step: i64, at: DateTime<Utc>) -> Result<bool, StoreError> {
        self.call()?;
        let row = self.factors.rows.get_mut(&user.0);
        let Some(row) =
            row.filter(|row| row.secret.is_some() && row.disabled_at[0].is_none() && row.last_step < step)
        else {
            return Ok(false);
        };
        (row.last_step, row.last_used_at, row.failures[0]) = (step, Some(at), 0);
        Ok(true)
    }

    fn backup_codes_of(&mut self, user: UserId) -> Result<Vec<StoredCode>, StoreError> {
        self.call()?;
        Ok(self.factors.rows.get(&user.0).map(|row| row.codes.clone()).unwrap_or_default())
    }

    fn use_backup_code(
        &mut self,
        user: UserId,
        slot: i16,
        hash: &PasswordHash,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        let Some(row) = self.factors.rows.get_mut(&user.0).filter(|row| row.secret.is_some()) else {
            return Ok(false);
        };
        let live = |code: &&mut StoredCode| code.slot == slot && code.hash == *hash && code.used_at.is_none();
        let Some(code) = row.codes.iter_mut().find(live) else { return Ok(false) };
        code.used_at = Some(at);
        (row.last_used_at, row.failures[1]) = (Some(at), 0);
        Ok(true)
    }

    fn replace_backup_codes(
        &mut self,
        user: UserId,
        codes: &[PasswordHash],
        _at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.call()?;
        if let Some(row) = self.factors.rows.get_mut(&user.0) {
            row.codes = slots(codes);
            (row.failures[1], row.disabled_at[1]) = (0, None);
        }
        Ok(())
    }

    fn remove_factor(&mut self, user: UserId) -> Result<bool, StoreError> {
        self.call()?;
        Ok(self.factors.rows.remove(&user.0).is_some())
    }

    fn count_wrong_code(
        &mut self,
        user: UserId,
        method: Method,
        limit: u32,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        let Some(row) = self.factors.rows.get_mut(&user.0) else { return Ok(false) };
        let at_method = index(method);
        row.failures[at_method] += 1;
        let now = row.failures[at_method] >= limit && row.disabled_at[at_method].is_none();
        if now {
            row.disabled_at[at_method] = Some(at);
        }
        Ok(now)
    }

    fn failed_attempts_since(
        &mut self,
        user: UserId,
        budget: Budget,
        since: DateTime<Utc>,
        most: u32,
    ) -> Result<Vec<DateTime<Utc>>, StoreError> {
        self.call()?;
        let counts = |method| (method == Method::Password) == (budget == Budget::Passwords);
        let mut times: Vec<_> = self
            .factors
            .attempts
            .iter()
            .filter(|(of, attempt, outcome, _)| {
                *of == user
                    && attempt.at > since
                    && counts(attempt.method)
                    && !matches!(outcome.as_str(), "accepted" | "throttled")
            })
            .map(|(_, attempt, _, _)| attempt.at)
            .collect();
        times.sort_by(|a, b| b.cmp(a));
        times.truncate(most as usize);
        Ok(times)
    }

    fn insert_factor_attempt(&mut self, user: UserId, attempt: &AttemptRecord) -> Result<i64, StoreError> {
        self.call()?;
        self.factors.attempts.push((user, attempt.clone(), attempt.outcome.to_owned(), None));
        Ok(self.factors.attempts.len() as i64)
    }

    fn finish_factor_attempt(
        &mut self,
        user: UserId,
        attempt: i64,
        outcome: &str,
        step_offset: Option<i16>,
    ) -> Result<(), StoreError> {
        self.call()?;
        let found = usize::try_from(attempt - 1).ok().and_then(|at| self.factors.attempts.get_mut(at));
        if let Some(found) = found.filter(|found| found.0 == user) {
            (found.2, found.3) = (outcome.to_owned(), step_offset);
        }
        Ok(())
    }
}

impl TwoFactorResetStore for MemoryStore {
    fn open_reset_of(&mut self, user: UserId) -> Result<Option<OpenReset>, StoreError> {
        self.call()?;
        Ok(self.factors.resets.iter().find(|r| r.open.user == user && !r.ended).map(|r| r.open))
    }

    fn insert_two_factor_reset(
        &mut self,
        reset: &OpenReset,
        _requested_by: Option<UserId>,
        _at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        if self.open_reset_of(reset.user)?.is_some() {
            return Err(StoreError::new(StoreErrorKind::Duplicate, "a reset is open"));
        }
        self.factors.resets.push(Reset { open: *reset, ended: false });
        Ok(())
    }

    fn cancel_two_factor_reset(
        &mut self,
        user: UserId,
        reset: Option<Uuid>,
        _at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        let is_it =
            |r: &&mut Reset| r.open.user == user && !r.ended && reset.is_none_or(|id| id == r.open.id);
        Ok(self.factors.resets.iter_mut().find(is_it).map(|r| r.ended = true).is_some())
    }

    fn due_two_factor_resets(&mut self, at: DateTime<Utc>, most: u32) -> Result<Vec<OpenReset>, StoreError> {
        self.call()?;
        let due = self.factors.resets.iter().filter(|r| !r.ended && r.open.due_at <= at).map(|r| r.open);
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|reset| reset.user.0);
        due.truncate(most as usize);
        Ok(due)
    }

    fn finish_two_factor_reset(
        &mut self,
        user: UserId,
        reset: Uuid,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        let is_it =
            |r: &&mut Reset| r.open.user == user && r.open.id == reset && !r.ended && r.open.due_at <= at;
        Ok(self.factors.resets.iter_mut().find(is_it).map(|r| r.ended = true).is_some())
    }
}

impl ChallengeStore for MemoryStore {
    fn insert_challenge(&mut self, digest: &TokenDigest, challenge: &Challenge) -> Result<(), StoreError> {
        self.call()?;
        self.factors.challenges.push((*digest, challenge.clone()));
        Ok(())
    }

    fn challenge_by_digest(&mut self, digest: &TokenDigest) -> Result<Option<Challenge>, StoreError> {
        self.call()?;
        Ok(self.factors.challenges.iter().find(|(known, _)| known == digest).map(|(_, found)| found.clone()))
    }

    fn take_challenge_try(
        &mut self,
        user: UserId,
        challenge: Uuid,
        most: u32,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        let found = self.live_challenge(user, challenge, at).filter(|found| found.tries < most);
        Ok(found.map(|found| found.tries += 1).is_some())
    }

    fn use_challenge(
        &mut self,
        user: UserId,
        challenge: Uuid,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        Ok(self.live_challenge(user, challenge, at).map(|found| found.ended_at = Some(at)).is_some())
    }
}

impl MemoryStore {
    fn live_challenge(&mut self, user: UserId, id: Uuid, at: DateTime<Utc>) -> Option<&mut Challenge> {
        let is_it = |c: &Challenge| c.user == user && c.id == id && c.ended_at.is_none() && at < c.expires_at;
        self.factors.challenges.iter_mut().map(|(_, challenge)| challenge).find(|c| is_it(c))
    }

    pub(super) fn void_challenges(&mut self, user: UserId, at: DateTime<Utc>) {
        for (_, challenge) in &mut self.factors.challenges {
            if challenge.user == user && challenge.ended_at.is_none() {
                challenge.ended_at = Some(at);
            }
        }
    }
}
