//! One code, from its arrival to its use.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;

use super::{ActionHash, AttemptRecord, Budget, Factor, Method, StoredSecret};
use crate::backup_codes::{BackupCode, BackupCodes, StoredCode};
use crate::mail::{Circumstances, Mail};
use crate::ports::AuthStore;
use crate::throttle::{Limit, Verdict, leaves_trace};
use crate::totp::{Checked, TotpCode, TotpSecret};
use crate::vault::{Alert, Audience};
use crate::{AccountPolicy, Act, TwoFactorPolicy};

/// A code as it came in.
#[derive(Debug, Clone)]
pub enum SubmittedCode {
    /// Six digits.
    Totp(TotpCode),
    /// Eight symbols.
    Backup(BackupCode),
    /// Neither: it is wrong, and counts as an attempt.
    Malformed,
}

impl SubmittedCode {
    /// Tells what a text is meant to be.
    #[must_use]
    pub fn parse(text: &SecretString) -> Self {
        let text = text.expose_secret();
        let totp = TotpCode::parse(text).map(Self::Totp);
        totp.or_else(|| BackupCode::parse(text).map(Self::Backup)).unwrap_or(Self::Malformed)
    }

    pub(crate) fn method(&self) -> Method {
        match self {
            Self::Totp(_) | Self::Malformed => Method::Totp,
            Self::Backup(_) => Method::BackupCode,
        }
    }
}

/// What a code is given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The second step of a login.
    Login,
    /// Opening sensitive acts for a while.
    StepUp,
    /// Confirming a new secret. The code is of the pending one.
    Enable,
    /// Turning the second factor off.
    Disable,
    /// New backup codes.
    Regenerate,
    /// One act with one payload.
    Action(ActionHash),
}

impl Purpose {
    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::StepUp => "step_up",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Regenerate => "regenerate",
            Self::Action(_) => "action",
        }
    }
}

/// Why a code is refused, for the record only: a client learns that it is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeRefusal {
    /// No code of the factor.
    Wrong,
    /// No code at all.
    Malformed,
    /// Of a step so many steps away: a clock is wrong.
    Drifted(i64),
    /// Of a step that is not above the last one used.
    Replayed,
    /// A backup code that was used before.
    Used,
    /// Too many wrong codes in a row disabled this method.
    Disabled,
    /// The factor changed while the code was verified.
    Stale,
    /// The password that is wanted beside the code is wrong.
    WrongPassword,
}

impl CodeRefusal {
    /// A stable name for records and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Malformed => "malformed",
            Self::Drifted(_) => "drifted",
            Self::Replayed => "replayed",
            Self::Used => "used",
            Self::Disabled => "disabled",
            Self::Stale => "stale",
            Self::WrongPassword => "wrong_password",
        }
    }
}

pub(crate) const ACCEPTED: &str = "accepted";
pub(crate) const THROTTLED: &str = "throttled";
pub(crate) const STARTED: &str = "started";

/// What a code is to be compared with. It counts as failed until [`settle`] says otherwise.
#[derive(Debug)]
pub struct Attempt {
    user: UserId,
    id: i64,
    purpose: Purpose,
    code: SubmittedCode,
    secret: Option<TotpSecret>,
    stored: Vec<StoredCode>,
    at: DateTime<Utc>,
}

/// Whether a code may be looked at.
#[derive(Debug)]
pub enum Begun {
    /// It may.
    Ready(Attempt),
    /// Too many codes were wrong; nothing was looked at.
    Throttled {
        /// When the next one may come.
        retry_after: Duration,
    },
    /// There is no second factor, or with [`Purpose::Enable`] none that waits to be confirmed.
    NoFactor,
    /// The stored secret does not open.
    Unreadable,
}

/// First step, one transaction: counts the attempt against the budgets of the account, which tickets and methods share,
/// before anything is compared, and reads what is needed.
///
/// # Errors
///
/// When the store fails.
pub fn begin<S>(
    store: &mut S,
    policy: &AccountPolicy,
    user: UserId,
    purpose: Purpose,
    code: SubmittedCode,
    act: &Act,
) -> Result<Begun, StoreError>
where
    S: AuthStore + ?Sized,
{
    if store.lock_account_of(user)?.is_none() {
        return Ok(Begun::NoFactor);
    }
    let Some(factor) = store.factor_of(user)? else { return Ok(Begun::NoFactor) };
    let Some(secret) = secret_for(&factor, purpose, act.at) else { return Ok(Begun::NoFactor) };
    let record = |outcome| AttemptRecord {
        method: code.method(),
        purpose,
        outcome,
        client: act.client.clone(),
        at: act.at,
    };
    if let Some(retry_after) = blocked(store, &policy.two_factor, user, Budget::Codes, act.at)? {
        if leaves_trace(store, &user.0.to_be_bytes(), act.at)? {
            store.insert_factor_attempt(user, &record(THROTTLED))?;
            let detail =
                json!({ "purpose": purpose.as_str(), "method": code.method().as_str(), "reason": THROTTLED });
            audit(store, user, "2fa.verify", AuditOutcome::Denied, detail, act)?;
        }
        return Ok(Begun::Throttled { retry_after });
    }
    let StoredSecret::Readable(secret) = secret else {
        let detail = json!({ "table": "user_2fa", "purpose": purpose.as_str() });
        let once = Limit::new(1, TimeDelta::minutes(1), 1);
        if matches!(store.take("secret.unreadable", &user.0.to_be_bytes(), once, act.at)?, Verdict::Allowed) {
            let message = format!(
                "The stored second factor of user {user} does not open: signing in with it has stopped. See the audit log."
            );
            store.alert(Audience::Administrators, &Alert { message, severity: "critical" }, act.at)?;
        }
        audit(store, user, "secret.unreadable", AuditOutcome::Failure, detail, act)?;
        return Ok(Begun::Unreadable);
    };
    let id = store.insert_factor_attempt(user, &record(STARTED))?;
    let stored = match (&code, factor.backup_disabled_at, purpose) {
        (SubmittedCode::Backup(_), None, purpose) if purpose != Purpose::Enable => {
            store.backup_codes_of(user)?
        }
        _ => Vec::new(),
    };
    let usable = purpose == Purpose::Enable || factor.totp_disabled_at.is_none();
    let secret = usable.then_some(secret);
    Ok(Begun::Ready(Attempt { user, id, purpose, code, secret, stored, at: act.at }))
}

