//! Signing in with e-mail address and password.
//!
//! Verifying a password takes a good part of a second, so a login has three steps: [`begin`] counts the attempt and reads
//! the account in a short transaction, [`Prepared::verify`] computes without any, [`finish`] checks again under a lock,
//! records the outcome and makes the session, or the challenge for a second factor. Whether an attempt may go on is
//! decided before anybody looks whether there is such an account.

mod arrival;
mod keys;
pub(crate) mod record;

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::{PasswordHash, Passwords};
use plimsoll_crypto::tokens::SecretToken;
use plimsoll_crypto::{CryptoRng, DeviceId};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;

use crate::challenges::NewChallenge;
use crate::ports::AuthStore;
use crate::throttle::{FailureRule, Verdict, leaves_trace};
use crate::{
    Account, AccountPolicy, AccountState, Act, EmailAddress, Session, Transport, User, challenges, sessions,
    two_factor,
};

pub use arrival::{Arrival, NewArrival, arrive};
pub use keys::LoginKeys;
pub(crate) use record::count_wrong_password;
pub use record::{AttemptRecord, Factor, PasswordState, Place};

/// Attempts of one network.
const BY_NETWORK: &str = "login_network";
/// Failures of an account, from anywhere.
const BY_ACCOUNT: &str = "login_account";
/// Failures of an account from a device that it was signed in from.
const BY_DEVICE: &str = "login_device";
/// Networks that tried many accounts.
const SPRAYING: &str = "login_spraying";

/// Why a login was refused, for the record only: a client must not learn it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// No account has this address, or the text is no address at all.
    UnknownUser,
    /// The password is wrong.
    WrongPassword,
    /// The password is right, the account disabled.
    Disabled,
    /// The password is right, and disabled after too many wrong ones.
    PasswordDisabled,
    /// The stored hash is no longer the one that was verified. A parallel login may only have hashed the same password
    /// anew, so the caller starts once more from [`begin`]; the second time it is a refusal like any other.
    PasswordChanged,
}

impl RefusalReason {
    /// A stable name for audit entries and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown_user",
            Self::WrongPassword => "wrong_password",
            Self::Disabled => "disabled",
            Self::PasswordDisabled => "password_disabled",
            Self::PasswordChanged => "password_changed",
        }
    }
}

/// A refused login. Its text is the same for every reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wrong e-mail address or password")]
pub struct Refusal {
    /// The account tried; `None` when there is none.
    pub user: Option<UserId>,
    /// Why, for the record only.
    pub reason: RefusalReason,
}

/// Whether an attempt may go on.
#[derive(Debug)]
pub enum Begun {
    /// It may: the password is to be verified.
    Ready(Prepared),
    /// Too many attempts, of this account, device or network. The same for accounts that do not exist.
    Throttled {
        /// When the next one may come.
        retry_after: Duration,
    },
}

/// What was read before the password is verified. It does not tell whether there is such an account.
pub struct Prepared {
    account: Option<Account>,
    identifier: [u8; 32],
    device: Option<DeviceId>,
}

/// First step, one transaction that must be committed: counts the attempt and, if it may go on, reads the account for an
/// address as typed. Text that is no address goes on as an unknown one. `device` is the value of the device cookie.
///
/// # Errors
///
/// When the store fails.
pub fn begin<S>(
    store: &mut S,
    policy: &AccountPolicy,
    keys: LoginKeys<'_>,
    email: &str,
    device: Option<&str>,
    act: &Act,
) -> Result<Begun, StoreError>
where
    S: AuthStore + ?Sized,
{
    let address = EmailAddress::parse(email).ok();
    let identifier = keys.identifier(address.as_ref().map_or(email, EmailAddress::folded));
    let device = device.and_then(|cookie| keys.devices.verify(&identifier, cookie));
    if let Some(retry_after) = blocked(store, policy, keys, &identifier, device, act)? {
        let from = act.client.ip().map_or(identifier, |ip| keys.network(ip));
        if leaves_trace(store, &from, act.at)? {
            store.record_login_attempt(&AttemptRecord::of(act, None, identifier, "throttled"))?;
        }
        return Ok(Begun::Throttled { retry_after });
    }
    let account = match &address {
        Some(address) => store.account_by_email(address)?,
        None => None,
    };
    Ok(Begun::Ready(Prepared { account, identifier, device }))
}

