//! Comparing positions and cash, without asking anybody.

use std::collections::{BTreeMap, HashSet};

use plimsoll_core_domain::broker::{AccountMovement, BrokerPosition};
use rust_decimal::Decimal;

use super::port::{Held, Standing};

/// Cash agrees within a cent: the broker shows it in cents.
const CENT: Decimal = Decimal::from_parts(1, 0, 0, false, 2);
/// Averages agree within a tenth of a per mille, or a cent: brokers round them.
const AVERAGE: Decimal = Decimal::from_parts(1, 0, 0, false, 4);
/// Movements of these kinds change what is held, by their quantity.
const MOVING_KINDS: [&str; 7] = ["SPLIT", "SPIN", "MA", "NC", "REORG", "JNLS", "ACATS"];

/// What one side holds of a symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sides {
    /// As the broker writes it, or as it is here where the broker has none.
    pub(super) symbol: String,
    pub(super) local: Decimal,
    pub(super) broker: Decimal,
    /// The broker's average entry price.
    pub(super) average: Decimal,
}

/// Under which both sides' names of an instrument meet: brokers write some pairs with a slash in orders only.
fn key(symbol: &str) -> String {
    symbol.chars().filter(|c| *c != '/').collect()
}

fn both_sides(standing: &Standing, seen: &[BrokerPosition]) -> BTreeMap<String, (Sides, Decimal)> {
    let mut sides = BTreeMap::new();
    for held in standing.held.iter().filter(|held| !held.qty.is_zero()) {
        let of = Sides {
            symbol: held.symbol.clone(),
            local: held.qty.normalize(),
            broker: Decimal::ZERO,
            average: Decimal::ZERO,
        };
        sides.insert(key(&held.symbol), (of, held.cost_basis));
    }
    for row in seen {
        let entry = sides.entry(key(&row.symbol)).or_insert_with(|| {
            let of = Sides {
                symbol: row.symbol.clone(),
                local: Decimal::ZERO,
                broker: Decimal::ZERO,
                average: Decimal::ZERO,
            };
            (of, Decimal::ZERO)
        });
        entry.0.broker = (entry.0.broker + row.qty).normalize();
        entry.0.average = row.avg_entry_price.normalize();
    }
    sides
}

/// Symbols of which the two hold different quantities.
pub(super) fn position_differences(standing: &Standing, seen: &[BrokerPosition]) -> Vec<Sides> {
    both_sides(standing, seen)
        .into_values()
        .map(|(sides, _)| sides)
        .filter(|sides| sides.local.round_dp(9) != sides.broker.round_dp(9))
        .collect()
}

/// Symbols of which the two hold the same quantity at another average price: symbol, ours, the broker's.
pub(super) fn average_differences(
    standing: &Standing,
    seen: &[BrokerPosition],
) -> Vec<(String, Decimal, Decimal)> {
    both_sides(standing, seen)
        .into_values()
        .filter(|(sides, _)| sides.local == sides.broker && !sides.local.is_zero())
        .filter_map(|(sides, cost)| {
            let ours = cost.checked_div(sides.local)?;
            let apart = (ours - sides.average).abs();
            let enough = CENT.max((sides.average * AVERAGE).abs());
            (apart > enough).then(|| (sides.symbol, ours.round_dp(4).normalize(), sides.average))
        })
        .collect()
}

/// The cash by the record, where it differs from the broker's.
pub(super) fn cash_difference(standing: &Standing, broker: Decimal) -> Option<Decimal> {
    standing.cash.filter(|cash| (cash - broker).abs() >= CENT)
}

/// What the account held before it was first compared: the broker's quantities less what is on record, at the broker's
/// average.
pub(super) fn opening(differences: &[Sides]) -> Vec<Held> {
    let held = |sides: &Sides| {
        let qty = sides.broker - sides.local;
        Held {
            symbol: sides.symbol.clone(),
            qty,
            cost_basis: qty.checked_mul(sides.average).unwrap_or_default(),
        }
    };
    differences.iter().map(held).collect()
}

