//! What must hold whatever is sent.

use std::collections::HashMap;

use chrono::TimeDelta;
use plimsoll_paper_exchange::order::{CloseAmount, OrderClass, OrderStatus, OrderType, Side, TimeInForce};
use plimsoll_paper_exchange::record::EventKind;
use plimsoll_paper_exchange::{Change, Exchange, ExchangeConfig, NewOrder, Record, Replacement};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use rust_decimal::Decimal;

use crate::support::{buy, prints, stop_loss, take_profit, time};

/// A price a minute, up and down over 60 minutes.
fn market() -> plimsoll_paper_exchange::MarketData {
    let rows: Vec<(String, String)> = (0..60u32)
        .map(|minute| (format!("15:{minute:02}:00"), (90 + (minute * 7 + minute * minute) % 21).to_string()))
        .collect();
    prints(&rows.iter().map(|(at, price)| (at.as_str(), price.as_str())).collect::<Vec<_>>())
}

#[derive(Debug, Clone)]
enum Command {
    Submit(NewOrder),
    Cancel(usize),
    Replace(usize, Replacement),
    Close(u32),
    CloseAll,
    CancelAll,
    Wait(i64),
    Restart,
}

fn order() -> impl Strategy<Value = NewOrder> {
    let side = prop_oneof![Just(Side::Buy), Just(Side::Sell)];
    let tif = prop_oneof![
        4 => Just(TimeInForce::Day), 3 => Just(TimeInForce::Gtc), 1 => Just(TimeInForce::Ioc), 1 => Just(TimeInForce::Fok),
        1 => Just(TimeInForce::Cls),
    ];
    (side, tif, 0u8..9, 1u32..900, 85i64..115, 1i64..15).prop_map(
        |(side, time_in_force, shape, qty, price, distance)| {
            let base = NewOrder { side, time_in_force, ..buy(qty) };
            let price = Decimal::from(price);
            let distance = Decimal::from(distance);
            match shape {
                0 | 1 => base,
                2 | 3 => NewOrder { kind: OrderType::Limit, limit_price: Some(price), ..base },
                4 => NewOrder { kind: OrderType::Stop, stop_price: Some(price), ..base },
                5 => NewOrder {
                    kind: OrderType::StopLimit,
                    stop_price: Some(price),
                    limit_price: Some(price + distance),
                    ..base
                },
                6 => NewOrder { kind: OrderType::TrailingStop, trail_price: Some(distance), ..base },
                7 => {
                    let (up, down) = (Decimal::from(107), Decimal::from(93));
                    let (limit, stop) = if side == Side::Buy { (up, down) } else { (down, up) };
                    NewOrder {
                        order_class: OrderClass::Bracket,
                        take_profit: take_profit(&limit.to_string()),
                        stop_loss: stop_loss(&stop.to_string()),
                        ..base
                    }
                }
                _ => NewOrder {
                    kind: OrderType::Limit,
                    order_class: OrderClass::Oco,
                    take_profit: take_profit(if side == Side::Sell { "106" } else { "94" }),
                    stop_loss: stop_loss(if side == Side::Sell { "94" } else { "106" }),
                    ..base
                },
            }
        },
    )
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => order().prop_map(Command::Submit),
        2 => any::<usize>().prop_map(Command::Cancel),
        2 => (any::<usize>(), 1u32..900, 85i64..115).prop_map(|(which, qty, price)| {
            let limit_price = (price % 2 == 0).then(|| Decimal::from(price));
            Command::Replace(which, Replacement { qty: Some(qty.into()), limit_price, ..Replacement::default() })
        }),
        1 => (1u32..=100).prop_map(Command::Close),
        1 => Just(Command::CloseAll),
        1 => Just(Command::CancelAll),
        6 => (0i64..200_000).prop_map(Command::Wait),
        1 => Just(Command::Restart),
    ]
}

