//! The second factor: time-based codes of an authenticator program, and backup codes.
//!
//! Every use of a code has three steps, like a login: [`begin`] counts the attempt and reads what the code is compared
//! with, [`Attempt::verify`] computes outside any transaction, and a last transaction uses the code up. A time-based code
//! is good for one act: whatever the act is, its step goes through the one register of the factor.

mod action;
mod change;
mod enrol;
pub(crate) mod proof;

use std::fmt;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use uuid::Uuid;

use crate::ports::TwoFactorStore;
use crate::totp::TotpSecret;

pub use action::ActionHash;
pub use change::{
    Changed, Disabling, NewBackupCodes, Regenerated, Regenerating, begin_disable, begin_regenerate, disable,
    regenerate,
};
pub use enrol::{Enabled, enable, setup};
pub use proof::{
    Attempt, Begun, CodeRefusal, Proof, Purpose, Settled, SubmittedCode, Verified, begin, begin_for, settle,
};

/// How a factor is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The password: the only factor of a user without a second one.
    Password,
    /// A time-based code.
    Totp,
    /// A backup code.
    BackupCode,
}

impl Method {
    /// How a second factor is proven, as a challenge lists it.
    pub const SECOND: [Self; 2] = [Self::Totp, Self::BackupCode];

    /// The stored and transmitted name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Totp => "totp",
            Self::BackupCode => "backup_code",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A secret as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredSecret {
    /// The secret.
    Readable(TotpSecret),
    /// It does not open: a wrong key, or a row that was tampered with. There is no way round it.
    Unreadable,
}

/// A secret that waits to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingSecret {
    /// The secret.
    pub secret: StoredSecret,
    /// When it is forgotten.
    pub expires_at: DateTime<Utc>,
}

/// What is stored of a user's second factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factor {
    /// The secret in force.
    pub secret: Option<StoredSecret>,
    /// The one being set up.
    pub pending: Option<PendingSecret>,
    /// When too many wrong time-based codes in a row disabled them.
    pub totp_disabled_at: Option<DateTime<Utc>>,
    /// When too many wrong backup codes in a row disabled those.
    pub backup_disabled_at: Option<DateTime<Utc>>,
}

/// What a user sees of the second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Since when it is on; `None`: it is off.
    pub enabled_at: Option<DateTime<Utc>>,
    /// Backup codes that are not used.
    pub backup_codes_remaining: usize,
    /// When a code was last accepted.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// Which attempts share a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// Codes of either method.
    Codes,
    /// Passwords, given to open sensitive acts.
    Passwords,
}

/// An attempt as it is kept. Neither code nor secret is part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// With what.
    pub method: Method,
    /// For what.
    pub purpose: Purpose,
    /// How it stands: a word of at most 32 characters.
    pub outcome: &'static str,
    /// From where.
    pub client: crate::ClientInfo,
    /// When.
    pub at: DateTime<Utc>,
}

/// A reset that waits to take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenReset {
    /// Whose second factor goes.
    pub user: UserId,
    /// Names the reset.
    pub id: Uuid,
    /// When it takes effect.
    pub due_at: DateTime<Utc>,
}

/// Whether the user's sign-in needs a second factor. It does so too while too many wrong codes keep one from being used.
///
/// # Errors
///
/// When the store fails.
pub fn is_enabled<S>(store: &mut S, user: UserId) -> Result<bool, StoreError>
where
    S: TwoFactorStore + ?Sized,
{
    Ok(status(store, user)?.enabled_at.is_some())
}

/// What the user sees of the second factor.
///
/// # Errors
///
/// When the store fails.
pub fn status<S>(store: &mut S, user: UserId) -> Result<Status, StoreError>
where
    S: TwoFactorStore + ?Sized,
{
    store.two_factor_status(user)
}

#[cfg(test)]
mod tests;
