//! Simple orders from submission to their end.

use plimsoll_paper_exchange::order::{OrderStatus, OrderType, Side, TimeInForce};
use plimsoll_paper_exchange::record::EventKind::{
    Accepted, Canceled, Expired, Fill, New, OrderCancelRejected, PartialFill, PendingCancel, PendingNew,
    Rejected,
};
use plimsoll_paper_exchange::{ExchangeConfig, MarketData, NewOrder};

use crate::support::{Sim, buy, dec, gtc, limit, prints, sell, stop, time};

#[test]
fn a_market_order_fills_at_the_far_side() {
    let mut sim = Sim::printing(&[("15:00:00", "100")]);
    let answer = sim.submit(buy(10)).unwrap();
    assert_eq!(answer.status, OrderStatus::PendingNew);
    assert_eq!((answer.filled_qty, answer.filled_avg_price), (dec("0"), None));
    assert_eq!(answer.expires_at, Some(time("21:00:00")));
    sim.settle();
    assert_eq!(sim.events_of(answer.id), [PendingNew, New, Fill]);
    let order = sim.order(answer.id);
    // 2 basis points of 100 are 2 cents: 99.99 to 100.01.
    assert_eq!((order.status, order.filled_avg_price), (OrderStatus::Filled, Some(dec("100.01"))));
    let sold = sim.take(sell(10));
    assert_eq!(sim.order(sold).filled_avg_price, Some(dec("99.99")));

    let events: Vec<_> = sim.events.iter().filter(|event| event.order.id == answer.id).collect();
    assert_eq!(events[0].execution_id, None);
    assert_ne!(events[1].execution_id, events[2].execution_id);
    assert_eq!(events[2].execution_id, Some(sim.executions_of(answer.id)[0].id));
    assert_eq!(
        (events[2].price, events[2].qty, events[2].position_qty),
        (Some(dec("100.01")), Some(dec("10")), Some(dec("10")))
    );
    assert!(events.iter().all(|event| event.order.legs.is_none()));
}

#[test]
fn limits_wait_for_their_price() {
    let mut sim = Sim::printing(&[
        ("15:00:00", "100"),
        ("15:01:00", "99.01"),
        ("15:02:00", "99"),
        ("15:03:00", "101.01"),
    ]);
    let bid = sim.take(limit(Side::Buy, 10, "99"));
    sim.at("15:01:30");
    assert_eq!(sim.status(bid), OrderStatus::New, "the ask is 99.02");
    sim.at("15:02:00");
    assert_eq!(sim.status(bid), OrderStatus::New, "the ask is 99.01: half the spread above");
    sim.cancel(bid).unwrap();
    let bid = sim.take(limit(Side::Buy, 10, "99.01"));
    assert_eq!(sim.order(bid).filled_avg_price, Some(dec("99.01")));
    let offer = sim.take(limit(Side::Sell, 10, "100.99"));
    sim.at("15:02:59");
    assert_eq!(sim.status(offer), OrderStatus::New);
    sim.at("15:03:00");
    assert_eq!(sim.order(offer).filled_avg_price, Some(dec("100.99")));
    assert_eq!(sim.order(offer).filled_at, Some(time("15:03:00")));
}

#[test]
fn stops_trigger_on_prints() {
    let rows = [
        ("15:00:00", "100"),
        ("15:01:00", "95.01"),
        ("15:02:00", "95"),
        ("15:03:00", "105"),
        ("15:04:00", "120"),
    ];
    let mut sim = Sim::printing(&rows);
    sim.hold(20);
    let protective = sim.take(stop(Side::Sell, 10, "95"));
    let limited = sim.take(NewOrder {
        kind: OrderType::StopLimit,
        limit_price: Some(dec("96")),
        ..stop(Side::Sell, 10, "95")
    });
    sim.at("15:01:59");
    assert_eq!(sim.status(protective), OrderStatus::New);
    sim.at("15:02:00");
    assert_eq!(sim.order(protective).filled_avg_price, Some(dec("94.99")));
    assert_eq!(sim.status(limited), OrderStatus::New, "reached, but its limit is above the bid");
    sim.at("15:03:00");
    assert_eq!(sim.order(limited).filled_avg_price, Some(dec("104.98")));
    // A buy stop is a stop-limit 2.5 % above its stop: 120 is beyond 112.75.
    let breakout = sim.take(stop(Side::Buy, 10, "110"));
    sim.at("15:10:00");
    assert_eq!(sim.status(breakout), OrderStatus::New);
}

