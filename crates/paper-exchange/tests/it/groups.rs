//! Brackets, OCO and OTO.

use plimsoll_paper_exchange::order::{
    GroupRole, OrderClass, OrderQuery, OrderStatus, OrderType, Side, StatusFilter,
};
use plimsoll_paper_exchange::record::EventKind::{
    Canceled, Expired, Fill, New, PartialFill, PendingCancel, PendingNew,
};
use plimsoll_paper_exchange::{ExchangeConfig, MarketData, NewOrder, Order, OrderId, Replacement};

use crate::support::{Sim, buy, dec, gtc, limit, prints, sell, stop_loss, take_profit};

fn bracket(qty: u32) -> NewOrder {
    gtc(NewOrder {
        order_class: OrderClass::Bracket,
        take_profit: take_profit("110"),
        stop_loss: stop_loss("90"),
        ..buy(qty)
    })
}

fn oco(qty: u32) -> NewOrder {
    gtc(NewOrder {
        order_class: OrderClass::Oco,
        kind: OrderType::Limit,
        take_profit: take_profit("110"),
        stop_loss: stop_loss("90"),
        ..sell(qty)
    })
}

fn legs(order: &Order) -> (OrderId, OrderId) {
    let legs = order.legs.as_ref().unwrap();
    (legs[0].id, legs[1].id)
}

#[test]
fn a_take_profit_ends_the_stop() {
    let mut sim = Sim::printing(&[("15:00:00", "100"), ("15:01:00", "100"), ("15:02:00", "111")]);
    let entry = sim
        .submit(NewOrder { kind: OrderType::Limit, limit_price: Some(dec("100")), ..bracket(10) })
        .unwrap();
    let (profit, loss) = legs(&entry);
    let roles: Vec<_> = entry.legs.as_ref().unwrap().iter().map(|leg| (leg.group_role, leg.status)).collect();
    assert_eq!(
        roles,
        [(Some(GroupRole::TakeProfit), OrderStatus::Held), (Some(GroupRole::StopLoss), OrderStatus::Held)]
    );
    assert!(
        entry
            .legs
            .as_ref()
            .unwrap()
            .iter()
            .all(|leg| leg.group_id == entry.group_id && leg.side == Side::Sell)
    );
    sim.settle();
    assert_eq!(sim.status(entry.id), OrderStatus::New, "the ask is 100.01");
    let raised = Replacement { limit_price: Some(dec("100.01")), ..Replacement::default() };
    let now = sim.now();
    let entry = sim.exchange.replace(sim.account, entry.id, raised, now).unwrap();
    sim.settle();
    assert_eq!(sim.status(entry.id), OrderStatus::Filled);
    assert_eq!(legs(&sim.order(entry.id)), (profit, loss), "the legs follow the replacement");
    assert_eq!((sim.status(profit), sim.status(loss)), (OrderStatus::New, OrderStatus::Held));
    // One lot of shares is held once, and only the live leg is in the open list.
    assert_eq!(sim.exchange.position(sim.account, "XYZ").unwrap().qty_available, dec("0"));
    let open = sim.exchange.orders(sim.account, &OrderQuery::default()).unwrap();
    assert_eq!(open.iter().map(|order| order.id).collect::<Vec<_>>(), [profit]);
    sim.at("15:02:00");
    assert_eq!(sim.events_of(profit), [New, Fill]);
    assert_eq!(sim.events_of(loss), [Canceled]);
    assert_eq!(sim.qty(), dec("0"));
}

#[test]
fn a_stop_ends_the_take_profit() {
    let mut sim = Sim::printing(&[("15:00:00", "100"), ("15:01:00", "89")]);
    let entry = sim.submit(bracket(10)).unwrap();
    let (profit, loss) = legs(&entry);
    sim.at("15:01:00");
    assert_eq!(sim.events_of(loss), [New, Fill]);
    assert_eq!(sim.events_of(profit), [New, Canceled]);
    assert_eq!((sim.qty(), sim.order(loss).filled_avg_price), (dec("0"), Some(dec("88.99"))));
}

/// A market in which one order takes 100 shares a minute.
fn thin(rows: &[(&str, &str)]) -> Sim {
    Sim::new(prints(rows), ExchangeConfig { volume_share: dec("0.01"), ..ExchangeConfig::default() })
}

