//! Messages of the order stream (Alpaca's contract section 6).

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{BrokerOrder, TradeUpdate};
use plimsoll_core_domain::{Price, Quantity};
use rust_decimal::Decimal;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{OrderBody, Unreadable, decimal, time};
use crate::credentials::Credentials;

/// What a client says.
#[derive(Serialize)]
#[serde(tag = "action", content = "data", rename_all = "snake_case")]
pub(crate) enum Command<'a> {
    Authenticate { key_id: &'a str, secret_key: &'a str },
    Listen { streams: &'a [&'a str] },
}

impl<'a> Command<'a> {
    pub(crate) fn authenticate(credentials: &'a Credentials) -> Self {
        Self::Authenticate { key_id: &credentials.key_id, secret_key: credentials.secret.expose_secret() }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings under string keys are always JSON")
    }
}

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The answer to authenticating, or to listening before that.
    Authorization { authorized: bool },
    /// The streams that are listened to from now on.
    Listening { streams: Vec<String> },
    /// Something happened to an order.
    Update(Box<TradeUpdate>),
    /// Nothing that matters here: another stream, or no data.
    Other,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    stream: String,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct AuthorizationBody {
    status: String,
}

#[derive(Deserialize)]
struct ListeningBody {
    #[serde(default)]
    streams: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct UpdateBody {
    event: String,
    #[serde(default)]
    execution_id: Option<String>,
    order: OrderBody,
    #[serde(default, deserialize_with = "time::optional")]
    timestamp: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "decimal::optional")]
    price: Option<Decimal>,
    #[serde(default, deserialize_with = "decimal::optional")]
    qty: Option<Decimal>,
    #[serde(default)]
    reason: Option<String>,
}

/// Why a message was not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("not the expected JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Reads a text or binary frame's payload.
pub(crate) fn read_message(payload: &[u8]) -> Result<Incoming, MessageError> {
    let envelope: Envelope<'_> = serde_json::from_slice(payload)?;
    let Some(data) = envelope.data.map(RawValue::get).filter(|data| *data != "null") else {
        return Ok(Incoming::Other);
    };
    Ok(match envelope.stream.as_str() {
        "authorization" => {
            let body: AuthorizationBody = serde_json::from_str(data)?;
            Incoming::Authorization { authorized: body.status == "authorized" }
        }
        "listening" => {
            let body: ListeningBody = serde_json::from_str(data)?;
            Incoming::Listening { streams: body.streams.unwrap_or_default() }
        }
        "trade_updates" => Incoming::Update(Box::new(update(serde_json::from_str(data)?)?)),
        _ => Incoming::Other,
    })
}

fn update(body: UpdateBody) -> Result<TradeUpdate, Unreadable> {
    let order = BrokerOrder::try_from(body.order)?;
    let fill = match (body.event.as_str(), body.qty, body.price) {
        // A number out of range leaves the fill out; the order's totals still tell of it.
        ("fill" | "partial_fill", Some(qty), Some(price)) => {
            Quantity::new(qty).ok().zip(Price::new(price).ok())
        }
        _ => None,
    };
    Ok(TradeUpdate {
        at: body.timestamp.unwrap_or(order.updated_at),
        event: body.event,
        event_id: body.execution_id.filter(|id| !id.is_empty()),
        order,
        fill,
        reason: body.reason.filter(|reason| !reason.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_not_is_passed_over() {
        for quiet in [
            r#"{"stream": "trade_updates", "data": null}"#,
            r#"{"stream": "trade_updates"}"#,
            r#"{"stream": "account_updates", "data": {"a": 1.5}}"#,
        ] {
            assert_eq!(read_message(quiet.as_bytes()).unwrap(), Incoming::Other, "{quiet}");
        }
        for broken in
            ["", "[]", "hello", r#"{"data": {}}"#, r#"{"stream": "trade_updates", "data": {"event": "new"}}"#]
        {
            assert!(read_message(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn commands_have_the_documented_form() {
        let credentials = Credentials { key_id: "PK1".to_owned(), secret: "s\"1".to_owned().into() };
        assert_eq!(
            Command::authenticate(&credentials).to_json(),
            r#"{"action":"authenticate","data":{"key_id":"PK1","secret_key":"s\"1"}}"#
        );
        assert_eq!(
            Command::Listen { streams: &["trade_updates"] }.to_json(),
            r#"{"action":"listen","data":{"streams":["trade_updates"]}}"#
        );
    }
}
