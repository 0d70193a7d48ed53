//! Replacing orders.

use plimsoll_paper_exchange::order::{OrderClass, OrderStatus, OrderType, Side, TimeInForce};
use plimsoll_paper_exchange::record::EventKind::{
    Fill, New, OrderReplaceRejected, PendingNew, PendingReplace, Rejected, Replaced,
};
use plimsoll_paper_exchange::{ExchangeConfig, NewOrder, Order, OrderId, Refusal, Replacement};

use crate::support::{Sim, buy, dec, gtc, limit, prints, sell, stop_loss, take_profit};

fn replace(sim: &mut Sim, id: OrderId, change: Replacement) -> Result<Order, Refusal> {
    let now = sim.now();
    sim.exchange.replace(sim.account, id, change, now)
}

fn price(price: &str) -> Replacement {
    Replacement { limit_price: Some(dec(price)), ..Replacement::default() }
}

#[test]
fn the_new_order_takes_over() {
    let mut sim = Sim::fixed();
    let old = sim.take(limit(Side::Buy, 10, "90"));
    let change = Replacement {
        qty: Some(dec("20")),
        time_in_force: Some(TimeInForce::Gtc),
        client_order_id: Some("second".into()),
        ..price("91")
    };
    let new = replace(&mut sim, old, change).unwrap();
    assert_ne!(new.id, old);
    assert_eq!((new.replaces, new.client_order_id.as_str(), new.qty), (Some(old), "second", Some(dec("20"))));
    assert_eq!(
        (new.limit_price, new.time_in_force, new.status),
        (Some(dec("91")), TimeInForce::Gtc, OrderStatus::PendingNew)
    );
    assert_eq!(sim.status(old), OrderStatus::PendingReplace);
    // Buying power is held for the dearer of the two.
    assert_eq!(sim.exchange.account_view(sim.account).unwrap().buying_power, dec("198180"));
    sim.settle();
    assert_eq!(sim.events_of(old), [PendingNew, New, PendingReplace, Replaced]);
    assert_eq!(sim.events_of(new.id), [New]);
    let ended = sim.order(old);
    assert_eq!((ended.status, ended.replaced_by), (OrderStatus::Replaced, Some(new.id)));
    assert!(ended.replaced_at.is_some());
    assert_eq!(sim.exchange.account_view(sim.account).unwrap().buying_power, dec("198180"));
    // Without a client id one is made.
    let third = replace(&mut sim, new.id, price("92")).unwrap();
    assert_ne!(third.client_order_id, "second");
    sim.settle();
    let fourth = replace(&mut sim, third.id, price("100")).unwrap();
    sim.settle();
    assert_eq!(sim.events_of(fourth.id), [New, Fill]);
    assert_eq!(sim.qty(), dec("20"));
}

#[test]
fn the_old_order_can_fill_first() {
    let config = ExchangeConfig { ack_delay_ms: 5_000, ..ExchangeConfig::default() };
    let mut sim = Sim::new(prints(&[("15:00:00", "100"), ("15:00:12", "90")]), config);
    let old = sim.submit(limit(Side::Buy, 10, "95")).unwrap().id;
    sim.at("15:00:10");
    let new = replace(&mut sim, old, price("94")).unwrap().id;
    sim.at("15:00:20");
    assert_eq!(sim.events_of(old), [PendingNew, New, PendingReplace, Fill, OrderReplaceRejected]);
    assert_eq!(sim.events_of(new), [Rejected]);
    assert_eq!(
        (sim.status(old), sim.status(new), sim.qty()),
        (OrderStatus::Filled, OrderStatus::Rejected, dec("10"))
    );
    assert_eq!(sim.order(old).replaced_by, None);
}

#[test]
fn a_replacement_carries_the_total() {
    // Half filled, replaced without a quantity: the new order wants the whole again.
    let config = ExchangeConfig { volume_share: dec("0.01"), ..ExchangeConfig::default() };
    let mut sim = Sim::new(
        prints(&[("15:00:00", "100"), ("15:01:00", "100"), ("15:02:00", "100"), ("15:03:00", "100")]),
        config,
    );
    let old = sim.take(limit(Side::Buy, 150, "101"));
    assert_eq!(sim.status(old), OrderStatus::PartiallyFilled);
    let new = replace(&mut sim, old, price("102")).unwrap();
    assert_eq!((new.qty, new.filled_qty), (Some(dec("150")), dec("0")));
    sim.at("15:03:30");
    assert_eq!(sim.qty(), dec("250"));
    assert_eq!(sim.order(old).filled_qty, dec("100"));
}

