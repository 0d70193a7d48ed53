//! Comparisons with the broker: what they read, take over, note and resolve.

use std::collections::HashSet;

use plimsoll_core_domain::broker::AccountMovement;
use plimsoll_core_domain::fill::{Execution, FillSource};
use plimsoll_core_domain::order::{Environment, OrderStatus, Side};
use plimsoll_core_domain::risk::{HaltCause, HaltLevel, RiskRule};
use plimsoll_core_domain::{OrderId, Symbol, UserId};
use plimsoll_reliability::reconcile::{
    Adopted, Applied, Case, Finding, Held, Lack, Outcome, RunStatus, Scope, Subject, Trigger,
};
use plimsoll_storage::platform::orders::Accepted;
use plimsoll_storage::platform::reconciliation::{
    AccountOwner, DueComparison, FinishedRun, Resolution, Resolved,
};
use plimsoll_storage::platform::risk::NewHalt;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::world::{World, accept, at, execution, market, report, seen};

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn owner(world: &World) -> AccountOwner {
    AccountOwner { account: world.account, user: world.user, environment: Environment::Paper }
}

fn finding(case: Case, subject: Subject, local: &str, broker: &str) -> Finding {
    Finding { subject, case, local: local.to_owned(), broker: broker.to_owned() }
}

/// Ends a run with these findings; what it is called then, and how many differences are open.
fn finish(world: &World, n: u128, findings: Vec<Finding>) -> (RunStatus, i64) {
    let run = FinishedRun {
        id: Uuid::from_u128(n),
        trigger: Trigger::Demand,
        scope: Scope::Everything,
        started_at: at(100),
        outcome: Ok(Outcome::new(1, findings, true)),
    };
    let of = owner(world);
    let second = 100 + i64::try_from(n).unwrap();
    let status = world.db.run_blocking(|tx| tx.finish_run(of, &run, at(second))).unwrap();
    (status, world.count("discrepancies WHERE resolved_at IS NULL"))
}

fn open_id(world: &World) -> i64 {
    let rows = world.db.read_blocking(|tx| tx.open_discrepancies(Some(world.user), None)).unwrap();
    assert_eq!(rows.len(), 1);
    rows[0].id
}

fn resolve(world: &World, id: i64, resolution: Resolution) -> Resolved {
    let (owner, by) = (Some(world.user), world.user);
    world
        .db
        .run_blocking(|tx| tx.resolve_discrepancy(id, owner, by, resolution, Some("looked"), at(900)))
        .unwrap()
}

#[test]
fn real_fills_take_the_rows_of_inferred_ones_and_the_position_follows() {
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 10));
    let guess = Execution { source: FillSource::Inferred, ..execution(10, 10, "100") };
    world.apply(&report(seen(&world, id, OrderStatus::Filled, 9, 10), vec![guess]), 3);
    let sold = world.sent(market("SPY", Side::Sell, 4));
    let mut seen_sold = seen(&world, sold, OrderStatus::Filled, 30, 4);
    (seen_sold.side, seen_sold.qty) = (Some(Side::Sell), Some(4.into()));
    let sale = Execution { executed_at: at(30), ..execution(4, 4, "110") };
    world.apply(&report(seen_sold, vec![sale]), 30);
    let b = format!("b-{id}").parse().unwrap();
    let sums = vec![(b, vec!["5".parse().unwrap(), "10".parse().unwrap()])];
    let lacking =
        |sums: &[_]| world.db.read_blocking(|tx| tx.orders_lacking_fills(world.account, sums)).unwrap();
    assert_eq!(lacking(&sums).into_values().collect::<Vec<_>>(), [Lack::Fills], "an inferred fill is none");
    let real = report(
        seen(&world, id, OrderStatus::Filled, 9, 10),
        vec![execution(5, 5, "101"), execution(5, 10, "103")],
    );
    let news = world.db.run_blocking(|tx| tx.reconcile_report(world.account, &real, at(40))).unwrap();
    let Applied::Known(news) = news else { panic!("{news:?}") };
    assert_eq!((news.replaced, news.filled), (1, (dec("10"), dec("10"))));
    assert_eq!(lacking(&sums).len(), 0);
    let holding = &world.db.read_blocking(|tx| tx.holdings(world.user)).unwrap()[0];
    assert_eq!((holding.position.qty, holding.position.cost_basis), (dec("6"), dec("612")));
    assert_eq!(holding.position.realized_pl, dec("32"));
    let order = world.db.read_blocking(|tx| tx.order(world.account, id)).unwrap().unwrap();
    assert_eq!((order.status, order.avg_fill_price()), (OrderStatus::Filled, Some(dec("102"))));
    let sale = world.db.read_blocking(|tx| tx.fills_of(world.account, sold)).unwrap();
    assert_eq!(sale[0].realized_pl, dec("32"), "what the sale realised follows");
    let events = world.events().len();
    world.apply(&real, 50);
    assert_eq!((world.events().len(), world.count("fills")), (events, 3), "repeats are silent");
}