/// The movements, by their ids, whose quantities are the whole difference of their symbol.
pub(super) fn explaining(differences: &[Sides], rows: &[AccountMovement]) -> HashSet<String> {
    let mut ids = HashSet::new();
    for sides in differences {
        let moving: Vec<&AccountMovement> = rows
            .iter()
            .filter(|row| MOVING_KINDS.contains(&row.kind.as_str()))
            .filter(|row| row.symbol.as_deref().map(key) == Some(key(&sides.symbol)))
            .collect();
        let sum: Decimal = moving.iter().filter_map(|row| row.qty).sum();
        if !moving.is_empty() && sum == sides.broker - sides.local {
            ids.extend(moving.iter().map(|row| row.id.clone()));
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn standing(held: &[(&str, &str, &str)], cash: Option<&str>) -> Standing {
        let one = |(symbol, qty, cost): &(&str, &str, &str)| Held {
            symbol: (*symbol).to_owned(),
            qty: dec(qty),
            cost_basis: dec(cost),
        };
        Standing { held: held.iter().map(one).collect(), cash: cash.map(dec), ..Standing::default() }
    }

    fn seen(symbol: &str, qty: &str, average: &str) -> BrokerPosition {
        BrokerPosition {
            symbol: symbol.to_owned(),
            qty: dec(qty),
            avg_entry_price: dec(average),
            current_price: None,
            lastday_price: None,
        }
    }

    #[test]
    fn what_agrees_is_no_difference() {
        let here = standing(
            &[("SPY", "3.000", "300"), ("BTC/USD", "0.000000001", "0.00006"), ("IBM", "0", "0")],
            Some("10.004"),
        );
        let there = [seen("SPY", "3", "100"), seen("BTCUSD", "0.000000001", "60000")];
        assert_eq!(position_differences(&here, &there), vec![]);
        assert_eq!(average_differences(&here, &there), vec![]);
        assert_eq!(cash_difference(&here, dec("10")), None);
    }

    #[test]
    fn each_side_may_be_flat_short_or_off_by_dust() {
        let here = standing(&[("A", "1", "1"), ("B", "-2", "-2"), ("C", "0.5", "1")], None);
        let there = [seen("B", "2", "1"), seen("C", "0.500000001", "2"), seen("D", "7", "1")];
        let found: Vec<_> = position_differences(&here, &there)
            .into_iter()
            .map(|sides| (sides.symbol, sides.local, sides.broker))
            .collect();
        let expected = [("A", "1", "0"), ("B", "-2", "2"), ("C", "0.5", "0.500000001"), ("D", "0", "7")]
            .map(|(symbol, local, broker)| (symbol.to_owned(), dec(local), dec(broker)));
        assert_eq!(found, expected);
    }

    #[test]
    fn another_average_is_told_and_rounding_is_not() {
        let here = standing(&[("A", "3", "300"), ("B", "3", "300")], None);
        let there = [seen("A", "3", "100.01"), seen("B", "3", "100.02")];
        assert_eq!(average_differences(&here, &there), vec![("B".to_owned(), dec("100"), dec("100.02"))]);
    }

    #[test]
    fn cash_differs_from_a_cent_on() {
        assert_eq!(cash_difference(&standing(&[], Some("10")), dec("10.01")), Some(dec("10")));
        assert_eq!(cash_difference(&standing(&[], None), dec("5")), None);
    }

    #[test]
    fn a_split_explains_what_it_explains_whole() {
        let movement = |id: &str, kind: &str, symbol: &str, qty: &str| AccountMovement {
            id: id.to_owned(),
            kind: kind.to_owned(),
            symbol: Some(symbol.to_owned()),
            qty: Some(dec(qty)),
            amount: Decimal::ZERO,
            at: chrono::DateTime::UNIX_EPOCH,
        };
        let here = standing(&[("A", "10", "100"), ("B", "10", "100"), ("C", "10", "100")], None);
        let there = [seen("A", "20", "5"), seen("B", "20", "5"), seen("C", "20", "5")];
        let rows = [
            movement("1", "SPLIT", "A", "10"),
            movement("2", "SPLIT", "B", "5"),
            // A dividend's quantity is what it was paid for.
            movement("3", "DIV", "C", "10"),
        ];
        let ids = explaining(&position_differences(&here, &there), &rows);
        assert_eq!(ids, HashSet::from(["1".to_owned()]));
    }
}