#[test]
fn legs_wait_for_the_whole_entry() {
    let mut sim = thin(&[("15:00:00", "100"), ("15:01:00", "100")]);
    let entry = sim.submit(bracket(150)).unwrap();
    let (profit, loss) = legs(&entry);
    sim.settle();
    assert_eq!(sim.order(entry.id).filled_qty, dec("100"));
    assert_eq!((sim.status(profit), sim.status(loss)), (OrderStatus::Held, OrderStatus::Held));
    assert_eq!(sim.exchange.position(sim.account, "XYZ").unwrap().qty_available, dec("100"));
    sim.at("15:01:00");
    assert_eq!((sim.status(entry.id), sim.status(profit)), (OrderStatus::Filled, OrderStatus::New));
}

#[test]
fn a_part_filled_take_profit_shrinks_the_stop() {
    let rows = [
        ("15:00:00", "100"),
        ("15:01:00", "100"),
        ("15:02:00", "100"),
        ("15:03:00", "111"),
        ("15:04:00", "89"),
        ("15:05:00", "89"),
        ("15:06:00", "89"),
    ];
    let mut sim = thin(&rows);
    let bought = sim.take(buy(250));
    sim.at("15:02:30");
    assert_eq!(sim.status(bought), OrderStatus::Filled);
    let top = sim.submit(oco(250)).unwrap();
    assert_eq!((top.group_role, top.limit_price), (Some(GroupRole::TakeProfit), Some(dec("110"))));
    let stop = top.legs.as_ref().unwrap()[0].id;
    sim.at("15:03:30");
    assert_eq!((sim.order(top.id).filled_qty, sim.order(stop).qty), (dec("100"), Some(dec("150"))));
    sim.at("15:04:00");
    assert_eq!(sim.status(top.id), OrderStatus::Canceled);
    assert_eq!(sim.order(stop).filled_qty, dec("100"));
    sim.at("15:06:00");
    assert_eq!((sim.status(stop), sim.qty()), (OrderStatus::Filled, dec("0")));
    assert_eq!(sim.events_of(top.id), [PendingNew, New, PartialFill, Canceled]);
    assert_eq!(sim.events_of(stop), [New, PartialFill, Fill]);
}

#[test]
fn canceling_any_member_ends_the_group() {
    for member in 0..3 {
        let mut sim = Sim::fixed();
        let order = NewOrder { kind: OrderType::Limit, limit_price: Some(dec("95")), ..bracket(10) };
        let entry = sim.submit(order).unwrap();
        let (profit, loss) = legs(&entry);
        sim.settle();
        let ids = [entry.id, profit, loss];
        sim.cancel(ids[member]).unwrap();
        sim.settle();
        assert!(ids.iter().all(|id| sim.status(*id) == OrderStatus::Canceled), "{member}");
        assert_eq!(sim.events_of(ids[member]).last_chunk(), Some(&[PendingCancel, Canceled]));
    }
    // After the entry's fill the position stays, without its exits.
    let mut sim = Sim::fixed();
    let entry = sim.submit(bracket(10)).unwrap();
    let (profit, loss) = legs(&entry);
    sim.settle();
    sim.cancel(loss).unwrap();
    sim.settle();
    assert_eq!(
        (sim.status(entry.id), sim.status(profit), sim.status(loss)),
        (OrderStatus::Filled, OrderStatus::Canceled, OrderStatus::Canceled)
    );
    assert_eq!(sim.exchange.position(sim.account, "XYZ").unwrap().qty_available, dec("10"));
}

#[test]
fn day_groups_expire_together() {
    let mut sim = Sim::fixed();
    let day = NewOrder { time_in_force: plimsoll_paper_exchange::order::TimeInForce::Day, ..bracket(10) };
    let filled = sim.submit(day.clone()).unwrap();
    let waiting =
        sim.submit(NewOrder { kind: OrderType::Limit, limit_price: Some(dec("95")), ..day }).unwrap();
    sim.at("21:00:00");
    let (profit, loss) = legs(&filled);
    assert_eq!(
        (sim.status(filled.id), sim.status(profit), sim.status(loss)),
        (OrderStatus::Filled, OrderStatus::Expired, OrderStatus::Expired)
    );
    let (profit, loss) = legs(&waiting);
    assert!([waiting.id, profit, loss].iter().all(|id| sim.status(*id) == OrderStatus::Expired));
    assert_eq!(sim.events_of(loss), [Expired]);
}

