//! Records give the same exchange back.

use plimsoll_paper_exchange::order::{OrderClass, OrderQuery, OrderStatus, OrderType, Side, StatusFilter};
use plimsoll_paper_exchange::{Exchange, ExchangeConfig, NewOrder, Record, Replacement, RestoreError};

use crate::support::{Sim, buy, dec, gtc, limit, prints, sell, stop_loss, take_profit, time};

const ROWS: &[(&str, &str)] = &[
    ("15:00:00", "100"),
    ("15:01:00", "105"),
    ("15:02:00", "111"),
    ("21:00:00", "108"),
    ("2026-11-25T15:00:00Z", "112"),
    ("2026-11-25T15:10:00Z", "104"),
];

/// A bit of everything that can be under way.
fn busy() -> Sim {
    let mut sim = Sim::printing(ROWS);
    sim.hold(50);
    let bracket = NewOrder {
        order_class: OrderClass::Bracket,
        take_profit: take_profit("130"),
        stop_loss: stop_loss("90"),
        ..buy(10)
    };
    sim.take(gtc(bracket));
    sim.take(gtc(NewOrder { kind: OrderType::TrailingStop, trail_percent: Some(dec("5")), ..sell(20) }));
    sim.at("15:02:30");
    let low = sim.take(gtc(limit(Side::Sell, 5, "140")));
    sim.submit(gtc(limit(Side::Sell, 2, "150"))).unwrap();
    let now = sim.now();
    sim.exchange
        .replace(sim.account, low, Replacement { limit_price: Some(dec("141")), ..Default::default() }, now)
        .unwrap();
    sim.at("15:02:32");
    sim
}

fn restored(sim: &Sim) -> Exchange {
    // As a store gives them back: through JSON, in no order.
    let mut records: Vec<Record> = sim
        .records
        .iter()
        .map(|record| serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap())
        .collect();
    records.reverse();
    Exchange::restore(ExchangeConfig::default(), prints(ROWS), records).unwrap()
}

fn assert_same(sim: &Sim, other: &Exchange) {
    let all = OrderQuery { status: StatusFilter::All, ..OrderQuery::default() };
    let account = sim.account;
    assert_eq!(sim.exchange.orders(account, &all).unwrap(), other.orders(account, &all).unwrap());
    assert_eq!(sim.exchange.positions(account).unwrap(), other.positions(account).unwrap());
    assert_eq!(sim.exchange.account_view(account).unwrap(), other.account_view(account).unwrap());
    assert_eq!(
        sim.exchange.activities(account, &Default::default()).unwrap(),
        other.activities(account, &Default::default()).unwrap()
    );
    assert_eq!(sim.exchange.configurations(account).unwrap(), other.configurations(account).unwrap());
    assert!(sim.exchange.ledger_orders().eq(other.ledger_orders()));
    assert!(sim.exchange.executions().eq(other.executions()));
}

#[test]
fn the_same_state_goes_on_the_same_way() {
    for until in ["15:02:32", "2026-11-25T14:59:00Z"] {
        let mut sim = busy();
        sim.at(until);
        let mut other = restored(&sim);
        assert!(other.now() <= sim.now());
        other.advance(sim.now());
        assert_same(&sim, &other);
        // What comes later is the same too, but for the ids of later events.
        sim.at("2026-11-25T15:30:00Z");
        other.advance(sim.now());
        let ends = |exchange: &Exchange| -> Vec<_> {
            exchange
                .ledger_orders()
                .map(|row| (row.order.id, row.order.status, row.order.filled_qty, row.order.filled_avg_price))
                .collect()
        };
        assert_eq!(ends(&sim.exchange), ends(&other));
        assert!(
            ends(&other).iter().any(|end| end.1 == OrderStatus::Filled && end.2 == dec("20")),
            "the trail was hit"
        );
        assert_eq!(sim.exchange.account_view(sim.account).unwrap(), other.account_view(sim.account).unwrap());
    }
}

#[test]
fn ids_stay_unique_and_stamps_rise_over_a_restart() {
    let sim = busy();
    let mut other = restored(&sim);
    let now = other.now();
    let order = other.submit(sim.account, limit(Side::Sell, 1, "160"), now).unwrap();
    assert!(
        sim.exchange
            .ledger_orders()
            .all(|row| row.order.id != order.id && row.order.submitted_at < order.submitted_at)
    );
    other.advance(time("15:05:00"));
    let old: Vec<_> = sim.events.iter().filter_map(|event| event.execution_id).collect();
    for change in other.drain() {
        if let plimsoll_paper_exchange::Change::Update(update) = change {
            assert!(update.data.execution_id.is_none_or(|id| !old.contains(&id)));
        }
    }
    let first = sim.exchange.ledger_orders().next().unwrap().order.client_order_id.clone();
    let again = NewOrder { client_order_id: Some(first), ..buy(1) };
    assert_eq!(other.submit(sim.account, again, now).unwrap_err().message, "client_order_id must be unique");
}

#[test]
fn records_that_contradict_one_another_are_refused() {
    let sim = busy();
    let restore = |keep: &dyn Fn(&Record) -> bool| {
        let records = sim.records.iter().filter(|record| keep(record)).cloned();
        Exchange::restore(ExchangeConfig::default(), prints(ROWS), records).map(|_| ()).unwrap_err()
    };
    assert_eq!(restore(&|record| !matches!(record, Record::Exchange(_))), RestoreError::NoExchange);
    assert!(matches!(
        restore(&|record| !matches!(record, Record::Account(_))),
        RestoreError::NoAccount { .. }
    ));
    assert!(matches!(restore(&|record| !matches!(record, Record::Order(_))), RestoreError::NoOrder { .. }));
    assert!(matches!(
        restore(&|record| !matches!(record, Record::Execution(_))),
        RestoreError::Unbalanced { .. }
    ));
}
