//! The law: whatever the stream loses, repeats or mixes up, one run later the books and the broker's ledger agree.

use std::collections::BTreeMap;

use plimsoll_core_domain::broker::BrokerStatus;
use plimsoll_core_domain::order::{OrderStatus, Side};
use proptest::prelude::*;
use rust_decimal::Decimal;

use super::books::MemoryBooks;
use super::broker::Model;
use super::{reconcile, terms};
use crate::reconcile::{Reported, RunStatus};

/// One thing that happens at the broker, on one of the orders.
#[derive(Clone, Debug)]
enum Step {
    /// A new order: of ours, or placed elsewhere.
    Place { ours: bool, buy: bool, symbol: u8, lots: u16 },
    /// Some of an order is filled.
    Fill { order: prop::sample::Index, share: u8, cents: u16 },
    /// An order ends.
    End { order: prop::sample::Index, how: u8 },
    /// An order of ours is replaced.
    Replace { order: prop::sample::Index },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => (any::<bool>(), any::<bool>(), 0u8..3, 1u16..2_000)
            .prop_map(|(ours, buy, symbol, lots)| Step::Place { ours, buy, symbol, lots }),
        6 => (index(), 1u8..=100, 1u16..50_000)
            .prop_map(|(order, share, cents)| Step::Fill { order, share, cents }),
        1 => (index(), 0u8..2).prop_map(|(order, how)| Step::End { order, how }),
        1 => index().prop_map(|order| Step::Replace { order }),
    ]
}

/// Plays the steps at the broker: what its stream would have told, in order.
fn play(broker: &Model, books: &MemoryBooks, steps: &[Step]) -> Vec<Reported> {
    let mut events = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        broker.with(|ledger| {
            let pick = |order: &prop::sample::Index| {
                let open: Vec<usize> = (0..ledger.orders.len()).filter(|n| ledger.is_open(*n)).collect();
                (!open.is_empty()).then(|| *order.get(&open))
            };
            match step {
                Step::Place { ours, buy, symbol, lots } => {
                    let side = if *buy { Side::Buy } else { Side::Sell };
                    let qty = Decimal::new(i64::from(*lots), 3);
                    let terms = terms(["SPY", "IBM", "BTC/USD"][usize::from(*symbol)], side, qty);
                    let name = ledger.orders.len();
                    let client = if *ours { format!("plm-{name}") } else { format!("web-{name}") };
                    if *ours {
                        // Whatever of the submit protocol's states its process died in.
                        let state = [OrderStatus::Submitting, OrderStatus::Unknown][n % 2];
                        books.with(|state_of| state_of.place(&client, &terms, state));
                    }
                    let at = ledger.take(&client, &terms);
                    events.push(ledger.tell(at));
                }
                Step::Fill { order, share, cents } => {
                    if let Some(at) = pick(order) {
                        let rest = ledger.rest(at);
                        let part = (rest * Decimal::from(*share) / Decimal::ONE_HUNDRED).round_dp(3);
                        let qty = if part.is_zero() { rest } else { part };
                        events.push(ledger.fill(at, qty, Decimal::new(i64::from(*cents), 2)));
                    }
                }
                Step::End { order, how } => {
                    if let Some(at) = pick(order) {
                        let status = [OrderStatus::Canceled, OrderStatus::Expired][usize::from(*how)];
                        events.push(ledger.end(at, status));
                    }
                }
                Step::Replace { order } => {
                    if let Some(at) = pick(order) {
                        let name = format!("plm-{}", ledger.orders.len());
                        let (new, told) = ledger.replace(at, &name);
                        let order = &ledger.orders[new];
                        let terms = terms(&order.symbol, order.side.unwrap(), order.qty.unwrap());
                        let client = order.client_order_id.clone();
                        books.with(|state| state.place(&client, &terms, OrderStatus::Submitting));
                        events.push(told);
                        events.push(ledger.tell(new));
                    }
                }
            }
        });
    }
    events
}

fn agree(broker: &Model, books: &MemoryBooks) -> Result<(), TestCaseError> {
    let (orders, fills, positions) =
        broker.with(|ledger| (ledger.orders.clone(), ledger.fills.clone(), ledger.positions.clone()));
    books.with(|state| {
        for seen in &orders {
            let id = state.find(seen);
            let over = matches!(&seen.status, BrokerStatus::Known(status) if status.is_final());
            // One that was placed elsewhere, and ended without a trace there, leaves none here.
            if id.is_none() && over && seen.filled_qty.is_zero() && seen.client_order_id.starts_with("web-") {
                continue;
            }
            prop_assert!(id.is_some(), "{} is not on record", seen.id);
            let order = &state.orders[&id.unwrap()];
            prop_assert_eq!(&BrokerStatus::Known(order.status), &seen.status, "{}", seen.id);
            prop_assert_eq!(order.filled_qty, seen.filled_qty.normalize(), "{}", seen.id);
            let theirs: Vec<_> = fills
                .iter()
                .filter(|row| row.order_id == seen.id)
                .map(|row| (row.cum_qty.get(), row.qty.get(), row.price.get()))
                .collect();
            let mut ours: Vec<_> = state.fills[&order.id]
                .iter()
                .map(|one| (one.cum_qty.get(), one.qty.get(), one.price.get()))
                .collect();
            ours.sort_unstable();
            prop_assert_eq!(ours, theirs, "{}", seen.id);
        }
        prop_assert!(state.orders.len() <= orders.len());
        let flat = |positions: BTreeMap<String, plimsoll_core_domain::position::Position>| {
            positions
                .into_iter()
                .filter(|(_, position)| !position.qty.is_zero())
                .map(|(symbol, position)| (symbol, position.qty.normalize()))
                .collect::<Vec<_>>()
        };
        prop_assert_eq!(flat(state.positions()), flat(positions));
        Ok(())
    })
}

proptest! {
    // `PROPTEST_CASES` asks for more.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1_000),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_mix_of_events_and_one_run_end_in_the_brokers_ledger(
        before in prop::collection::vec(step(), 0..12),
        after in prop::collection::vec(step(), 1..30),
        heard in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let (broker, books) = (Model::default(), MemoryBooks::default());
        broker.with(|ledger| ledger.cash = Decimal::from(100_000));
        play(&broker, &books, &before);
        reconcile(&broker, &books);
        agree(&broker, &books)?;
        let events = play(&broker, &books, &after);
        if !events.is_empty() {
            for pick in &heard {
                let event = pick.get(&events);
                books.with(|state| state.apply(event));
            }
        }
        let outcome = reconcile(&broker, &books);
        agree(&broker, &books)?;
        prop_assert_eq!(outcome.status, RunStatus::Ok, "{:?}", outcome.findings);
        // Once more: nothing is left to say.
        let calls = broker.with(|ledger| std::mem::take(&mut ledger.calls).len());
        prop_assert!(calls > 0);
        let outcome = reconcile(&broker, &books);
        prop_assert_eq!(outcome.findings, vec![]);
        let calls = broker.with(|ledger| ledger.calls.clone());
        prop_assert!(calls.len() <= 4 + usize::from(calls.contains(&"clock")), "{:?}", calls);
    }
}
