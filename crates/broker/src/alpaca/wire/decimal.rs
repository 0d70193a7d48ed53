//! Decimals from the literal text of JSON strings and numbers: no float in between.

use std::borrow::Cow;

use plimsoll_core_domain::money::parse_decimal;
use rust_decimal::Decimal;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Digits after the point that are kept where a number has more than a decimal holds: averages only, since what is
/// ordered and executed has at most 9.
const KEPT_DIGITS: usize = 12;
/// The largest power of ten that is written out.
const LARGEST_EXPONENT: i32 = 40;

/// A decimal, from a string or a number. Reads JSON text only: no `flatten`, no untagged enum around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecimalText(pub(crate) Decimal);

impl<'de> Deserialize<'de> for DecimalText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        optional(from)?.map(Self).ok_or_else(|| D::Error::custom("a number is missing"))
    }
}

/// A decimal, or `None` for `null` and the empty string. Use with `#[serde(default)]`, for fields that may be left out.
pub(crate) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Decimal>, D::Error> {
    let raw = Box::<RawValue>::deserialize(from)?;
    let literal = raw.get().trim();
    let text: Cow<'_, str> = if literal.starts_with('"') {
        serde_json::from_str::<String>(literal).map_err(D::Error::custom)?.into()
    } else {
        literal.into()
    };
    match text.as_ref() {
        "null" | "" => Ok(None),
        text => read(text).map(Some).ok_or_else(|| D::Error::custom("not a decimal number")),
    }
}

/// Exact up to 28 digits. Beyond them, digits after the twelfth behind the point are cut off.
pub(crate) fn read(text: &str) -> Option<Decimal> {
    if text.len() > 128 {
        return None;
    }
    let plain = plain(text)?;
    if let Ok(exact) = parse_decimal(&plain) {
        return Some(exact);
    }
    let (whole, fraction) = plain.split_once('.')?;
    let all_digits = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    let kept = all_digits.then(|| &fraction[..fraction.len().min(KEPT_DIGITS)])?;
    parse_decimal(&format!("{whole}.{kept}")).ok()
}

/// Writes an exponent out: `2.72e-05` is `0.0000272`.
fn plain(text: &str) -> Option<Cow<'_, str>> {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return Some(text.into()) };
    let exponent: i32 = exponent.parse().ok().filter(|e: &i32| e.abs() <= LARGEST_EXPONENT)?;
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let plain = match usize::try_from(point) {
        Ok(point) if point >= digits.len() => format!("{digits}{}", "0".repeat(point - digits.len())),
        Ok(point) if point > 0 => format!("{}.{}", &digits[..point], &digits[point..]),
        _ => format!("0.{}{digits}", "0".repeat(usize::try_from(-point).ok()?)),
    };
    // Leading zeros would count against the longest text that is read.
    let trimmed = plain.trim_start_matches('0');
    let zero = if trimmed.is_empty() || trimmed.starts_with('.') { "0" } else { "" };
    Some(format!("{sign}{zero}{trimmed}").into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "optional")]
        n: Option<Decimal>,
    }

    fn json(n: &str) -> Result<Option<Decimal>, serde_json::Error> {
        serde_json::from_str::<Body>(&format!("{{\"n\": {n}, \"other\": [1]}}")).map(|body| body.n)
    }

    #[test]
    fn strings_and_numbers_are_read_literally() {
        for (given, wanted) in [
            ("\"2\"", "2"),
            ("\"-23140.2\"", "-23140.2"),
            ("120.1", "120.1"),
            ("100110.4", "100110.4"),
            ("0.1000000000000000055511151231", "0.1000000000000000055511151231"),
            ("9007199254740993", "9007199254740993"),
            ("2.72e-05", "0.0000272"),
            ("1.5E3", "1500"),
            ("-1e0", "-1"),
            ("12.5e1", "125"),
            ("\"1\\u0032\"", "12"),
            ("0.0", "0.0"),
            ("0e5", "0"),
        ] {
            assert_eq!(json(given).unwrap(), Some(wanted.parse().unwrap()), "{given}");
        }
        assert_eq!(json("null").unwrap(), None);
        assert_eq!(json("\"\"").unwrap(), None);
        assert_eq!(serde_json::from_str::<Body>("{}").unwrap().n, None);
    }

    #[test]
    fn averages_beyond_28_digits_are_cut_and_never_refused() {
        let long = json("\"150.2283333333333333333333333333333333333\"").unwrap().unwrap();
        assert_eq!(long.to_string(), "150.228333333333");
        assert!(json("\"99999999999999999999999999999999999\"").is_err());
    }

    #[test]
    fn other_text_is_no_number() {
        for bad in [
            "\"NaN\"",
            "\"inf\"",
            "\"1,000\"",
            "\"abc\"",
            "true",
            "{}",
            "[1]",
            "1e99",
            "\"e5\"",
            "\"1e\"",
            "\"--1\"",
            "\"1.2.3\"",
        ] {
            assert!(json(bad).is_err(), "{bad}");
        }
        assert!(json(&"1".repeat(200)).is_err());
    }

    proptest! {
        #[test]
        fn every_decimal_survives_both_forms(mantissa: i64, scale in 0u32..=18) {
            let value = Decimal::new(mantissa, scale);
            prop_assert_eq!(json(&value.to_string()).unwrap(), Some(value));
            prop_assert_eq!(json(&format!("\"{value}\"")).unwrap(), Some(value));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}", digits in "-?[0-9.]{0,40}e-?[0-9]{0,4}") {
            let _ = (read(&text), read(&digits));
        }
    }
}
