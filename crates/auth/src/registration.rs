//! New accounts: registration, the link that confirms the address, its resending.
//!
//! Nobody learns by any of it whether an address has an account: known and unknown ones get the same answers for the same
//! work. Whoever registers an address first does not own it: until it is confirmed others may register it too, and the
//! account gets password and name of the registration whose link is used. A link opens no session.

mod links;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::Pepper;
use plimsoll_crypto::passwords::PasswordHash;
use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use crate::mail::Mail;
use crate::ports::{AuthStore, Claim, NewRegistration, RegistrationStatus, VerificationStore};
use crate::throttle::{Limit, Verdict, address_key, network_key};
use crate::{Account, AccountPolicy, AccountState, Act, EmailAddress, NewUser, Role, User};

use self::links::{link_limits, send_link, within};

pub use self::links::{NewLink, VerifyOutcome, resend, verify_email};

/// Longest display name in characters.
pub const MAX_DISPLAY_NAME_CHARS: usize = 100;

/// Why a text is no display name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DisplayNameError {
    /// Nothing but white space.
    #[error("must not be empty")]
    Empty,
    /// Over [`MAX_DISPLAY_NAME_CHARS`].
    #[error("may have at most {MAX_DISPLAY_NAME_CHARS} characters")]
    TooLong,
    /// A line end or another control character.
    #[error("must not contain control characters")]
    Control,
}

/// What others call a user: NFC, without white space at its ends.
///
/// # Errors
///
/// See [`DisplayNameError`].
pub fn display_name(text: &str) -> Result<String, DisplayNameError> {
    let name: String = text.trim().nfc().take(MAX_DISPLAY_NAME_CHARS + 1).collect();
    if name.is_empty() {
        return Err(DisplayNameError::Empty);
    }
    if name.chars().count() > MAX_DISPLAY_NAME_CHARS {
        return Err(DisplayNameError::TooLong);
    }
    if name.chars().any(char::is_control) {
        return Err(DisplayNameError::Control);
    }
    Ok(name)
}

/// Whether somebody may register now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Registration is open, and the attempt is counted.
    Open,
    /// Registration is closed.
    Closed,
    /// Too many registrations came from this network.
    Throttled {
        /// When it may be tried again.
        retry_after: std::time::Duration,
    },
}

/// First step of a registration, before its password is hashed: counts it for its network. It looks at no account.
///
/// # Errors
///
/// When the store fails.
pub fn admit<S>(
    store: &mut S,
    policy: &AccountPolicy,
    pepper: &Pepper,
    act: &Act,
) -> Result<Admission, StoreError>
where
    S: AuthStore + ?Sized,
{
    if !policy.registration.open {
        return Ok(Admission::Closed);
    }
    let key = network_key(pepper, act.client.ip());
    match store.take("register.network", &key, policy.registration.per_ip, act.at)? {
        Verdict::Allowed => Ok(Admission::Open),
        Verdict::Blocked { retry_after } => Ok(Admission::Throttled { retry_after }),
    }
}

/// A registration whose fields were checked and whose password was hashed.
#[derive(Debug)]
pub struct Register {
    /// What its client will ask by.
    pub id: Uuid,
    /// The address.
    pub email: EmailAddress,
    /// What others call the user.
    pub display_name: Option<String>,
    /// The hash of the password.
    pub password_hash: PasswordHash,
    /// The link that goes by mail.
    pub link: NewLink,
}

/// Second step, one transaction: makes the user and mails the link. For an address that waits for its confirmation the
/// link carries this registration's password and name, and the account stays as it is until it is used. The owner of a
/// confirmed address is told at most once in a while. Either way there is a registration to ask about, and as many
/// statements are run. The user may sign in once the address is confirmed, and until then gets nothing.
///
/// # Errors
///
/// `Duplicate` when another transaction took the address in this moment: once more, it is an address that has an
/// account. Others when the store fails.
pub fn register<S>(
    store: &mut S,
    policy: &AccountPolicy,
    pepper: &Pepper,
    new: Register,
    act: &Act,
) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    let known = match store.account_by_email(&new.email)? {
        Some(found) => store.lock_account_of(found.user.id)?,
        None => None,
    };
    match known.filter(|known| known.user.email.folded() == new.email.folded()) {
        None => register_first(store, policy, pepper, new, act),
        Some(Account { user, .. }) if may_be_claimed(&user) => {
            register_again(store, policy, pepper, &user, new, act)
        }
        Some(Account { user, .. }) => tell_owner(store, policy, pepper, &user, &new, act),
    }
}

