//! Prices, quantities and amounts of money: decimals that can only be built inside their range.
//!
//! Every number fits `NUMERIC(28, s)`: a decimal of this program holds 28 digits, and rounding never happens
//! silently. What is exact stays exact; a division is rounded half-even to [`MONEY_SCALE`] digits.

use std::fmt;
use std::str::FromStr;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

/// Digits after the point of prices and quantities: Alpaca takes quantities of up to 9.
pub const PRICE_SCALE: u32 = 9;
/// Digits after the point of amounts and averages that come out of a division.
/// A quantity of 9 digits times a price of 4 is exact.
pub const MONEY_SCALE: u32 = 13;

/// The largest price and quantity: 15 digits before the point, so that `NUMERIC(24, 9)` holds it.
const LARGEST: Decimal = Decimal::from_parts(0xa4c6_7fff, 0x0003_8d7e, 0, false, 0);

/// Why a number is no price, quantity or amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a plain decimal number.
    #[error("not a decimal number")]
    NotANumber,
    /// Zero or below where only a positive number has a meaning.
    #[error("must be greater than zero, is {0}")]
    NotPositive(Decimal),
    /// More digits after the point than allowed.
    #[error("has {has} digits after the point, at most {allowed} are allowed")]
    TooPrecise {
        /// Digits that the number has, trailing zeros left out.
        has: u32,
        /// Digits that are allowed.
        allowed: u32,
    },
    /// Beyond the largest number that is kept exactly.
    #[error("is larger than 999999999999999")]
    TooLarge,
    /// Not a multiple of the tick or lot.
    #[error("{value} is not a multiple of {step}")]
    OffGrid {
        /// The refused number.
        value: Decimal,
        /// The tick or lot size.
        step: Decimal,
    },
    /// Two amounts of different currencies met in one sum.
    #[error("{0} and {1} cannot be added")]
    CurrencyMismatch(Currency, Currency),
    /// A result has more than 28 digits.
    #[error("the result does not fit 28 digits")]
    Overflow,
    /// Not three upper-case letters.
    #[error("not a currency code of three upper-case letters (ISO 4217)")]
    Currency,
}

/// Reads a plain decimal number: an optional sign, digits, an optional point with digits. No exponent, no
/// `NaN`, no infinity, no separators, at most 40 characters.
///
/// # Errors
/// [`MoneyError::NotANumber`] for any other text, [`MoneyError::TooLarge`] beyond 28 digits.
pub fn parse_decimal(text: &str) -> Result<Decimal, MoneyError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty()
        && digits.len() <= 40
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && digits.bytes().filter(|b| *b == b'.').count() <= 1
        && digits.as_bytes()[0].is_ascii_digit()
        && digits.as_bytes()[digits.len() - 1].is_ascii_digit();
    if !plain {
        return Err(MoneyError::NotANumber);
    }
    Decimal::from_str_exact(text).map_err(|_| MoneyError::TooLarge)
}

fn positive(value: Decimal) -> Result<Decimal, MoneyError> {
    let value = value.normalize();
    if value.is_zero() || value.is_sign_negative() {
        return Err(MoneyError::NotPositive(value));
    }
    if value > LARGEST {
        return Err(MoneyError::TooLarge);
    }
    if value.scale() > PRICE_SCALE {
        return Err(MoneyError::TooPrecise { has: value.scale(), allowed: PRICE_SCALE });
    }
    Ok(value)
}

fn on_grid(value: Decimal, step: Decimal) -> Result<(), MoneyError> {
    match value.checked_rem(step) {
        Some(rest) if rest.is_zero() => Ok(()),
        _ => Err(MoneyError::OffGrid { value, step }),
    }
}

macro_rules! positive_decimal {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "Decimal", into = "Decimal")]
        pub struct $name(Decimal);
        impl $name {
            /// Greater than zero, at most 15 digits before and 9 after the point. Trailing zeros are dropped.
            ///
            /// # Errors
            /// The number is outside that range.
            pub fn new(value: Decimal) -> Result<Self, MoneyError> {
                positive(value).map(Self)
            }
            /// The number.
            #[must_use]
            pub const fn get(self) -> Decimal {
                self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl TryFrom<Decimal> for $name {
            type Error = MoneyError;
            fn try_from(value: Decimal) -> Result<Self, MoneyError> {
                Self::new(value)
            }
        }
        impl From<$name> for Decimal {
            fn from(value: $name) -> Decimal {
                value.0
            }
        }
        impl FromStr for $name {
            type Err = MoneyError;
            fn from_str(text: &str) -> Result<Self, MoneyError> {
                Self::new(parse_decimal(text)?)
            }
        }
    };
}

positive_decimal!(
    /// A price per unit, in the instrument's currency.
    Price
);
positive_decimal!(
    /// A number of units (shares, coins). The direction is the side's matter, never a sign's.
    Quantity
);

impl Price {
    /// The smallest step of a US equity order's price: 0.01 from one dollar on, 0.0001 below
    /// (Rule 612 of Regulation NMS; Alpaca's contract section 3).
    #[must_use]
    pub fn us_equity_tick(self) -> Decimal {
        if self.0 >= Decimal::ONE { Decimal::new(1, 2) } else { Decimal::new(1, 4) }
    }

    /// # Errors
    /// [`MoneyError::OffGrid`] when the price is no multiple of `tick`.
    pub fn check_tick(self, tick: Decimal) -> Result<(), MoneyError> {
        on_grid(self.0, tick)
    }
}

