//! Risk limits, and which changes of them loosen something.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::HaltLevel;
use crate::ids::Symbol;
use crate::money::Price;

/// The largest count of a limit.
pub const MAX_COUNT: u32 = 10_000;
/// The most symbols of a list.
pub const MAX_SYMBOLS: usize = 500;

/// A user's limits; `None` is no limit. Amounts are in the account's currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RiskLimits {
    /// The value of one order that opens or enlarges a position.
    pub max_order_notional: Option<Price>,
    /// The value of a position, should every open order on its side fill.
    pub max_position_notional: Option<Price>,
    /// The loss since the last session's close; reached, it halts trading.
    pub max_daily_loss: Option<Price>,
    /// Orders that are not final, each leg counted.
    pub max_open_orders: Option<u32>,
    /// Orders accepted within a minute.
    pub max_orders_per_minute: Option<u32>,
    /// Only these are traded.
    pub allowed_symbols: Option<BTreeSet<Symbol>>,
    /// These are not traded.
    pub denied_symbols: Option<BTreeSet<Symbol>>,
    /// The level of the halt at `max_daily_loss`.
    pub daily_loss_action: HaltLevel,
}

impl Default for RiskLimits {
    fn default() -> Self {
        Self {
            max_order_notional: None,
            max_position_notional: None,
            max_daily_loss: None,
            max_open_orders: None,
            max_orders_per_minute: None,
            allowed_symbols: None,
            denied_symbols: None,
            daily_loss_action: HaltLevel::BlockEntries,
        }
    }
}

/// A limit that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct LimitError {
    /// Which.
    pub field: &'static str,
    /// For the caller.
    pub why: String,
}

impl RiskLimits {
    /// # Errors
    /// Each limit that is out of its range.
    pub fn validate(&self) -> Result<(), Vec<LimitError>> {
        let mut errors = Vec::new();
        for (field, count) in
            [("max_open_orders", self.max_open_orders), ("max_orders_per_minute", self.max_orders_per_minute)]
        {
            if count.is_some_and(|count| count > MAX_COUNT) {
                errors.push(LimitError { field, why: format!("must be at most {MAX_COUNT}") });
            }
        }
        for (field, list) in
            [("allowed_symbols", &self.allowed_symbols), ("denied_symbols", &self.denied_symbols)]
        {
            if list.as_ref().is_some_and(|list| list.len() > MAX_SYMBOLS) {
                errors.push(LimitError { field, why: format!("must name at most {MAX_SYMBOLS} symbols") });
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Whether an order must be held against what is open and held.
    #[must_use]
    pub fn looks_at_orders(&self) -> bool {
        self.max_order_notional.is_some()
            || self.max_position_notional.is_some()
            || self.max_open_orders.is_some()
            || self.max_orders_per_minute.is_some()
            || self.allowed_symbols.is_some()
            || self.denied_symbols.is_some()
    }

    /// The limits that `new` loosens: whatever it allows that these do not.
    #[must_use]
    pub fn loosened_by(&self, new: &Self) -> Vec<&'static str> {
        fn looser<T: PartialOrd>(old: Option<T>, new: Option<T>) -> bool {
            old.is_some_and(|old| new.is_none_or(|new| new > old))
        }
        let allowed = self
            .allowed_symbols
            .as_ref()
            .is_some_and(|old| new.allowed_symbols.as_ref().is_none_or(|new| !new.is_subset(old)));
        let denied = self.denied_symbols.as_ref().is_some_and(|old| {
            !old.is_empty() && new.denied_symbols.as_ref().is_none_or(|new| !new.is_superset(old))
        });
        let loosened = [
            ("max_order_notional", looser(self.max_order_notional, new.max_order_notional)),
            ("max_position_notional", looser(self.max_position_notional, new.max_position_notional)),
            ("max_daily_loss", looser(self.max_daily_loss, new.max_daily_loss)),
            ("max_open_orders", looser(self.max_open_orders, new.max_open_orders)),
            ("max_orders_per_minute", looser(self.max_orders_per_minute, new.max_orders_per_minute)),
            ("allowed_symbols", allowed),
            ("denied_symbols", denied),
            ("daily_loss_action", new.daily_loss_action < self.daily_loss_action),
        ];
        loosened.into_iter().filter(|(_, looser)| *looser).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(list: &[&str]) -> Option<BTreeSet<Symbol>> {
        Some(list.iter().map(|text| Symbol::new(*text).unwrap()).collect())
    }

    fn amount(text: &str) -> Option<Price> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn what_allows_more_is_looser_and_what_allows_less_is_not() {
        let none = RiskLimits::default();
        let some = RiskLimits {
            max_order_notional: amount("1000"),
            max_position_notional: amount("5000"),
            max_daily_loss: amount("100"),
            max_open_orders: Some(10),
            max_orders_per_minute: Some(5),
            allowed_symbols: symbols(&["SPY", "QQQ"]),
            denied_symbols: symbols(&["GME"]),
            daily_loss_action: HaltLevel::Flatten,
        };
        assert!(none.loosened_by(&some).is_empty());
        assert!(some.loosened_by(&some).is_empty());
        assert_eq!(
            some.loosened_by(&none),
            [
                "max_order_notional",
                "max_position_notional",
                "max_daily_loss",
                "max_open_orders",
                "max_orders_per_minute",
                "allowed_symbols",
                "denied_symbols",
                "daily_loss_action"
            ]
        );
        let tighter = RiskLimits {
            max_order_notional: amount("999.99"),
            max_open_orders: Some(0),
            allowed_symbols: symbols(&["SPY"]),
            denied_symbols: symbols(&["GME", "AMC"]),
            ..some.clone()
        };
        assert!(some.loosened_by(&tighter).is_empty());
        let other = RiskLimits { allowed_symbols: symbols(&["SPY", "IWM"]), ..some.clone() };
        assert_eq!(some.loosened_by(&other), ["allowed_symbols"], "another symbol is one more");
        let swapped = RiskLimits { denied_symbols: symbols(&["AMC"]), ..some.clone() };
        assert_eq!(some.loosened_by(&swapped), ["denied_symbols"]);
    }

    #[test]
    fn counts_and_lists_have_an_end() {
        let many = RiskLimits {
            max_open_orders: Some(MAX_COUNT + 1),
            max_orders_per_minute: Some(MAX_COUNT),
            denied_symbols: Some((0..=MAX_SYMBOLS).map(|n| Symbol::new(format!("S{n}")).unwrap()).collect()),
            ..RiskLimits::default()
        };
        let fields: Vec<_> = many.validate().unwrap_err().into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["max_open_orders", "denied_symbols"]);
        assert_eq!(RiskLimits::default().validate(), Ok(()));
    }

    #[test]
    fn they_are_written_with_decimals_as_strings_and_read_back() {
        let limits = RiskLimits {
            max_order_notional: amount("1000.50"),
            allowed_symbols: symbols(&["SPY", "BTC/USD"]),
            ..RiskLimits::default()
        };
        let text = serde_json::to_string(&limits).unwrap();
        assert!(text.contains(r#""max_order_notional":"1000.5""#), "{text}");
        assert_eq!(serde_json::from_str::<RiskLimits>(&text).unwrap(), limits);
    }
}