/// Whether the account waits for its confirmation and nobody has given it anything yet.
fn may_be_claimed(user: &User) -> bool {
    is_waiting(user) && user.role == Role::User
}

fn is_waiting(user: &User) -> bool {
    user.email_verified_at.is_none() && user.state == AccountState::Active
}

/// An address that has no account.
fn register_first<S>(
    store: &mut S,
    policy: &AccountPolicy,
    pepper: &Pepper,
    new: Register,
    act: &Act,
) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    let user = store.insert_user(&NewUser {
        email: new.email.clone(),
        display_name: new.display_name.clone(),
        role: Role::User,
        password_hash: new.password_hash.clone(),
        email_verified_at: None,
        created_at: act.at,
    })?;
    // This mail counts for later ones; it is sent whatever came before.
    let key = address_key(pepper, &new.email);
    for (kind, limit) in link_limits(policy) {
        store.take(kind, &key, limit, act.at)?;
    }
    let expires_at = insert_registration(store, policy, new.id, Some(user), act)?;
    let claim = Some(new.claim(act));
    send_link(store, (user, &new.email), &new.link, claim, expires_at, true, act)?;
    record(store, act, "register", AuditOutcome::Success, user, Value::Null)
}

/// An address that waits for its confirmation. What was chosen is kept in any case, for a link that is asked for later;
/// it is mailed within limits of its own, so that registering uses up nobody's right to ask for a link.
fn register_again<S>(
    store: &mut S,
    policy: &AccountPolicy,
    pepper: &Pepper,
    user: &User,
    new: Register,
    act: &Act,
) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    let [(_, cool_down), (_, per_address)] = link_limits(policy);
    let limits = [(REGISTERED, cool_down), ("register.address", per_address)];
    let mailed = within(store, &address_key(pepper, &new.email), limits, act)?;
    let expires_at = insert_registration(store, policy, new.id, None, act)?;
    let claim = Some(new.claim(act));
    send_link(store, (user.id, &user.email), &new.link, claim, expires_at, mailed, act)?;
    let detail = json!({ "address": "unconfirmed", "mailed": mailed });
    record(store, act, "register", AuditOutcome::Success, user.id, detail)
}

/// An address whose account is confirmed, disabled or an administrator's: nothing of it changes.
fn tell_owner<S>(
    store: &mut S,
    policy: &AccountPolicy,
    pepper: &Pepper,
    owner: &User,
    new: &Register,
    act: &Act,
) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    let cool_down = Limit::new(1, policy.registration.resend_cool_down, 1);
    let limits = [("already_registered", policy.registration.already_registered), (REGISTERED, cool_down)];
    let mailed = within(store, &address_key(pepper, &new.email), limits, act)?;
    insert_registration(store, policy, new.id, None, act)?;
    // The others store a link here: this takes as long, and nothing comes of it.
    store.last_claim_of(owner.id)?;
    if mailed {
        let mail = Mail::AlreadyRegistered { circumstances: act.into() };
        store.post_mail(new.link.mail, &owner.email, Some(owner.id), &mail, act.at)?;
    }
    record(store, act, "register", AuditOutcome::Denied, owner.id, json!({ "reason": "address_taken" }))
}

impl Register {
    fn claim(&self, act: &Act) -> Claim {
        Claim {
            registration: self.id,
            registered_at: act.at,
            client: act.client.clone(),
            password_hash: self.password_hash.clone(),
            display_name: self.display_name.clone(),
        }
    }
}

/// Until when the registration's link is good.
fn insert_registration<S>(
    store: &mut S,
    policy: &AccountPolicy,
    id: Uuid,
    user: Option<UserId>,
    act: &Act,
) -> Result<DateTime<Utc>, StoreError>
where
    S: AuthStore + ?Sized,
{
    let expires_at = act.at + policy.registration.verification;
    store.insert_registration(&NewRegistration { id, user, created_at: act.at, expires_at })?;
    Ok(expires_at)
}

/// How a registration stands; `None` when there is none of this id.
///
/// # Errors
///
/// When the store fails.
pub fn status<S>(store: &mut S, registration: Uuid) -> Result<Option<RegistrationStatus>, StoreError>
where
    S: VerificationStore + ?Sized,
{
    store.registration_status(registration)
}

/// Counts mails to an address that somebody registered again.
const REGISTERED: &str = "register.cool_down";

/// An entry of something that happened to a user; who did it is not known.
fn record<S>(
    store: &mut S,
    act: &Act,
    action: &str,
    outcome: AuditOutcome,
    user: UserId,
    detail: Value,
) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    store.append_audit(Some(user), &act.entry(action, outcome, None, Some(user), detail))
}

#[cfg(test)]
mod tests;
