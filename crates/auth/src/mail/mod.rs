//! The mails that accounts send: what they say, and their rendering.

mod render;
mod token;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::EmailAddress;

pub use render::{Links, RenderError, render};
pub use token::MailToken;

/// From where and when something was done, as mails show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circumstances {
    /// When.
    pub at: DateTime<Utc>,
    /// The client's address.
    pub ip: Option<String>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
}

impl From<&crate::Act> for Circumstances {
    fn from(act: &crate::Act) -> Self {
        Self {
            at: act.at,
            ip: act.client.ip().map(|ip| ip.to_string()),
            user_agent: act.client.user_agent().map(str::to_owned),
        }
    }
}

impl From<&crate::ports::Claim> for Circumstances {
    fn from(claim: &crate::ports::Claim) -> Self {
        Self {
            at: claim.registered_at,
            ip: claim.client.ip().map(|ip| ip.to_string()),
            user_agent: claim.client.user_agent().map(str::to_owned),
        }
    }
}

/// A mail. Its tokens are bearer secrets: it is stored sealed and never printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mail {
    /// Confirms the address of a new account.
    VerifyEmail {
        /// Of the link.
        token: MailToken,
        /// When the link ends.
        expires_at: DateTime<Utc>,
        /// Of the registration whose password the account gets; mails of before had none.
        #[serde(default)]
        circumstances: Option<Circumstances>,
    },
    /// Somebody registered with an address that has an account.
    AlreadyRegistered {
        /// Of that registration.
        circumstances: Circumstances,
    },
    /// The address is confirmed.
    Welcome {
        /// What others call the user.
        display_name: Option<String>,
    },
    /// A link to choose a new password.
    ResetPassword {
        /// Of the link.
        token: MailToken,
        /// Of the link that voids it.
        cancel: MailToken,
        /// When both end.
        expires_at: DateTime<Utc>,
        /// Of the request.
        circumstances: Circumstances,
    },
    /// The password was changed or reset.
    PasswordChanged {
        /// Of a reset: of its request.
        requested: Option<Circumstances>,
        /// Of the change itself.
        circumstances: Circumstances,
    },
    /// Confirms a new address; goes to that.
    ConfirmNewEmail {
        /// Of the link.
        token: MailToken,
        /// When it ends.
        expires_at: DateTime<Utc>,
    },
    /// Tells the old address of an asked change.
    EmailChangeAsked {
        /// The new address.
        new_email: String,
        /// Of the link that takes it back.
        cancel: MailToken,
        /// When that ends.
        expires_at: DateTime<Utc>,
        /// Of the request.
        circumstances: Circumstances,
    },
    /// Tells both addresses of a change.
    EmailChanged {
        /// The old address.
        old_email: String,
        /// The new address.
        new_email: String,
        /// Of the confirmation.
        circumstances: Circumstances,
    },
    /// The second factor is on.
    TwoFactorEnabled {
        /// Of the act.
        circumstances: Circumstances,
    },
    /// The second factor is off.
    TwoFactorDisabled {
        /// Of the act.
        circumstances: Circumstances,
    },
    /// An administrator began to reset the second factor.
    TwoFactorResetBegun {
        /// When it takes effect.
        due_at: DateTime<Utc>,
        /// Of the link that stops it.
        cancel: MailToken,
    },
    /// A backup code was used.
    BackupCodeUsed {
        /// How many are left.
        left: usize,
        /// Of the use.
        circumstances: Circumstances,
    },
    /// All backup codes were replaced.
    NewBackupCodes {
        /// Of the act.
        circumstances: Circumstances,
    },
    /// An API token was made.
    NewApiToken {
        /// Its name.
        name: String,
        /// What it may do.
        scopes: Vec<String>,
        /// When it ends.
        expires_at: DateTime<Utc>,
        /// Of the act.
        circumstances: Circumstances,
    },
    /// An API token ends soon.
    ApiTokenExpires {
        /// Its name.
        name: String,
        /// When.
        expires_at: DateTime<Utc>,
    },
    /// A sign-in from a new device or network, or after failures.
    NewSignIn {
        /// Why it is told.
        reason: SignInReason,
        /// Of the link that signs out everywhere.
        logout_everywhere: MailToken,
        /// Of the sign-in.
        circumstances: Circumstances,
    },
    /// The password was right, the second factor never came.
    UnfinishedSignIn {
        /// Of the attempt.
        circumstances: Circumstances,
    },
    /// A factor was disabled after too many failures.
    FactorDisabled {
        /// `password` or `totp`.
        factor: String,
        /// Of the last failure.
        circumstances: Circumstances,
    },
    /// Events are posted to a new address.
    WebhookAdded {
        /// The webhook's name.
        name: String,
        /// The host of its address.
        host: String,
        /// It was there before, with another address.
        moved: bool,
        /// Of the act.
        circumstances: Circumstances,
    },
    /// Signals of a new sender are traded.
    SignalHookAdded {
        /// The hook's name.
        name: String,
        /// `paper` or `live`.
        environment: String,
        /// Of the act.
        circumstances: Circumstances,
    },
    /// A webhook gets nothing any more.
    WebhookDisabled {
        /// Its name.
        name: String,
        /// The host of its address.
        host: String,
        /// Its receiver said so; else nothing could be delivered for too long.
        gone: bool,
        /// When.
        at: DateTime<Utc>,
    },
    /// An account's record and its broker differ in what needs a decision.
    AccountDiffers {
        /// In what.
        differences: Vec<String>,
        /// So many more than are named.
        more: usize,
        /// When it was found.
        at: DateTime<Utc>,
    },
    /// The broker refuses the user's keys.
    BrokerKeysRefused {
        /// Which broker.
        broker: String,
        /// `paper` or `live`.
        environment: String,
        /// The last four characters of the key's id.
        key_last4: String,
        /// When it did.
        at: DateTime<Utc>,
    },
}

/// Why a sign-in is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignInReason {
    /// A device or network not seen before.
    NewPlace,
    /// There were failures before it.
    AfterFailures,
}

/// A mail as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// To whom.
    pub to: EmailAddress,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// HTML.
    pub html: String,
}