#[test]
fn a_canceled_replacement_leaves_the_old_order() {
    let mut sim = Sim::fixed();
    let old = sim.take(limit(Side::Buy, 10, "90"));
    let new = replace(&mut sim, old, price("91")).unwrap().id;
    assert_eq!(sim.cancel(old).unwrap_err().message, "order is already in \"pending_replace\" state");
    sim.cancel(new).unwrap();
    sim.settle();
    assert_eq!((sim.status(old), sim.status(new)), (OrderStatus::New, OrderStatus::Canceled));
    assert_eq!(sim.events_of(old), [PendingNew, New, PendingReplace, OrderReplaceRejected]);
}

#[test]
fn legs_can_be_moved() {
    let mut sim = Sim::printing(&[("15:00:00", "100"), ("15:01:00", "94"), ("15:02:00", "89")]);
    let order = NewOrder {
        order_class: OrderClass::Bracket,
        take_profit: take_profit("110"),
        stop_loss: stop_loss("90"),
        ..buy(10)
    };
    let entry = sim.submit(gtc(order)).unwrap();
    let legs = entry.legs.unwrap();
    let (profit, loss) = (legs[0].id, legs[1].id);
    // Before the fill, and after it.
    let early = sim.exchange.replace(sim.account, profit, price("112"), entry.submitted_at).unwrap().id;
    sim.settle();
    assert_eq!((sim.status(profit), sim.status(early)), (OrderStatus::Replaced, OrderStatus::New));
    let stop = |price: &str| Replacement { stop_price: Some(dec(price)), ..Replacement::default() };
    assert_eq!(
        replace(&mut sim, loss, Replacement { qty: Some(dec("5")), ..Replacement::default() })
            .unwrap_err()
            .message,
        "qty of legs cannot be replaced"
    );
    assert_eq!(
        replace(&mut sim, loss, stop("101")).unwrap_err().message,
        "stop price must be less than current price"
    );
    assert_eq!(
        replace(&mut sim, early, price("89")).unwrap_err().message,
        "take_profit.limit_price must be > stop_loss.stop_price"
    );
    let raised = replace(&mut sim, loss, stop("95")).unwrap();
    assert_eq!((raised.group_id, raised.group_role), (legs[1].group_id, legs[1].group_role));
    sim.settle();
    assert_eq!((sim.status(loss), sim.status(raised.id)), (OrderStatus::Replaced, OrderStatus::Held));
    sim.at("15:01:00");
    assert_eq!(sim.events_of(raised.id), [New, Fill]);
    assert_eq!((sim.status(early), sim.qty()), (OrderStatus::Canceled, dec("0")));
}

#[test]
fn a_trail_keeps_its_mark_and_unit() {
    let mut sim = Sim::printing(&[("15:00:00", "100"), ("15:01:00", "110"), ("15:02:00", "108")]);
    sim.hold(10);
    let id = sim.take(NewOrder { kind: OrderType::TrailingStop, trail_percent: Some(dec("10")), ..sell(10) });
    sim.at("15:01:30");
    let new = replace(&mut sim, id, Replacement { trail: Some(dec("5")), ..Replacement::default() }).unwrap();
    assert_eq!(
        (new.hwm, new.trail_percent, new.stop_price),
        (Some(dec("110")), Some(dec("5")), Some(dec("104.5")))
    );
    sim.settle();
    assert_eq!(sim.order(new.id).hwm, Some(dec("110")));
}

#[test]
fn a_sell_is_replaced_within_what_is_held() {
    let mut sim = Sim::fixed();
    sim.hold(10);
    let id = sim.take(limit(Side::Sell, 6, "120"));
    let qty = |qty: &str| Replacement { qty: Some(dec(qty)), ..Replacement::default() };
    let refusal = replace(&mut sim, id, qty("11")).unwrap_err();
    assert_eq!(refusal.message, "insufficient qty available for order (requested: 11, available: 10)");
    replace(&mut sim, id, qty("10")).unwrap();
    assert_eq!(sim.exchange.position(sim.account, "XYZ").unwrap().qty_available, dec("0"));
    sim.settle();
    assert_eq!(sim.exchange.position(sim.account, "XYZ").unwrap().qty_available, dec("0"));
}
