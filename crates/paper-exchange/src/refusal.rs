//! Refusals: everything the exchange answers with an error.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A refused request, with the HTTP status, numeric code and text of the Trading API.
///
/// Nothing of a refused order remains: no id, no row, and its `client_order_id` stays free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{http_status} {message}")]
pub struct Refusal {
    /// 400, 403, 404 or 422.
    pub http_status: u16,
    /// The API's numeric code.
    pub code: Option<u32>,
    /// The API's text.
    pub message: String,
    /// Further members of the body (`buying_power`, `available`, …).
    pub extra: Map<String, Value>,
}

impl Refusal {
    /// A refusal without further members.
    pub fn new(http_status: u16, code: u32, message: impl Into<String>) -> Self {
        Self { http_status, code: Some(code), message: message.into(), extra: Map::new() }
    }

    /// The JSON body.
    pub fn body(&self) -> Map<String, Value> {
        let mut body = self.extra.clone();
        if let Some(code) = self.code {
            body.insert("code".into(), code.into());
        }
        body.insert("message".into(), self.message.clone().into());
        body
    }

    /// 400 code 40010000: the request contradicts itself.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(400, 40_010_000, message)
    }

    /// 422 code 40010001: a field is wrong or missing.
    pub(crate) fn field(message: impl Into<String>) -> Self {
        Self::new(422, 40_010_001, message)
    }

    /// 422 code 42210000: well formed, but against a rule.
    pub(crate) fn rule(message: impl Into<String>) -> Self {
        Self::new(422, 42_210_000, message)
    }

    /// 403 code 40310000: the account may not.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, 40_310_000, message)
    }

    /// 404 code 40410000.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, 40_410_000, message)
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn with_decimal(self, key: &str, value: Decimal) -> Self {
        self.with(key, value.normalize().to_string())
    }
}
