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

fn bracket() -> plimsoll_core_domain::order::NewOrder {
    use plimsoll_core_domain::order::{OrderClass, OrderRequest, OrderType, TimeInForce};
    OrderRequest {
        symbol: "SPY".into(),
        side: Some(Side::Buy),
        order_type: Some(OrderType::Market),
        time_in_force: Some(TimeInForce::Day),
        qty: Some(10.into()),
        class: Some(OrderClass::Bracket),
        take_profit: Some(110.into()),
        stop_loss: Some((Some(90.into()), None)),
        ..OrderRequest::default()
    }
    .validate()
    .unwrap()
}

#[test]
fn legs_are_asked_for_taken_over_and_their_fills_booked() {
    use plimsoll_core_domain::broker::BrokerStatus;
    use plimsoll_core_domain::order::{OrderType, TimeInForce};
    let world = World::new();
    let id = world.sent(bracket());
    let apply = |report: &_, second| {
        world.db.run_blocking(|tx| tx.apply_report(world.account, report, at(second))).unwrap()
    };
    // The answer to the POST was lost: the stream shows the entry without its legs.
    let entry = seen(&world, id, OrderStatus::Filled, 3, 10);
    let applied = apply(&report(entry.clone(), vec![execution(10, 10, "100")]), 3);
    assert!(matches!(applied, Applied::Known { lacks_legs: true, .. }), "{applied:?}");
    let leg = |name: &str, order_type, qty: i64, second| plimsoll_core_domain::broker::BrokerOrder {
        id: name.parse().unwrap(),
        client_order_id: format!("generated-{name}"),
        side: Some(Side::Sell),
        order_type: Some(order_type),
        time_in_force: Some(TimeInForce::Day),
        qty: Some(qty.into()),
        limit_price: (order_type == OrderType::Limit).then(|| 110.into()),
        stop_price: (order_type == OrderType::Stop).then(|| 90.into()),
        status: BrokerStatus::Known(OrderStatus::New),
        updated_at: at(second),
        filled_qty: 0.into(),
        legs: vec![],
        ..entry.clone()
    };
    let mut nested = entry.clone();
    nested.legs = vec![leg("take", OrderType::Limit, 10, 4), leg("stop", OrderType::Stop, 10, 4)];
    for second in 5..7 {
        let applied = apply(&report(nested.clone(), vec![]), second);
        assert!(matches!(applied, Applied::Known { lacks_legs: false, .. }), "{applied:?}");
    }
    assert_eq!(world.count("orders WHERE parent_id IS NOT NULL"), 2);
    let page = |filter| {
        let page = plimsoll_storage::platform::orders::OrderPage { filter, limit: 10, ..Default::default() };
        world.db.read_blocking(|tx| tx.order_list(world.user, &page)).unwrap().len()
    };
    use plimsoll_storage::platform::orders::OrderFilter::{All, Closed, Open};
    assert_eq!((page(Open), page(Closed), page(All)), (2, 1, 1), "the entry is filled, its legs are live");
    // The take-profit fills in part, the broker shrinks the stop, and the stop fills.
    let mut take = leg("take", OrderType::Limit, 10, 8);
    take.filled_qty = 4.into();
    apply(&report(take, vec![execution(4, 4, "110")]), 8);
    let mut stop = leg("stop", OrderType::Stop, 6, 9);
    stop.filled_qty = 6.into();
    stop.status = BrokerStatus::Known(OrderStatus::Filled);
    apply(&report(stop, vec![execution(6, 6, "90")]), 9);
    let rows = world.test.rows("SELECT status FROM orders WHERE broker_order_id = 'stop' AND qty = 6");
    assert_eq!(rows[0]["status"], "filled");
    let holdings = world.db.read_blocking(|tx| tx.holdings(world.user)).unwrap();
    assert_eq!(holdings[0].position.qty, Decimal::ZERO);
    assert_eq!(holdings[0].position.realized_pl, Decimal::from(-20));
}

