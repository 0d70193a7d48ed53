//! Every duration and limit of accounts, with the defaults of the documentation.

use chrono::TimeDelta;

use crate::throttle::Limit;
use crate::{IpNetwork, SessionPolicy};

/// Durations and limits. Every value is a setting, so that tests can shorten it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPolicy {
    /// Lives and number of sessions.
    pub sessions: SessionPolicy,
    /// How long a proven factor opens sensitive acts: `STEP_UP_TTL`.
    pub step_up: TimeDelta,
    /// How long a ticket for a WebSocket waits to be used: `WS_TICKET_TTL`.
    pub ws_ticket: TimeDelta,
    /// Whether administrators must have a second factor: `REQUIRE_ADMIN_2FA`.
    pub require_admin_2fa: bool,
    /// Registration, verification and addresses.
    pub registration: RegistrationPolicy,
    /// Logins.
    pub login: LoginPolicy,
    /// Second factors.
    pub two_factor: TwoFactorPolicy,
    /// Password resets and changes.
    pub reset: ResetPolicy,
    /// API tokens.
    pub api_tokens: ApiTokenPolicy,
    /// The area of administrators.
    pub admin: AdminPolicy,
    /// How long what is over is kept.
    pub retention: RetentionPolicy,
}

impl Default for AccountPolicy {
    fn default() -> Self {
        Self {
            sessions: SessionPolicy::default(),
            step_up: TimeDelta::minutes(5),
            ws_ticket: TimeDelta::seconds(30),
            require_admin_2fa: true,
            registration: RegistrationPolicy::default(),
            login: LoginPolicy::default(),
            two_factor: TwoFactorPolicy::default(),
            reset: ResetPolicy::default(),
            api_tokens: ApiTokenPolicy::default(),
            admin: AdminPolicy::default(),
            retention: RetentionPolicy::default(),
        }
    }
}

/// Of new accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationPolicy {
    /// Whether anybody may register: `REGISTRATION`.
    pub open: bool,
    /// Life of a verification link: `EMAIL_VERIFICATION_TTL`.
    pub verification: TimeDelta,
    /// Least characters of a password: `PASSWORD_MIN_LENGTH`.
    pub password_min_length: usize,
    /// Registrations of one network.
    pub per_ip: Limit,
    /// Least time between two verification mails to one address.
    pub resend_cool_down: TimeDelta,
    /// Verification mails to one address.
    pub resend_per_address: Limit,
    /// Requests for verification mails from one network.
    pub resend_per_ip: Limit,
    /// Mails that tell the owner of an address of another registration with it.
    pub already_registered: Limit,
    /// Life of the first administrator's setup token.
    pub setup_token: TimeDelta,
}

impl Default for RegistrationPolicy {
    fn default() -> Self {
        Self {
            open: true,
            verification: TimeDelta::hours(48),
            password_min_length: 12,
            per_ip: Limit::new(5, TimeDelta::hours(1), 5),
            resend_cool_down: TimeDelta::seconds(60),
            resend_per_address: Limit::new(5, TimeDelta::days(1), 5),
            resend_per_ip: Limit::new(10, TimeDelta::hours(1), 10),
            already_registered: Limit::new(1, TimeDelta::hours(1), 1),
            setup_token: TimeDelta::minutes(10),
        }
    }
}

/// Of logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginPolicy {
    /// Failures of one account within `failure_window` before it is blocked.
    pub failures: u32,
    /// See `failures`.
    pub failure_window: TimeDelta,
    /// The first block; each further failure doubles it.
    pub first_block: TimeDelta,
    /// The longest block.
    pub longest_block: TimeDelta,
    /// Attempts of one network.
    pub per_ip: Limit,
    /// Password hashes that one signed-in user may ask for.
    pub hashes_per_user: Limit,
    /// Consecutive failures that disable a factor.
    pub disable_after: u32,
    /// Distinct pairs of account and password that fail from one network within `spray_window` before it is blocked.
    pub spray_pairs: u32,
    /// See `spray_pairs`.
    pub spray_window: TimeDelta,
    /// How long such a network is blocked.
    pub spray_block: TimeDelta,
    /// Life of a device cookie.
    pub device_cookie: TimeDelta,
    /// Life of the link that signs out everywhere.
    pub logout_link: TimeDelta,
}

impl Default for LoginPolicy {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_window: TimeDelta::minutes(15),
            first_block: TimeDelta::seconds(30),
            longest_block: TimeDelta::minutes(15),
            per_ip: Limit::new(20, TimeDelta::minutes(1), 10),
            hashes_per_user: Limit::new(10, TimeDelta::minutes(1), 20),
            disable_after: 100,
            spray_pairs: 15,
            spray_window: TimeDelta::hours(3),
            spray_block: TimeDelta::hours(24),
            device_cookie: TimeDelta::days(180),
            logout_link: TimeDelta::hours(24),
        }
    }
}

