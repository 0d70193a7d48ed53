//! What operators watch is what stands in the tables.

use plimsoll_core_domain::order::{OrderStatus, Side};

use crate::world::{World, add_user, market};

#[test]
fn open_orders_are_counted_by_status_and_everything_by_size() {
    let world = World::new();
    assert_eq!(world.db.read_blocking(|tx| tx.open_order_counts()).unwrap(), []);
    let ids: Vec<_> = (0..4).map(|_| world.sent(market("SPY", Side::Buy, 1))).collect();
    let set = |change: &str, id| {
        world.test.execute(&format!("UPDATE orders SET {change} WHERE id = '{id}'"));
    };
    set("status = 'unknown'", ids[0]);
    set("status = 'filled', filled_qty = 1, filled_value = 5, closed_at = now()", ids[1]);
    let counts = world.db.read_blocking(|tx| tx.open_order_counts()).unwrap();
    assert_eq!(
        counts,
        [(OrderStatus::Submitting, 2), (OrderStatus::Unknown, 1)],
        "what is closed is left out"
    );

    let (other, _) = add_user(&world.db, "other@example.com");
    let figures = world.db.read_blocking(|tx| tx.database_figures()).unwrap();
    assert_eq!((figures.orders, figures.users), (4, 2));
    assert!(figures.size_bytes > 1_000_000, "{figures:?}");
    world
        .test
        .execute(&format!("UPDATE users SET state = 'disabled', deleted_at = now() WHERE id = {other}"));
    world.test.execute("UPDATE pg_class SET reltuples = 2000000 WHERE oid = 'orders'::regclass");
    let figures = world.db.read_blocking(|tx| tx.database_figures()).unwrap();
    assert_eq!(
        (figures.orders, figures.users),
        (2_000_000, 1),
        "many are estimated, who is gone is not counted"
    );
}
