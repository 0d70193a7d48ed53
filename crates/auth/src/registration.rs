//! New accounts: registration, the link that confirms the address, its resending.
//!
//! Nobody learns by any of it whether an address has an account: known and unknown ones get the same answers for the same
//! work. A confirmed address is noted and nothing else: a link opens no session, resets nothing and changes nothing.

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::Pepper;
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::{SecretToken, TokenDigest};
use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use crate::mail::Mail;
use crate::ports::{AuthStore, NewRegistration, NewVerification, RegistrationStatus, VerificationStore};
use crate::throttle::{Limit, Verdict, address_key, network_key};
use crate::{AccountPolicy, AccountState, Act, EmailAddress, NewUser, Role, User};

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

/// The random parts of a link that is mailed.
#[derive(Debug)]
pub struct NewLink {
    /// Names the link's row.
    pub id: Uuid,
    /// Names the mail.
    pub mail: Uuid,
    /// Goes by mail; only its digest is stored.
    pub token: SecretToken,
}

/// Second step, one transaction: makes the user and mails the link; for an address that has an account, mails its owner
/// at most once in a while. Either way there is a registration to ask about. The user may sign in once the address is
/// confirmed, and until then gets nothing.
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
    let key = address_key(pepper, &new.email);
    // This mail counts for later ones; it is sent whatever came before.
    for (kind, limit) in link_limits(policy) {
        store.take(kind, &key, limit, act.at)?;
    }
    let expires_at = act.at + policy.registration.verification;
    let known = store.account_by_email(&new.email)?;
    let user = match &known {
        Some(_) => None,
        None => Some(store.insert_user(&NewUser {
            email: new.email.clone(),
            display_name: new.display_name,
            role: Role::User,
            password_hash: new.password_hash,
            email_verified_at: None,
            created_at: act.at,
        })?),
    };
    store.insert_registration(&NewRegistration { id: new.id, user, created_at: act.at, expires_at })?;
    match (user, known) {
        (Some(user), _) => {
            send_link(store, user, &new.email, &new.link, expires_at, act)?;
            record(store, act, "register", AuditOutcome::Success, user, Value::Null)
        }
        (None, Some(known)) => {
            let User { id, email, .. } = known.user;
            let limit = policy.registration.already_registered;
            if store.take("already_registered", &key, limit, act.at)? == Verdict::Allowed {
                let mail = Mail::AlreadyRegistered { circumstances: act.into() };
                store.post_mail(new.link.mail, &email, Some(id), &mail, act.at)?;
            }
            record(store, act, "register", AuditOutcome::Denied, id, json!({ "reason": "address_taken" }))
        }
        (None, None) => Ok(()),
    }
}

/// What came of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// The address of this user is confirmed.
    Verified(UserId),
    /// The link has expired, was used, was voided by a newer one, or never existed: a client cannot tell which.
    Invalid,
}

/// Uses a link up and notes that the address is confirmed; a welcome goes out under the id `welcome`.
///
/// # Errors
///
/// When the store fails.
pub fn verify_email<S>(
    store: &mut S,
    digest: &TokenDigest,
    welcome: Uuid,
    act: &Act,
) -> Result<VerifyOutcome, StoreError>
where
    S: AuthStore + ?Sized,
{
    // Whose it is comes first: the user is locked before anything of the user.
    let Some(owner) = store.verification_owner(digest)? else { return Ok(VerifyOutcome::Invalid) };
    let Some(account) = store.lock_account_of(owner)? else { return Ok(VerifyOutcome::Invalid) };
    let Some(user) = store.use_verification(digest, act.at)? else { return Ok(VerifyOutcome::Invalid) };
    store.void_verifications_of(user, act.at)?;
    store.set_email_verified(user, act.at)?;
    let User { email, display_name, .. } = account.user;
    store.post_mail(welcome, &email, Some(user), &Mail::Welcome { display_name }, act.at)?;
    record(store, act, "email.verify", AuditOutcome::Success, user, Value::Null)?;
    Ok(VerifyOutcome::Verified(user))
}

/// Mails a new link, which voids older ones, to an address that waits for its confirmation. For any other address, and
/// within the cool-down or over the cap of an address, nothing is sent; the caller cannot tell. `Blocked` is for the
/// network alone.
///
/// # Errors
///
/// When the store fails.
pub fn resend<S>(
    store: &mut S,
    policy: &AccountPolicy,
    pepper: &Pepper,
    email: &EmailAddress,
    link: &NewLink,
    act: &Act,
) -> Result<Verdict, StoreError>
where
    S: AuthStore + ?Sized,
{
    let network = network_key(pepper, act.client.ip());
    let verdict = store.take("resend.network", &network, policy.registration.resend_per_ip, act.at)?;
    if verdict != Verdict::Allowed {
        return Ok(verdict);
    }
    let key = address_key(pepper, email);
    let mut within = true;
    for (kind, limit) in link_limits(policy) {
        // The cap counts only what the cool-down let through.
        within = within && store.take(kind, &key, limit, act.at)? == Verdict::Allowed;
    }
    let waiting = |user: &User| user.email_verified_at.is_none() && user.state == AccountState::Active;
    let found = store.account_by_email(email)?.filter(|account| within && waiting(&account.user));
    let Some(found) = found else { return Ok(Verdict::Allowed) };
    let locked = store.lock_account_of(found.user.id)?.filter(|account| waiting(&account.user));
    let Some(User { id, email, .. }) = locked.map(|account| account.user) else {
        return Ok(Verdict::Allowed);
    };
    store.void_verifications_of(id, act.at)?;
    send_link(store, id, &email, link, act.at + policy.registration.verification, act)?;
    record(store, act, "email.resend", AuditOutcome::Success, id, Value::Null)?;
    Ok(Verdict::Allowed)
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

fn link_limits(policy: &AccountPolicy) -> [(&'static str, Limit); 2] {
    let cool_down = Limit::new(1, policy.registration.resend_cool_down, 1);
    [("verification.cool_down", cool_down), ("verification.address", policy.registration.resend_per_address)]
}

fn send_link<S>(
    store: &mut S,
    user: UserId,
    email: &EmailAddress,
    link: &NewLink,
    expires_at: DateTime<Utc>,
    act: &Act,
) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    store.insert_verification(&NewVerification {
        id: link.id,
        user,
        digest: link.token.digest(),
        created_at: act.at,
        expires_at,
        client: act.client.clone(),
    })?;
    let mail = Mail::VerifyEmail { token: (&link.token).into(), expires_at };
    store.post_mail(link.mail, email, Some(user), &mail, act.at)
}

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
