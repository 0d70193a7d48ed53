//! The business errors that every part of the platform shares.

use rust_decimal::Decimal;

/// The eight business errors. Their statuses and codes are the API's matter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusinessError {
    /// A rule of the business refuses it; `code` is a stable subcode such as `market_closed`.
    #[error("{detail}")]
    Rule {
        /// A stable machine-readable code.
        code: &'static str,
        /// For the caller.
        detail: String,
    },
    /// Not enough buying power.
    #[error("buying power is {available}, the order needs {needed}")]
    InsufficientFunds {
        /// What there is.
        available: Decimal,
        /// What the order takes.
        needed: Decimal,
    },
    /// The broker refused the order.
    #[error("the broker refused the order: {broker_message}")]
    OrderRejected {
        /// The broker's own code, where it gave one.
        broker_code: Option<i64>,
        /// The broker's own words.
        broker_message: String,
    },
    /// Who is calling could not be established.
    #[error("authentication failed")]
    AuthenticationFailed,
    /// The caller is known and may not do this.
    #[error("access denied")]
    AccessDenied,
    /// Too many requests.
    #[error("rate limit exceeded")]
    RateLimited {
        /// When to try again.
        retry_after_s: u64,
    },
    /// Absent, or not visible to the caller.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The same thing is there already.
    #[error("{0}")]
    Duplicate(String),
}