#[test]
fn an_oto_stop_works_alone() {
    let mut sim = Sim::printing(&[("15:00:00", "100"), ("15:01:00", "90")]);
    let order = NewOrder { order_class: OrderClass::Oto, stop_loss: stop_loss("90"), ..buy(10) };
    let entry = sim.submit(gtc(order)).unwrap();
    let stop = entry.legs.unwrap()[0].id;
    sim.settle();
    assert_eq!(sim.status(stop), OrderStatus::New);
    sim.at("15:01:00");
    assert_eq!(sim.events_of(stop), [New, Fill]);
    let order = NewOrder { order_class: OrderClass::Oto, take_profit: take_profit("110"), ..buy(10) };
    let entry = sim.submit(gtc(order)).unwrap();
    sim.settle();
    assert_eq!(sim.status(entry.legs.unwrap()[0].id), OrderStatus::New);
}

#[test]
fn short_brackets_mirror_long_ones() {
    let mut sim = Sim::printing(&[("15:00:00", "100"), ("15:01:00", "111")]);
    let order = NewOrder {
        side: Side::Sell,
        take_profit: take_profit("90"),
        stop_loss: stop_loss("110"),
        ..bracket(10)
    };
    let entry = sim.submit(order).unwrap();
    let (profit, loss) = legs(&entry);
    sim.settle();
    assert_eq!(sim.qty(), dec("-10"));
    sim.at("15:01:00");
    assert_eq!(
        (sim.status(profit), sim.status(loss), sim.qty()),
        (OrderStatus::Canceled, OrderStatus::Filled, dec("0"))
    );
}

#[test]
fn an_exit_never_opens() {
    // The shares of a bracket's first fills are sold by hand; its leg then finds less than it wants.
    let mut sim = thin(&[("15:00:00", "100"), ("15:01:00", "100"), ("15:02:00", "111"), ("15:03:00", "111")]);
    let entry = sim
        .submit(NewOrder { kind: OrderType::Limit, limit_price: Some(dec("100.01")), ..bracket(150) })
        .unwrap();
    let (profit, loss) = legs(&entry);
    sim.settle();
    assert_eq!(sim.qty(), dec("100"));
    let by_hand = sim.take(limit(Side::Sell, 60, "105"));
    sim.at("15:01:00");
    assert_eq!(sim.status(entry.id), OrderStatus::Filled);
    sim.at("15:03:30");
    assert_eq!(sim.qty(), dec("0"), "never below zero");
    assert_eq!((sim.status(profit), sim.order(profit).filled_qty), (OrderStatus::Canceled, dec("100")));
    assert_eq!((sim.status(by_hand), sim.order(by_hand).filled_qty), (OrderStatus::Canceled, dec("50")));
    assert_eq!(sim.events.iter().filter(|event| event.reason.as_deref() == Some("NOTHING_LEFT")).count(), 2);
    assert!(sim.status(loss).is_final());
}

#[test]
fn nested_lists_hide_legs() {
    let mut sim = Sim::new(MarketData::fixed_price(dec("100")).unwrap(), ExchangeConfig::default());
    let entry = sim.submit(bracket(10)).unwrap();
    sim.settle();
    let all = OrderQuery { status: StatusFilter::All, ..OrderQuery::default() };
    let flat = sim.exchange.orders(sim.account, &all).unwrap();
    assert_eq!(flat.len(), 3);
    assert!(flat.iter().all(|order| order.legs.is_none()));
    let nested = sim.exchange.orders(sim.account, &OrderQuery { nested: true, ..all }).unwrap();
    assert_eq!((nested.len(), nested[0].id), (1, entry.id));
    assert_eq!(nested[0].legs.as_ref().unwrap().len(), 2);
    // The entry is filled and the legs are no top orders: an open list with `nested` is empty while they live.
    let open = OrderQuery { nested: true, ..OrderQuery::default() };
    assert!(sim.exchange.orders(sim.account, &open).unwrap().is_empty());
}
