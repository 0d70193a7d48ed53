//! How many units a signal is worth.

use rust_decimal::{Decimal, RoundingStrategy};

use super::reason::{Reason, Refusal};
use crate::money::{PRICE_SCALE, Price, Quantity};

/// How a hook's orders are sized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizing {
    /// So many units, whatever the signal says.
    FixedQty(Quantity),
    /// So much money.
    FixedNotional(Price),
    /// So many per cent of the account's equity: more than 0, at most 100.
    PercentEquity(Decimal),
    /// As the signal says.
    FromSignal,
}

impl Sizing {
    /// The modes' names.
    pub const MODES: [&'static str; 4] = ["fixed_qty", "fixed_notional", "percent_equity", "from_signal"];

    /// From a mode's name and its value.
    ///
    /// # Errors
    /// What is wrong with them: the field (`mode` or `value`), and why.
    pub fn new(mode: &str, value: Option<Decimal>) -> Result<Self, (&'static str, String)> {
        let positive = || value.ok_or_else(|| ("value", format!("{mode} needs a value")));
        let price = |value: Decimal| Price::new(value).map_err(|error| ("value", error.to_string()));
        match mode {
            "fixed_qty" => {
                let qty = Quantity::new(positive()?).map_err(|error| ("value", error.to_string()))?;
                Ok(Self::FixedQty(qty))
            }
            "fixed_notional" => {
                let amount = price(positive()?)?;
                if amount.check_tick(Decimal::new(1, 2)).is_err() {
                    return Err(("value", "has more than 2 digits after the point".to_owned()));
                }
                Ok(Self::FixedNotional(amount))
            }
            "percent_equity" => {
                let percent = price(positive()?)?.get();
                if percent > Decimal::ONE_HUNDRED {
                    return Err(("value", "must be at most 100".to_owned()));
                }
                Ok(Self::PercentEquity(percent))
            }
            "from_signal" if value.is_none() => Ok(Self::FromSignal),
            "from_signal" => Err(("value", "must be absent: the signal says how much".to_owned())),
            _ => Err(("mode", format!("must be one of {}", Self::MODES.join(", ")))),
        }
    }

    /// The mode's name.
    #[must_use]
    pub const fn mode(&self) -> &'static str {
        match self {
            Self::FixedQty(_) => "fixed_qty",
            Self::FixedNotional(_) => "fixed_notional",
            Self::PercentEquity(_) => "percent_equity",
            Self::FromSignal => "from_signal",
        }
    }

    /// The mode's value.
    #[must_use]
    pub fn value(&self) -> Option<Decimal> {
        match self {
            Self::FixedQty(qty) => Some(qty.get()),
            Self::FixedNotional(amount) => Some(amount.get()),
            Self::PercentEquity(percent) => Some(*percent),
            Self::FromSignal => None,
        }
    }

    /// Whether the account's equity is needed.
    #[must_use]
    pub const fn needs_equity(&self) -> bool {
        matches!(self, Self::PercentEquity(_))
    }

    /// The amount of money that a signal is worth; `None` where it is counted in units.
    ///
    /// # Errors
    /// [`Reason::NoEquity`].
    pub fn amount(&self, equity: Option<Decimal>) -> Result<Option<Decimal>, Refusal> {
        match self {
            Self::FixedNotional(amount) => Ok(Some(amount.get())),
            Self::PercentEquity(percent) => {
                let no_equity = |why: &str| Refusal::new(Reason::NoEquity, why);
                let equity = equity.ok_or_else(|| no_equity("the account's equity is not known"))?;
                if equity <= Decimal::ZERO {
                    return Err(no_equity("the account's equity is not above zero"));
                }
                let amount = equity.checked_mul(*percent / Decimal::ONE_HUNDRED);
                let amount = amount.ok_or_else(|| no_equity("the account's equity is out of range"))?;
                Ok(Some(amount.round_dp_with_strategy(2, RoundingStrategy::ToZero)))
            }
            Self::FixedQty(_) | Self::FromSignal => Ok(None),
        }
    }