#[test]
fn trailing_stops_follow() {
    let rows = [
        ("15:00:00", "100"),
        ("15:01:00", "110"),
        ("15:02:00", "105"),
        ("15:03:00", "108"),
        ("15:04:00", "99"),
    ];
    let mut sim = Sim::printing(&rows);
    sim.hold(20);
    let trailing = |price: Option<&str>, percent: Option<&str>| NewOrder {
        kind: OrderType::TrailingStop,
        trail_price: price.map(dec),
        trail_percent: percent.map(dec),
        ..sell(10)
    };
    let dollars = sim.take(trailing(Some("6"), None));
    let percent = sim.take(trailing(None, Some("10")));
    let (hwm, stop) = (sim.order(dollars).hwm, sim.order(dollars).stop_price);
    assert_eq!((hwm, stop), (Some(dec("100")), Some(dec("94"))));
    assert_eq!(sim.order(percent).stop_price, Some(dec("90")));
    sim.at("15:03:30");
    assert_eq!((sim.order(dollars).hwm, sim.order(dollars).stop_price), (Some(dec("110")), Some(dec("104"))));
    assert_eq!(sim.order(percent).stop_price, Some(dec("99")));
    assert_eq!(sim.status(dollars), OrderStatus::New);
    sim.at("15:04:00");
    assert_eq!((sim.status(dollars), sim.status(percent)), (OrderStatus::Filled, OrderStatus::Filled));
    assert_eq!(sim.events_of(dollars), [PendingNew, New, Fill]);
    // A buy trails from above.
    let rows = [("15:00:00", "100"), ("15:01:00", "90"), ("15:02:00", "94.99"), ("15:03:00", "95")];
    let mut sim = Sim::printing(&rows);
    let cover = sim.take(NewOrder { side: Side::Buy, ..trailing(Some("5"), None) });
    assert_eq!(sim.order(cover).stop_price, Some(dec("105")));
    sim.at("15:02:59");
    assert_eq!((sim.order(cover).stop_price, sim.status(cover)), (Some(dec("95")), OrderStatus::New));
    sim.at("15:03:00");
    assert_eq!(sim.order(cover).filled_avg_price, Some(dec("95.01")));
}

#[test]
fn volume_bounds_a_minute() {
    // 10 000 shares a minute: one order may take 1 000.
    let mut sim =
        Sim::printing(&[("15:00:00", "100"), ("15:01:10", "100"), ("15:02:20", "101"), ("15:03:00", "101")]);
    let id = sim.take(buy(1_950));
    assert_eq!((sim.status(id), sim.order(id).filled_qty), (OrderStatus::PartiallyFilled, dec("1000")));
    // A minute without a print still gives the least: 100 shares, here from 15:01:00 to 15:01:10.
    sim.at("15:01:05");
    assert_eq!(sim.order(id).filled_qty, dec("1100"));
    sim.at("15:01:59");
    assert_eq!(sim.status(id), OrderStatus::Filled);
    assert_eq!(sim.events_of(id), [PendingNew, New, PartialFill, PartialFill, Fill]);
    let rows = sim.executions_of(id);
    assert_eq!(rows.iter().map(|row| row.qty).collect::<Vec<_>>(), [dec("1000"), dec("100"), dec("850")]);
    assert_eq!(
        rows.iter().map(|row| row.cum_qty).collect::<Vec<_>>(),
        [dec("1000"), dec("1100"), dec("1950")]
    );
    assert_eq!(rows.iter().map(|row| row.leaves_qty).collect::<Vec<_>>(), [dec("950"), dec("850"), dec("0")]);
}

#[test]
fn partial_fills_by_chance_are_tried_again() {
    let config = ExchangeConfig { partial_fill_rate: dec("0.5"), ..ExchangeConfig::default() };
    let market = MarketData::fixed_price(dec("10")).unwrap();
    let mut sim = Sim::new(market, config);
    let ids: Vec<_> = (0..40).map(|_| sim.submit(buy(50)).unwrap().id).collect();
    sim.at("15:01:00");
    let parts: Vec<usize> = ids.iter().map(|id| sim.executions_of(*id).len()).collect();
    assert!(parts.iter().any(|parts| *parts > 1) && parts.contains(&1), "{parts:?}");
    assert!(ids.iter().all(|id| sim.status(*id) == OrderStatus::Filled));
    assert_eq!(sim.qty(), dec("2000"));
}

#[test]
fn rejects_by_chance() {
    let config = ExchangeConfig { reject_rate: dec("1"), ..ExchangeConfig::default() };
    let mut sim = Sim::new(MarketData::fixed_price(dec("10")).unwrap(), config);
    let id = sim.take(buy(1));
    assert_eq!(sim.events_of(id), [PendingNew, Rejected]);
    assert!(sim.order(id).failed_at.is_some());
    assert_eq!(sim.exchange.account_view(sim.account).unwrap().buying_power, dec("200000"));
}

