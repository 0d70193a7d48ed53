//! When an account is compared with its broker, as long as this instance has it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use plimsoll_core_domain::OrderId;
use plimsoll_crypto::OsRandom;
use plimsoll_reliability::reconcile::{ReconcileError, Scope, Trigger};
use plimsoll_storage::platform::reconciliation::DueComparison;

use super::Comparer;
use crate::service::random_seed;

/// Between comparisons of open orders: an order stream that is silent is found out in time.
const WATCH_EVERY: Duration = Duration::from_secs(25);
/// Between two looks at what is due.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// The interval, give or take a tenth, so that accounts do not come at once.
fn next_slot(interval: Duration, seed: u64) -> Duration {
    let parts = u32::try_from(seed % 201).unwrap_or(100);
    interval * (900 + parts) / 1_000
}

/// What is to be done at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Everything is to be compared, by a job.
    Ask(Trigger),
    /// What was asked for has perhaps no job any more.
    Resume,
    /// Open orders are compared.
    Watch,
    /// Nothing.
    Rest,
}

/// Decides by what there is: `slot` and `watch` tell whether their time has come, `asked` are the orders of unknown fate
/// because of which the account was compared already.
fn next(due: &DueComparison, slot: bool, watch: bool, asked: &HashSet<OrderId>) -> Next {
    if let Some(trigger) = due.waits {
        return Next::Ask(trigger);
    }
    if slot {
        return Next::Ask(Trigger::Interval);
    }
    if !due.unknown.is_subset(asked) {
        return Next::Ask(Trigger::Unknown);
    }
    match (watch, due.open, due.asked) {
        (true, true, _) => Next::Watch,
        (_, _, true) => Next::Resume,
        _ => Next::Rest,
    }
}

/// Compares an account again and again: open orders often, everything by its interval, when it is to be compared before it
/// takes entries, and when the fate of an order stays unknown. A comparison that fails changes nothing about the account:
/// the next one comes soon.
pub(in crate::trading) async fn compare(of: Comparer) {
    let (account, pace) = (of.connection.account, of.pace);
    let slot_of = || next_slot(pace.interval, random_seed(&mut OsRandom));
    let (mut since, mut slot) = (Instant::now(), slot_of());
    let (mut watched, mut asked) = (Instant::now(), HashSet::new());
    let look = WATCH_EVERY.min(pace.unknown_for);
    let unknown_for = TimeDelta::from_std(pace.unknown_for).unwrap_or(TimeDelta::MAX);
    loop {
        let pause = look.min(slot.saturating_sub(since.elapsed())).max(SHORTEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = of.connection.compare.notified() => {}
        }
        if !of.connection.is_ready() {
            continue;
        }
        let before = of.clock.now() - unknown_for;
        let done = match of.db.read(move |tx| tx.due_comparison(account, before)).await {
            Ok(due) => {
                let next = next(&due, since.elapsed() >= slot, watched.elapsed() >= WATCH_EVERY, &asked);
                asked = due.unknown;
                if next == Next::Ask(Trigger::Interval) {
                    (since, slot) = (Instant::now(), slot_of());
                }
                if next == Next::Watch {
                    watched = Instant::now();
                }
                act(&of, next).await
            }
            Err(error) => Err(error.into()),
        };
        if let Err(why) = done {
            tracing::debug!(account.id = %account, %why, "the account could not be compared with the broker now");
        }
    }
}

async fn act(of: &Comparer, next: Next) -> Result<(), ReconcileError> {
    let account = of.connection.account;
    match next {
        Next::Ask(trigger) => of.ask(trigger).await?,
        Next::Resume => of.db.run(move |tx| tx.resume_run(account)).await?,
        Next::Watch => of.attempt(&mut of.begin(Trigger::Watch, Scope::Orders)).await.map(drop)?,
        Next::Rest => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn slots_are_the_interval_give_or_take_a_tenth() {
        let minute = Duration::from_secs(60);
        let slots: Vec<_> = (0..=200).map(|seed| next_slot(minute, seed)).collect();
        assert_eq!((slots[0], slots[200]), (Duration::from_secs(54), Duration::from_secs(66)));
        assert!(slots.iter().all(|slot| (slots[0]..=slots[200]).contains(slot)));
    }

    #[test]
    fn an_order_of_unknown_fate_asks_once_and_what_waits_for_a_comparison_asks_each_time() {
        let order = OrderId(Uuid::from_u128(1));
        let mut due =
            DueComparison { open: true, unknown: HashSet::from([order]), ..DueComparison::default() };
        let known = HashSet::from([order]);
        assert_eq!(next(&due, false, false, &HashSet::new()), Next::Ask(Trigger::Unknown));
        assert_eq!(next(&due, false, false, &known), Next::Rest);
        assert_eq!(next(&due, false, true, &known), Next::Watch);
        assert_eq!(next(&due, true, true, &known), Next::Ask(Trigger::Interval));
        due.waits = Some(Trigger::Rearm);
        for _ in 0..2 {
            assert_eq!(next(&due, true, true, &known), Next::Ask(Trigger::Rearm));
        }
    }

    #[test]
    fn a_flat_account_rests_unless_something_was_asked_for() {
        let none = HashSet::new();
        assert_eq!(next(&DueComparison::default(), false, true, &none), Next::Rest);
        let asked = DueComparison { asked: true, ..DueComparison::default() };
        assert_eq!(next(&asked, false, true, &none), Next::Resume);
    }
}
