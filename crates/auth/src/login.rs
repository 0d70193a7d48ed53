//! Signing in with e-mail address and password.
//!
//! Verifying a password takes a good part of a second, so a login has three steps: [`prepare`] reads the account in a
//! short transaction, [`Prepared::verify`] computes without any, [`finish`] checks again under a lock and makes the
//! session. The caller bounds how many verifications run at once, and records each outcome.

use std::fmt;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::CryptoRng;
use plimsoll_crypto::passwords::{PasswordHash, Passwords};
use plimsoll_crypto::tokens::SecretToken;
use secrecy::SecretString;
use uuid::Uuid;

use crate::ports::{AccountStore, SessionStore};
use crate::{Account, AccountState, ClientInfo, EmailAddress, Session, SessionPolicy, User};

/// Why a login was refused, for the record only: a client must not learn it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// No account has this address, or the text is no address at all.
    UnknownUser,
    /// The password is wrong.
    WrongPassword,
    /// The password is right, the account disabled.
    Disabled,
    /// The stored hash is no longer the one that was verified. A parallel login may only have hashed the same password
    /// anew, so the caller starts once more from [`prepare`]; the second time it is a refusal like any other.
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

/// Why a login does not lead to a session.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// 401, alike for every reason.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The password is right, the address not confirmed yet. Only somebody who knows the password learns it.
    #[error("the e-mail address is not verified")]
    EmailUnverified {
        /// Whose account it is.
        user: UserId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was read before the password is verified. It does not tell whether there is such an account.
pub struct Prepared {
    account: Option<Account>,
}

/// First step: reads the account for an address as typed. Text that is no address goes on as an unknown one.
///
/// # Errors
///
/// When the store fails.
pub fn prepare<S>(store: &mut S, email: &str) -> Result<Prepared, StoreError>
where
    S: AccountStore + ?Sized,
{
    let account = match EmailAddress::parse(email) {
        Ok(email) => store.account_by_email(&email)?,
        Err(_) => None,
    };
    Ok(Prepared { account })
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared(redacted)")
    }
}

/// A right password, with what is needed to make a session for it.
#[derive(Debug)]
pub struct Verified {
    user: UserId,
    verified_hash: PasswordHash,
    upgraded_hash: Option<PasswordHash>,
}

impl Verified {
    /// Whose password it is.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.user
    }
}

impl Prepared {
    /// Second step: one password hash, for an unknown user as well. When the stored hash is weaker than today's
    /// parameters, a right password costs a second one. Pure computation: no store, no clock.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with the reasons [`RefusalReason::UnknownUser`] and [`RefusalReason::WrongPassword`].
    pub fn verify<R>(
        self,
        passwords: &Passwords,
        password: &SecretString,
        rng: &mut R,
    ) -> Result<Verified, Refusal>
    where
        R: CryptoRng + ?Sized,
    {
        let right = passwords.verify(password, self.account.as_ref().map(|account| &account.password_hash));
        let Some(account) = self.account else {
            return Err(Refusal { user: None, reason: RefusalReason::UnknownUser });
        };
        if !right {
            return Err(Refusal { user: Some(account.user.id), reason: RefusalReason::WrongPassword });
        }
        // A password too long for a new hash keeps its old one.
        let upgraded_hash = if passwords.needs_upgrade(&account.password_hash) {
            passwords.hash(password, rng).ok()
        } else {
            None
        };
        Ok(Verified { user: account.user.id, verified_hash: account.password_hash, upgraded_hash })
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
    /// Goes to the client, once; only its digest was stored.
    pub token: SecretToken,
    /// The new session.
    pub session: Session,
    /// Its user.
    pub user: User,
    /// Older sessions that made room for this one.
    pub evicted: Vec<Uuid>,
    /// Whether the password was hashed anew with today's parameters.
    pub password_upgraded: bool,
}

/// Third step, one transaction: checks state and password again under the account's lock, makes the session, ends the
/// oldest ones beyond the cap, stores an upgraded hash. Nothing is written when it fails.
///
/// # Errors
///
/// See [`LoginError`].
pub fn finish<S>(
    store: &mut S,
    policy: &SessionPolicy,
    verified: Verified,
    client: &ClientInfo,
    new: NewSession,
    now: DateTime<Utc>,
) -> Result<SignedIn, LoginError>
where
    S: AccountStore + SessionStore + ?Sized,
{
    let refused = |reason| Refusal { user: Some(verified.user), reason };
    let Account { user, password_hash } = store
        .lock_account_of(verified.user)?
        .ok_or(Refusal { user: None, reason: RefusalReason::UnknownUser })?;
    if password_hash != verified.verified_hash {
        return Err(refused(RefusalReason::PasswordChanged).into());
    }
    if user.state != AccountState::Active {
        return Err(refused(RefusalReason::Disabled).into());
    }
    if user.email_verified_at.is_none() {
        return Err(LoginError::EmailUnverified { user: user.id });
    }
    if let Some(hash) = &verified.upgraded_hash {
        store.set_password_hash(user.id, hash, now)?;
    }
    let live = store.live_sessions_of(user.id, now)?;
    let beyond = (live.len() + 1).saturating_sub(policy.max_per_user());
    let evicted: Vec<Uuid> = live.iter().take(beyond).map(|session| session.id).collect();
    for session in &evicted {
        store.revoke_session(user.id, *session, now)?;
    }
    let session = Session::begin(new.id, user.id, client, policy, now);
    store.insert_session(&new.token.digest(), &session)?;
    let password_upgraded = verified.upgraded_hash.is_some();
    Ok(SignedIn { token: new.token, session, user, evicted, password_upgraded })
}

#[cfg(test)]
mod tests;
