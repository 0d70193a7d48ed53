//! Requests a minute and account, by real time: windows begin at full minutes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use plimsoll_paper_exchange::AccountId;

const WINDOW_S: i64 = 60;

/// What the `X-Ratelimit-*` headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) limit: u32,
    pub(crate) remaining: u32,
    /// UNIX seconds when the window turns.
    pub(crate) reset: i64,
    /// Whether this request is one too many.
    pub(crate) exceeded: bool,
}

#[derive(Debug)]
pub(crate) struct RateLimit {
    limit: u32,
    /// Per account: the window's start and the requests in it.
    used: Mutex<HashMap<AccountId, (i64, u32)>>,
}

impl RateLimit {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, used: Mutex::default() }
    }

    /// Counts a request.
    pub(crate) fn count(&self, account: AccountId, now: DateTime<Utc>) -> Allowance {
        let window = now.timestamp().div_euclid(WINDOW_S) * WINDOW_S;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = used.entry(account).or_insert((window, 0));
        if entry.0 != window {
            *entry = (window, 0);
        }
        let exceeded = entry.1 >= self.limit;
        if !exceeded {
            entry.1 += 1;
        }
        Allowance { limit: self.limit, remaining: self.limit - entry.1, reset: window + WINDOW_S, exceeded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_full_minute_of_each_account() {
        let limit = RateLimit::new(2);
        let at = |second: i64| DateTime::from_timestamp(600 + second, 0).unwrap();
        let (one, two) = (AccountId::from_u128(1), AccountId::from_u128(2));
        assert_eq!(
            limit.count(one, at(1)),
            Allowance { limit: 2, remaining: 1, reset: 660, exceeded: false }
        );
        assert_eq!(limit.count(one, at(2)).remaining, 0);
        assert!(limit.count(one, at(59)).exceeded);
        assert!(!limit.count(two, at(59)).exceeded);
        assert_eq!(
            limit.count(one, at(60)),
            Allowance { limit: 2, remaining: 1, reset: 720, exceeded: false }
        );
    }
}