/// As [`begin`], for a code that is given for one act with one payload and for nothing else.
///
/// # Errors
///
/// When the store fails.
pub fn begin_for<S>(
    store: &mut S,
    policy: &AccountPolicy,
    user: UserId,
    action: ActionHash,
    code: SubmittedCode,
    act: &Act,
) -> Result<Begun, StoreError>
where
    S: AuthStore + ?Sized,
{
    begin(store, policy, user, Purpose::Action(action), code, act)
}

fn secret_for(factor: &Factor, purpose: Purpose, now: DateTime<Utc>) -> Option<StoredSecret> {
    match purpose {
        Purpose::Enable => {
            factor.pending.as_ref().filter(|pending| now < pending.expires_at).map(|p| p.secret.clone())
        }
        _ => factor.secret.clone(),
    }
}

/// How long the account has to wait for its next try.
pub(crate) fn blocked<S>(
    store: &mut S,
    policy: &TwoFactorPolicy,
    user: UserId,
    budget: Budget,
    now: DateTime<Utc>,
) -> Result<Option<Duration>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let limits = [policy.per_hour, policy.per_day];
    let longest = limits.iter().map(|limit| limit.per).max().unwrap_or(TimeDelta::zero());
    let most = limits.iter().map(|limit| limit.count.max(1)).max().unwrap_or(1);
    let failures = store.failed_attempts_since(user, budget, now - longest, most)?;
    let waits = limits.iter().filter_map(|limit| {
        // with so many failures the oldest of them has to grow old before another try
        let oldest = failures.get(limit.count.max(1) as usize - 1)?;
        (*oldest + limit.per - now).to_std().ok().filter(|wait| !wait.is_zero())
    });
    Ok(waits.max())
}

/// What verification found.
#[derive(Debug)]
enum Finding {
    Totp { secret: TotpSecret, step: i64, offset: i64 },
    Backup { slot: i16, hash: PasswordHash },
    Refused(CodeRefusal),
}

/// A verified attempt, which nothing is used up of yet.
#[derive(Debug)]
pub struct Verified {
    user: UserId,
    id: i64,
    purpose: Purpose,
    method: Method,
    finding: Finding,
}

impl Attempt {
    /// Second step: pure computation, ten password hashes for a backup code. Keep it off the async workers.
    #[must_use]
    pub fn verify(self, codes: &BackupCodes) -> Verified {
        let Self { user, id, purpose, code, secret, stored, at } = self;
        let method = code.method();
        let finding = match code {
            SubmittedCode::Malformed => Finding::Refused(CodeRefusal::Malformed),
            SubmittedCode::Totp(code) => match secret {
                None => Finding::Refused(CodeRefusal::Disabled),
                Some(secret) => match secret.check(&code, at) {
                    Checked::Right { step, offset } => Finding::Totp { secret, step, offset },
                    Checked::Drifted { offset } => Finding::Refused(CodeRefusal::Drifted(offset)),
                    Checked::Wrong => Finding::Refused(CodeRefusal::Wrong),
                },
            },
            SubmittedCode::Backup(code) => {
                let found = codes.find(user, &code, &stored);
                match found.and_then(|slot| stored.into_iter().find(|known| known.slot == slot)) {
                    Some(known) if known.used_at.is_some() => Finding::Refused(CodeRefusal::Used),
                    Some(known) => Finding::Backup { slot: known.slot, hash: known.hash },
                    None => Finding::Refused(CodeRefusal::Wrong),
                }
            }
        };
        Verified { user, id, purpose, method, finding }
    }
}

