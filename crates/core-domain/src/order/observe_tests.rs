use proptest::prelude::*;

use super::*;
use crate::fill::FillSource;
use crate::ids::{AccountId, OrderId, Symbol, UserId};
use crate::money::{Price, Quantity};
use crate::order::{
    Environment, LegRole, NewOrder, OrderClass, OrderSize, OrderSource, Pricing, Side, SourceKind,
    SubmitNotes, TimeInForce,
};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn order(qty: i64) -> Order {
    Order {
        id: OrderId(uuid::Uuid::nil()),
        account_id: AccountId(1),
        user_id: UserId(1),
        client_order_id: "plm-test".parse().unwrap(),
        broker_order_id: None,
        terms: NewOrder {
            symbol: Symbol::new("SPY").unwrap(),
            side: Side::Buy,
            pricing: Pricing::Market,
            time_in_force: TimeInForce::Day,
            size: OrderSize::Qty(Quantity::new(qty.into()).unwrap()),
            extended_hours: false,
            class: OrderClass::Simple,
            take_profit: None,
            stop_loss: None,
        },
        parent_id: None,
        role: LegRole::Entry,
        status: OrderStatus::Submitting,
        status_reason: None,
        filled_qty: Decimal::ZERO,
        filled_value: Decimal::ZERO,
        broker: None,
        source: OrderSource { kind: SourceKind::Api, id: None },
        environment: Environment::Paper,
        replaces: None,
        replaced_by: None,
        submit: SubmitNotes {
            attempts: 1,
            deadline: at(60),
            started_at: Some(at(0)),
            probes: 0,
            doubt: false,
        },
        created_at: at(0),
        submitted_at: None,
        updated_at: at(0),
        closed_at: None,
        version: 1,
    }
}

fn report(status: OrderStatus, second: i64, filled: i64) -> BrokerOrder {
    BrokerOrder {
        id: "b-1".parse().unwrap(),
        client_order_id: "plm-test".into(),
        symbol: "SPY".into(),
        side: Some(Side::Buy),
        order_type: None,
        time_in_force: None,
        class: None,
        role: None,
        qty: None,
        notional: None,
        limit_price: None,
        stop_price: None,
        trail_price: None,
        trail_percent: None,
        extended_hours: false,
        status: BrokerStatus::Known(status),
        filled_qty: filled.into(),
        filled_avg_price: None,
        submitted_at: Some(at(1)),
        updated_at: at(second),
        replaces: None,
        replaced_by: None,
        legs: Vec::new(),
    }
}

fn execution(qty: i64, cum: i64) -> Execution {
    Execution {
        qty: Quantity::new(qty.into()).unwrap(),
        price: Price::new(Decimal::new(100 + cum, 0)).unwrap(),
        cum_qty: Quantity::new(cum.into()).unwrap(),
        source: FillSource::Stream,
        executed_at: at(cum),
        broker_id: None,
    }
}

#[test]
fn a_final_report_waits_for_its_fills() {
    let (mut order, mut book) = (order(10), FillBook::default());
    order.observe(&report(OrderStatus::Filled, 9, 10), at(9)).unwrap();
    assert_eq!((order.status, order.unbooked_qty()), (OrderStatus::New, Decimal::from(10)));
    order.book(&mut book, &execution(6, 10), at(10)).unwrap();
    assert_eq!(order.status, OrderStatus::PartiallyFilled);
    order.book(&mut book, &execution(4, 4), at(11)).unwrap();
    assert_eq!((order.status, order.unbooked_qty()), (OrderStatus::Filled, Decimal::ZERO));
    assert_eq!(order.avg_fill_price(), Some("107.6".parse().unwrap()));
    assert_eq!(order.closed_at, Some(at(11)));
}

#[test]
fn an_older_report_changes_nothing() {
    let mut order = order(10);
    order.observe(&report(OrderStatus::Canceled, 5, 0), at(5)).unwrap();
    let before = order.clone();
    assert_eq!(order.observe(&report(OrderStatus::New, 2, 0), at(6)), Ok(None));
    assert_eq!(order, before);
}

#[test]
fn a_fill_beyond_the_quantity_is_refused() {
    let (mut order, mut book) = (order(10), FillBook::default());
    let before = order.clone();
    assert!(matches!(
        order.book(&mut book, &execution(11, 11), at(1)),
        Err(ObserveError::Fill(FillError::Overfill { .. }))
    ));
    assert_eq!((order, book), (before, FillBook::default()));
}

