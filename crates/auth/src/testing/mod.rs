//! An in-memory store for tests and examples (feature `testing`).

mod api_tokens;
#[cfg(test)]
pub(crate) mod factors;
mod login;
mod mail;
mod reset;
mod setup;
mod throttle;
mod two_factor;
mod unfinished;
mod user_admin;
mod vault;
mod verification;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::{AuditEntry, AuditLog};
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::ports::{AccountStore, SessionStore};
use crate::{Account, AccountState, EmailAddress, NewUser, Session, User};

pub use mail::PostedMail;

/// Keeps everything in maps. It has no transactions: what a failed use case wrote before it failed, stays.
#[derive(Debug, Default, Clone)]
pub struct MemoryStore {
    accounts: BTreeMap<i64, Account>,
    sessions: HashMap<TokenDigest, Session>,
    api_tokens: api_tokens::Tokens,
    audit: Vec<(Option<UserId>, AuditEntry)>,
    mails: Vec<PostedMail>,
    throttles: throttle::Buckets,
    logins: login::Logins,
    changes: reset::Changes,
    factors: two_factor::Factors,
    told: unfinished::Told,
    vault: vault::Vault,
    verifications: verification::Kept,
    setup_tokens: Vec<setup::Kept>,
    fail_at: Option<(usize, StoreErrorKind)>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the call after `calls` good ones fail, once.
    pub fn fail_after(&mut self, calls: usize, kind: StoreErrorKind) {
        self.fail_at = Some((calls, kind));
    }

    /// The stored account, to look at or to change behind a use case's back.
    pub fn account_mut(&mut self, user: UserId) -> Option<&mut Account> {
        self.accounts.get_mut(&user.0)
    }