#[test]
fn an_order_placed_elsewhere_is_taken_over_once_with_its_fills() {
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 10));
    let mut foreign = seen(&world, id, OrderStatus::PartiallyFilled, 5, 4);
    (foreign.id, foreign.client_order_id) = ("b-web".parse().unwrap(), "web-1".to_owned());
    let ids = [
        (foreign.id.clone(), foreign.client_order_id.clone()),
        ("b-own".parse().unwrap(), crate::world::client_order_id(&world, id)),
    ];
    let unknown = world.db.read_blocking(|tx| tx.orders_not_on_record(world.account, &ids)).unwrap();
    assert_eq!(unknown, HashSet::from([foreign.id.clone()]));
    let adopt =
        |seen: &_| world.db.run_blocking(|tx| tx.adopt_order(owner(&world), seen, false, at(6))).unwrap();
    let Adopted::Taken(taken) = adopt(&foreign) else { panic!("not taken") };
    assert_eq!(adopt(&foreign), Adopted::Known);
    world.apply(&report(foreign.clone(), vec![execution(4, 4, "100")]), 7);
    let order = world.db.read_blocking(|tx| tx.order(world.account, taken)).unwrap().unwrap();
    assert_eq!((order.status, order.source.kind.as_str()), (OrderStatus::PartiallyFilled, "external"));
    (foreign.id, foreign.client_order_id, foreign.side) = ("b-2".parse().unwrap(), "web-2".into(), None);
    assert!(matches!(adopt(&foreign), Adopted::Unreadable(what) if what == "its side"));
    assert_eq!(world.count("orders"), 2);
}

#[test]
fn cash_follows_from_fills_and_the_ledger_and_opening_positions_cost_nothing() {
    let world = World::new();
    let of = owner(&world);
    let standing = || world.db.read_blocking(|tx| tx.standing(world.account)).unwrap();
    assert_eq!(standing().cash, None);
    let held = [Held { symbol: "IBM".into(), qty: dec("-3"), cost_basis: dec("-300") }];
    for _ in 0..2 {
        world.db.run_blocking(|tx| tx.adopt_opening(of, &held, at(1))).unwrap();
    }
    let base = standing();
    assert_eq!(base.flow, Decimal::ZERO);
    world.db.run_blocking(|tx| tx.settle_cash(world.account, dec("1000"), &base)).unwrap();
    assert_eq!(standing().cash, Some(dec("1000")));
    let id = world.sent(market("SPY", Side::Buy, 10));
    world.apply(&report(seen(&world, id, OrderStatus::Filled, 9, 10), vec![execution(10, 10, "20")]), 9);
    let row = |id: &str, kind: &str, symbol: Option<&str>, qty: Option<&str>, amount: &str| AccountMovement {
        id: id.into(),
        kind: kind.into(),
        symbol: symbol.map(str::to_owned),
        qty: qty.map(dec),
        amount: dec(amount),
        at: at(10),
    };
    let rows = [
        row("m1", "DIV", Some("SPY"), Some("10"), "2.5"),
        row("m2", "SPLIT", Some("SPY"), Some("10"), "0"),
        row("m3", "FEE", None, None, "-0.5"),
    ];
    let moves = HashSet::from(["m2".to_owned()]);
    for _ in 0..2 {
        world.db.run_blocking(|tx| tx.book_movements(of, &rows, &moves, at(11))).unwrap();
    }
    assert_eq!(standing().cash, Some(dec("802")));
    let known =
        world.db.read_blocking(|tx| tx.known_movements(world.account, &["m1".into(), "m9".into()])).unwrap();
    assert_eq!(known, HashSet::from(["m1".to_owned()]));
    let holdings = world.db.read_blocking(|tx| tx.holdings(world.user)).unwrap();
    let quantities: Vec<_> = holdings.iter().map(|of| (of.symbol.as_str(), of.position.qty)).collect();
    assert_eq!(quantities, [("IBM", dec("-3")), ("SPY", dec("20"))]);
    assert_eq!(world.count("account_ledger"), 4);
}

