//! Limits of attempts.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::Pepper;

use crate::EmailAddress;
use crate::ports::ThrottleStore;

/// `count` in each `per` on average, `burst` at once: a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub count: u32,
    /// In which time.
    pub per: TimeDelta,
    /// How many at once.
    pub burst: u32,
}

impl Limit {
    /// `count` in each `per`, `burst` at once.
    #[must_use]
    pub const fn new(count: u32, per: TimeDelta, burst: u32) -> Self {
        Self { count, per, burst }
    }
}

/// After `free` failures within `window` each further one waits: `first` after the first of them, doubling up to
/// `longest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureRule {
    /// Failures without a wait.
    pub free: u32,
    /// So long after a failure, and after the block that it brought, all of them are forgotten.
    pub window: TimeDelta,
    /// The first wait.
    pub first: TimeDelta,
    /// The longest wait.
    pub longest: TimeDelta,
}

impl FailureRule {
    /// How long the `count`th failure in a row blocks.
    #[must_use]
    pub fn block_after(&self, count: u32) -> TimeDelta {
        let Some(beyond) = count.checked_sub(self.free) else { return TimeDelta::zero() };
        let factor = 1_i32.checked_shl(beyond.min(30)).unwrap_or(i32::MAX);
        self.first.checked_mul(factor).map_or(self.longest, |wait| wait.min(self.longest))
    }
}

/// What one user or network that is over its limit may leave behind, in tables and in the audit log: whoever sends without
/// end does not fill them.
const TRACES: Limit = Limit::new(10, TimeDelta::minutes(1), 10);

/// Whether an attempt that was refused for its limit is worth a row.
///
/// # Errors
///
/// When the store fails.
pub(crate) fn leaves_trace<S>(store: &mut S, key: &[u8], at: DateTime<Utc>) -> Result<bool, StoreError>
where
    S: ThrottleStore + ?Sized,
{
    Ok(store.take("trace", key, TRACES, at)? == Verdict::Allowed)
}

/// Counts a password hash that a signed-in user asks for; they take their turn from everybody's logins.
///
/// # Errors
///
/// When the store fails.
pub fn hash_work<S>(
    store: &mut S,
    limit: Limit,
    user: UserId,
    at: DateTime<Utc>,
) -> Result<Verdict, StoreError>
where
    S: ThrottleStore + ?Sized,
{
    store.take("hash.user", &user.0.to_be_bytes(), limit, at)
}

/// Whether an attempt may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may, and is counted.
    Allowed,
    /// It may not, and changed nothing.
    Blocked {
        /// When it may be tried again.
        retry_after: Duration,
    },
}

/// The key of a client's network: its IPv4 address, or the first 64 bits of its IPv6 address. Clients without any known
/// address share one.
#[must_use]
pub fn network_key(pepper: &Pepper, ip: Option<IpAddr>) -> [u8; 32] {
    let network = match ip.map(|ip| ip.to_canonical()) {
        None => Vec::new(),
        Some(IpAddr::V4(ip)) => ip.octets().to_vec(),
        Some(IpAddr::V6(ip)) => ip.octets()[..8].to_vec(),
    };
    pepper.digest("network", "", &network)
}

/// The key of an e-mail address, whether or not it has an account.
#[must_use]
pub fn address_key(pepper: &Pepper, email: &EmailAddress) -> [u8; 32] {
    text_key(pepper, email.folded())
}

/// The key of a text that was given for an address and may be none; of an address in its folded form.
pub(crate) fn text_key(pepper: &Pepper, folded: &str) -> [u8; 32] {
    pepper.digest("address", "", folded.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LOG-3: blocks double from the fifth failure on, up to the longest.
    #[test]
    fn blocks_double_up_to_the_longest() {
        let rule = FailureRule {
            free: 5,
            window: TimeDelta::minutes(15),
            first: TimeDelta::seconds(30),
            longest: TimeDelta::minutes(15),
        };
        let seconds: Vec<i64> = (4..12).map(|count| rule.block_after(count).num_seconds()).collect();
        assert_eq!(seconds, [0, 30, 60, 120, 240, 480, 900, 900]);
        assert_eq!(rule.block_after(u32::MAX), rule.longest);
    }
}
