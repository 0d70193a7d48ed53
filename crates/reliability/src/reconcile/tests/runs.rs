//! Single runs: the failures that reconciliation is known to have elsewhere, each by its name.

use chrono::TimeDelta;
use plimsoll_core_domain::broker::{AccountMovement, BrokerError};
use plimsoll_core_domain::fill::FillSource;
use plimsoll_core_domain::order::{OrderStatus, Side};
use rust_decimal::Decimal;

use super::books::{MemoryBooks, later};
use super::broker::{Model, id, time};
use super::{attempt, reconcile, terms};
use crate::reconcile::{
    Attempt, Case, Limits, Outcome, Progress, ReconcileError, Reported, RunStatus, Scope, inferred,
};

fn world() -> (Model, MemoryBooks) {
    let (broker, books) = (Model::default(), MemoryBooks::default());
    broker.with(|ledger| ledger.cash = Decimal::from(100_000));
    assert_eq!(reconcile(&broker, &books).findings, vec![]);
    (broker, books)
}

fn cases(outcome: &Outcome) -> Vec<Case> {
    outcome.findings.iter().map(|finding| finding.case).collect()
}

/// One of ours that the broker has taken, with its number there.
fn live(broker: &Model, books: &MemoryBooks, name: &str, qty: i64) -> usize {
    let terms = terms("SPY", Side::Buy, qty.into());
    books.with(|state| state.place(name, &terms, OrderStatus::Submitting));
    broker.with(|ledger| {
        let n = ledger.take(name, &terms);
        let told = ledger.tell(n);
        books.with(|state| state.apply(&told));
        n
    })
}

fn status(broker: &Model, books: &MemoryBooks, n: usize) -> OrderStatus {
    let seen = broker.with(|ledger| ledger.orders[n].clone());
    books.with(|state| state.orders[&state.find(&seen).unwrap()].status)
}

fn held(books: &MemoryBooks, symbol: &str) -> Decimal {
    books.with(|state| state.positions().get(symbol).map_or(Decimal::ZERO, |position| position.qty))
}

#[test]
fn submit_timed_out_but_lives() {
    let (broker, books) = world();
    let terms = terms("SPY", Side::Buy, Decimal::TEN);
    books.with(|state| state.place("plm-a", &terms, OrderStatus::Unknown));
    let n = broker.with(|ledger| ledger.take("plm-a", &terms));
    assert_eq!(cases(&reconcile(&broker, &books)), [Case::BrokerAhead]);
    assert_eq!(status(&broker, &books, n), OrderStatus::New);
}

#[test]
fn a_market_order_that_filled_at_once_left_the_open_list_and_is_found_by_its_id() {
    let (broker, books) = world();
    let n = live(&broker, &books, "plm-a", 10);
    broker.with(|ledger| ledger.fill(n, Decimal::TEN, Decimal::ONE_HUNDRED));
    let outcome = reconcile(&broker, &books);
    assert_eq!(cases(&outcome), [Case::BrokerAhead, Case::FillMissing]);
    assert_eq!((outcome.status, outcome.fixed), (RunStatus::Ok, 2));
    assert_eq!((status(&broker, &books, n), held(&books, "SPY")), (OrderStatus::Filled, Decimal::TEN));
}

#[test]
fn fills_that_are_told_again_after_a_restart_are_booked_once() {
    let (broker, books) = world();
    let n = live(&broker, &books, "plm-a", 10);
    let told = broker.with(|ledger| ledger.fill(n, Decimal::TEN, Decimal::ONE_HUNDRED));
    for _ in 0..3 {
        books.with(|state| state.apply(&told));
        assert_eq!(reconcile(&broker, &books).findings, vec![]);
    }
    assert_eq!(held(&books, "SPY"), Decimal::TEN);
}