#[test]
fn a_difference_is_one_row_until_it_is_gone_and_is_told_once() {
    let world = World::new();
    let off = || finding(Case::PositionUnexplained, Subject::Position("SPY".into()), "0", "7");
    assert_eq!(finish(&world, 1, vec![off()]), (RunStatus::Attention, 1));
    assert_eq!(finish(&world, 2, vec![off()]), (RunStatus::Attention, 1));
    assert_eq!(world.events(), ["system_alert", "reconciliation_finished", "reconciliation_finished"]);
    assert_eq!(world.count("discrepancies WHERE looks = 2 AND blocks"), 1);
    let run = world.db.read_blocking(|tx| tx.run_of(world.user, Uuid::from_u128(2))).unwrap().unwrap();
    assert!(run.found.contains("\"position_qty\"") && run.found.contains("\"needs_human\""), "{}", run.found);
    assert_eq!(finish(&world, 3, vec![]), (RunStatus::Ok, 0));
    assert_eq!(world.count("discrepancies WHERE resolution = 'gone'"), 1);
    let totals = world.db.read_blocking(|tx| tx.run_totals(Some(world.user))).unwrap();
    assert_eq!((totals[0].open, totals[0].reconciled_at), (0, Some(at(103))));
}

#[test]
fn what_settled_itself_is_on_record_and_not_open() {
    let world = World::new();
    let order = Subject::Order(OrderId(Uuid::from_u128(5)), Symbol::new("SPY").unwrap());
    let booked = finding(Case::FillMissing, order, "0", "10");
    assert_eq!(finish(&world, 1, vec![booked.clone()]), (RunStatus::Ok, 0));
    assert_eq!(finish(&world, 2, vec![booked]), (RunStatus::Ok, 0));
    assert_eq!(world.count("discrepancies WHERE resolution = 'settled' AND class = 'adopted'"), 2);
}

#[test]
fn a_record_that_is_kept_is_not_asked_about_again_until_the_difference_changes() {
    let world = World::new();
    let off = |broker| finding(Case::PositionUnexplained, Subject::Position("SPY".into()), "0", broker);
    finish(&world, 1, vec![off("7")]);
    let id = open_id(&world);
    assert!(matches!(resolve(&world, id, Resolution::KeepLocal), Resolved::Done(_)));
    assert!(matches!(resolve(&world, id, Resolution::KeepLocal), Resolved::Already));
    assert_eq!(finish(&world, 2, vec![off("7")]), (RunStatus::Ok, 0));
    assert_eq!(finish(&world, 3, vec![off("8")]), (RunStatus::Attention, 1));
}

#[test]
fn accepting_the_broker_books_an_adjustment_once_and_only_on_what_was_noted() {
    let world = World::new();
    let base = world.db.read_blocking(|tx| tx.standing(world.account)).unwrap();
    world.db.run_blocking(|tx| tx.settle_cash(world.account, dec("1000"), &base)).unwrap();
    let position = |local| finding(Case::PositionUnexplained, Subject::Position("SPY".into()), local, "7");
    finish(&world, 1, vec![position("0")]);
    assert!(matches!(resolve(&world, open_id(&world), Resolution::AcceptBroker), Resolved::Done(_)));
    let holdings = world.db.read_blocking(|tx| tx.holdings(world.user)).unwrap();
    assert_eq!(holdings[0].position.qty, dec("7"));
    // What is noted is not what is here any more.
    finish(&world, 2, vec![position("0")]);
    let id = open_id(&world);
    assert!(matches!(resolve(&world, id, Resolution::AcceptBroker), Resolved::Changed));
    assert_eq!(open_id(&world), id);
    finish(&world, 3, vec![finding(Case::CashUnexplained, Subject::Cash, "1000", "990.5")]);
    assert!(matches!(resolve(&world, open_id(&world), Resolution::AcceptBroker), Resolved::Done(_)));
    let cash = world.db.read_blocking(|tx| tx.standing(world.account)).unwrap().cash;
    assert_eq!(cash, Some(dec("990.5")));
    assert_eq!(world.count("account_ledger WHERE kind = 'adjustment'"), 2);
}