#[test]
fn a_replacement_is_for_what_is_left() {
    use plimsoll_core_domain::broker::ReplaceOrder;
    use plimsoll_core_domain::order::{NewOrder, Pricing};
    use plimsoll_storage::platform::orders::{NewReplacement, ReplaceWish};
    let world = World::new();
    let limit = |price: &str| Pricing::Limit { limit: price.parse().unwrap() };
    let id = world.sent(NewOrder { pricing: limit("100"), ..market("SPY", Side::Buy, 10) });
    world.apply(
        &report(seen(&world, id, OrderStatus::PartiallyFilled, 3, 4), vec![execution(4, 4, "100")]),
        3,
    );
    let wish = |change: ReplaceOrder, n: u128| {
        let new = NewReplacement {
            id: plimsoll_core_domain::OrderId(uuid::Uuid::from_u128(n)),
            client_order_id: format!("replacement-{n}").parse().unwrap(),
            deadline: at(100),
        };
        world
            .db
            .run_blocking(|tx| tx.wish_replace(world.account, id, &change, new, &|_| None, at(4)))
            .unwrap()
    };
    let too_small = wish(ReplaceOrder { qty: Some("4".parse().unwrap()), ..ReplaceOrder::default() }, 1);
    assert!(matches!(too_small, ReplaceWish::Unfit("/qty", ..)), "{too_small:?}");
    let asked =
        wish(ReplaceOrder { limit_price: Some("101".parse().unwrap()), ..ReplaceOrder::default() }, 2);
    let ReplaceWish::Asked(new) = asked else { panic!("{asked:?}") };
    assert_eq!(new.terms.qty().map(|qty| qty.to_string()), Some("6".into()));
    let payload = world.test.rows("SELECT payload FROM jobs WHERE kind = 'replace_order'");
    let payload = &payload[0]["payload"];
    assert_eq!(
        (payload["total"].as_str(), payload.get("qty")),
        (Some("10"), None),
        "taken anew when it is sent"
    );
    let old = world.db.read_blocking(|tx| tx.order(world.account, id)).unwrap().unwrap();
    assert_eq!(old.status, OrderStatus::PendingReplace);
}

/// The stream lost the fills; the broker's report says that there are some.
#[test]
fn a_replacement_counts_what_the_broker_says_is_filled() {
    use plimsoll_core_domain::broker::ReplaceOrder;
    use plimsoll_core_domain::order::{NewOrder, Pricing};
    use plimsoll_reliability::submit::SubmitStore;
    use plimsoll_storage::platform::orders::{NewReplacement, ReplaceWish};
    let world = World::new();
    let pricing = Pricing::Limit { limit: "100".parse().unwrap() };
    let id = world.sent(NewOrder { pricing, ..market("SPY", Side::Buy, 10) });
    world.apply(&report(seen(&world, id, OrderStatus::New, 3, 9), vec![]), 3);
    let filled = world.db.run_blocking(|tx| tx.filled_of(world.account, id)).unwrap();
    assert_eq!(filled, Decimal::from(9), "none is booked");
    let new = || NewReplacement {
        id: plimsoll_core_domain::OrderId(uuid::Uuid::from_u128(2)),
        client_order_id: "replacement-2".parse().unwrap(),
        deadline: at(100),
    };
    let wish = |change: &ReplaceOrder| {
        world
            .db
            .run_blocking(|tx| tx.wish_replace(world.account, id, change, new(), &|_| None, at(4)))
            .unwrap()
    };
    let too_small = wish(&ReplaceOrder { qty: Some("9".parse().unwrap()), ..ReplaceOrder::default() });
    assert!(matches!(too_small, ReplaceWish::Unfit("/qty", ..)), "{too_small:?}");
    let asked = wish(&ReplaceOrder { limit_price: Some("101".parse().unwrap()), ..ReplaceOrder::default() });
    let ReplaceWish::Asked(new) = asked else { panic!("{asked:?}") };
    assert_eq!(new.terms.qty().map(|qty| qty.to_string()), Some("1".into()));
}

