//! Applying what the broker tells: fills, positions and events, once, whatever the order and the repeats.

use plimsoll_core_domain::order::{OrderStatus, Side};
use plimsoll_storage::platform::orders::{Applied, ApplyError};
use rust_decimal::Decimal;

use crate::world::{World, at, execution, market, report, seen};

#[test]
fn a_fill_makes_its_rows_and_events_and_repeats_change_nothing() {
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 10));
    world.apply(&report(seen(&world, id, OrderStatus::New, 2, 0), vec![]), 2);
    let filled = report(seen(&world, id, OrderStatus::Filled, 9, 10), vec![execution(10, 10, "101.5")]);
    world.apply(&filled, 9);
    let events = [
        "order_created",
        "order_updated",
        "trade_executed",
        "order_filled",
        "position_updated",
        "pnl_updated",
    ];
    assert_eq!(world.events(), events);
    for second in 10..13 {
        world.apply(&filled, second);
        world.apply(&report(seen(&world, id, OrderStatus::New, 2, 0), vec![]), second);
    }
    assert_eq!(world.events(), events, "repeats are silent");
    assert_eq!(world.count("fills"), 1);
    let holdings = world.db.read_blocking(|tx| tx.holdings(world.user)).unwrap();
    assert_eq!(holdings[0].position.qty, Decimal::from(10));
    assert_eq!(holdings[0].position.cost_basis, Decimal::from(1015));
    let order = world.db.read_blocking(|tx| tx.order(world.account, id)).unwrap().unwrap();
    assert_eq!((order.status, order.filled_qty), (OrderStatus::Filled, Decimal::from(10)));
    let history: Vec<String> = world
        .db
        .read_blocking(|tx| tx.order_history(world.account, id))
        .unwrap()
        .into_iter()
        .map(|line| line.to)
        .collect();
    assert_eq!(history, ["pending_submit", "new", "filled"]);
}

#[test]
fn fills_out_of_order_end_in_the_same_books() {
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 10));
    world.apply(&report(seen(&world, id, OrderStatus::Filled, 9, 10), vec![execution(6, 10, "102")]), 3);
    let order = world.db.read_blocking(|tx| tx.order(world.account, id)).unwrap().unwrap();
    assert_eq!(order.status, OrderStatus::PartiallyFilled, "not filled before its fills are on record");
    assert_eq!(order.unbooked_qty(), Decimal::from(4));
    world.apply(
        &report(seen(&world, id, OrderStatus::PartiallyFilled, 5, 4), vec![execution(4, 4, "101")]),
        4,
    );
    let order = world.db.read_blocking(|tx| tx.order(world.account, id)).unwrap().unwrap();
    assert_eq!((order.status, order.unbooked_qty()), (OrderStatus::Filled, Decimal::ZERO));
    assert_eq!(order.avg_fill_price(), Some("101.6".parse().unwrap()));
    let events = world.events();
    assert_eq!(events.iter().filter(|kind| *kind == "order_filled").count(), 1);
    assert_eq!(events.iter().filter(|kind| *kind == "trade_executed").count(), 2);
}

#[test]
fn a_contradiction_changes_nothing() {
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 10));
    let over = report(seen(&world, id, OrderStatus::Filled, 9, 11), vec![execution(11, 11, "102")]);
    let before = world.events();
    let refused = world.db.run_blocking(|tx| tx.apply_report(world.account, &over, at(3)));
    assert!(matches!(refused, Err(ApplyError::Contradiction { .. })), "{refused:?}");
    assert_eq!(world.events(), before);
    assert_eq!(world.count("fills"), 0);
    assert_eq!(world.count("positions"), 0);
}

#[test]
fn an_order_of_nobody_is_unknown() {
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 10));
    let mut foreign = seen(&world, id, OrderStatus::New, 2, 0);
    foreign.id = "another".parse().unwrap();
    foreign.client_order_id = "by-hand".into();
    let applied =
        world.db.run_blocking(|tx| tx.apply_report(world.account, &report(foreign, vec![]), at(3))).unwrap();
    assert_eq!(applied, Applied::UnknownOrder);
}

#[test]
fn profit_is_realised_by_average_cost_and_summed_for_today() {
    let world = World::new();
    let buy = world.sent(market("SPY", Side::Buy, 10));
    world.apply(&report(seen(&world, buy, OrderStatus::Filled, 2, 10), vec![execution(10, 10, "100")]), 2);
    let sell = world.sent(market("SPY", Side::Sell, 10));
    world.apply(
        &report(seen(&world, sell, OrderStatus::PartiallyFilled, 3, 4), vec![execution(4, 4, "110")]),
        3,
    );
    let pnl =
        world.db.read_blocking(|tx| tx.pnl(world.user, &|_| Some("120".parse().unwrap()), at(4))).unwrap();
    assert_eq!(pnl.realized_total.0, Decimal::from(40));
    assert_eq!(pnl.realized_today.0, Decimal::from(40));
    assert_eq!(pnl.unrealized.0, Decimal::from(120));
    let tomorrow = world.db.read_blocking(|tx| tx.pnl(world.user, &|_| None, at(3 * 86_400))).unwrap();
    assert_eq!(tomorrow.realized_today.0, Decimal::ZERO);
    let page = world.db.read_blocking(|tx| tx.fills_page(world.user, None, None, 1)).unwrap();
    let rest = world.db.read_blocking(|tx| tx.fills_page(world.user, None, Some(page[0].1), 10)).unwrap();
    assert_eq!((page.len(), rest.len()), (1, 1));
    assert_ne!(page[0].0.id, rest[0].0.id);
}
