//! Users that an operator or the demonstration makes.

use chrono::{DateTime, Utc};
use plimsoll_auth::ports::AccountStore;
use plimsoll_auth::{Account, EmailAddress, NewUser, Role};
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::{PasswordError, PasswordHash, Passwords};
use plimsoll_storage::{Db, Tx};
use secrecy::SecretString;
use serde_json::json;

/// Why a user was not made.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The address is taken.
    #[error("there is a user of this address already")]
    Taken,
    /// The password cannot be one.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was asked for in [`ensure`].
#[derive(Debug)]
pub struct Wanted {
    /// The address.
    pub email: EmailAddress,
    /// Counts for a new user only.
    pub role: Role,
    /// The password that must be valid afterwards.
    pub password: SecretString,
}

fn new_user(wanted: &Wanted, hash: PasswordHash, now: DateTime<Utc>) -> NewUser {
    NewUser {
        email: wanted.email.clone(),
        display_name: None,
        role: wanted.role,
        password_hash: hash,
        // whoever may run this command vouches for the address
        email_verified_at: Some(now),
        created_at: now,
    }
}

fn audit(
    tx: &mut Tx<'_>,
    action: &str,
    user: UserId,
    role: Role,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let entry = AuditEntry {
        at: now,
        action: action.to_owned(),
        outcome: AuditOutcome::Success,
        actor_id: None,
        subject_id: Some(user),
        ip: None,
        user_agent: None,
        request_id: None,
        detail: json!({ "role": role.as_str(), "via": "cli" }),
    };
    tx.append_audit(Some(user), &entry)
}

/// Makes an administrator with a confirmed address.
///
/// # Errors
/// See [`UserError`].
pub fn create_admin(
    db: &Db,
    passwords: &Passwords,
    email: EmailAddress,
    password: SecretString,
    now: DateTime<Utc>,
) -> Result<UserId, UserError> {
    let hash = passwords.hash(&password, &mut OsRandom)?;
    let wanted = Wanted { email, role: Role::Admin, password };
    let made = db.run_blocking(move |tx| {
        let user = tx.insert_user(&new_user(&wanted, hash, now))?;
        audit(tx, "user.create", user, wanted.role, now)?;
        Ok::<_, StoreError>(user)
    });
    made.map_err(|error| match error.kind() {
        StoreErrorKind::Duplicate => UserError::Taken,
        _ => UserError::Store(error),
    })
}

/// Sees to it that the user exists and that the password is valid.
///
/// # Errors
/// See [`UserError`].
pub fn ensure(
    db: &Db,
    passwords: &Passwords,
    wanted: Wanted,
    now: DateTime<Utc>,
) -> Result<UserId, UserError> {
    let email = wanted.email.clone();
    let known: Option<Account> = db.read_blocking(move |tx| tx.account_by_email(&email))?;
    // hashing takes long, so it is done outside of the transaction
    let hash = match &known {
        Some(account) if passwords.verify(&wanted.password, Some(&account.password_hash)) => None,
        _ => Some(passwords.hash(&wanted.password, &mut OsRandom)?),
    };
    let user = db.run_blocking(move |tx| {
        let user = match (&known, hash) {
            (Some(account), None) => account.user.id,
            (Some(account), Some(hash)) => {
                tx.set_password_hash(account.user.id, &hash, now)?;
                audit(tx, "user.password_set", account.user.id, account.user.role, now)?;
                account.user.id
            }
            (None, hash) => {
                let hash = hash.expect("an unknown user's password was hashed above");
                let user = tx.insert_user(&new_user(&wanted, hash, now))?;
                audit(tx, "user.create", user, wanted.role, now)?;
                user
            }
        };
        Ok::<_, StoreError>(user)
    })?;
    Ok(user)
}
