//! Decimals from and to JSON without floats in between.

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Reads a decimal from a string or a number by its literal text; `null` is `None`.
///
/// Works only where the deserialiser reads JSON text, since it needs the literal.
///
/// # Errors
/// When the text is no decimal, or needs more than 28 digits.
pub fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Decimal>, D::Error> {
    let raw: Box<RawValue> = Deserialize::deserialize(from)?;
    let text = raw.get().trim();
    if text == "null" {
        return Ok(None);
    }
    let inner = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').unwrap_or(rest),
        None => text,
    };
    parse(inner).map(Some).ok_or_else(|| serde::de::Error::custom(format!("invalid decimal {text}")))
}

/// Reads a decimal exactly: plain or scientific, never rounded.
pub fn parse(text: &str) -> Option<Decimal> {
    if text.is_empty() || text.starts_with('+') || text.contains('_') {
        return None;
    }
    if text.contains(['e', 'E']) {
        Decimal::from_scientific(text).ok()
    } else {
        Decimal::from_str_exact(text).ok()
    }
}

/// Writes a decimal as a JSON number (portfolio history is the one place of the wire form that wants numbers).
///
/// # Errors
/// Only where the serialiser fails.
pub fn as_number<S: Serializer>(value: &Decimal, to: S) -> Result<S::Ok, S::Error> {
    number(value).serialize(to)
}

/// [`as_number`] for a list.
///
/// # Errors
/// Only where the serialiser fails.
pub fn as_numbers<S: Serializer>(values: &[Decimal], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(number))
}

fn number(value: &Decimal) -> Box<RawValue> {
    RawValue::from_string(value.normalize().to_string()).expect("a decimal's text is a JSON number")
}