#[test]
fn ioc_and_fok() {
    let rows = [("15:00:00", "100")];
    let with = |time_in_force, order| NewOrder { time_in_force, ..order };
    let mut sim = Sim::printing(&rows);
    let part = sim.take(with(TimeInForce::Ioc, buy(1_500)));
    assert_eq!(sim.events_of(part), [PendingNew, New, PartialFill, Canceled]);
    assert_eq!((sim.status(part), sim.order(part).filled_qty), (OrderStatus::Canceled, dec("1000")));
    let away = sim.take(with(TimeInForce::Ioc, limit(Side::Buy, 1, "90")));
    assert_eq!(sim.events_of(away), [PendingNew, New, Canceled]);
    let mut sim = Sim::printing(&rows);
    let none = sim.take(with(TimeInForce::Fok, buy(1_500)));
    assert_eq!((sim.status(none), sim.order(none).filled_qty), (OrderStatus::Canceled, dec("0")));
    let whole = sim.take(with(TimeInForce::Fok, buy(1_000)));
    assert_eq!(sim.status(whole), OrderStatus::Filled);
}

#[test]
fn auctions() {
    let rows = [("14:30:00", "101"), ("15:00:00", "100"), ("20:59:59", "104"), ("21:00:00", "105")];
    let with = |time_in_force, order| NewOrder { time_in_force, ..order };
    let mut sim = Sim::starting(prints(&rows), ExchangeConfig::default(), "13:00:00");
    let open = sim.submit(with(TimeInForce::Opg, buy(1_500))).unwrap();
    assert_eq!(open.status, OrderStatus::Accepted);
    let low = sim.submit(with(TimeInForce::Opg, limit(Side::Buy, 1, "100.5"))).unwrap().id;
    sim.at("14:29:59");
    assert_eq!(sim.status(open.id), OrderStatus::Accepted);
    sim.at("14:30:00");
    assert_eq!(sim.order(open.id).filled_avg_price, Some(dec("101")), "one price, no bound on volume");
    assert_eq!(sim.events_of(open.id), [Accepted, New, Fill]);
    assert_eq!(sim.events_of(low), [Accepted, New, Canceled]);

    sim.at("15:10:00");
    let close = sim.take(with(TimeInForce::Cls, sell(1_500)));
    sim.at("20:59:59");
    assert_eq!(sim.status(close), OrderStatus::New);
    sim.at("21:00:00");
    assert_eq!(sim.order(close).filled_avg_price, Some(dec("105")));
    assert_eq!(sim.qty(), dec("0"));
}

#[test]
fn day_orders_expire_at_the_close_and_gtc_after_ninety_days() {
    let mut sim = Sim::fixed();
    let day = sim.take(limit(Side::Buy, 1, "90"));
    let lasting = sim.take(gtc(limit(Side::Buy, 1, "90")));
    assert_eq!(sim.order(lasting).expires_at, Some(time("2027-02-22T21:00:00Z")));
    sim.at("20:59:59");
    assert_eq!(sim.status(day), OrderStatus::New);
    // Over a jump as over a close: the next morning.
    sim.at("2026-11-25T14:30:00Z");
    assert_eq!(sim.events_of(day), [PendingNew, New, Expired]);
    assert_eq!(sim.order(day).expired_at, Some(time("21:00:00")));
    assert_eq!(sim.status(lasting), OrderStatus::New);
    sim.at("2027-02-22T21:00:00Z");
    assert_eq!(sim.events_of(lasting), [PendingNew, New, Canceled]);
}

#[test]
fn orders_of_a_closed_market_wait_for_the_opening() {
    let market = MarketData::fixed_price(dec("100")).unwrap();
    let mut sim = Sim::starting(market, ExchangeConfig::default(), "02:00:00");
    let id = sim.submit(buy(1)).unwrap().id;
    let early = NewOrder { extended_hours: true, ..limit(Side::Buy, 1, "100") };
    let early = sim.submit(early).unwrap().id;
    assert_eq!(sim.events_of(id), [Accepted]);
    assert_eq!(sim.order(id).expires_at, Some(time("21:00:00")));
    assert_eq!(sim.order(early).expires_at, Some(time("2026-11-25T01:00:00Z")));
    sim.at("09:00:01");
    assert_eq!((sim.status(id), sim.status(early)), (OrderStatus::Accepted, OrderStatus::Filled));
    sim.at("14:30:01");
    assert_eq!(sim.events_of(id), [Accepted, PendingNew, New, Fill]);
    // After hours nothing but extended limits trades; a canceled one ends while the market is closed.
    sim.at("21:30:00");
    let late = sim.take(limit(Side::Buy, 1, "100"));
    assert_eq!(sim.status(late), OrderStatus::Accepted);
    sim.cancel(late).unwrap();
    sim.settle();
    assert_eq!(sim.events_of(late), [Accepted, PendingCancel, Canceled]);
}