#[test]
fn accepting_that_an_order_is_gone_ends_it() {
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 10));
    world.apply(&report(seen(&world, id, OrderStatus::New, 2, 0), vec![]), 2);
    let of = Subject::Order(id, Symbol::new("SPY").unwrap());
    finish(&world, 1, vec![finding(Case::LiveGone, of, "new", "not found")]);
    let stranger = UserId(world.user.0 + 1);
    let refused = world
        .db
        .run_blocking(|tx| {
            let by = Resolution::AcceptBroker;
            tx.resolve_discrepancy(open_id(&world), Some(stranger), stranger, by, None, at(3))
        })
        .unwrap();
    assert!(matches!(refused, Resolved::Unknown));
    assert!(matches!(resolve(&world, open_id(&world), Resolution::AcceptBroker), Resolved::Done(_)));
    let order = world.db.read_blocking(|tx| tx.order(world.account, id)).unwrap().unwrap();
    assert_eq!(order.status, OrderStatus::Canceled);
    assert_eq!(world.events().last().map(String::as_str), Some("order_cancelled"));
}

#[test]
fn a_wish_while_one_waits_is_the_same_run_and_a_failed_run_says_why() {
    let world = World::new();
    let ask = |n| {
        let (account, user, id) = (world.account, world.user, Uuid::from_u128(n));
        world.db.run_blocking(|tx| tx.ask_for_run(account, user, Trigger::Demand, id, at(1))).unwrap()
    };
    assert_eq!((ask(1), ask(2)), (Uuid::from_u128(1), Uuid::from_u128(1)));
    assert_eq!(world.count("jobs WHERE kind = 'reconcile'"), 1);
    let begun = world.db.run_blocking(|tx| tx.begin_run(world.account, Uuid::from_u128(1))).unwrap();
    assert_eq!(begun.map(|row| row.trigger), Some("demand".to_owned()));
    let run = FinishedRun {
        id: Uuid::from_u128(1),
        trigger: Trigger::Demand,
        scope: Scope::Everything,
        started_at: at(1),
        outcome: Err("the broker does not answer".into()),
    };
    let of = owner(&world);
    world.db.run_blocking(|tx| tx.finish_run(of, &run, at(2))).unwrap();
    let rows = world.db.read_blocking(|tx| tx.runs_page(world.user, None, None, 10)).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].status.as_str(), rows[0].error.as_deref()),
        ("failed", Some("the broker does not answer"))
    );
    let snapshot = world.db.read_blocking(|tx| tx.comparison_snapshot(world.account));
    assert!(snapshot.unwrap().opening, "a failed run opens no books");
}

#[test]
fn a_stale_order_is_listed_while_it_is_open() {
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 10));
    let of = Subject::Order(id, Symbol::new("SPY").unwrap());
    finish(&world, 1, vec![finding(Case::StalePending, of, "submitting", "open")]);
    let stale = || world.db.read_blocking(|tx| tx.stale_orders(world.user)).unwrap();
    assert_eq!(stale().iter().map(|order| order.id).collect::<Vec<_>>(), [id]);
    finish(&world, 2, vec![]);
    assert_eq!(stale(), []);
}

#[test]
fn a_number_of_another_account_begins_the_comparison_anew() {
    let world = World::new();
    let claim = |number: &'static str| {
        world.db.run_blocking(|tx| tx.claim_for_comparison(world.account, number)).unwrap()
    };
    assert!(claim("one"));
    finish(&world, 1, vec![]);
    let base = world.db.read_blocking(|tx| tx.standing(world.account)).unwrap();
    world.db.run_blocking(|tx| tx.settle_cash(world.account, dec("5"), &base)).unwrap();
    assert!(claim("one"));
    assert!(!world.db.read_blocking(|tx| tx.comparison_snapshot(world.account)).unwrap().opening);
    assert!(claim("two"));
    assert!(world.db.read_blocking(|tx| tx.comparison_snapshot(world.account)).unwrap().opening);
}