#[test]
fn an_inferred_fill_makes_room_for_the_real_one() {
    let (broker, books) = world();
    let n = live(&broker, &books, "plm-a", 10);
    let four = broker.with(|ledger| ledger.fill(n, 4.into(), 100.into()));
    broker.with(|ledger| {
        ledger.fill(n, 1.into(), 108.into());
        ledger.fill(n, 5.into(), 110.into());
        ledger.untold.insert(id("b-0"));
    });
    books.with(|state| state.apply(&four));
    assert!(cases(&reconcile(&broker, &books)).contains(&Case::FillUntold));
    // The order's own job infers what the book still lacks.
    let seen = broker.with(|ledger| ledger.orders[n].clone());
    let guess = inferred(&seen, &[(4.into(), 4.into(), 100.into())]);
    books.with(|state| state.apply(&Reported { seen, executions: guess }));
    assert_eq!(held(&books, "SPY"), Decimal::TEN);
    assert_eq!(reconcile(&broker, &books).status, RunStatus::Ok);
    broker.with(|ledger| ledger.untold.clear());
    assert_eq!(cases(&reconcile(&broker, &books)), [Case::FillReplaced]);
    books.with(|state| {
        let fills = state.fills.values().next().unwrap();
        assert!(fills.iter().all(|one| one.source != FillSource::Inferred) && fills.len() == 3, "{fills:?}");
    });
    assert_eq!(reconcile(&broker, &books).findings, vec![]);
}

#[test]
fn a_position_that_is_older_than_the_history_is_taken_over_once() {
    let (broker, books) = (Model::default(), MemoryBooks::default());
    broker.with(|ledger| ledger.hold("SPY", Side::Buy, 7, 100));
    assert_eq!(cases(&reconcile(&broker, &books)), [Case::PositionOpening]);
    assert_eq!(held(&books, "SPY"), 7.into());
    let later = reconcile(&broker, &books);
    assert!(!cases(&later).contains(&Case::PositionOpening));
    assert_eq!(held(&books, "SPY"), 7.into());
}

#[test]
fn a_position_that_nothing_explains_needs_a_human_and_stays_ours() {
    let (broker, books) = world();
    broker.with(|ledger| ledger.hold("SPY", Side::Sell, 7, 100));
    let outcome = reconcile(&broker, &books);
    assert_eq!(cases(&outcome), [Case::PositionUnexplained]);
    assert_eq!(outcome.status, RunStatus::Attention);
    assert!(Case::PositionUnexplained.rule().blocks);
    assert_eq!(held(&books, "SPY"), Decimal::ZERO);
}

#[test]
fn a_failed_list_of_positions_is_not_flat() {
    let (broker, books) = world();
    let n = live(&broker, &books, "plm-a", 10);
    broker.with(|ledger| ledger.fill(n, Decimal::TEN, Decimal::ONE_HUNDRED));
    broker.with(|ledger| ledger.failing.insert("positions"));
    let mut progress = Progress::default();
    let error = attempt(&broker, &books, Scope::Everything, &mut progress).unwrap_err();
    assert!(matches!(error, ReconcileError::Broker(BrokerError::Ambiguous(_))), "{error}");
    assert_eq!(held(&books, "SPY"), Decimal::TEN, "orders and fills were settled before");
    // What stays unanswered makes the run partial, and concludes nothing.
    let mut last = None;
    for _ in 0..5 {
        last = attempt(&broker, &books, Scope::Everything, &mut progress).ok();
    }
    assert_eq!(last.unwrap().status, RunStatus::Partial);
}

#[test]
fn an_account_that_starts_is_not_compared_until_its_positions_are_known() {
    let (broker, books) = world();
    broker.with(|ledger| ledger.failing.insert("positions"));
    let limits = Limits { insist: true, ..super::LIMITS };
    let mut progress = Progress::default();
    let mut once = || {
        let run = Attempt::new(&broker, &books, limits, Scope::Everything, &mut progress).run();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run)
    };
    for _ in 0..9 {
        assert!(once().is_err(), "it ends when the positions are known, and not before");
    }
    broker.with(|ledger| ledger.failing.clear());
    assert_eq!(once().unwrap().status, RunStatus::Ok);
}

