//! JSON bodies, read strictly: the right content type, at most 64 KiB, known fields only.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest, web};
use plimsoll_core_domain::money::{MoneyError, parse_decimal};
use plimsoll_core_domain::order::money_code;
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::problem::{FieldProblem, Problem};
use crate::state::AppState;
use crate::strict;

/// The longest body.
pub const MAX_BODY: usize = 64 * 1024;

/// A request's JSON body, as it came and decoded.
#[derive(Debug)]
pub struct Body<T> {
    /// The bytes, for the fingerprint.
    pub raw: web::Bytes,
    /// Decoded.
    pub value: T,
}

impl<T: DeserializeOwned> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let json =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|text| {
                text.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
            });
        let bytes = web::Bytes::from_request(request, payload);
        let within = request
            .app_data::<web::Data<AppState>>()
            .map_or(Duration::from_secs(10), |state| state.settings.body_within);
        Box::pin(async move {
            if !json {
                return Err(Problem::new(
                    "unsupported_media_type",
                    "the content type must be application/json",
                ));
            }
            let slow = |_| Problem::new("request_timeout", "the body did not arrive in time");
            let read = tokio::time::timeout(within, bytes).await.map_err(slow)?;
            let raw = read.map_err(|error| match error.as_response_error().status_code().as_u16() {
                413 => Problem::new("payload_too_large", "the body is larger than 64 KiB"),
                _ => Problem::new("malformed", "the body could not be read"),
            })?;
            let value = decode(&raw)?;
            Ok(Self { raw, value })
        })
    }
}

/// Decodes JSON: a text that is no JSON is malformed, one of the wrong form invalid.
///
/// # Errors
/// 400 or 422.
pub fn decode<T: DeserializeOwned>(raw: &[u8]) -> Result<T, Problem> {
    let Ok(text) = std::str::from_utf8(raw) else {
        return Err(Problem::new("malformed", "the body is not UTF-8"));
    };
    let value = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            let text = error.to_string();
            let detail = text.split(" at line ").next().unwrap_or_default();
            let code = if detail.starts_with("unknown field") {
                "unknown_field"
            } else if detail.starts_with("missing field") {
                "required"
            } else if detail.starts_with("duplicate field") {
                "duplicate_field"
            } else {
                "invalid"
            };
            // What the parser calls its types is no business of the caller's.
            let detail = if detail.contains("struct ") {
                "the body is no object of the documented form"
            } else {
                detail
            };
            let pointer = match detail.split('`').nth(1) {
                Some(field) if code != "invalid" => format!("/{field}"),
                _ => String::new(),
            };
            Problem::field(pointer, code, detail.chars().take(300).collect::<String>())
        }
        _ => Problem::new("malformed", "the body is not valid JSON"),
    })?;
    strict::check(text)?;
    Ok(value)
}

/// The query of a route that takes none: an unknown parameter is refused rather than passed over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoQuery {}

/// A symbol to filter by, as it may stand in a query.
///
/// # Errors
/// 422 when it is no symbol.
pub fn symbol_filter(symbol: Option<String>) -> Result<Option<String>, Problem> {
    match symbol.map(plimsoll_core_domain::Symbol::new) {
        None => Ok(None),
        Some(Ok(symbol)) => Ok(Some(symbol.into())),
        Some(Err(error)) => Err(Problem::field("?symbol", "invalid_symbol", error.to_string())),
    }
}

/// A decimal in a request: a string (or a number, read by its digits and never through a float).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecimalText(String);

impl<'de> Deserialize<'de> for DecimalText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        if text.starts_with('"') {
            return serde_json::from_str(text).map(Self).map_err(serde::de::Error::custom);
        }
        if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            return Ok(Self(text.to_owned()));
        }
        Err(serde::de::Error::custom("a decimal is a string such as \"101.25\""))
    }
}

/// Collects what is wrong with the numbers of a request.
#[derive(Debug, Default)]
pub struct Decimals {
    errors: Vec<FieldProblem>,
}

impl Decimals {
    /// Reads a decimal; what cannot be read is noted and read as absent.
    pub fn read(&mut self, pointer: &str, text: Option<&DecimalText>) -> Option<Decimal> {
        match parse_decimal(&text?.0) {
            Ok(value) => Some(value),
            Err(error) => {
                self.note(pointer, &error);
                None
            }
        }
    }

    /// Notes an error.
    pub fn note(&mut self, pointer: &str, error: &MoneyError) {
        self.errors.push(FieldProblem {
            pointer: pointer.to_owned(),
            code: money_code(error).to_owned(),
            detail: error.to_string(),
        });
    }

    /// # Errors
    /// 422 with everything noted.
    pub fn done(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its form matters")]
    struct Form {
        qty: Option<DecimalText>,
        name: String,
    }

    fn refused(text: &str) -> (u16, String) {
        let problem = decode::<Form>(text.as_bytes()).unwrap_err();
        (problem.status().as_u16(), problem.body())
    }

    #[test]
    fn text_that_is_no_json_is_malformed_and_wrong_form_is_invalid() {
        assert_eq!(refused("{").0, 400);
        assert_eq!(refused("{\"qty\":NaN}").0, 400);
        let (status, body) = refused("{\"name\":\"a\",\"role\":1}");
        assert_eq!(status, 422);
        assert!(body.contains("unknown_field") && body.contains("/role"), "{body}");
        assert!(refused("{}").1.contains("required"));
        assert_eq!(decode::<Form>(b"\xff").unwrap_err().status().as_u16(), 400);
    }

    #[test]
    fn decimals_keep_their_digits() {
        let form: Form = decode(b"{\"name\":\"a\",\"qty\":0.10000000000000000001}").unwrap();
        let mut decimals = Decimals::default();
        let read = decimals.read("/qty", form.qty.as_ref()).unwrap();
        assert_eq!(read.to_string(), "0.10000000000000000001");
        for bad in ["\"NaN\"", "\"1e5\"", "1e5", "\"\"", "\"0x1\""] {
            let form: Form = decode(format!("{{\"name\":\"a\",\"qty\":{bad}}}").as_bytes()).unwrap();
            let mut decimals = Decimals::default();
            assert_eq!(decimals.read("/qty", form.qty.as_ref()), None);
            assert_eq!(decimals.done().unwrap_err().status().as_u16(), 422, "{bad}");
        }
    }
}