/// The rule that keeps an order out; `None` when it is taken.
fn refused_by(world: &World, key: &str, symbol: &str, side: Side, qty: i64) -> Option<RiskRule> {
    match world.accept(&accept(world.user, key, market(symbol, side, qty))).unwrap() {
        Accepted::New { .. } => None,
        Accepted::Risk(refusal) => Some(refusal.rule),
        other => panic!("{other:?}"),
    }
}

#[test]
fn entries_of_a_symbol_with_a_difference_wait_for_a_decision_and_exits_do_not() {
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 10));
    world.apply(&report(seen(&world, id, OrderStatus::Filled, 9, 10), vec![execution(10, 10, "100")]), 3);
    let off = |symbol: &str| finding(Case::PositionUnexplained, Subject::Position(symbol.into()), "10", "7");
    finish(&world, 1, vec![off("SPY"), off("BTCUSD")]);
    assert_eq!(refused_by(&world, "a", "SPY", Side::Buy, 1), Some(RiskRule::OpenDiscrepancy));
    assert_eq!(refused_by(&world, "b", "IBM", Side::Buy, 1), None, "another symbol");
    assert_eq!(refused_by(&world, "c", "SPY", Side::Sell, 4), None, "an exit");
    assert_eq!(refused_by(&world, "d", "SPY", Side::Sell, 7), Some(RiskRule::OpenDiscrepancy));
    assert_eq!(world.count("audit_log WHERE detail LIKE '%open_discrepancy%'"), 2);
    assert_eq!(world.count("idempotency_keys WHERE key = 'a'"), 0, "its key is free");
    let open = world.db.read_blocking(|tx| tx.open_discrepancies(Some(world.user), None)).unwrap();
    let spy = open.iter().find(|row| row.subject == "SPY").unwrap();
    assert!(matches!(resolve(&world, spy.id, Resolution::KeepLocal), Resolved::Done(_)));
    assert_eq!(refused_by(&world, "a", "SPY", Side::Buy, 1), None);
    let blocked = "accounts WHERE entries_blocked = ARRAY['BTCUSD']";
    assert_eq!(world.count(blocked), 1);
    finish(&world, 2, vec![]);
    assert_eq!(world.count("accounts WHERE entries_blocked IS NULL"), 1, "what is gone blocks nothing");
}

#[test]
fn a_run_that_is_not_complete_blocks_and_does_not_unblock() {
    let world = World::new();
    let off = finding(Case::PositionUnexplained, Subject::Position("SPY".into()), "0", "7");
    let partial = |n: u128, findings| {
        let run = FinishedRun {
            id: Uuid::from_u128(n),
            trigger: Trigger::Watch,
            scope: Scope::Orders,
            started_at: at(100),
            outcome: Ok(Outcome::new(1, findings, true)),
        };
        world.db.run_blocking(|tx| tx.finish_run(owner(&world), &run, at(101))).unwrap();
    };
    partial(1, vec![off]);
    assert_eq!(refused_by(&world, "a", "SPY", Side::Buy, 1), Some(RiskRule::OpenDiscrepancy));
    partial(2, vec![]);
    assert_eq!(refused_by(&world, "a", "SPY", Side::Buy, 1), Some(RiskRule::OpenDiscrepancy));
}

#[test]
fn entries_wait_for_a_comparison_that_began_after_the_halt_was_lifted() {
    let world = World::new();
    let halt = NewHalt {
        level: HaltLevel::BlockEntries,
        cause: HaltCause::Manual,
        reason: "a test",
        by: None,
        now: at(90),
    };
    let halt_and_resume = |second: i64| {
        world.halt(&halt);
        world.db.run_blocking(|tx| tx.resume_user(world.user, at(second))).unwrap();
    };
    halt_and_resume(95);
    assert_eq!(
        refused_by(&world, "a", "SPY", Side::Buy, 1),
        None,
        "one that was never compared waits anyway"
    );
    finish(&world, 1, vec![]);
    halt_and_resume(105);
    let audited = world.count("audit_log");
    assert_eq!(refused_by(&world, "b", "SPY", Side::Buy, 1), Some(RiskRule::Unreconciled));
    assert_eq!(world.count("audit_log"), audited, "it passes by itself");
    let due =
        |second: i64| world.db.read_blocking(|tx| tx.due_comparison(world.account, at(second))).unwrap();
    assert_eq!(due(0).waits, Some(Trigger::Rearm));
    // It began before: what it saw may be older than the halt's end.
    finish(&world, 2, vec![]);
    assert_eq!(refused_by(&world, "b", "SPY", Side::Buy, 1), Some(RiskRule::Unreconciled));
    let run = FinishedRun {
        id: Uuid::from_u128(3),
        trigger: Trigger::Rearm,
        scope: Scope::Everything,
        started_at: at(105),
        outcome: Ok(Outcome::new(1, Vec::new(), true)),
    };
    world.db.run_blocking(|tx| tx.finish_run(owner(&world), &run, at(106))).unwrap();
    assert_eq!(refused_by(&world, "b", "SPY", Side::Buy, 1), None);
    assert_eq!(due(0).waits, None);
    assert_eq!(world.db.run_blocking(|tx| tx.compare_first(Trigger::Restore, at(107))).unwrap(), 1);
    assert_eq!(due(0).waits, Some(Trigger::Restore));
}