#[test]
fn a_leg_follows_the_size_that_the_broker_gives_it() {
    let mut leg = Order { parent_id: Some(OrderId(uuid::Uuid::max())), ..order(10) };
    let resized = |qty: i64, status, second, filled| BrokerOrder {
        qty: Some(qty.into()),
        ..report(status, second, filled)
    };
    leg.observe(&resized(6, OrderStatus::New, 2, 0), at(2)).unwrap();
    assert_eq!(leg.terms.qty(), Some(Quantity::new(6.into()).unwrap()));
    leg.book(&mut FillBook::default(), &execution(6, 6), at(3)).unwrap();
    assert_eq!(leg.status, OrderStatus::Filled);
    let mut entry = order(10);
    entry.observe(&resized(6, OrderStatus::New, 2, 0), at(2)).unwrap();
    assert_eq!(
        entry.terms.qty(),
        Some(Quantity::new(10.into()).unwrap()),
        "an order of its own keeps what was asked for"
    );
}

#[test]
fn a_fill_on_its_way_when_the_order_ended_is_taken() {
    let (mut order, mut book) = (order(10), FillBook::default());
    order.observe(&report(OrderStatus::Canceled, 5, 0), at(5)).unwrap();
    order.book(&mut book, &execution(10, 10), at(6)).unwrap();
    assert_eq!(order.status, OrderStatus::Filled);
}

#[test]
fn another_final_state_is_an_illegal_move() {
    let mut order = order(10);
    order.observe(&report(OrderStatus::Canceled, 5, 0), at(5)).unwrap();
    let moved = order.observe(&report(OrderStatus::Rejected, 6, 0), at(6));
    assert!(matches!(moved, Err(ObserveError::Move(IllegalMove { from: OrderStatus::Canceled, .. }))));
    assert_eq!(order.status, OrderStatus::Canceled);
}

#[test]
fn unknown_words_of_the_broker_leave_the_state() {
    let mut order = order(10);
    let odd =
        BrokerOrder { status: BrokerStatus::Other("pending_moon".into()), ..report(OrderStatus::New, 1, 0) };
    order.observe(&odd, at(1)).unwrap();
    assert_eq!(order.status, OrderStatus::Accepted);
    order.observe(&report(OrderStatus::New, 2, 0), at(2)).unwrap();
    order.observe(&BrokerOrder { updated_at: at(3), ..odd }, at(3)).unwrap();
    assert_eq!(order.status, OrderStatus::New);
}

#[derive(Clone, Debug)]
enum Event {
    Report(OrderStatus, i64, i64),
    Fill(i64, i64),
}

/// A life that a broker can tell: acceptance, fills of the given sizes, and an end.
fn life(sizes: &[i64], leave: i64, end: OrderStatus) -> (i64, Vec<Event>) {
    let filled: i64 = sizes.iter().sum();
    let total = filled + leave;
    let mut events = vec![Event::Report(OrderStatus::Accepted, 1, 0), Event::Report(OrderStatus::New, 2, 0)];
    let (mut cum, mut second) = (0, 3);
    for size in sizes {
        cum += size;
        let status = if cum == total { OrderStatus::Filled } else { OrderStatus::PartiallyFilled };
        events.push(Event::Fill(*size, cum));
        events.push(Event::Report(status, second, cum));
        second += 1;
    }
    if leave > 0 {
        if end == OrderStatus::Canceled {
            events.push(Event::Report(OrderStatus::PendingCancel, second, cum));
        }
        events.push(Event::Report(end, second + 1, cum));
    }
    (total, events)
}

fn play(total: i64, events: &[Event]) -> Order {
    let (mut order, mut book) = (order(total), FillBook::default());
    for event in events {
        match event {
            Event::Report(status, second, filled) => {
                order.observe(&report(*status, *second, *filled), at(100)).unwrap();
            }
            Event::Fill(qty, cum) => {
                order.book(&mut book, &execution(*qty, *cum), at(100)).unwrap();
            }
        }
        assert!(order.filled_qty <= Decimal::from(total));
        assert_eq!(order.filled_qty, book.filled());
        assert_eq!(order.status == OrderStatus::Filled, order.filled_qty == Decimal::from(total));
    }
    Order { version: 0, ..order }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn any_order_of_valid_events_ends_in_the_same_state(
        sizes in prop::collection::vec(1i64..20, 0..6),
        leave in 0i64..5,
        end in prop::sample::select(vec![OrderStatus::Canceled, OrderStatus::Expired, OrderStatus::Replaced, OrderStatus::DoneForDay]),
        seed in prop::collection::vec(any::<prop::sample::Index>(), 30),
    ) {
        prop_assume!(leave > 0 || !sizes.is_empty());
        let (total, events) = life(&sizes, leave, end);
        let expected = play(total, &events);
        let mut shuffled: Vec<Event> = seed.iter().map(|pick| pick.get(&events).clone()).collect();
        let mut rest = events.clone();
        for pick in &seed {
            let index = pick.index(rest.len());
            shuffled.push(rest.swap_remove(index));
            if rest.is_empty() {
                break;
            }
        }
        shuffled.extend(rest);
        prop_assert_eq!(play(total, &shuffled), expected);
    }
}
