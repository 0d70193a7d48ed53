//! What came from outside the platform: how much of a position it is, what a halt leaves of it, and how it is claimed.

use std::collections::HashSet;

use plimsoll_core_domain::broker::{AccountMovement, BrokerOrder};
use plimsoll_core_domain::order::{Environment, OrderStatus, Side};
use plimsoll_core_domain::risk::{HaltCause, HaltLevel};
use plimsoll_core_domain::{OrderId, Symbol, UserId};
use plimsoll_reliability::reconcile::{Adopted, Case, Finding, Held, Outcome, Scope, Subject, Trigger};
use plimsoll_storage::platform::orders::{OrderClaim, PositionClaim};
use plimsoll_storage::platform::reconciliation::{AccountOwner, FinishedRun};
use plimsoll_storage::platform::risk::{Enforced, NewHalt};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::world::{World, at, execution, market, report, seen};

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn owner(world: &World) -> AccountOwner {
    AccountOwner { account: world.account, user: world.user, environment: Environment::Paper }
}

fn symbol(text: &str) -> Symbol {
    Symbol::new(text).unwrap()
}

/// Buys or sells here, at 10.
fn trade(world: &World, side: Side, qty: i64, second: i64) {
    let id = world.sent(market("SPY", side, qty));
    let mut filled = seen(world, id, OrderStatus::Filled, second, qty);
    filled.side = Some(side);
    world.apply(&report(filled, vec![execution(qty, qty, "10")]), second);
}

/// An order of the broker's that nobody placed here, filled with `qty`.
fn foreign(world: &World, name: &str, side: Side, qty: i64, second: i64) -> BrokerOrder {
    let like = world.sent(market("SPY", side, qty));
    let mut order = seen(world, like, OrderStatus::Filled, second, qty);
    world.test.execute(&format!("DELETE FROM order_history WHERE order_id = '{like}'"));
    world.test.execute(&format!("DELETE FROM orders WHERE id = '{like}'"));
    (order.id, order.client_order_id) = (format!("b-{name}").parse().unwrap(), format!("web-{name}"));
    order.side = Some(side);
    order
}

fn adopt(world: &World, order: &BrokerOrder, second: i64) -> OrderId {
    let taken = world.db.run_blocking(|tx| tx.adopt_order(owner(world), order, false, at(second))).unwrap();
    let Adopted::Taken(id) = taken else { panic!("{taken:?}") };
    id
}

fn trade_outside(world: &World, name: &str, side: Side, qty: i64, second: i64) -> OrderId {
    let order = foreign(world, name, side, qty, second);
    let id = adopt(world, &order, second);
    world.apply(&report(order, vec![execution(qty, qty, "10")]), second + 1);
    id
}

fn outside(world: &World) -> Decimal {
    let standing = world.db.read_blocking(|tx| tx.account_standings(Some(world.user), None)).unwrap();
    let of = &standing[0].outside;
    of.iter().find(|(symbol, _)| symbol == "SPY").map_or(Decimal::ZERO, |(_, qty)| *qty)
}

fn claim(world: &World, user: UserId, id: OrderId) -> OrderClaim {
    world.db.run_blocking(|tx| tx.claim_order(user, id, at(500))).unwrap()
}

/// How much a halt would close.
fn to_close(world: &World) -> Decimal {
    let new = NewHalt {
        level: HaltLevel::Flatten,
        cause: HaltCause::Manual,
        reason: "a test",
        by: None,
        now: at(400),
    };
    world.halt(&new);
    let step = world.db.run_blocking(|tx| tx.enforce_halt(world.account, at(401))).unwrap().0;
    world.db.run_blocking(|tx| tx.resume_user(world.user, at(402))).unwrap();
    match step {
        Enforced::Done => Decimal::ZERO,
        Enforced::Close { closes, .. } => closes.iter().map(|close| close.terms.qty().unwrap().get()).sum(),
        other @ Enforced::Waits { .. } => panic!("{other:?}"),
    }
}

#[test]
fn units_from_outside_are_never_more_than_are_held_and_no_halt_closes_them() {
    let world = World::new();
    trade_outside(&world, "1", Side::Buy, 10, 2);
    assert_eq!((outside(&world), to_close(&world)), (dec("10"), dec("0")));
    trade(&world, Side::Buy, 5, 10);
    assert_eq!((outside(&world), to_close(&world)), (dec("10"), dec("5")));
    // What is sold here is one's own first.
    trade(&world, Side::Sell, 12, 20);
    assert_eq!((outside(&world), to_close(&world)), (dec("3"), dec("0")));
    trade(&world, Side::Sell, 3, 30);
    assert_eq!(outside(&world), dec("0"), "nothing is held");
    trade(&world, Side::Buy, 4, 40);
    assert_eq!((outside(&world), to_close(&world)), (dec("0"), dec("4")), "what is bought now is one's own");
    trade_outside(&world, "2", Side::Sell, 9, 50);
    assert_eq!((outside(&world), to_close(&world)), (dec("-5"), dec("0")), "short by an order from outside");
}

