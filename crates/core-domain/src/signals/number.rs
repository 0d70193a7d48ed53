//! Numbers as charts write them.

use rust_decimal::Decimal;

use crate::money::{MoneyError, parse_decimal};

/// The largest exponent, either way, that a number may be written with.
const LARGEST_EXPONENT: u32 = 18;

/// Reads a decimal, with an exponent where a small one is written (`1e-05`). No `NaN`, no infinity, no separators.
///
/// # Errors
/// [`MoneyError::NotANumber`], or [`MoneyError::TooLarge`] for what 28 digits do not hold.
pub fn parse_number(text: &str) -> Result<Decimal, MoneyError> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return parse_decimal(text) };
    let mantissa = parse_decimal(mantissa)?;
    let (down, digits) = match exponent.as_bytes() {
        [b'-', ..] => (true, &exponent[1..]),
        [b'+', ..] => (false, &exponent[1..]),
        _ => (false, exponent),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(MoneyError::NotANumber);
    }
    let places =
        digits.parse().ok().filter(|places| *places <= LARGEST_EXPONENT).ok_or(MoneyError::TooLarge)?;
    if down {
        let scale = mantissa.scale() + places;
        let mut number = mantissa;
        number.set_scale(scale).map_err(|_| MoneyError::TooLarge)?;
        return Ok(number);
    }
    let factor = Decimal::from(10_u64.pow(places));
    mantissa.checked_mul(factor).ok_or(MoneyError::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_quoted_or_bare_and_never_as_floats() {
        for (text, value) in [
            ("10", "10"),
            (" 0.015 ", "0.015"),
            ("-3", "-3"),
            ("+2.50", "2.50"),
            ("1e-05", "0.00001"),
            ("1.5E+3", "1500"),
            ("12e0", "12"),
        ] {
            assert_eq!(parse_number(text), Ok(value.parse().unwrap()), "{text}");
        }
        for bad in
            ["", "NaN", "nan", "inf", "-Infinity", "1,000", "1e", "1e-", "e5", "0x10", "١", "1e5e5", "--1"]
        {
            assert_eq!(parse_number(bad), Err(MoneyError::NotANumber), "{bad}");
        }
        for large in ["1e30", "1e-19", "9e28", "1e99999999999", "123456789012345678901234567890"] {
            assert_eq!(parse_number(large), Err(MoneyError::TooLarge), "{large}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = parse_number(&text);
        }

        #[test]
        fn an_exponent_only_moves_the_point(value in -1_000_000_000_i64..1_000_000_000, places in 0_u32..9) {
            let number = parse_number(&format!("{value}e-{places}")).unwrap();
            prop_assert_eq!(number, Decimal::new(value, places));
        }
    }
}