/// How long the attempt must wait, if it must; otherwise it is counted.
fn blocked<S>(
    store: &mut S,
    policy: &AccountPolicy,
    keys: LoginKeys<'_>,
    identifier: &[u8; 32],
    device: Option<DeviceId>,
    act: &Act,
) -> Result<Option<Duration>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let login = &policy.login;
    // A device that the account was signed in from is held to its own counters, not to what others do from its network.
    if let Some(device) = device {
        let key = keys.device(identifier, device);
        if let Verdict::Blocked { retry_after } = store.take(BY_NETWORK, &key, login.per_ip, act.at)? {
            return Ok(Some(retry_after));
        }
    } else if let Some(ip) = act.client.ip() {
        let network = keys.network(ip);
        if let Some(until) = store.blocked_until(SPRAYING, &network, act.at)? {
            return Ok(Some((until - act.at).to_std().unwrap_or_default()));
        }
        if let Verdict::Blocked { retry_after } = store.take(BY_NETWORK, &network, login.per_ip, act.at)? {
            return Ok(Some(retry_after));
        }
    }
    let rule = FailureRule {
        free: login.failures,
        window: login.failure_window,
        first: login.first_block,
        longest: login.longest_block,
    };
    let (kind, key) = failure_key(keys, identifier, device);
    match store.count_failure(kind, &key, rule, act.at)? {
        Verdict::Allowed => Ok(None),
        Verdict::Blocked { retry_after } => Ok(Some(retry_after)),
    }
}

/// A device that the account was signed in from has a counter of its own: guesses from elsewhere do not lock it out.
fn failure_key(
    keys: LoginKeys<'_>,
    identifier: &[u8; 32],
    device: Option<DeviceId>,
) -> (&'static str, [u8; 32]) {
    match device {
        Some(device) => (BY_DEVICE, keys.device(identifier, device)),
        None => (BY_ACCOUNT, *identifier),
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared(redacted)")
    }
}

/// What a password turned out to be. It does not say so when printed.
pub struct Verified {
    prepared: Prepared,
    right: bool,
    upgraded_hash: Option<PasswordHash>,
    pair: [u8; 32],
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verified(redacted)")
    }
}

impl Prepared {
    /// Second step: one password hash, for an unknown user as well. When the stored hash is weaker than today's
    /// parameters, a right password costs a second one. Pure computation: no store, no clock.
    #[must_use]
    pub fn verify<R>(
        self,
        passwords: &Passwords,
        keys: LoginKeys<'_>,
        password: &SecretString,
        rng: &mut R,
    ) -> Verified
    where
        R: CryptoRng + ?Sized,
    {
        let stored = self.account.as_ref().map(|account| &account.password_hash);
        let right = passwords.verify(password, stored);
        // A password too long for a new hash keeps its old one.
        let upgraded_hash = match stored {
            Some(stored) if right && passwords.needs_upgrade(stored) => passwords.hash(password, rng).ok(),
            _ => None,
        };
        let pair = keys.pair(&self.identifier, password.expose_secret());
        Verified { prepared: self, right, upgraded_hash, pair }
    }
}

/// The random parts of a new session.
#[derive(Debug)]
pub struct NewSession {
    /// The id under which it is listed.
    pub id: Uuid,
    /// The token that goes to the client.
    pub token: SecretToken,
}

/// A finished login.
#[derive(Debug)]
pub struct SignedIn {
    /// The new session; its token is the one that was given.
    pub session: Session,
    /// Its user.
    pub user: User,
    /// Older sessions that made room for this one.
    pub evicted: Vec<Uuid>,
    /// Whether the password was hashed anew with today's parameters.
    pub password_upgraded: bool,
    /// What goes with it.
    pub arrival: Arrival,
}

/// How a login ended. Each outcome has left its record, so the transaction is to be committed.
#[derive(Debug)]
pub enum Outcome {
    /// Signed in.
    SignedIn(Box<SignedIn>),
    /// The password is right; a second factor is wanted. The token given is that of the challenge.
    SecondFactor {
        /// Whose it is.
        user: UserId,
        /// When the challenge ends.
        expires_at: DateTime<Utc>,
    },
    /// 401, alike for every reason.
    Refused(Refusal),
    /// The password is right, the address not confirmed yet. Only somebody who knows the password learns it.
    EmailUnverified {
        /// Whose account it is.
        user: UserId,
    },
}

/// What a login takes with it.
#[derive(Debug)]
pub struct NewLogin {
    /// Of the session or the challenge.
    pub new: NewSession,
    /// How the session will travel.
    pub transport: Transport,
    /// For mails and places.
    pub arrival: NewArrival,
}