#[test]
fn positions_from_before_are_from_outside_and_a_split_changes_both_parts() {
    let world = World::new();
    let held = [Held { symbol: "SPY".into(), qty: dec("10"), cost_basis: dec("100") }];
    world.db.run_blocking(|tx| tx.adopt_opening(owner(&world), &held, at(1))).unwrap();
    assert_eq!((outside(&world), to_close(&world)), (dec("10"), dec("0")));
    trade(&world, Side::Buy, 30, 2);
    let split = AccountMovement {
        id: "m1".into(),
        kind: "SPLIT".into(),
        symbol: Some("SPY".into()),
        qty: Some(dec("40")),
        amount: Decimal::ZERO,
        at: at(5),
    };
    let moves = HashSet::from(["m1".to_owned()]);
    world.db.run_blocking(|tx| tx.book_movements(owner(&world), &[split], &moves, at(6))).unwrap();
    assert_eq!((outside(&world), to_close(&world)), (dec("20"), dec("60")));
    let claimed = |tx: &mut plimsoll_storage::Tx<'_>| tx.claim_position(world.user, &symbol("SPY"));
    assert_eq!(world.db.run_blocking(claimed).unwrap(), PositionClaim::Done(dec("20")));
    assert_eq!(world.db.run_blocking(claimed).unwrap(), PositionClaim::NothingOutside);
    assert_eq!((outside(&world), to_close(&world)), (dec("0"), dec("80")));
}

#[test]
fn an_order_is_claimed_with_what_it_replaces_and_only_by_its_owner() {
    let world = World::new();
    let first = foreign(&world, "1", Side::Buy, 4, 2);
    let old = adopt(&world, &first, 2);
    world.apply(&report(first.clone(), vec![execution(4, 4, "10")]), 3);
    let mut next = foreign(&world, "2", Side::Buy, 6, 4);
    next.replaces = Some(first.id);
    let new = adopt(&world, &next, 4);
    world.apply(&report(next, vec![execution(6, 6, "10")]), 5);
    let other = trade_outside(&world, "3", Side::Buy, 1, 6);
    assert_eq!(outside(&world), dec("11"));
    let stranger = UserId(world.user.0 + 1);
    assert!(matches!(claim(&world, stranger, new), OrderClaim::NoOrder));
    let events = world.events().len();
    let OrderClaim::Done { order, all, .. } = claim(&world, world.user, new) else { panic!("not claimed") };
    assert_eq!((order.id, order.source.kind.as_str(), order.status), (new, "api", OrderStatus::Filled));
    let mut family = vec![old, new];
    family.sort();
    assert_eq!(all, family);
    assert_eq!(world.events()[events..], ["order_updated", "order_updated"]);
    assert_eq!((outside(&world), to_close(&world)), (dec("1"), dec("10")));
    assert!(matches!(claim(&world, world.user, old), OrderClaim::NotOutside));
    assert_eq!(world.count("orders WHERE source_kind = 'external'"), 1);
    let history = world.db.read_blocking(|tx| tx.order_history(world.account, new)).unwrap();
    assert_eq!(history.last().map(|line| line.cause.as_str()), Some("claimed"));
    // A report that comes later finds the order as it is.
    let again = world.db.read_blocking(|tx| tx.order(world.account, other)).unwrap().unwrap();
    assert_eq!(again.source.kind.as_str(), "external");
}

#[test]
fn what_needs_a_decision_is_mailed_once() {
    let world = World::new();
    let finding = |case, subject, broker: &str| Finding {
        subject,
        case,
        local: "0".to_owned(),
        broker: broker.to_owned(),
    };
    let finish = |n: u128, findings: Vec<Finding>| {
        let run = FinishedRun {
            id: Uuid::from_u128(n),
            trigger: Trigger::Interval,
            scope: Scope::Everything,
            started_at: at(100),
            outcome: Ok(Outcome::new(1, findings, true)),
        };
        world.db.run_blocking(|tx| tx.finish_run(owner(&world), &run, at(101))).unwrap();
        world.count("mail_outbox WHERE kind = 'account_differs'")
    };
    let off = |symbol: &str| finding(Case::PositionUnexplained, Subject::Position(symbol.into()), "7");
    let adopted =
        finding(Case::OrderExternal, Subject::AtBroker("b-1".parse().unwrap(), "SPY".into()), "new");
    assert_eq!(finish(1, vec![adopted]), 0, "nobody has to decide about it");
    assert_eq!(finish(2, vec![off("SPY"), off("QQQ")]), 1, "one mail for both");
    assert_eq!(finish(3, vec![off("SPY"), off("QQQ")]), 1, "once");
    assert_eq!(finish(4, vec![off("SPY"), off("QQQ"), off("IBM")]), 2);
    assert_eq!(world.count("jobs WHERE kind = 'send_mail'"), 2);
    let standing = world.db.read_blocking(|tx| tx.account_standings(None, Some(world.account))).unwrap();
    assert_eq!(standing[0].blocked, ["IBM", "QQQ", "SPY"]);
    assert_eq!((standing[0].open, standing[0].needs_human), (3, 3));
    assert_eq!(standing[0].last_run.as_ref().map(|run| run.id), Some(Uuid::from_u128(4)));
    let figures = || world.db.read_blocking(|tx| tx.comparison_figures()).unwrap();
    assert_eq!((figures().oldest, figures().needs_human, figures().timing), (None, 3, 0), "no key");
    world.test.execute(
        "INSERT INTO broker_credentials (user_id, broker, environment, key_last4, fingerprint, api_key, api_secret, state, \
         version, created_at, updated_at) SELECT user_id, 'alpaca', 'paper', 'abcd', '0123456789abcdef', 'x', 'x', \
         'valid', 1, now(), now() FROM accounts",
    );
    assert_eq!((figures().oldest, figures().never), (Some(at(101)), 0));
    world.test.execute("UPDATE accounts SET reconciled_at = NULL");
    assert_eq!((figures().oldest, figures().never), (None, 1));
    world.test.execute(&format!("UPDATE accounts SET state = 'inactive' WHERE id = {}", world.account));
    assert_eq!(world.db.read_blocking(|tx| tx.account_standings(Some(world.user), None)).unwrap().len(), 0);
}