    /// The units that a signal is worth, greater than zero; never more than the amount buys.
    ///
    /// # Errors
    /// [`Reason::NoPrice`], [`Reason::NoEquity`], [`Reason::MissingField`], [`Reason::InvalidSize`].
    pub fn units(&self, given: &Given) -> Result<Quantity, Refusal> {
        let too_small = |why: String| Refusal::new(Reason::InvalidSize, why);
        let units = match (self, self.amount(given.equity)?) {
            (_, Some(amount)) => {
                let price = given
                    .price
                    .ok_or_else(|| Refusal::new(Reason::NoPrice, "no price is known to size by"))?;
                let units = amount
                    .checked_div(price.get())
                    .ok_or_else(|| too_small("the size is out of range".to_owned()))?;
                let places = if given.fractional { PRICE_SCALE } else { 0 };
                units.round_dp_with_strategy(places, RoundingStrategy::ToZero)
            }
            (Self::FixedQty(qty), None) => qty.get(),
            (_, None) => given
                .stated
                .ok_or_else(|| Refusal::new(Reason::MissingField, "the signal does not say how much"))?,
        };
        if units.is_zero() {
            return Err(too_small("it is worth less than one unit".to_owned()));
        }
        Quantity::new(units).map_err(|error| too_small(format!("the size {error}")))
    }
}

/// What a size may follow from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Units that the signal states.
    pub stated: Option<Decimal>,
    /// The broker's last price, or what a buy pays at most.
    pub price: Option<Price>,
    /// The account's equity.
    pub equity: Option<Decimal>,
    /// Parts of a unit may be ordered.
    pub fractional: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn sizing(mode: &str, value: &str) -> Sizing {
        Sizing::new(mode, Some(dec(value))).unwrap()
    }

    fn given() -> Given {
        Given {
            stated: Some(dec("7")),
            price: Some("30".parse().unwrap()),
            equity: Some(dec("10000")),
            fractional: false,
        }
    }

    #[test]
    fn four_ways_to_size() {
        let units = |sizing: Sizing| sizing.units(&given()).map(Quantity::get);
        assert_eq!(units(sizing("fixed_qty", "2.5")), Ok(dec("2.5")));
        assert_eq!(units(sizing("fixed_notional", "100")), Ok(dec("3")));
        assert_eq!(units(sizing("percent_equity", "5")), Ok(dec("16")));
        assert_eq!(units(Sizing::FromSignal), Ok(dec("7")));
        let parts = Given { fractional: true, ..given() };
        assert_eq!(sizing("fixed_notional", "100").units(&parts).map(Quantity::get), Ok(dec("3.333333333")));
    }

    #[test]
    fn what_is_not_known_or_too_small_is_refused() {
        let reason = |sizing: Sizing, given: Given| sizing.units(&given).unwrap_err().reason;
        let nothing = Given::default();
        assert_eq!(reason(sizing("fixed_notional", "100"), nothing), Reason::NoPrice);
        assert_eq!(reason(sizing("percent_equity", "5"), nothing), Reason::NoEquity);
        assert_eq!(reason(Sizing::FromSignal, nothing), Reason::MissingField);
        assert_eq!(reason(sizing("fixed_notional", "29"), given()), Reason::InvalidSize);
        let broke = Given { equity: Some(dec("-1")), ..given() };
        assert_eq!(reason(sizing("percent_equity", "5"), broke), Reason::NoEquity);
        let vast = Given { stated: Some(dec("1000000000000000000")), ..given() };
        assert_eq!(reason(Sizing::FromSignal, vast), Reason::InvalidSize);
        let fine = Given { stated: Some(dec("0.0000000001")), ..given() };
        assert_eq!(reason(Sizing::FromSignal, fine), Reason::InvalidSize);
    }

    #[test]
    fn a_mode_and_its_value_belong_together() {
        for (mode, value, field) in [
            ("fixed_qty", None, "value"),
            ("fixed_qty", Some("0"), "value"),
            ("fixed_notional", Some("10.001"), "value"),
            ("percent_equity", Some("100.5"), "value"),
            ("percent_equity", Some("-1"), "value"),
            ("from_signal", Some("1"), "value"),
            ("all_in", None, "mode"),
        ] {
            assert_eq!(Sizing::new(mode, value.map(dec)).unwrap_err().0, field, "{mode} {value:?}");
        }
        for (mode, value) in [("fixed_qty", Some("1")), ("from_signal", None)] {
            let sizing = Sizing::new(mode, value.map(dec)).unwrap();
            assert_eq!((sizing.mode(), sizing.value()), (mode, value.map(dec)));
        }
    }

    proptest! {
        #[test]
        fn an_amount_is_never_exceeded(amount in 100_i64..10_000_000, price in 1_i64..100_000_000, fractional: bool) {
            let (amount, price) = (Decimal::new(amount, 2), Price::new(Decimal::new(price, 4)).unwrap());
            let sizing = Sizing::new("fixed_notional", Some(amount)).unwrap();
            if let Ok(units) = sizing.units(&Given { price: Some(price), fractional, ..Given::default() }) {
                prop_assert!(units.get() * price.get() <= amount);
                prop_assert!(fractional || units.is_whole());
            }
        }
    }
}
