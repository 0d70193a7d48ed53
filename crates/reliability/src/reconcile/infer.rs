//! Fills that only an order's totals tell of.

use plimsoll_core_domain::broker::BrokerOrder;
use plimsoll_core_domain::fill::{Execution, FillBook, FillSource};
use plimsoll_core_domain::money::round_money;
use plimsoll_core_domain::{Price, Quantity};
use rust_decimal::Decimal;

/// Fills for the units that the order's total covers and no known execution does, priced so that the order's average
/// comes out: `known` are quantity, cumulative quantity and price of every known execution, repeats allowed.
#[must_use]
pub fn inferred(seen: &BrokerOrder, known: &[(Decimal, Decimal, Decimal)]) -> Vec<Execution> {
    let mut distinct: Vec<(Decimal, Decimal, Decimal)> = known.to_vec();
    distinct.sort_unstable();
    distinct.dedup_by_key(|row| (row.0, row.1));
    let book = FillBook::new(distinct.iter().map(|(qty, cum, _)| (*qty, *cum)));
    let gaps = book.gaps(seen.filled_qty);
    let gap: Decimal = gaps.iter().map(|(from, to)| to - from).sum();
    let Some(average) = seen.filled_avg_price.filter(|_| !gap.is_zero()) else { return Vec::new() };
    let value: Decimal = distinct.iter().map(|(qty, _, price)| qty * price).sum();
    let price = round_money((average * seen.filled_qty - value) / gap).round_dp(9);
    let Ok(price) = Price::new(price).or_else(|_| Price::new(average.round_dp(9))) else { return Vec::new() };
    gaps.into_iter()
        .filter_map(|(from, to)| {
            Some(Execution {
                qty: Quantity::new(to - from).ok()?,
                price,
                cum_qty: Quantity::new(to).ok()?,
                source: FillSource::Inferred,
                executed_at: seen.updated_at,
                broker_id: None,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_core_domain::broker::BrokerStatus;
    use plimsoll_core_domain::order::OrderStatus;

    fn seen(filled: i64, average: &str) -> BrokerOrder {
        BrokerOrder {
            id: "b".parse().unwrap(),
            client_order_id: "c".into(),
            symbol: "SPY".into(),
            side: None,
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
            status: BrokerStatus::Known(OrderStatus::Filled),
            filled_qty: filled.into(),
            filled_avg_price: Some(average.parse().unwrap()),
            submitted_at: None,
            updated_at: chrono::DateTime::UNIX_EPOCH,
            replaces: None,
            replaced_by: None,
            legs: Vec::new(),
        }
    }

    #[test]
    fn what_no_execution_covers_is_priced_from_the_average() {
        let known = [(Decimal::from(4), Decimal::from(4), Decimal::from(100))];
        let fills = inferred(&seen(10, "106"), &known);
        assert_eq!(fills.len(), 1);
        assert_eq!(fills[0].qty.get(), Decimal::from(6));
        assert_eq!(fills[0].cum_qty.get(), Decimal::from(10));
        assert_eq!(fills[0].price.get(), Decimal::from(110));
        assert_eq!(fills[0].source, FillSource::Inferred);
    }

    #[test]
    fn nothing_is_inferred_when_everything_is_covered() {
        let known = [
            (Decimal::from(10), Decimal::from(10), Decimal::from(106)),
            (Decimal::from(10), Decimal::from(10), Decimal::from(106)),
        ];
        assert!(inferred(&seen(10, "106"), &known).is_empty());
        assert!(inferred(&seen(0, "0"), &[]).is_empty());
    }
}
