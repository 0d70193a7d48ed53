//! What this instance holds against versions of credentials, beside what the database says of them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use plimsoll_core_domain::AccountId;
use plimsoll_storage::platform::accounts::TradingAccount;

/// The longest pause between tries of what does not open, in shortest ones.
const LONGEST: u32 = 60;

/// A version that did not open, so many times in a row, lately at that moment.
#[derive(Clone, Copy, Debug)]
struct Unopened {
    version: i64,
    times: u32,
    at: Instant,
}

/// The doubts of one instance.
#[derive(Debug)]
pub(super) struct Doubts {
    /// Refused by the broker, which is still to be written down. Then the database alone decides.
    refused: HashMap<AccountId, i64>,
    unopened: HashMap<AccountId, Unopened>,
    /// The first pause between tries of what does not open; each one after it is twice as long.
    retry: Duration,
}

impl Doubts {
    pub(super) fn new(retry: Duration) -> Self {
        Self { refused: HashMap::new(), unopened: HashMap::new(), retry }
    }

    /// The broker refuses this version; whether that is news. A version of before changes nothing about the one after it.
    pub(super) fn refuse(&mut self, account: AccountId, version: i64) -> bool {
        if self.refused.get(&account).is_some_and(|of| *of >= version) {
            return false;
        }
        self.refused.insert(account, version);
        true
    }

    /// The refusal is in the database.
    pub(super) fn written(&mut self, account: AccountId, version: i64) {
        if self.refused.get(&account) == Some(&version) {
            self.refused.remove(&account);
        }
    }

    /// This version did not open; whether that is news, which it is once in each pause.
    pub(super) fn unopened(&mut self, account: AccountId, version: i64, now: Instant) -> bool {
        let before = self.unopened.get(&account).copied();
        if before.is_some_and(|before| before.version > version) || self.rests(account, version, now) {
            return false;
        }
        let times = before
            .filter(|before| before.version == version)
            .map_or(1, |before| before.times.saturating_add(1));
        self.unopened.insert(account, Unopened { version, times, at: now });
        true
    }

    /// The account was connected with this version: it opens.
    pub(super) fn opened(&mut self, account: AccountId, version: i64) {
        if self.unopened.get(&account).is_some_and(|of| of.version == version) {
            self.unopened.remove(&account);
        }
    }

    /// Whether this version did not open and is not tried again yet.
    pub(super) fn rests(&self, account: AccountId, version: i64, now: Instant) -> bool {
        self.unopened.get(&account).is_some_and(|of| {
            let pause = self.retry * 2_u32.saturating_pow(of.times.saturating_sub(1)).min(LONGEST);
            of.version == version && now.saturating_duration_since(of.at) < pause
        })
    }

    /// Whether nothing is to be tried with this version now.
    pub(super) fn forbids(&self, account: AccountId, version: i64, now: Instant) -> bool {
        self.refused.get(&account) == Some(&version) || self.rests(account, version, now)
    }

    /// Forgets versions that are not the stored ones any more.
    pub(super) fn keep(&mut self, accounts: &[TradingAccount]) {
        let stored: HashMap<AccountId, i64> =
            accounts.iter().map(|row| (row.account.id, row.credential_version)).collect();
        self.refused.retain(|account, version| stored.get(account) == Some(version));
        self.unopened.retain(|account, of| stored.get(account) == Some(&of.version));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: AccountId = AccountId(1);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_refusal_counts_until_it_is_written_down() {
        let (mut doubts, now) = (Doubts::new(MINUTE), Instant::now());
        assert!(doubts.refuse(ANN, 2));
        assert!(!doubts.refuse(ANN, 2), "said already");
        assert!(doubts.forbids(ANN, 2, now) && !doubts.forbids(ANN, 3, now));
        assert!(!doubts.rests(ANN, 2, now), "it opens");
        // A late word on the version of before.
        assert!(!doubts.refuse(ANN, 1));
        doubts.written(ANN, 1);
        assert!(doubts.forbids(ANN, 2, now));
        // From here on the database decides: what it calls valid again is connected again.
        doubts.written(ANN, 2);
        assert!(!doubts.forbids(ANN, 2, now));
        assert!(doubts.refuse(ANN, 2), "a later refusal is news");
    }

    #[test]
    fn pauses_between_tries_of_what_does_not_open_grow_to_an_hour() {
        let (mut doubts, began) = (Doubts::new(MINUTE), Instant::now());
        let (mut now, mut pauses) = (began, Vec::new());
        for _ in 0..9 {
            assert!(doubts.unopened(ANN, 1, now));
            assert!(!doubts.unopened(ANN, 1, now), "once in each pause");
            let before = now;
            while doubts.forbids(ANN, 1, now) {
                now += MINUTE;
            }
            pauses.push((now - before).as_secs() / 60);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        // Another version, and one that opened, begin anew.
        assert!(doubts.unopened(ANN, 2, now) && !doubts.unopened(ANN, 1, now));
        assert!(doubts.rests(ANN, 2, now) && !doubts.rests(ANN, 2, now + MINUTE));
        doubts.opened(ANN, 1);
        assert!(doubts.rests(ANN, 2, now));
        doubts.opened(ANN, 2);
        assert!(!doubts.forbids(ANN, 2, now));
    }

    #[test]
    fn what_was_said_of_versions_of_before_is_forgotten() {
        let (mut doubts, now) = (Doubts::new(MINUTE), Instant::now());
        assert!(doubts.refuse(ANN, 1) && doubts.unopened(ANN, 1, now));
        doubts.keep(&[]);
        assert!(!doubts.forbids(ANN, 1, now));
    }
}
