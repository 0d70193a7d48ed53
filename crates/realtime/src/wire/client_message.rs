//! What a client may say.

use plimsoll_core_domain::stream::EventKind;
use secrecy::SecretString;
use serde::Deserialize;

/// A message from the client.
#[derive(Debug)]
pub enum ClientMessage {
    /// Who it is; only as the first message.
    Auth {
        /// A session or API token.
        token: SecretString,
    },
    /// Send what came after this cursor.
    Resume {
        /// The `id` of the last event seen, not decoded yet.
        cursor: String,
    },
    /// Send these kinds; `None` for everything.
    Subscribe {
        /// The kinds.
        events: Option<Vec<EventKind>>,
    },
    /// Send these kinds no longer; `None` for none at all.
    Unsubscribe {
        /// The kinds.
        events: Option<Vec<EventKind>>,
    },
    /// Answer `pong`.
    Ping,
}

/// Why a text is no message. Neither code nor text repeats what the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientMessageError {
    /// No JSON object with a `type`, or with fields that this type has not.
    #[error("not a message: a JSON object with a known `type` and its fields is wanted")]
    Malformed,
    /// A `type` that is not known.
    #[error("unknown `type`: auth, resume, subscribe, unsubscribe and ping are understood")]
    UnknownType,
    /// An event type that is not known.
    #[error("unknown event type in `events`")]
    UnknownEvent,
}

impl ClientMessageError {
    /// The stable word for the `error` message.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownType => "unknown_type",
            Self::UnknownEvent => "unknown_event",
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    #[serde(rename = "type")]
    _kind: String,
    token: SecretString,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resume {
    #[serde(rename = "type")]
    _kind: String,
    cursor: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Events {
    #[serde(rename = "type")]
    _kind: String,
    events: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bare {
    #[serde(rename = "type")]
    _kind: String,
}

impl ClientMessage {
    /// Reads one text message.
    ///
    /// # Errors
    /// It is none of the messages above.
    pub fn parse(text: &str) -> Result<Self, ClientMessageError> {
        let Envelope { kind } = read(text)?;
        match kind.as_str() {
            "auth" => read(text).map(|Auth { token, .. }| Self::Auth { token }),
            "resume" => read(text).map(|Resume { cursor, .. }| Self::Resume { cursor }),
            "subscribe" => Ok(Self::Subscribe { events: kinds(text)? }),
            "unsubscribe" => Ok(Self::Unsubscribe { events: kinds(text)? }),
            "ping" => read(text).map(|Bare { .. }| Self::Ping),
            _ => Err(ClientMessageError::UnknownType),
        }
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ClientMessageError> {
    // serde's derived readers take a sequence for a struct too; a message is an object.
    if !text.trim_start().starts_with('{') {
        return Err(ClientMessageError::Malformed);
    }
    serde_json::from_str(text).map_err(|_| ClientMessageError::Malformed)
}

fn kinds(text: &str) -> Result<Option<Vec<EventKind>>, ClientMessageError> {
    let Events { events, .. } = read(text)?;
    let Some(names) = events else { return Ok(None) };
    let kinds = names.iter().map(|name| name.parse().map_err(|_| ClientMessageError::UnknownEvent));
    kinds.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    #[test]
    fn each_message_is_read() {
        let parse = |text: &str| ClientMessage::parse(text).unwrap();
        assert!(
            matches!(parse(r#"{"type":"auth","token":"t"}"#), ClientMessage::Auth { token } if token.expose_secret() == "t")
        );
        assert!(
            matches!(parse(r#" {"cursor":"c","type":"resume"}"#), ClientMessage::Resume { cursor } if cursor == "c")
        );
        assert!(matches!(parse(r#"{"type":"ping"}"#), ClientMessage::Ping));
        assert!(matches!(
            parse(r#"{"type":"subscribe","events":["order_filled","pnl_updated"]}"#),
            ClientMessage::Subscribe { events: Some(events) } if events == [EventKind::OrderFilled, EventKind::PnlUpdated]
        ));
        assert!(matches!(parse(r#"{"type":"subscribe"}"#), ClientMessage::Subscribe { events: None }));
        assert!(matches!(
            parse(r#"{"type":"unsubscribe","events":null}"#),
            ClientMessage::Unsubscribe { events: None }
        ));
    }

    #[test]
    fn a_token_is_not_in_debug_output() {
        let message = ClientMessage::parse(r#"{"type":"auth","token":"very-secret"}"#).unwrap();
        assert!(!format!("{message:?}").contains("very-secret"));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_reason() {
        use ClientMessageError::*;
        for (text, error) in [
            ("", Malformed),
            ("hello", Malformed),
            ("[]", Malformed),
            (r#"["ping"]"#, Malformed),
            ("{}", Malformed),
            (r#"{"type":7}"#, Malformed),
            (r#"{"type":"ping","extra":1}"#, Malformed),
            (r#"{"type":"ping"} x"#, Malformed),
            (r#"{"type":"ping","type":"ping"}"#, Malformed),
            (r#"{"type":"auth"}"#, Malformed),
            (r#"{"type":"auth","token":7}"#, Malformed),
            (r#"{"type":"resume","cursor":null}"#, Malformed),
            (r#"{"type":"subscribe","events":"order_filled"}"#, Malformed),
            (r#"{"type":"PING"}"#, UnknownType),
            (r#"{"type":"order_filled"}"#, UnknownType),
            (r#"{"type":"subscribe","events":["order_eaten"]}"#, UnknownEvent),
        ] {
            assert_eq!(ClientMessage::parse(text).unwrap_err(), error, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = ClientMessage::parse(&text);
        }
    }
}
