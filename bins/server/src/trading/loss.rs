//! The daily loss of an account, while its owner has a limit of it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{Broker, BrokerError};
use plimsoll_core_domain::risk::{cash_moved, first_day_since_close};
use plimsoll_core_domain::{Clock, StoreError};
use plimsoll_storage::Db;
use plimsoll_storage::platform::risk::{LossLook, Worth, carry_halts};
use rust_decimal::Decimal;
use tokio::time::Instant;

use super::connection::Connection;

/// After so many times of the usual pause between looks, what came in and went out is asked for again.
const CASH_LIFE: u32 = 12;
/// So many times the usual pause without a look, and the owner is told; so many, and entries are blocked.
const TELL_AFTER: u32 = 12;
const BLOCK_AFTER: u32 = 36;
/// A loss that is reached, while it cannot be had what came in and went out, is believed at so many looks in a row.
const BELIEVED: u32 = 3;
/// How long a halt is brought to the owner's other accounts before that is left to the sweep of halts.
const CARRY_WITHIN: Duration = Duration::from_secs(30);

/// Looks at the account again and again: after fills, after whoever asked for the account, and in between. Each look halts
/// trading when the limit is reached.
pub(super) async fn watch(connection: Arc<Connection>, db: Db, clock: Arc<dyn Clock>, every: Duration) {
    let mut guard = Guard { connection, db, clock, every, cash: Cash::default(), sight: Sight::default() };
    loop {
        tokio::select! {
            () = guard.connection.moved.notified() => {}
            () = tokio::time::sleep(every) => {}
        }
        if guard.connection.is_loss_limited() {
            guard.look().await;
        } else {
            guard.sight = Sight::default();
        }
        // However many fills come: the broker is asked a few times in each period at most.
        tokio::time::sleep(every / 10).await;
    }
}

struct Guard {
    connection: Arc<Connection>,
    db: Db,
    clock: Arc<dyn Clock>,
    every: Duration,
    cash: Cash,
    sight: Sight,
}

/// What came in and went out today.
#[derive(Debug, Default)]
struct Cash {
    moved: Decimal,
    /// Of which session, by the equity at the close before it.
    session: Option<Decimal>,
    asked: Option<Instant>,
    /// Looks in a row at a reached loss without it.
    missed: u32,
}

async fn cash_of(broker: &dyn Broker, last_equity: Decimal) -> Result<Decimal, BrokerError> {
    let clock = broker.clock().await?;
    let rows = broker.movements(first_day_since_close(&clock)).await?;
    Ok(cash_moved(&clock, &rows, last_equity))
}

impl Guard {
    async fn look(&mut self) {
        let account = self.connection.account;
        match self.worth().await {
            Ok(worth) => match self.hold(worth).await {
                Ok(()) => self.sight.good(),
                Err(error) => {
                    tracing::warn!(account.id = %account, %error, "the daily loss could not be held against its limit now");
                }
            },
            Err(error) => {
                tracing::warn!(account.id = %account, %error, "what the account is worth is not to be had now");
                self.blind().await;
            }
        }
    }

    /// Equity, and the cash that moved as it is known.
    async fn worth(&mut self) -> Result<Worth, BrokerError> {
        let seen = self.connection.broker.account().await?;
        let (equity, last_equity) = (seen.equity, seen.last_equity);
        let fresh = self.cash.session == Some(last_equity)
            && self.cash.asked.is_some_and(|at| at.elapsed() < self.every * CASH_LIFE);
        let certain = !fresh && self.ask_for_cash(last_equity).await;
        Ok(Worth { equity, last_equity, moved: self.cash.moved, certain })
    }

    /// Whether it was to be had.
    async fn ask_for_cash(&mut self, last_equity: Decimal) -> bool {
        match cash_of(&*self.connection.broker, last_equity).await {
            Ok(moved) => {
                self.cash =
                    Cash { moved, session: Some(last_equity), asked: Some(Instant::now()), missed: 0 };
                true
            }
            Err(error) => {
                tracing::debug!(account.id = %self.connection.account, %error, "the account's movements are not to be had now");
                if self.cash.session != Some(last_equity) {
                    self.cash.moved = Decimal::ZERO;
                }
                false
            }
        }
    }