    /// All sessions, ended ones too, oldest first.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session> {
        let mut sessions: Vec<Session> = self.sessions.values().cloned().collect();
        sessions.sort_by_key(|session| (session.created_at, session.id));
        sessions
    }

    /// The audit entries, each with the owner of its chain, oldest first.
    #[must_use]
    pub fn audit(&self) -> &[(Option<UserId>, AuditEntry)] {
        &self.audit
    }

    /// The mails, oldest first.
    #[must_use]
    pub fn mails(&self) -> &[PostedMail] {
        &self.mails
    }

    fn call(&mut self) -> Result<(), StoreError> {
        match self.fail_at.take() {
            Some((0, kind)) => Err(StoreError::new(kind, "as the test asked")),
            Some((calls, kind)) => {
                self.fail_at = Some((calls - 1, kind));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn session_mut(&mut self, user: UserId, id: Uuid) -> Option<&mut Session> {
        self.sessions.values_mut().find(|session| session.user_id == user && session.id == id)
    }
}

impl AccountStore for MemoryStore {
    fn account_by_email(&mut self, email: &EmailAddress) -> Result<Option<Account>, StoreError> {
        self.call()?;
        Ok(self.accounts.values().find(|account| account.user.email.folded() == email.folded()).cloned())
    }

    fn lock_account_of(&mut self, user: UserId) -> Result<Option<Account>, StoreError> {
        self.call()?;
        Ok(self.accounts.get(&user.0).cloned())
    }

    fn user_by_id(&mut self, user: UserId) -> Result<Option<User>, StoreError> {
        self.call()?;
        Ok(self.accounts.get(&user.0).map(|account| account.user.clone()))
    }

    fn insert_user(&mut self, user: &NewUser) -> Result<UserId, StoreError> {
        if self.account_by_email(&user.email)?.is_some() {
            return Err(StoreError::new(StoreErrorKind::Duplicate, "the address is taken"));
        }
        let id = UserId(self.accounts.keys().last().map_or(1, |last| last + 1));
        let stored = User {
            id,
            email: user.email.clone(),
            display_name: user.display_name.clone(),
            role: user.role,
            state: AccountState::Active,
            email_verified_at: user.email_verified_at,
        };
        self.accounts.insert(id.0, Account { user: stored, password_hash: user.password_hash.clone() });
        Ok(id)
    }

    fn set_password_hash(
        &mut self,
        user: UserId,
        hash: &PasswordHash,
        _at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.call()?;
        let account = self
            .accounts
            .get_mut(&user.0)
            .ok_or_else(|| StoreError::new(StoreErrorKind::Other, "no such user"))?;
        account.password_hash = hash.clone();
        Ok(())
    }
}

impl SessionStore for MemoryStore {
    fn insert_session(&mut self, digest: &TokenDigest, session: &Session) -> Result<(), StoreError> {
        self.call()?;
        if self.sessions.contains_key(digest) {
            return Err(StoreError::new(StoreErrorKind::Duplicate, "the token is taken"));
        }
        self.sessions.insert(*digest, session.clone());
        Ok(())
    }

    fn session_by_digest(&mut self, digest: &TokenDigest) -> Result<Option<(Session, User)>, StoreError> {
        self.call()?;
        let Some(session) = self.sessions.get(digest) else { return Ok(None) };
        Ok(self.accounts.get(&session.user_id.0).map(|account| (session.clone(), account.user.clone())))
    }

    fn live_sessions_of(&mut self, user: UserId, now: DateTime<Utc>) -> Result<Vec<Session>, StoreError> {
        self.call()?;
        Ok(self
            .sessions()
            .into_iter()
            .filter(|session| session.user_id == user && session.is_live(now))
            .collect())
    }

    fn touch_session(
        &mut self,
        user: UserId,
        session: Uuid,
        last_seen_at: DateTime<Utc>,
        idle_expires_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.call()?;
        if let Some(session) = self.session_mut(user, session).filter(|session| session.revoked_at.is_none())
        {
            session.last_seen_at = session.last_seen_at.max(last_seen_at);
            session.idle_expires_at = session.idle_expires_at.max(idle_expires_at);
        }
        Ok(())
    }

    fn revoke_session(&mut self, user: UserId, session: Uuid, at: DateTime<Utc>) -> Result<bool, StoreError> {
        self.call()?;
        let live = self.session_mut(user, session).filter(|session| session.revoked_at.is_none());
        Ok(live.map(|session| session.revoked_at = Some(at)).is_some())
    }

    fn revoke_all_sessions_of(
        &mut self,
        user: UserId,
        except: Option<Uuid>,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        self.call()?;
        let live = |session: &&mut Session| {
            session.user_id == user && session.revoked_at.is_none() && Some(session.id) != except
        };
        Ok(self.sessions.values_mut().filter(live).map(|session| session.revoked_at = Some(at)).count()
            as u64)
    }

    fn rotate_session(
        &mut self,
        user: UserId,
        session: Uuid,
        digest: &TokenDigest,
        step_up: Option<(DateTime<Utc>, Option<IpAddr>)>,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.call()?;
        let old = self.sessions.iter().find(|(_, known)| known.user_id == user && known.id == session);
        let Some(old) = old.filter(|(_, known)| known.is_live(at)).map(|(digest, _)| *digest) else {
            return Ok(false);
        };
        if let Some(mut known) = self.sessions.remove(&old) {
            if let Some((until, ip)) = step_up {
                (known.step_up_until, known.step_up_ip) = (Some(until), ip);
            }
            self.sessions.insert(*digest, known);
        }
        Ok(true)
    }

    fn close_doors(
        &mut self,
        user: UserId,
        except: Option<Uuid>,
        with_api_tokens: bool,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        self.void_challenges(user, at);
        self.changes.void_open_of(user);
        if with_api_tokens {
            self.revoke_all_api_tokens_of(user, at);
        }
        self.revoke_all_sessions_of(user, except, at)
    }
}

impl AuditLog for MemoryStore {
    fn append_audit(&mut self, owner: Option<UserId>, entry: &AuditEntry) -> Result<(), StoreError> {
        self.call()?;
        self.audit.push((owner, entry.neutral()));
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod fixtures {
    use std::sync::LazyLock;

    use plimsoll_crypto::passwords::{HashParams, Passwords};
    use plimsoll_crypto::tokens::SecretToken;
    use plimsoll_crypto::{DeviceCookies, DeviceId, InstallationKey, KeyPurpose, OsRandom, Pepper};
    use secrecy::SecretString;

    use super::*;
    use crate::login::{LoginKeys, NewArrival, NewLogin, NewSession};
    use crate::{Role, Transport};

    pub(crate) const PASSWORD: &str = "a rather long password";

    /// The least cost that is accepted, so that tests are quick.
    pub(crate) static PASSWORDS: LazyLock<Passwords> =
        LazyLock::new(|| Passwords::new(HashParams::MINIMUM, &mut OsRandom).unwrap());

    static HASH: LazyLock<PasswordHash> =
        LazyLock::new(|| PASSWORDS.hash(&secret(PASSWORD), &mut OsRandom).unwrap());

    pub(crate) fn secret(text: &str) -> SecretString {
        text.to_owned().into()
    }

    /// Whole seconds after a fixed instant.
    pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    pub(crate) fn new_user(email: &str) -> NewUser {
        NewUser {
            email: email.parse().unwrap(),
            display_name: None,
            role: Role::User,
            password_hash: HASH.clone(),
            email_verified_at: Some(at(-1000)),
            created_at: at(-2000),
        }
    }

    /// A store with one verified user.
    pub(crate) fn store() -> (MemoryStore, UserId) {
        let mut store = MemoryStore::new();
        let user = store.insert_user(&new_user("ann@example.com")).unwrap();
        (store, user)
    }

    pub(crate) fn new_session(n: u128) -> NewSession {
        NewSession { id: Uuid::from_u128(n), token: SecretToken::generate(&mut OsRandom) }
    }

    static PEPPER: LazyLock<Pepper> =
        LazyLock::new(|| Pepper::new(&InstallationKey::generate(KeyPurpose::Pepper, &mut OsRandom)).unwrap());
    static DEVICES: LazyLock<DeviceCookies> = LazyLock::new(|| {
        DeviceCookies::new(&InstallationKey::generate(KeyPurpose::DeviceCookie, &mut OsRandom)).unwrap()
    });

    /// The same keys for the whole test program.
    pub(crate) fn keys() -> LoginKeys<'static> {
        LoginKeys { pepper: &PEPPER, devices: &DEVICES }
    }

    pub(crate) fn new_login(n: u128) -> NewLogin {
        NewLogin {
            new: new_session(n),
            transport: Transport::Bearer,
            arrival: NewArrival {
                device: DeviceId::generate(&mut OsRandom),
                logout_everywhere: SecretToken::generate(&mut OsRandom),
                link: Uuid::from_u128(n + 1_000_000),
                mail: Uuid::from_u128(n + 2_000_000),
            },
        }
    }
}