/// Of second factors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoFactorPolicy {
    /// The name that authenticator programs show.
    pub issuer: String,
    /// How long a secret may wait to be confirmed: `TOTP_SETUP_TTL`.
    pub setup: TimeDelta,
    /// How long a right password waits for its second factor.
    pub challenge: TimeDelta,
    /// Wrong codes that end a challenge.
    pub challenge_wrong_codes: u32,
    /// Codes tried for one account.
    pub per_hour: Limit,
    /// Codes tried for one account.
    pub per_day: Limit,
    /// Between a reset that an administrator starts and its effect: `TWO_FACTOR_RESET_DELAY`.
    pub reset_delay: TimeDelta,
    /// After how long the owner is told of a right password without a second factor.
    pub unfinished_after: TimeDelta,
    /// Mails that tell one owner of it.
    pub unfinished_mails: Limit,
}

impl Default for TwoFactorPolicy {
    fn default() -> Self {
        Self {
            issuer: "Plimsoll".to_owned(),
            setup: TimeDelta::minutes(10),
            challenge: TimeDelta::minutes(5),
            challenge_wrong_codes: 5,
            per_hour: Limit::new(10, TimeDelta::hours(1), 10),
            per_day: Limit::new(30, TimeDelta::days(1), 30),
            reset_delay: TimeDelta::hours(24),
            unfinished_after: TimeDelta::minutes(3),
            unfinished_mails: Limit::new(3, TimeDelta::hours(1), 3),
        }
    }
}

/// Of password resets and changes, and changes of the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetPolicy {
    /// Life of a reset link: `PASSWORD_RESET_TTL`.
    pub link: TimeDelta,
    /// Requests for one address.
    pub per_address: Limit,
    /// Requests of one network.
    pub per_ip: Limit,
    /// Life of the link that confirms a new address.
    pub email_confirmation: TimeDelta,
    /// How long the old address can take a change back.
    pub email_cancel: TimeDelta,
}

impl Default for ResetPolicy {
    fn default() -> Self {
        Self {
            link: TimeDelta::hours(24),
            per_address: Limit::new(3, TimeDelta::hours(1), 3),
            per_ip: Limit::new(10, TimeDelta::hours(1), 10),
            email_confirmation: TimeDelta::hours(24),
            email_cancel: TimeDelta::hours(72),
        }
    }
}

/// Of the area of administrators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminPolicy {
    /// From where it may be entered: `ADMIN_ALLOWED_IPS`; empty: from anywhere.
    pub allowed_ips: Vec<IpNetwork>,
    /// Requests of one administrator.
    pub per_user: Limit,
}

impl Default for AdminPolicy {
    fn default() -> Self {
        Self { allowed_ips: Vec::new(), per_user: Limit::new(120, TimeDelta::minutes(1), 60) }
    }
}

/// Of API tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTokenPolicy {
    /// The longest life.
    pub longest: TimeDelta,
    /// Most live tokens of one user.
    pub max_per_user: usize,
    /// How long before its end the owner is told.
    pub warn_before: TimeDelta,
}

impl Default for ApiTokenPolicy {
    fn default() -> Self {
        Self { longest: TimeDelta::days(366), max_per_user: 50, warn_before: TimeDelta::days(7) }
    }
}

/// How long rows are kept whose time is over. What is over has no effect, kept or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Links, registrations and second steps of logins, after their end.
    pub links: TimeDelta,
    /// Sessions, after their absolute end.
    pub sessions: TimeDelta,
    /// API tokens, after their end.
    pub api_tokens: TimeDelta,
    /// Attempts to sign in and codes tried.
    pub attempts: TimeDelta,
    /// Devices and networks, after they were last seen; longer than a device cookie lives.
    pub places: TimeDelta,
    /// Counters, after their last use; longer than every window and block.
    pub throttles: TimeDelta,
    /// Mails that were sent.
    pub sent_mails: TimeDelta,
    /// Mails that were given up or could not be sent for want of a server.
    pub unsent_mails: TimeDelta,
    /// Accounts that were never verified, after their last link's end.
    pub unverified: TimeDelta,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self {
            links: TimeDelta::days(30),
            sessions: TimeDelta::days(30),
            api_tokens: TimeDelta::days(90),
            attempts: TimeDelta::days(90),
            places: TimeDelta::days(400),
            throttles: TimeDelta::days(7),
            sent_mails: TimeDelta::days(30),
            unsent_mails: TimeDelta::days(90),
            unverified: TimeDelta::days(30),
        }
    }
}