#[test]
fn a_cancel_can_come_too_late() {
    let config = ExchangeConfig { ack_delay_ms: 5_000, ..ExchangeConfig::default() };
    let mut sim = Sim::new(prints(&[("15:00:00", "100"), ("15:00:12", "90")]), config);
    let id = sim.submit(limit(Side::Buy, 10, "95")).unwrap().id;
    sim.at("15:00:10");
    sim.cancel(id).unwrap();
    sim.cancel(id).unwrap();
    assert_eq!(sim.status(id), OrderStatus::PendingCancel);
    sim.at("15:00:20");
    assert_eq!(sim.events_of(id), [PendingNew, New, PendingCancel, Fill, OrderCancelRejected]);
    let last = sim.events.last().unwrap();
    assert_eq!(
        (last.reason.as_deref(), last.order.status),
        (Some("TOO_LATE_TO_CANCEL"), OrderStatus::Filled)
    );
    // In time, and before the exchange took it at all.
    let id = sim.submit(limit(Side::Buy, 10, "80")).unwrap().id;
    sim.cancel(id).unwrap();
    sim.at("15:00:30");
    assert_eq!(sim.events_of(id), [PendingNew, PendingCancel, Canceled]);
}

#[test]
fn notional_orders_spend_dollars() {
    let mut sim = Sim::printing(&[("15:00:00", "150")]);
    let id = sim.take(NewOrder { qty: None, notional: Some(dec("500")), ..buy(1) });
    let order = sim.order(id);
    assert_eq!((order.qty, order.notional, order.status), (None, Some(dec("500")), OrderStatus::Filled));
    // At 150.01: the spread of 3 cents is 1.5 cents on both sides, rounded down for the bid.
    assert_eq!(order.filled_qty, dec("3.333111125"));
    let spent = dec("100000") - sim.exchange.account_view(sim.account).unwrap().cash;
    assert!(spent <= dec("500") && spent > dec("499.999999"), "{spent}");
    let refusal = sim.submit(NewOrder { qty: None, notional: Some(dec("600")), ..sell(1) }).unwrap_err();
    assert!(refusal.message.starts_with("insufficient qty available"), "{refusal}");
    let back = sim.take(NewOrder { qty: None, notional: Some(dec("100")), ..sell(1) });
    assert_eq!(sim.status(back), OrderStatus::Filled);
}

#[test]
fn submission_stamps_strictly_rise() {
    let mut sim = Sim::fixed();
    let stamps: Vec<_> = (0..100).map(|_| sim.submit(buy(1)).unwrap().submitted_at).collect();
    assert!(stamps.is_sorted_by(|a, b| a < b));
}

#[test]
fn coins_trade_around_the_clock() {
    let market = MarketData::fixed_price(dec("50")).unwrap();
    let mut sim = Sim::starting(market, ExchangeConfig::default(), "2026-11-28T03:00:00Z");
    let id = sim.take(NewOrder { symbol: "BTC/USD".into(), qty: Some(dec("0.123456789")), ..gtc(buy(1)) });
    assert_eq!(sim.status(id), OrderStatus::Filled);
    let position = sim.exchange.position(sim.account, "BTCUSD").unwrap();
    assert_eq!((position.symbol.as_str(), position.qty), ("BTC/USD", dec("0.123456789")));
    let now = sim.now();
    let all = plimsoll_paper_exchange::order::CloseAmount::All;
    let close = sim.exchange.close_position(sim.account, "BTC/USD", all, now).unwrap();
    assert_eq!(close.time_in_force, TimeInForce::Gtc);
    sim.settle();
    assert!(sim.exchange.positions(sim.account).unwrap().is_empty());
}

#[test]
fn slippage_is_for_orders_without_a_limit() {
    let config = ExchangeConfig { slippage_bp: dec("10"), ..ExchangeConfig::default() };
    let mut sim = Sim::new(MarketData::fixed_price(dec("100")).unwrap(), config);
    let market = sim.take(buy(1));
    let limited = sim.take(limit(Side::Buy, 1, "101"));
    assert_eq!(sim.order(market).filled_avg_price, Some(dec("100.1")));
    assert_eq!(sim.order(limited).filled_avg_price, Some(dec("100")));
}