/// Third step, one transaction: checks state and password again under the account's lock; then a session, the oldest ones
/// beyond the cap ended, or a challenge for the second factor. Whatever the outcome, it is recorded.
///
/// # Errors
///
/// When the store fails; then nothing is written.
pub fn finish<S>(
    store: &mut S,
    policy: &AccountPolicy,
    keys: LoginKeys<'_>,
    verified: Verified,
    login: &NewLogin,
    act: &Act,
) -> Result<Outcome, StoreError>
where
    S: AuthStore + ?Sized,
{
    let Verified { prepared, right, upgraded_hash, pair } = verified;
    let Prepared { account, identifier, device } = prepared;
    let tried = (&identifier, &pair, login.arrival.mail);
    let Some(seen) = account else {
        return refuse(store, policy, keys, None, RefusalReason::UnknownUser, tried, act);
    };
    let id = seen.user.id;
    let Some(Account { user, password_hash }) = store.lock_account_of(id)? else {
        return refuse(store, policy, keys, None, RefusalReason::UnknownUser, tried, act);
    };
    let state = store.password_state(id)?;
    let reason = if !right {
        Some(RefusalReason::WrongPassword)
    } else if password_hash != seen.password_hash {
        Some(RefusalReason::PasswordChanged)
    } else if state.disabled_at.is_some() {
        Some(RefusalReason::PasswordDisabled)
    } else if user.state != AccountState::Active {
        Some(RefusalReason::Disabled)
    } else {
        None
    };
    if let Some(reason) = reason {
        return refuse(store, policy, keys, Some(&user), reason, tried, act);
    }
    let (kind, key) = failure_key(keys, &identifier, device);
    store.clear(kind, &key)?;
    if user.email_verified_at.is_none() {
        store.record_login_attempt(&AttemptRecord::of(act, Some(id), identifier, "email_unverified"))?;
        let detail = json!({ "reason": "email_unverified" });
        let entry = act.entry("login", AuditOutcome::Denied, None, Some(id), detail);
        store.append_audit(Some(id), &entry)?;
        return Ok(Outcome::EmailUnverified { user: id });
    }
    if state.failures > 0 {
        store.clear_password_failures(id)?;
    }
    if let Some(hash) = &upgraded_hash {
        store.set_password_hash(id, hash, act.at)?;
    }
    if two_factor::is_enabled(store, id)? {
        let new = NewChallenge {
            id: login.new.id,
            token: &login.new.token,
            transport: login.transport,
            after_failures: state.failures > 0,
        };
        let expires_at = challenges::begin(store, policy, id, new, act)?;
        store.record_login_attempt(&AttemptRecord::of(act, Some(id), identifier, "second_factor"))?;
        let detail = json!({ "challenge_id": login.new.id });
        let entry = act.entry("login.password", AuditOutcome::Success, Some(id), Some(id), detail);
        store.append_audit(Some(id), &entry)?;
        return Ok(Outcome::SecondFactor { user: id, expires_at });
    }
    let started = sessions::start(store, policy, id, login.transport, &login.new, false, act)?;
    let after_failures = state.failures > 0;
    let arrival = arrive(store, policy, keys, &user, device, after_failures, &login.arrival, act)?;
    store.record_login_attempt(&AttemptRecord::of(act, Some(id), identifier, "success"))?;
    let detail = json!({ "session_id": started.session.id, "method": "password" });
    let entry = act.entry("login", AuditOutcome::Success, Some(id), Some(id), detail);
    store.append_audit(Some(id), &entry)?;
    let (session, evicted) = (started.session, started.evicted);
    let password_upgraded = upgraded_hash.is_some();
    Ok(Outcome::SignedIn(Box::new(SignedIn { session, user, evicted, password_upgraded, arrival })))
}

/// Records a refusal: the attempt, the audit entry, the counters of the account's password and of spraying.
fn refuse<S>(
    store: &mut S,
    policy: &AccountPolicy,
    keys: LoginKeys<'_>,
    user: Option<&User>,
    reason: RefusalReason,
    (identifier, pair, mail): (&[u8; 32], &[u8; 32], Uuid),
    act: &Act,
) -> Result<Outcome, StoreError>
where
    S: AuthStore + ?Sized,
{
    let id = user.map(|user| user.id);
    let wrong = matches!(reason, RefusalReason::UnknownUser | RefusalReason::WrongPassword);
    if let Some(user) = user.filter(|_| reason == RefusalReason::WrongPassword) {
        record::count_wrong_password(store, policy, user, mail, act)?;
    }
    if let Some(ip) = act.client.ip().filter(|_| wrong) {
        let (network, login) = (keys.network(ip), &policy.login);
        let pairs = store.add_failed_pair(&network, pair, act.at - login.spray_window, act.at)?;
        if pairs >= login.spray_pairs {
            store.block(SPRAYING, &network, act.at + login.spray_block, act.at)?;
            let detail = json!({ "pairs": pairs });
            let entry = act.entry("login.spraying", AuditOutcome::Denied, None, None, detail);
            store.append_audit(None, &entry)?;
        }
    }
    store.record_login_attempt(&AttemptRecord::of(act, id, *identifier, reason.code()))?;
    let detail = json!({ "reason": reason.code() });
    let entry = act.entry("login", AuditOutcome::Denied, None, id, detail);
    store.append_audit(id, &entry)?;
    Ok(Outcome::Refused(Refusal { user: id, reason }))
}

/// Forgets what an account's failures blocked: its password was reset.
///
/// # Errors
///
/// When the store fails.
pub fn forget_failures<S>(store: &mut S, keys: LoginKeys<'_>, user: &User) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    store.clear(BY_ACCOUNT, &keys.identifier(user.email.folded()))?;
    store.clear_password_failures(user.id)
}

#[cfg(test)]
mod tests;