impl Verified {
    /// Whose code it is.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.user
    }

    /// With what it was tried.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// Whether the code is right as far as it was computed; only [`settle`] decides.
    #[must_use]
    pub fn looks_right(&self) -> bool {
        !matches!(self.finding, Finding::Refused(_))
    }

    pub(super) fn is_refused_for(&self, reason: CodeRefusal) -> bool {
        matches!(self.finding, Finding::Refused(why) if why == reason)
    }

    /// The same attempt, refused for another reason; the code is not used up.
    pub(super) fn refused(self, reason: CodeRefusal) -> Self {
        Self { finding: Finding::Refused(reason), ..self }
    }
}

/// A code that was right and is used up. It is good for what it was given for.
#[derive(Debug)]
pub struct Proof {
    /// Whose it was.
    pub user: UserId,
    /// With what.
    pub method: Method,
    /// Backup codes that are left, where one was used.
    pub backup_codes_left: Option<usize>,
    purpose: Purpose,
}

impl Proof {
    /// Whether the code was given for this very act and payload. It takes the proof: one code, one act.
    #[must_use]
    pub fn authorises(self, action: &ActionHash) -> bool {
        self.purpose == Purpose::Action(*action)
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Settled {
    /// The code was right, and is used up with this transaction.
    Proven(Proof),
    /// It was not; attempt, counters and audit entry are written.
    Refused(CodeRefusal),
}

/// Third step, in the transaction of the act itself: uses the code up. Records a refusal in the audit log; an accepted
/// code is recorded by the act. `ids` gives the ids of mails.
///
/// # Errors
///
/// When the store fails; then the act must fail, too.
pub fn settle<S>(
    store: &mut S,
    policy: &AccountPolicy,
    verified: Verified,
    act: &Act,
    ids: &mut dyn FnMut() -> Uuid,
) -> Result<Settled, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Verified { user, id, purpose, method, finding } = verified;
    let Some(account) = store.lock_account_of(user)? else {
        return Ok(Settled::Refused(CodeRefusal::Stale));
    };
    let (refusal, offset) = match finding {
        Finding::Refused(CodeRefusal::Drifted(offset)) => (Some(CodeRefusal::Drifted(offset)), Some(offset)),
        Finding::Refused(reason) => (Some(reason), None),
        Finding::Totp { secret, step, offset } => {
            (use_totp(store, user, purpose, &secret, step, act.at)?, Some(offset))
        }
        Finding::Backup { slot, hash } => {
            let used = store.use_backup_code(user, slot, &hash, act.at)?;
            ((!used).then_some(CodeRefusal::Used), None)
        }
    };
    let offset_text = offset.and_then(|offset| i16::try_from(offset).ok());
    let outcome = refusal.map_or(ACCEPTED, CodeRefusal::code);
    store.finish_factor_attempt(user, id, outcome, offset_text)?;
    let Some(refusal) = refusal else {
        let mut left = None;
        if method == Method::BackupCode {
            let remaining = store.two_factor_status(user)?.backup_codes_remaining;
            let mail = Mail::BackupCodeUsed { left: remaining, circumstances: Circumstances::from(act) };
            store.post_mail(ids(), &account.user.email, Some(user), &mail, act.at)?;
            left = Some(remaining);
        }
        return Ok(Settled::Proven(Proof { user, method, backup_codes_left: left, purpose }));
    };
    let counts =
        matches!(refusal, CodeRefusal::Wrong | CodeRefusal::Drifted(_)) && purpose != Purpose::Enable;
    let disabled = counts && store.count_wrong_code(user, method, policy.login.disable_after, act.at)?;
    if disabled {
        let mail = Mail::FactorDisabled {
            factor: method.as_str().to_owned(),
            circumstances: Circumstances::from(act),
        };
        store.post_mail(ids(), &account.user.email, Some(user), &mail, act.at)?;
    }
    let mut detail =
        json!({ "purpose": purpose.as_str(), "method": method.as_str(), "reason": refusal.code() });
    if let CodeRefusal::Drifted(offset) = refusal {
        detail["step_offset"] = offset.into();
    }
    if disabled {
        detail["factor_disabled"] = true.into();
    }
    audit(store, user, "2fa.verify", AuditOutcome::Denied, detail, act)?;
    Ok(Settled::Refused(refusal))
}

fn use_totp<S>(
    store: &mut S,
    user: UserId,
    purpose: Purpose,
    secret: &TotpSecret,
    step: i64,
    now: DateTime<Utc>,
) -> Result<Option<CodeRefusal>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Some(factor) = store.factor_of(user)? else { return Ok(Some(CodeRefusal::Stale)) };
    let verified = StoredSecret::Readable(secret.clone());
    if secret_for(&factor, purpose, now) != Some(verified) {
        return Ok(Some(CodeRefusal::Stale));
    }
    let used = match purpose {
        Purpose::Enable => store.activate_pending_factor(user, secret, step, now)?,
        _ if factor.totp_disabled_at.is_some() => return Ok(Some(CodeRefusal::Disabled)),
        _ => store.use_totp_step(user, step, now)?,
    };
    Ok((!used).then_some(CodeRefusal::Replayed))
}

pub(crate) fn audit<S>(
    store: &mut S,
    user: UserId,
    action: &str,
    outcome: AuditOutcome,
    detail: serde_json::Value,
    act: &Act,
) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    store.append_audit(Some(user), &act.entry(action, outcome, Some(user), Some(user), detail))
}