#[test]
fn a_working_order_that_no_list_and_no_look_has_is_flagged_after_spaced_looks() {
    let (broker, books) = world();
    let n = live(&broker, &books, "plm-a", 10);
    broker.with(|ledger| {
        ledger.unlisted.insert(id("b-0"));
        ledger.unfound.insert(id("b-0"));
    });
    for _ in 0..2 {
        assert_eq!(cases(&reconcile(&broker, &books)), [Case::LiveNotFound]);
        later(&books, TimeDelta::seconds(40));
    }
    let outcome = reconcile(&broker, &books);
    assert_eq!((cases(&outcome), outcome.status), (vec![Case::LiveGone], RunStatus::Attention));
    assert_eq!(status(&broker, &books, n), OrderStatus::New, "it is never closed by itself");
}

#[test]
fn an_old_open_order_outside_the_list_is_found_by_its_id() {
    let (broker, books) = world();
    live(&broker, &books, "plm-a", 10);
    broker.with(|ledger| ledger.unlisted.insert(id("b-0")));
    assert_eq!(reconcile(&broker, &books).findings, vec![]);
}

#[test]
fn a_network_error_is_never_absence() {
    let (broker, books) = world();
    let n = live(&broker, &books, "plm-a", 10);
    broker.with(|ledger| {
        ledger.failing.extend(["orders", "order"]);
    });
    let mut progress = Progress::default();
    for _ in 0..9 {
        if let Ok(outcome) = attempt(&broker, &books, Scope::Everything, &mut progress) {
            assert_eq!((outcome.status, outcome.findings), (RunStatus::Partial, vec![]));
        }
    }
    assert_eq!(status(&broker, &books, n), OrderStatus::New);
    assert_eq!(books.with(|state| state.left.len()), 1, "the order's own job goes on");
}

#[test]
fn a_list_that_is_not_to_be_had_makes_the_run_partial() {
    let (broker, books) = world();
    live(&broker, &books, "plm-a", 10);
    broker.with(|ledger| ledger.failing.insert("orders"));
    let outcome = reconcile(&broker, &books);
    assert_eq!((outcome.status, outcome.findings), (RunStatus::Partial, vec![]));
}

#[test]
fn an_order_that_is_looked_for_again_and_again_is_stale_all_the_same() {
    let (broker, books) = world();
    let terms = terms("SPY", Side::Buy, Decimal::TEN);
    let order = books.with(|state| state.place("plm-a", &terms, OrderStatus::Unknown));
    later(&books, TimeDelta::minutes(61));
    books.with(|state| {
        let now = time(state.now);
        state.orders.get_mut(&order).unwrap().updated_at = now;
    });
    assert_eq!(cases(&reconcile(&broker, &books)), [Case::UnsentNotFound, Case::StalePending]);
}

#[test]
fn a_lost_cancel_acknowledgement_is_taken_over() {
    let (broker, books) = world();
    let n = live(&broker, &books, "plm-a", 10);
    broker.with(|ledger| ledger.end(n, OrderStatus::Canceled));
    assert_eq!(cases(&reconcile(&broker, &books)), [Case::BrokerAhead]);
    assert_eq!(status(&broker, &books, n), OrderStatus::Canceled);
}

#[test]
fn a_fill_before_the_cancel_is_booked_with_it() {
    let (broker, books) = world();
    let n = live(&broker, &books, "plm-a", 10);
    broker.with(|ledger| {
        ledger.fill(n, 4.into(), 100.into());
        ledger.end(n, OrderStatus::Canceled)
    });
    assert_eq!(cases(&reconcile(&broker, &books)), [Case::BrokerAhead, Case::FillMissing]);
    assert_eq!((status(&broker, &books, n), held(&books, "SPY")), (OrderStatus::Canceled, 4.into()));
}

#[test]
fn a_fill_in_flight_during_a_replace_is_booked_and_both_ends_are_one_chain() {
    let (broker, books) = world();
    let n = live(&broker, &books, "plm-a", 10);
    let new = broker.with(|ledger| {
        ledger.fill(n, 4.into(), 100.into());
        let rest = terms("SPY", Side::Buy, 6.into());
        books.with(|state| state.place("plm-b", &rest, OrderStatus::Unknown));
        let (new, _) = ledger.replace(n, "plm-b");
        ledger.fill(new, 6.into(), 101.into());
        new
    });
    assert_eq!(reconcile(&broker, &books).status, RunStatus::Ok);
    let states = (status(&broker, &books, n), status(&broker, &books, new));
    assert_eq!(states, (OrderStatus::Replaced, OrderStatus::Filled));
    assert_eq!(held(&books, "SPY"), Decimal::TEN);
}

