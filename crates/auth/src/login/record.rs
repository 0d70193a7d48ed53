use std::net::IpAddr;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use serde_json::json;
use uuid::Uuid;

use crate::mail::{Circumstances, Mail};
use crate::ports::AuthStore;
use crate::{AccountPolicy, Act, User};

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Factor {
    /// The password.
    Password,
    /// A time-based code.
    Totp,
    /// A backup code.
    BackupCode,
}

impl Factor {
    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Totp => "totp",
            Self::BackupCode => "backup_code",
        }
    }
}

/// One attempt to sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// When.
    pub at: DateTime<Utc>,
    /// The account, when there is one.
    pub user: Option<UserId>,
    /// Keyed digest of the folded address that was tried.
    pub identifier: [u8; 32],
    /// How it ended, as a stable word.
    pub outcome: &'static str,
    /// What was tried.
    pub factor: Factor,
    /// From where.
    pub ip: Option<IpAddr>,
    /// With what.
    pub user_agent: Option<String>,
    /// In which request.
    pub request_id: Option<Uuid>,
}

impl AttemptRecord {
    /// A password that was tried in `act`.
    pub(super) fn of(act: &Act, user: Option<UserId>, identifier: [u8; 32], outcome: &'static str) -> Self {
        Self {
            at: act.at,
            user,
            identifier,
            outcome,
            factor: Factor::Password,
            ip: act.client.ip(),
            user_agent: act.client.user_agent().map(str::to_owned),
            request_id: act.request_id,
        }
    }
}

/// How a user's password stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PasswordState {
    /// Wrong ones since the last right one.
    pub failures: u32,
    /// When it was disabled after too many of them.
    pub disabled_at: Option<DateTime<Utc>>,
}

/// What a sign-in may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A device, by its cookie.
    Device,
    /// A network.
    Network,
}

impl Place {
    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Network => "network",
        }
    }
}

/// Counts a wrong password of a user; at the hundredth in a row it is disabled until a reset by mail.
pub(crate) fn count_wrong_password<S>(
    store: &mut S,
    policy: &AccountPolicy,
    user: &User,
    mail: Uuid,
    act: &Act,
) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    if store.add_password_failure(user.id)? == policy.login.disable_after {
        store.disable_password(user.id, act.at)?;
        let detail = json!({ "factor": "password", "failures": policy.login.disable_after });
        let entry = act.entry("factor.disable", AuditOutcome::Success, None, Some(user.id), detail);
        let told =
            Mail::FactorDisabled { factor: "password".to_owned(), circumstances: Circumstances::from(act) };
        store.post_mail(mail, &user.email, Some(user.id), &told, act.at)?;
        store.append_audit(Some(user.id), &entry)?;
    }
    Ok(())
}
