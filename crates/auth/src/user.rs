use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::UserId;
use plimsoll_crypto::passwords::PasswordHash;
use serde::{Deserialize, Serialize};

use crate::EmailAddress;

/// A stored name that this release does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown {0}")]
pub struct UnknownName(pub(crate) &'static str);

macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $what:literal, $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// The stored and transmitted name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(UnknownName($what)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named!(
    /// What a user may do. Read afresh with each request, so that a change acts at once.
    Role,
    "role",
    /// Everything with what is their own.
    User = "user",
    /// Besides, the administration of the installation.
    Admin = "admin"
);

named!(
    /// Whether a user may sign in.
    AccountState,
    "account state",
    /// May sign in.
    Active = "active",
    /// May not; reversible.
    Disabled = "disabled"
);

/// A user as every part of the service may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub id: UserId,
    /// Where mails go, and the name to sign in with.
    pub email: EmailAddress,
    /// What others call the user; `None` when never given.
    pub display_name: Option<String>,
    /// What the user may do.
    pub role: Role,
    /// Whether the user may sign in.
    pub state: AccountState,
    /// When the address was confirmed; `None` keeps the account from signing in.
    pub email_verified_at: Option<DateTime<Utc>>,
}

/// A user with what proves the password. It stays inside the use cases that verify or change one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub user: User,
    /// The stored password hash.
    pub password_hash: PasswordHash,
}

/// A user about to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// The address; its folded form must not be taken.
    pub email: EmailAddress,
    /// What others call the user.
    pub display_name: Option<String>,
    /// What the user may do.
    pub role: Role,
    /// The hash of the first password.
    pub password_hash: PasswordHash,
    /// When the address was confirmed, for users made by an operator.
    pub email_verified_at: Option<DateTime<Utc>>,
    /// Now.
    pub created_at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_strangers_do_not() {
        for role in [Role::User, Role::Admin] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        for state in [AccountState::Active, AccountState::Disabled] {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert_eq!("root".parse::<Role>().unwrap_err().to_string(), "unknown role");
        assert!("Active".parse::<AccountState>().is_err());
    }
}