#[test]
fn an_impossible_state_is_flagged_each_time_and_changes_nothing() {
    let (broker, books) = world();
    let terms = terms("SPY", Side::Buy, Decimal::TEN);
    let order = books.with(|state| state.place("plm-a", &terms, OrderStatus::Canceled));
    broker.with(|ledger| ledger.take("plm-a", &terms));
    for _ in 0..3 {
        let outcome = reconcile(&broker, &books);
        assert_eq!((cases(&outcome), outcome.status), (vec![Case::Contradiction], RunStatus::Attention));
    }
    assert_eq!(books.with(|state| state.orders[&order].status), OrderStatus::Canceled);
}

#[test]
fn less_at_the_broker_than_here_keeps_ours() {
    let (broker, books) = world();
    let n = live(&broker, &books, "plm-a", 10);
    let told = broker.with(|ledger| ledger.fill(n, 4.into(), 100.into()));
    books.with(|state| state.apply(&told));
    broker.with(|ledger| {
        ledger.orders[n].filled_qty = 3.into();
    });
    let outcome = reconcile(&broker, &books);
    assert_eq!(cases(&outcome), [Case::FilledLess]);
    assert_eq!(held(&books, "SPY"), 4.into());
}

#[test]
fn what_changed_here_while_the_broker_was_asked_is_left_to_the_next_run() {
    let (broker, books) = world();
    let n = live(&broker, &books, "plm-a", 10);
    let told = broker.with(|ledger| ledger.fill(n, 4.into(), 100.into()));
    books.with(|state| state.apply(&told));
    broker.with(|ledger| {
        ledger.orders[n].filled_qty = 3.into();
    });
    let more = broker.with(|ledger| {
        let mut more = ledger.tell(n);
        more.seen.updated_at = time(1_000);
        more
    });
    books.with(|state| {
        state.meanwhile = Some(Box::new(move |state| {
            state.apply(&more);
        }));
    });
    assert_eq!(reconcile(&broker, &books).findings, vec![]);
}

#[test]
fn orders_placed_elsewhere_are_external_and_lost_ones_are_ours() {
    let (broker, books) = world();
    broker.with(|ledger| {
        let own = ledger.take("web-1", &terms("SPY", Side::Buy, Decimal::TEN));
        ledger.fill(own, 4.into(), 100.into());
        let gone = ledger.take("web-2", &terms("IBM", Side::Sell, Decimal::TEN));
        ledger.fill(gone, Decimal::TEN, 50.into());
        ledger.take("plm-lost", &terms("SPY", Side::Buy, Decimal::ONE));
    });
    let outcome = reconcile(&broker, &books);
    assert_eq!(outcome.status, RunStatus::Ok, "{outcome:?}");
    assert_eq!(cases(&outcome), [Case::OrderExternal, Case::OrderExternal, Case::OrderLost]);
    assert_eq!((held(&books, "SPY"), held(&books, "IBM")), (4.into(), Decimal::from(-10)));
    assert_eq!(reconcile(&broker, &books).findings, vec![]);
}

#[test]
fn an_order_of_a_form_that_cannot_be_kept_is_flagged() {
    let (broker, books) = world();
    broker.with(|ledger| {
        let n = ledger.take("web-1", &terms("SPY", Side::Buy, Decimal::TEN));
        ledger.orders[n].order_type = None;
    });
    let outcome = reconcile(&broker, &books);
    assert_eq!((cases(&outcome), outcome.status), (vec![Case::OrderUnreadable], RunStatus::Attention));
}

#[test]
fn dust_is_a_difference() {
    let (broker, books) = world();
    broker.with(|ledger| ledger.positions.entry("BTCUSD".into()).or_default().qty = Decimal::new(1, 9));
    assert_eq!(cases(&reconcile(&broker, &books)), [Case::PositionUnexplained]);
}