#[test]
fn doubt_about_an_earlier_sending_is_kept_and_a_list_begins_with_an_order_of_well_before() {
    use plimsoll_reliability::submit::{OrderEvent, SubmitStore};
    let world = World::new();
    let (first, second) =
        (world.sent(market("SPY", Side::Buy, 10)), world.sent(market("SPY", Side::Buy, 10)));
    world.apply(&report(seen(&world, first, OrderStatus::New, 3, 0), vec![]), 3);
    let order = |id| world.db.read_blocking(|tx| tx.order(world.account, id)).unwrap().unwrap();
    let before = order(second);
    assert!(!before.submit.doubt);
    let mut after = before.clone();
    after.move_to(OrderStatus::Unknown, Some("no answer"), at(4)).unwrap();
    after.submit.doubt = true;
    world.db.run_blocking(|tx| tx.save_order(&before, &after, &OrderEvent::Unclear, at(4))).unwrap();
    assert!(order(second).submit.doubt);

    let known = order(first).broker_order_id;
    let (early, late) = if first.0 < second.0 { (first, second) } else { (second, first) };
    world.test.execute("UPDATE orders SET submit_started_at = created_at");
    let sent_before = |order: &plimsoll_core_domain::order::Order| {
        world.db.run_blocking(|tx| tx.sent_before(order)).unwrap().map(|id| id.to_string())
    };
    assert!(known.is_some() && order(early).id < order(late).id);
    assert_eq!(sent_before(&order(late)), None, "not well before it");
    world.test.execute(&format!(
        "UPDATE orders SET submit_started_at = created_at - interval '11 minutes', \
         broker_order_id = 'b-early' WHERE id = '{early}'"
    ));
    assert_eq!(sent_before(&order(late)).as_deref(), Some("b-early"));
    assert_eq!(sent_before(&order(early)), None);
}

fn alerts(world: &World) -> usize {
    world.events().iter().filter(|kind| *kind == "system_alert").count()
}

#[test]
fn an_order_that_counted_as_not_sent_comes_alive_once_and_its_cancel_is_due() {
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 10));
    world
        .test
        .execute(&format!("UPDATE orders SET status = 'not_sent', closed_at = now() WHERE id = '{id}'"));
    world.test.execute(&format!(
        "INSERT INTO jobs (queue, kind, max_attempts, dedup_key, payload, run_at) \
         VALUES ('broker', 'cancel_order', 8, '{id}', '{{}}', now() + interval '3 hours')"
    ));
    for second in 2..5 {
        world.apply(&report(seen(&world, id, OrderStatus::New, 2, 0), vec![]), second);
    }
    let order = world.db.read_blocking(|tx| tx.order(world.account, id)).unwrap().unwrap();
    assert_eq!((order.status, order.closed_at), (OrderStatus::New, None));
    assert_eq!(alerts(&world), 1);
    assert_eq!(world.count("jobs WHERE kind = 'cancel_order' AND run_at <= now()"), 1);
}

#[test]
fn another_order_under_an_orders_id_is_a_conflict_and_nothing_of_it_is_taken() {
    for status in ["pending_submit", "submitting", "unknown", "not_sent"] {
        let world = World::new();
        let id = world.sent(market("SPY", Side::Buy, 10));
        world.test.execute(&format!("UPDATE orders SET status = '{status}' WHERE id = '{id}'"));
        let mut other = seen(&world, id, OrderStatus::Filled, 4, 7);
        other.qty = Some(7.into());
        for second in 4..7 {
            world.apply(&report(other.clone(), vec![execution(7, 7, "100")]), second);
        }
        let order = world.db.read_blocking(|tx| tx.order(world.account, id)).unwrap().unwrap();
        assert_eq!((order.status, order.filled_qty), (OrderStatus::Conflict, Decimal::ZERO), "{status}");
        assert!(order.status_reason.unwrap().contains("quantity differs"));
        assert_eq!((alerts(&world), world.count("fills"), world.count("positions")), (1, 0, 0), "{status}");
    }
}

#[test]
fn an_order_that_is_not_live_takes_no_replacement_and_stays_as_it_is() {
    use plimsoll_core_domain::broker::ReplaceOrder;
    use plimsoll_storage::platform::orders::{NewReplacement, ReplaceWish};
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 10));
    for (n, status) in
        ["pending_submit", "submitting", "unknown", "accepted", "pending_cancel", "pending_replace"]
            .into_iter()
            .enumerate()
    {
        world.test.execute(&format!("UPDATE orders SET status = '{status}' WHERE id = '{id}'"));
        let new = NewReplacement {
            id: plimsoll_core_domain::OrderId(uuid::Uuid::from_u128(u128::try_from(n).unwrap() + 1)),
            client_order_id: format!("replacement-{n}").parse().unwrap(),
            deadline: at(100),
        };
        let change = ReplaceOrder { qty: Some("12".parse().unwrap()), ..ReplaceOrder::default() };
        let wish = world
            .db
            .run_blocking(|tx| tx.wish_replace(world.account, id, &change, new, &|_| None, at(4)))
            .unwrap();
        assert!(matches!(&wish, ReplaceWish::NotNow(order) if order.status.as_str() == status), "{wish:?}");
    }
    assert_eq!((world.count("orders"), world.count("jobs WHERE kind = 'replace_order'")), (1, 0));
}