#[test]
fn what_is_due_is_told_with_orders_of_unknown_fate() {
    let world = World::new();
    let due =
        |second: i64| world.db.read_blocking(|tx| tx.due_comparison(world.account, at(second))).unwrap();
    assert_eq!(due(0), DueComparison::default());
    let id = world.sent(market("SPY", Side::Buy, 10));
    let unknown = "UPDATE orders SET status = 'unknown', submit_started_at = to_timestamp(1780000020)";
    world.test.execute(unknown);
    assert_eq!((due(20).open, due(20).unknown.len()), (true, 0));
    assert_eq!(due(21).unknown, HashSet::from([id]));
    let (account, user, run) = (world.account, world.user, Uuid::from_u128(7));
    world.db.run_blocking(|tx| tx.ask_for_run(account, user, Trigger::Unknown, run, at(22))).unwrap();
    assert!(due(0).asked);
    assert_eq!(world.db.read_blocking(|tx| tx.database_timeline()).unwrap().unwrap().len(), 8);
}

#[test]
fn a_wish_that_comes_while_a_run_ends_is_taken_up() {
    let world = World::new();
    let (account, user) = (world.account, world.user);
    let ask = |n| {
        let id = Uuid::from_u128(n);
        world.db.run_blocking(|tx| tx.ask_for_run(account, user, Trigger::Demand, id, at(1))).unwrap()
    };
    let begin = |n| {
        let row = world.db.run_blocking(|tx| tx.begin_run(account, Uuid::from_u128(n))).unwrap();
        row.map(|row| row.id)
    };
    ask(1);
    assert_eq!(begin(1), Some(Uuid::from_u128(1)));
    finish(&world, 1, vec![]);
    // Its job is not settled yet.
    assert_eq!(ask(2), Uuid::from_u128(2));
    assert_eq!(world.count("jobs WHERE kind = 'reconcile'"), 1);
    assert_eq!(begin(1), Some(Uuid::from_u128(2)));
    finish(&world, 2, vec![]);
    assert_eq!(begin(1), None);
    ask(3);
    world.test.execute("DELETE FROM jobs");
    world.db.run_blocking(|tx| tx.resume_run(account)).unwrap();
    assert_eq!(world.count("jobs WHERE kind = 'reconcile'"), 1, "a run without a job gets one");
}

/// Brokers send executions without an id, and several under one: what counts is the order and its cumulative quantity.
#[test]
fn executions_with_empty_or_shared_ids_are_booked_each_once() {
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 10));
    let with = |cum: i64, broker_id: Option<&str>| Execution {
        broker_id: broker_id.map(str::to_owned),
        ..execution(1, cum, "100")
    };
    let told = [with(1, None), with(2, None), with(3, Some("x")), with(4, Some("x")), with(4, Some("y"))];
    let seen = seen(&world, id, OrderStatus::PartiallyFilled, 9, 4);
    for second in 3..6 {
        let told = report(seen.clone(), told.to_vec());
        let news = world.db.run_blocking(|tx| tx.reconcile_report(world.account, &told, at(second))).unwrap();
        assert!(matches!(news, Applied::Known(news) if news.filled.1 == dec("4")), "{second}");
    }
    let fills = world.db.read_blocking(|tx| tx.fills_of(world.account, id)).unwrap();
    assert_eq!(fills.len(), 4);
    let holding = &world.db.read_blocking(|tx| tx.holdings(world.user)).unwrap()[0];
    assert_eq!(holding.position.qty, dec("4"));
}