    async fn hold(&mut self, mut worth: Worth) -> Result<(), StoreError> {
        let (mut done, now) = (self.against_limit(worth).await?, self.clock.now());
        if done == LossLook::Uncertain {
            worth.certain = self.ask_for_cash(worth.last_equity).await;
            if !worth.certain {
                self.cash.missed += 1;
                worth.certain = self.cash.missed >= BELIEVED;
            }
            worth.moved = self.cash.moved;
            done = self.against_limit(worth).await?;
        }
        let (account, user) = (self.connection.account, self.connection.user);
        match done {
            LossLook::Halts { reached, halt } => {
                tracing::warn!(account.id = %account, rule = reached.rule.as_str(), limit = reached.limit, actual = reached.actual, level = %halt.level, %now, "trading is halted: the daily loss reached its limit");
                carry_halts(&self.db, Some(user), CARRY_WITHIN).await.map(drop)
            }
            LossLook::Within | LossLook::Uncertain | LossLook::Halted => Ok(()),
        }
    }

    async fn against_limit(&self, worth: Worth) -> Result<LossLook, StoreError> {
        let (account, now) = (self.connection.account, self.clock.now());
        let seed = u64::from(now.timestamp_subsec_micros());
        self.db.run_retrying(seed, move |tx| tx.look_at_loss(account, worth, now)).await
    }

    /// The broker did not say what the account is worth.
    async fn blind(&mut self) {
        let now = self.clock.now();
        let Some((since, halts)) = self.sight.bad(Instant::now(), now, self.every) else { return };
        let (account, user) = (self.connection.account, self.connection.user);
        let seed = u64::from(now.timestamp_subsec_micros());
        let done = self.db.run_retrying(seed, move |tx| tx.loss_is_unseen(account, since, halts, now)).await;
        match done {
            Ok(true) => {
                self.sight.acted(halts, Instant::now());
                tracing::error!(account.id = %account, %since, halts, "the daily loss is not watched: the broker does not say what the account is worth");
                if halts && let Err(error) = carry_halts(&self.db, Some(user), CARRY_WITHIN).await {
                    tracing::warn!(account.id = %account, %error, "the halt is left to the sweep of halts");
                }
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(account.id = %account, %error, "it could not be told that the daily loss is not watched");
            }
        }
    }
}

/// Since when an account could not be looked at, and what was done about it.
#[derive(Debug, Default)]
struct Sight {
    since: Option<(Instant, DateTime<Utc>)>,
    told: bool,
    blocked: Option<Instant>,
}

impl Sight {
    fn good(&mut self) {
        *self = Self::default();
    }

    /// Another look that showed nothing: since when, and whether entries are to be blocked, when something is to be done.
    /// A block that was lifted meanwhile is set again after the same time.
    fn bad(&mut self, at: Instant, now: DateTime<Utc>, every: Duration) -> Option<(DateTime<Utc>, bool)> {
        let (began, since) = *self.since.get_or_insert((at, now));
        let blind = at.saturating_duration_since(began);
        let after = |times: u32| every.saturating_mul(times);
        let rested = self.blocked.is_none_or(|last| at.saturating_duration_since(last) >= after(BLOCK_AFTER));
        if blind >= after(BLOCK_AFTER) && rested {
            Some((since, true))
        } else if blind >= after(TELL_AFTER) && !self.told {
            Some((since, false))
        } else {
            None
        }
    }

    fn acted(&mut self, halts: bool, at: Instant) {
        self.told = true;
        if halts {
            self.blocked = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_owner_is_told_first_and_then_entries_are_blocked() {
        let (every, began) = (Duration::from_secs(5), Instant::now());
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let now = DateTime::UNIX_EPOCH;
        let mut sight = Sight::default();
        let bad = |sight: &mut Sight, seconds| sight.bad(at(seconds), now, every).map(|(_, halts)| halts);
        assert_eq!((bad(&mut sight, 0), bad(&mut sight, 59)), (None, None));
        assert_eq!(bad(&mut sight, 60), Some(false));
        assert_eq!(bad(&mut sight, 65), Some(false), "nothing was open: it is looked again");
        sight.acted(false, at(65));
        assert_eq!(bad(&mut sight, 70), None, "told once");
        assert_eq!(bad(&mut sight, 180), Some(true));
        sight.acted(true, at(180));
        assert_eq!(bad(&mut sight, 359), None);
        assert_eq!(bad(&mut sight, 360), Some(true), "lifted, and still blind");
        sight.good();
        assert_eq!(bad(&mut sight, 400), None, "from the beginning");
    }
}