#[test]
fn dividends_and_deposits_explain_cash_and_nothing_else_does() {
    let (broker, books) = world();
    let movement = |id: &str, kind: &str, amount: i64| AccountMovement {
        id: id.into(),
        kind: kind.into(),
        symbol: None,
        qty: None,
        amount: amount.into(),
        at: time(1),
    };
    broker.with(|ledger| {
        ledger.cash += Decimal::from(25);
        ledger.movements.extend([movement("1", "DIV", 30), movement("2", "FEE", -5)]);
    });
    let outcome = reconcile(&broker, &books);
    assert_eq!((cases(&outcome), outcome.status), (vec![Case::CashExplained], RunStatus::Ok));
    assert_eq!(reconcile(&broker, &books).findings, vec![]);
    broker.with(|ledger| ledger.cash -= Decimal::ONE);
    for _ in 0..2 {
        assert_eq!(cases(&reconcile(&broker, &books)), [Case::CashUnexplained]);
    }
}

#[test]
fn movements_of_before_the_first_run_explain_nothing() {
    let (broker, books) = (Model::default(), MemoryBooks::default());
    let row = AccountMovement {
        id: "1".into(),
        kind: "CSD".into(),
        symbol: None,
        qty: None,
        amount: 500.into(),
        at: time(-10),
    };
    broker.with(|ledger| {
        ledger.cash = 500.into();
        ledger.movements.push(row);
    });
    assert_eq!(reconcile(&broker, &books).findings, vec![]);
    broker.with(|ledger| ledger.cash += Decimal::from(500));
    assert_eq!(cases(&reconcile(&broker, &books)), [Case::CashUnexplained]);
}

#[test]
fn an_order_on_its_way_for_too_long_is_stale_and_a_resting_one_is_not() {
    let (broker, books) = world();
    let resting = live(&broker, &books, "plm-a", 10);
    let pending = live(&broker, &books, "plm-b", 10);
    let seen = broker.with(|ledger| ledger.end(pending, OrderStatus::PendingCancel));
    books.with(|state| state.apply(&seen));
    later(&books, TimeDelta::minutes(61));
    let outcome = reconcile(&broker, &books);
    assert_eq!(cases(&outcome), [Case::StalePending]);
    assert_eq!(status(&broker, &books, pending), OrderStatus::PendingCancel, "never canceled by itself");
    assert_eq!(status(&broker, &books, resting), OrderStatus::New);
}

#[test]
fn an_account_without_differences_costs_four_calls() {
    let (broker, books) = world();
    for n in 0..20 {
        let at = live(&broker, &books, &format!("plm-{n}"), 10);
        let told = broker.with(|ledger| ledger.fill(at, 4.into(), 100.into()));
        books.with(|state| state.apply(&told));
    }
    broker.with(|ledger| ledger.calls.clear());
    let outcome = reconcile(&broker, &books);
    assert_eq!((outcome.findings, outcome.scanned), (vec![], 22));
    assert_eq!(broker.with(|ledger| ledger.calls.clone()), ["account", "fills", "orders", "positions"]);
}

#[test]
fn a_run_is_bounded_in_calls() {
    let (broker, books) = world();
    for n in 0..300 {
        live(&broker, &books, &format!("plm-{n}"), 10);
    }
    broker.with(|ledger| {
        ledger.failing.insert("orders");
        ledger.calls.clear();
    });
    let error = attempt(&broker, &books, Scope::Everything, &mut Progress::default()).unwrap_err();
    assert!(matches!(error, ReconcileError::Budget(200)), "{error}");
    assert_eq!(broker.with(|ledger| ledger.calls.len()), 200);
}

#[test]
fn credentials_of_another_account_compare_nothing() {
    let (broker, books) = world();
    live(&broker, &books, "plm-a", 10);
    broker.with(|ledger| {
        ledger.number = Some("two");
        ledger.calls.clear();
    });
    let error = attempt(&broker, &books, Scope::Orders, &mut Progress::default()).unwrap_err();
    assert!(matches!(error, ReconcileError::OtherAccount), "{error}");
    assert_eq!(broker.with(|ledger| ledger.calls.clone()), ["account"]);
}
