//! Symbols of which it is not known what is held: a comparison with the broker found a difference that nobody has decided
//! about, or one is still to be made.

use super::check::{enlarges, refuse_entry};
use super::{Candidate, Exposure, RiskRefusal, RiskRule};
use crate::Symbol;

/// Stands for every symbol.
const EVERYTHING: &str = "*";

/// Of which symbols no new entry is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unclear(Vec<String>);

impl Unclear {
    /// Of symbols without slashes; `*` stands for all, until the account was compared once more.
    #[must_use]
    pub fn new(symbols: Vec<String>) -> Self {
        Self(symbols)
    }

    /// The rule that keeps entries of a symbol out.
    #[must_use]
    pub fn of(&self, symbol: &Symbol) -> Option<RiskRule> {
        if self.0.iter().any(|one| one == EVERYTHING) {
            return Some(RiskRule::Unreconciled);
        }
        let bare = symbol.as_str().chars().filter(|c| *c != '/');
        self.0.iter().any(|one| one.chars().eq(bare.clone())).then_some(RiskRule::OpenDiscrepancy)
    }
}

/// Holds an order against what is unclear. What makes a position smaller passes.
///
/// # Errors
/// The rule that is in the way.
pub fn check_unclear(
    order: &Candidate<'_>,
    unclear: &Unclear,
    exposure: &Exposure,
) -> Result<(), RiskRefusal> {
    match unclear.of(&order.terms.symbol) {
        Some(rule) if !order.closes && enlarges(order, exposure) => {
            Err(refuse_entry(rule, order.terms, exposure))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;
    use crate::order::{OrderRequest, OrderSize, OrderType, Side, TimeInForce};

    fn unclear(symbols: &[&str]) -> Unclear {
        Unclear::new(symbols.iter().map(|one| (*one).to_owned()).collect())
    }

    fn symbol(name: &str) -> Symbol {
        Symbol::new(name).unwrap()
    }

    #[test]
    fn a_symbol_is_meant_with_and_without_its_slash_and_a_star_means_all() {
        let some = unclear(&["SPY", "BTCUSD"]);
        assert_eq!(some.of(&symbol("SPY")), Some(RiskRule::OpenDiscrepancy));
        assert_eq!(some.of(&symbol("BTC/USD")), Some(RiskRule::OpenDiscrepancy));
        assert_eq!(some.of(&symbol("SP")), None);
        assert_eq!(unclear(&["*"]).of(&symbol("SP")), Some(RiskRule::Unreconciled));
        assert_eq!(Unclear::default().of(&symbol("SPY")), None);
    }

    #[test]
    fn what_makes_a_position_smaller_passes_and_what_enlarges_it_does_not() {
        let order = |side, qty: i64| {
            OrderRequest {
                symbol: "SPY".into(),
                side: Some(side),
                order_type: Some(OrderType::Market),
                time_in_force: Some(TimeInForce::Day),
                qty: Some(qty.into()),
                ..OrderRequest::default()
            }
            .validate()
            .unwrap()
        };
        let exposure = Exposure { position: Decimal::from(5), ..Exposure::default() };
        let check = |terms: &crate::order::NewOrder, closes, replaces| {
            let order = Candidate { terms, reference: None, closes, replaces };
            check_unclear(&order, &unclear(&["SPY"]), &exposure).map_err(|refusal| refusal.rule)
        };
        assert_eq!(check(&order(Side::Sell, 5), false, None), Ok(()));
        assert_eq!(check(&order(Side::Sell, 6), true, None), Ok(()));
        for (side, qty) in [(Side::Sell, 6), (Side::Buy, 1)] {
            assert_eq!(check(&order(side, qty), false, None), Err(RiskRule::OpenDiscrepancy));
        }
        let was = |qty: i64| Some(OrderSize::Qty(crate::money::Quantity::new(qty.into()).unwrap()));
        assert_eq!(check(&order(Side::Buy, 2), false, was(2)), Ok(()));
        assert_eq!(check(&order(Side::Buy, 3), false, was(2)), Err(RiskRule::OpenDiscrepancy));
    }
}
