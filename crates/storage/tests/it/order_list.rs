//! A page of orders says the same as the orders themselves, in one round trip.

use plimsoll_core_domain::order::Side;
use plimsoll_core_domain::views::{OrderView, json};
use plimsoll_core_domain::{OrderId, StoreErrorKind};
use plimsoll_storage::platform::orders::{OrderFilter, OrderPage};

use crate::world::{World, market};

const CHANGES: &[&str] = &[
    "filled_qty = 0",
    "type = 'limit', limit_price = 512.25",
    "type = 'stop', stop_price = 0.000000001, status = 'new', broker_order_id = 'b-1'",
    "type = 'stop_limit', stop_price = 99999999999999.999999999, limit_price = 100",
    "type = 'trailing_stop', trail_price = 1.50, side = 'sell'",
    "type = 'trailing_stop', trail_percent = 2.5, time_in_force = 'gtc'",
    // what its type does not show stays unseen
    "limit_price = 7, stop_price = 8, trail_price = 9",
    "qty = NULL, notional = 1000.10, extended_hours = true",
    "filled_qty = 3, filled_value = 304.5, status = 'partially_filled', submitted_at = '2026-11-24T14:30:00.000001Z'",
    "qty = 7, filled_qty = 7, filled_value = 100, status = 'filled', closed_at = '2027-01-01T00:00:00Z'",
    "status = 'rejected', status_reason = 'says \"no\" \\ and\nmore: é', closed_at = now()",
    "source_kind = 'webhook', source_id = 'hook-7', environment = 'live', version = 9",
    "replaces = '00000000-0000-0000-0000-000000000001', replaced_by = '00000000-0000-0000-0000-000000000002'",
];

#[test]
fn a_page_has_every_order_as_its_view_shows_it() {
    let world = World::new();
    let ids: Vec<OrderId> = CHANGES.iter().map(|_| world.sent(market("SPY", Side::Buy, 10))).collect();
    let (entry, leg) = (world.sent(market("QQQ", Side::Buy, 1)), world.sent(market("QQQ", Side::Sell, 1)));
    for (id, change) in ids.iter().zip(CHANGES) {
        world.test.execute(&format!("UPDATE orders SET {change} WHERE id = '{id}'"));
    }
    world.test.execute(&format!(
        "UPDATE orders SET order_class = 'bracket', take_profit_limit = 110, stop_loss_stop = 90 WHERE id = '{entry}'"
    ));
    world.test.execute(&format!(
        "UPDATE orders SET order_class = 'bracket', role = 'take_profit', parent_id = '{entry}' WHERE id = '{leg}'"
    ));
    let page = |filter, limit| OrderPage { filter, limit, ..OrderPage::default() };
    let counter = world.db.count_queries();
    let listed =
        world.db.read_blocking(|tx| tx.order_list(world.user, &page(OrderFilter::All, 100))).unwrap();
    assert_eq!(counter.sent(), 2, "one statement, and one for the group");
    drop(counter);

    let mut expected: Vec<_> = ids.iter().copied().chain([entry]).collect();
    expected.reverse();
    assert_eq!(listed.iter().map(|row| row.id).collect::<Vec<_>>(), expected, "newest first");
    for row in &listed {
        let (order, legs) = world
            .db
            .read_blocking(|tx| {
                Ok::<_, plimsoll_core_domain::StoreError>((
                    tx.order(world.account, row.id)?.unwrap(),
                    tx.legs_of(world.account, &[row.id])?,
                ))
            })
            .unwrap();
        assert_eq!(row.json, json(&OrderView::new(&order, &legs)));
    }
    assert!(listed[0].json.contains(&format!("\"legs\":[{{\"id\":\"{leg}\"")), "{}", listed[0].json);

    let closed =
        world.db.read_blocking(|tx| tx.order_list(world.user, &page(OrderFilter::Closed, 100))).unwrap();
    assert_eq!(closed.len(), 2);
    let counter = world.db.count_queries();
    let first =
        world.db.read_blocking(|tx| tx.order_list(world.user, &page(OrderFilter::Closed, 1))).unwrap();
    assert_eq!((counter.sent(), &first[..]), (1, &closed[..1]));
}

#[test]
fn filters_and_places_hold_together() {
    let world = World::new();
    let ids: Vec<OrderId> = (0..4).map(|n| world.sent(market(["SPY", "QQQ"][n % 2], Side::Buy, 1))).collect();
    world.test.execute(&format!(
        "UPDATE orders SET side = 'sell', source_kind = 'webhook' WHERE id = '{}'",
        ids[3]
    ));
    let list = |page: OrderPage| -> Vec<OrderId> {
        let page = OrderPage { limit: 10, ..page };
        let rows = world.db.read_blocking(|tx| tx.order_list(world.user, &page)).unwrap();
        rows.into_iter().map(|row| row.id).collect()
    };
    let qqq = || OrderPage { symbol: Some("QQQ".into()), ..OrderPage::default() };
    assert_eq!(list(qqq()), [ids[3], ids[1]]);
    assert_eq!(list(OrderPage { before: Some(ids[3]), ..qqq() }), [ids[1]]);
    assert_eq!(list(OrderPage { before: Some(ids[1]), ..OrderPage::default() }), [ids[0]]);
    assert_eq!(list(OrderPage { side: Some("sell".into()), ..qqq() }), [ids[3]]);
    assert_eq!(list(OrderPage { source: Some("webhook".into()), ..OrderPage::default() }), [ids[3]]);
    let created = world.db.read_blocking(|tx| tx.order(world.account, ids[0])).unwrap().unwrap().created_at;
    assert_eq!(list(OrderPage { to: Some(created), ..OrderPage::default() }), []);
    assert_eq!(list(OrderPage { from: Some(created), ..qqq() }).len(), 2);
}

#[test]
fn a_row_that_cannot_be_read_is_told_and_not_passed_on() {
    let world = World::new();
    let id = world.sent(market("SPY", Side::Buy, 1));
    world.test.execute("ALTER TABLE orders DROP CONSTRAINT orders_status_check");
    world.test.execute("UPDATE orders SET status = 'lost'");
    let page = OrderPage { limit: 1, ..OrderPage::default() };
    let error = world.db.read_blocking(|tx| tx.order_list(world.user, &page)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Inconsistent);
    assert!(error.to_string().contains(&id.to_string()), "{error}");
}