impl Quantity {
    /// # Errors
    /// [`MoneyError::OffGrid`] when the quantity is no multiple of `lot`.
    pub fn check_lot(self, lot: Decimal) -> Result<(), MoneyError> {
        on_grid(self.0, lot)
    }

    /// Whether it is a whole number of units.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.0.is_integer()
    }
}

/// An ISO 4217 currency code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// The US dollar.
    pub const USD: Currency = Currency(*b"USD");

    /// # Errors
    /// The text is not three upper-case letters.
    pub fn new(code: &str) -> Result<Self, MoneyError> {
        match <[u8; 3]>::try_from(code.as_bytes()) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_uppercase) => Ok(Self(bytes)),
            _ => Err(MoneyError::Currency),
        }
    }

    /// The three letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Currency {
    type Error = MoneyError;
    fn try_from(code: String) -> Result<Self, MoneyError> {
        Self::new(&code)
    }
}

impl From<Currency> for String {
    fn from(code: Currency) -> String {
        code.as_str().to_owned()
    }
}

/// An amount of one currency; may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// How much, at most [`MONEY_SCALE`] digits after the point.
    pub amount: Decimal,
    /// Of what.
    pub currency: Currency,
}

impl Money {
    /// An amount, rounded half-even to [`MONEY_SCALE`] digits.
    #[must_use]
    pub fn new(amount: Decimal, currency: Currency) -> Self {
        Self { amount: round_money(amount), currency }
    }

    /// What `quantity` units at `price` are worth.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`] when the product has more than 28 digits before rounding.
    pub fn notional(price: Price, quantity: Quantity, currency: Currency) -> Result<Self, MoneyError> {
        let amount = price.0.checked_mul(quantity.0).ok_or(MoneyError::Overflow)?;
        Ok(Self::new(amount, currency))
    }

    /// # Errors
    /// [`MoneyError::CurrencyMismatch`] between two currencies, [`MoneyError::Overflow`] past 28 digits.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrencyMismatch(self.currency, other.currency));
        }
        let amount = self.amount.checked_add(other.amount).ok_or(MoneyError::Overflow)?;
        Ok(Self { amount, currency: self.currency })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount.normalize(), self.currency)
    }
}

/// Rounds half-even to [`MONEY_SCALE`] digits after the point.
#[must_use]
pub fn round_money(amount: Decimal) -> Decimal {
    amount.round_dp_with_strategy(MONEY_SCALE, RoundingStrategy::MidpointNearestEven).normalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn only_plain_decimals_are_numbers() {
        for good in ["0", "1", "101.25", "-3.5", "0.000000001", "999999999999999"] {
            assert_eq!(parse_decimal(good).unwrap(), dec(good), "{good}");
        }
        for bad in
            ["", "-", ".", "1.", ".5", "1e5", "NaN", "inf", "1,000", "+1", " 1", "1 ", "0x1", "1.2.3", "１"]
        {
            assert_eq!(parse_decimal(bad), Err(MoneyError::NotANumber), "{bad:?}");
        }
        assert_eq!(parse_decimal("0.12345678901234567890123456789"), Err(MoneyError::TooLarge));
    }

    #[test]
    fn prices_and_quantities_know_their_range() {
        assert_eq!(Price::from_str("0"), Err(MoneyError::NotPositive(Decimal::ZERO)));
        assert_eq!(Quantity::from_str("-1"), Err(MoneyError::NotPositive(dec("-1"))));
        assert_eq!(Quantity::from_str("0.0000000001"), Err(MoneyError::TooPrecise { has: 10, allowed: 9 }));
        assert_eq!(Price::from_str("1000000000000000"), Err(MoneyError::TooLarge));
        assert_eq!(Price::from_str("999999999999999").unwrap().get(), LARGEST);
        assert_eq!(Price::from_str("1.500000000000").unwrap().to_string(), "1.5");
    }

    #[test]
    fn ticks_follow_rule_612() {
        let at = |text: &str| Price::from_str(text).unwrap();
        assert!(at("290.12").check_tick(at("290.12").us_equity_tick()).is_ok());
        assert!(at("290.123").check_tick(at("290.123").us_equity_tick()).is_err());
        assert!(at("0.1234").check_tick(at("0.1234").us_equity_tick()).is_ok());
        assert!(at("0.12345").check_tick(at("0.12345").us_equity_tick()).is_err());
        assert!(Quantity::from_str("1.5").unwrap().check_lot(Decimal::ONE).is_err());
    }

    #[test]
    fn currencies_do_not_mix() {
        let eur = Currency::new("EUR").unwrap();
        let sum = Money::new(Decimal::ONE, Currency::USD).checked_add(Money::new(Decimal::ONE, eur));
        assert_eq!(sum, Err(MoneyError::CurrencyMismatch(Currency::USD, eur)));
        assert_eq!(Currency::new("usd"), Err(MoneyError::Currency));
    }

    proptest! {
        #[test]
        fn text_and_number_agree(mantissa in 1i64..i64::MAX / 10, scale in 0u32..10) {
            let value = Decimal::new(mantissa, scale);
            if let Ok(price) = Price::new(value) {
                prop_assert_eq!(Price::from_str(&price.to_string()).unwrap(), price);
                prop_assert_eq!(serde_json::from_str::<Price>(&serde_json::to_string(&price).unwrap()).unwrap(), price);
            }
        }
    }
}
