//! Messages of the handshake.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

/// The one stream there is.
pub(crate) const TRADE_UPDATES: &str = "trade_updates";

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `action` is echoed in the answer.
    Authenticate { action: String, key_id: String, secret: String },
    /// The streams it wants from now on, replacing the set before.
    Listen { streams: Vec<String> },
}

#[derive(Deserialize)]
struct Raw {
    action: String,
    #[serde(default)]
    data: Data,
    /// The market data stream's form, which some clients use here too.
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    secret: Option<String>,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    key_id: Option<String>,
    #[serde(default)]
    secret_key: Option<String>,
    #[serde(default)]
    streams: Vec<String>,
}

/// Reads a message; `None` for what is none of the protocol's, which a server passes over.
pub(crate) fn read(text: &[u8]) -> Option<Request> {
    let raw: Raw = serde_json::from_slice(text).ok()?;
    match raw.action.as_str() {
        "authenticate" | "auth" => Some(Request::Authenticate {
            key_id: raw.data.key_id.or(raw.key).unwrap_or_default(),
            secret: raw.data.secret_key.or(raw.secret).unwrap_or_default(),
            action: raw.action,
        }),
        "listen" => Some(Request::Listen { streams: raw.data.streams }),
        _ => None,
    }
}

/// The answer to an authentication, and to whatever comes before it.
pub(crate) fn authorization(authorized: bool, action: &str) -> Bytes {
    let status = if authorized { "authorized" } else { "unauthorized" };
    message(&json!({ "stream": "authorization", "data": { "status": status, "action": action } }))
}

/// The answer to a listen.
pub(crate) fn listening(streams: &[&str]) -> Bytes {
    message(&json!({ "stream": "listening", "data": { "streams": streams } }))
}

fn message(value: &serde_json::Value) -> Bytes {
    value.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_authentication_are_read() {
        for (text, action) in [
            (r#"{"action":"authenticate","data":{"key_id":"K","secret_key":"S"}}"#, "authenticate"),
            (r#"{"action":"auth","key":"K","secret":"S"}"#, "auth"),
        ] {
            let expected =
                Request::Authenticate { action: action.into(), key_id: "K".into(), secret: "S".into() };
            assert_eq!(read(text.as_bytes()), Some(expected));
        }
    }

    #[test]
    fn a_listen_without_streams_unsubscribes() {
        assert_eq!(
            read(br#"{"action":"listen","data":{"streams":[]}}"#),
            Some(Request::Listen { streams: vec![] })
        );
        assert_eq!(read(br#"{"action":"listen"}"#), Some(Request::Listen { streams: vec![] }));
    }

    #[test]
    fn other_messages_are_passed_over() {
        for text in [
            "",
            "{",
            "[]",
            r#"{"action":"dance"}"#,
            r#"{"data":{}}"#,
            r#"{"action":"listen","data":{"streams":3}}"#,
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