/// Runs commands and gives back every change.
fn run(commands: &[Command], restarts: bool) -> (Exchange, uuid::Uuid, Vec<Change>) {
    let config = ExchangeConfig { partial_fill_rate: Decimal::new(2, 1), ..ExchangeConfig::default() };
    let start = time("15:00:00");
    let mut exchange = Exchange::new(config.clone(), market(), 11, start);
    let account = exchange.create_account(None, start);
    let mut changes = exchange.drain();
    for command in commands {
        let now = exchange.now();
        let nth = |exchange: &Exchange, which: usize| {
            let ids: Vec<_> = exchange.ledger_orders().map(|row| row.order.id).collect();
            (!ids.is_empty()).then(|| ids[which % ids.len()])
        };
        match command {
            Command::Submit(order) => drop(exchange.submit(account, order.clone(), now)),
            Command::Cancel(which) => {
                if let Some(id) = nth(&exchange, *which) {
                    drop(exchange.cancel(account, id, now));
                }
            }
            Command::Replace(which, change) => {
                if let Some(id) = nth(&exchange, *which) {
                    drop(exchange.replace(account, id, change.clone(), now));
                }
            }
            Command::Close(percent) => {
                let amount = CloseAmount::Percentage((*percent).into());
                drop(exchange.close_position(account, "XYZ", amount, now));
            }
            Command::CloseAll => drop(exchange.close_all(account, true, now)),
            Command::CancelAll => drop(exchange.cancel_all(account, now)),
            Command::Wait(milliseconds) => exchange.advance(now + TimeDelta::milliseconds(*milliseconds)),
            Command::Restart if restarts => {
                changes.extend(exchange.drain());
                let records = changes.iter().filter_map(|change| match change {
                    Change::Record(record) => Some(record.clone()),
                    Change::Update(_) => None,
                });
                let mut again =
                    Exchange::restore(config.clone(), market(), records).expect("own records restore");
                assert!(again.now() <= now || again.now() - now < TimeDelta::milliseconds(1));
                again.advance(now);
                assert!(exchange.ledger_orders().eq(again.ledger_orders()));
                assert_eq!(exchange.positions(account), again.positions(account));
                assert_eq!(exchange.account_view(account), again.account_view(account));
                exchange = again;
            }
            Command::Restart => {}
        }
        changes.extend(exchange.drain());
    }
    (exchange, account, changes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn books_balance(commands in prop::collection::vec(command(), 1..60)) {
        let (exchange, account, changes) = run(&commands, true);
        let mut filled: HashMap<uuid::Uuid, Decimal> = HashMap::new();
        let (mut cash, mut position) = (Decimal::from(100_000), Decimal::ZERO);
        let mut last_seq = 0;
        for row in exchange.executions() {
            prop_assert!(row.seq > last_seq, "executions are in order");
            last_seq = row.seq;
            prop_assert!(row.qty > Decimal::ZERO);
            let before = position;
            position += row.side.signed(row.qty);
            cash -= row.side.signed(row.qty) * row.price;
            prop_assert_eq!(row.position_qty, position);
            prop_assert!((before * position) >= Decimal::ZERO, "no fill goes through zero");
            let sum = filled.entry(row.order_id).or_default();
            *sum += row.qty;
            prop_assert_eq!(row.cum_qty, *sum);
        }
        for row in exchange.ledger_orders() {
            let order = &row.order;
            prop_assert_eq!(order.filled_qty, filled.get(&order.id).copied().unwrap_or_default());
            if let Some(qty) = order.qty {
                prop_assert!(order.filled_qty <= qty);
                prop_assert_eq!(order.status == OrderStatus::Filled, order.filled_qty == qty, "{:?}", order);
            }
        }
        let shown = exchange.position(account, "XYZ").map_or(Decimal::ZERO, |position| position.qty);
        prop_assert_eq!(shown, position);
        let view = exchange.account_view(account).unwrap();
        prop_assert_eq!(view.cash, cash.normalize());
        prop_assert_eq!(view.equity, (view.cash + view.long_market_value + view.short_market_value).normalize());

        // Events: an execution id names one event, states never leave a final one, filled never falls.
        let mut ids = std::collections::HashSet::new();
        let mut ends: HashMap<uuid::Uuid, (OrderStatus, Decimal)> = HashMap::new();
        let mut stamps = Vec::new();
        for change in &changes {
            match change {
                Change::Update(update) => {
                    let event = &update.data;
                    if let Some(id) = event.execution_id {
                        prop_assert!(ids.insert(id), "execution id twice");
                    }
                    prop_assert_eq!(event.execution_id.is_none(), event.event == EventKind::PendingNew);
                }
                Change::Record(Record::Order(row)) => {
                    let order = &row.order;
                    if let Some((status, filled)) = ends.get(&order.id) {
                        prop_assert!(!status.is_final(), "{} changed after {}", order.id, status);
                        prop_assert!(*filled <= order.filled_qty);
                    } else {
                        stamps.push(order.submitted_at);
                    }
                    ends.insert(order.id, (order.status, order.filled_qty));
                    prop_assert!(order.created_at <= order.updated_at);
                }
                Change::Record(_) => {}
            }
        }
        stamps.sort();
        prop_assert!(stamps.is_sorted_by(|a, b| a < b), "submitted_at is unique");
    }

    #[test]
    fn the_same_commands_give_the_same_changes(commands in prop::collection::vec(command(), 1..40)) {
        let (_, _, first) = run(&commands, false);
        let (_, _, second) = run(&commands, false);
        prop_assert_eq!(first, second);
    }
}

/// The generator reaches what the properties are about.
#[test]
fn the_properties_are_not_vacuous() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut executions, mut partial, mut exits, mut shorts) = (0, 0, 0, 0);
    let mut ends: HashMap<OrderStatus, u32> = HashMap::new();
    for _ in 0..60 {
        let commands = prop::collection::vec(command(), 60).new_tree(&mut runner).unwrap().current();
        let (exchange, _, _) = run(&commands, true);
        for row in exchange.executions() {
            executions += 1;
            partial += u32::from(!row.leaves_qty.is_zero());
            shorts += u32::from(row.position_qty.is_sign_negative() && !row.position_qty.is_zero());
        }
        for row in exchange.ledger_orders() {
            *ends.entry(row.order.status).or_default() += 1;
            exits += u32::from(row.working.parent.is_some() && !row.order.filled_qty.is_zero());
        }
    }
    assert!(
        executions > 300 && partial > 30 && exits > 10 && shorts > 30,
        "{executions} {partial} {exits} {shorts}"
    );
    for status in [OrderStatus::Filled, OrderStatus::Canceled, OrderStatus::Replaced, OrderStatus::New] {
        assert!(ends.get(&status).is_some_and(|count| *count > 5), "{status}: {ends:?}");
    }
}
