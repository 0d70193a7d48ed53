//! The AsyncAPI 3 document of the protocol, made from the enums of the messages.

use plimsoll_core_domain::stream::EventKind;
use serde_json::{Map, Value, json};

use crate::wire::CloseCode;

/// The document. `data` gives the JSON schema of the `data` of an event; `schemas` are named schemas that those refer to as
/// `#/components/schemas/…`.
#[must_use]
pub fn asyncapi(version: &str, data: impl Fn(EventKind) -> Value, schemas: Map<String, Value>) -> Value {
    let mut messages = Map::new();
    for kind in EventKind::ALL {
        messages.insert(kind.as_str().to_owned(), event(kind, data(kind)));
    }
    messages.extend(from_server());
    let received: Vec<String> = messages.keys().cloned().collect();
    messages.extend(from_client());
    let sent: Vec<String> = messages.keys().filter(|name| !received.contains(name)).cloned().collect();
    let refer = |names: &[String]| -> Vec<Value> {
        names.iter().map(|name| json!({ "$ref": format!("#/channels/ws/messages/{name}") })).collect()
    };
    let in_channel: Map<String, Value> = messages
        .keys()
        .map(|name| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") })))
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Plimsoll, real time",
            "version": version,
            "description": "Events of orders, fills, positions and the account, with offsets and resume.",
        },
        "defaultContentType": "application/json",
        "channels": { "ws": {
            "address": "/ws",
            "title": "One socket on the caller's own stream and the broadcast",
            "bindings": { "ws": { "method": "GET", "query": {
                "type": "object",
                "properties": {
                    "cursor": { "type": "string", "description": "The id of the last event seen" },
                    "ticket": { "type": "string", "description": "A one-use ticket of POST /ws/ticket" },
                },
            } } },
            "messages": in_channel,
        } },
        "operations": {
            "hear": { "action": "send", "channel": { "$ref": "#/channels/ws" }, "messages": refer(&received) },
            "say": { "action": "receive", "channel": { "$ref": "#/channels/ws" }, "messages": refer(&sent) },
        },
        "components": { "messages": messages, "schemas": schemas },
        "x-close-codes": close_codes(),
    })
}

fn close_codes() -> Value {
    let named = |code: &CloseCode| (code.number().to_string(), code.reason().into());
    Value::Object(CloseCode::ALL.iter().map(named).collect())
}

fn event(kind: EventKind, data: Value) -> Value {
    let tick = matches!(kind, EventKind::PositionUpdated | EventKind::PnlUpdated);
    let mut required = vec!["type", "data", "stream", "ts"];
    if !tick {
        required.extend(["id", "offset"]);
    }
    json!({
        "name": kind.as_str(),
        "title": kind.as_str(),
        "summary": summary(kind),
        "payload": {
            "type": "object",
            "properties": {
                "type": { "const": kind.as_str() },
                "data": data,
                "id": { "type": "string", "description": "The cursor after this event; a price tick has none" },
                "stream": stream(),
                "offset": { "type": "integer", "minimum": 1, "description": "Dense; a price tick has none" },
                "ts": { "type": "string", "format": "date-time" },
            },
            "required": required,
        },
    })
}

fn summary(kind: EventKind) -> &'static str {
    match kind {
        EventKind::OrderCreated => "An order was accepted.",
        EventKind::OrderUpdated => "An order changed in any other way.",
        EventKind::OrderFilled => "An order's final fill.",
        EventKind::OrderCancelled => "An order was canceled.",
        EventKind::PositionUpdated => "A position changed, by a fill or (as a price tick) by its price.",
        EventKind::PnlUpdated => "Profit and loss changed, by a fill or (as a price tick) by a price.",
        EventKind::TradeExecuted => "A fill.",
        EventKind::SystemAlert => "A message from the operator or the server.",
        EventKind::OptimizationProgress => "Progress of an outside optimiser.",
        EventKind::AbTestUpdate => "State of an outside A/B test.",
        EventKind::AccountUpdated => "Cash or buying power changed.",
        EventKind::ReconciliationFinished => "The account was compared with the broker.",
    }
}

fn stream() -> Value {
    json!({ "type": "string", "pattern": "^(broadcast|user:[1-9][0-9]*)$" })
}

fn from_server() -> Map<String, Value> {
    let text = || json!({ "type": "string" });
    let integer = || json!({ "type": "integer" });
    let head = json!({
        "type": "object",
        "properties": { "epoch": { "type": "string", "format": "uuid" }, "head": integer() },
        "required": ["epoch", "head"],
    });
    Map::from_iter([
        message(
            "hello",
            "The first message: where the streams stand.",
            json!({
                "protocol": { "const": 1 }, "session": text(),
                "streams": { "type": "object", "additionalProperties": head },
                "cursor": text(), "ping_interval": integer(),
            }),
            &[],
        ),
        message(
            "recovered",
            "The events `from` to `to` of a stream follow; none when `to` is less than `from`.",
            json!({ "stream": stream(), "from": integer(), "to": integer() }),
            &[],
        ),
        message(
            "snapshot_required",
            "What was missed cannot be sent: take a snapshot over REST.",
            json!({ "stream": stream(), "reason": { "enum": ["epoch_changed", "too_old", "too_many"] } }),
            &[],
        ),
        message("server_closing", "The server shuts down.", json!({ "retry_ms": integer() }), &[]),
        message("error", "A message was not obeyed.", json!({ "code": text(), "detail": text() }), &[]),
        message("pong", "The answer to `ping`.", json!({}), &[]),
    ])
}

fn from_client() -> Map<String, Value> {
    let text = || json!({ "type": "string" });
    let events =
        || json!({ "type": ["array", "null"], "items": { "enum": EventKind::ALL.map(EventKind::as_str) } });
    Map::from_iter([
        message("auth", "Who it is; only as the first message.", json!({ "token": text() }), &[]),
        message("resume", "What came after this cursor is sent again.", json!({ "cursor": text() }), &[]),
        message("subscribe", "These events only, or all.", json!({ "events": events() }), &["events"]),
        message(
            "unsubscribe",
            "These events no longer, or none.",
            json!({ "events": events() }),
            &["events"],
        ),
        message("ping", "Answered with `pong`.", json!({}), &[]),
    ])
}

fn message(name: &str, summary: &str, mut properties: Value, optional: &[&str]) -> (String, Value) {
    properties["type"] = json!({ "const": name });
    let required: Vec<String> = properties
        .as_object()
        .into_iter()
        .flat_map(|properties| properties.keys())
        .filter(|field| !optional.contains(&field.as_str()))
        .cloned()
        .collect();
    let payload = json!({ "type": "object", "properties": properties, "required": required });
    (name.to_owned(), json!({ "name": name, "title": name, "summary": summary, "payload": payload }))
}

#[cfg(test)]
mod tests {
    use plimsoll_core_domain::UserId;
    use plimsoll_core_domain::stream::{StreamEvent, StreamHead, StreamId};
    use uuid::Uuid;

    use super::*;
    use crate::wire::{ClientMessage, EventFrame, ServerMessage, SnapshotReason, tick_text};
    use crate::{Cursor, Position};

    fn document() -> Value {
        asyncapi("1.2.3", |_| json!({ "type": "object" }), Map::new())
    }

    /// Holds a message to the document: known fields only, all that are required, constants as they stand.
    fn fits(document: &Value, message: &Value) {
        let name = message["type"].as_str().unwrap();
        let payload = &document["components"]["messages"][name]["payload"];
        for field in payload["required"].as_array().unwrap() {
            assert!(message.get(field.as_str().unwrap()).is_some(), "{name} lacks {field}");
        }
        for (field, value) in message.as_object().unwrap() {
            let schema = &payload["properties"][field];
            assert!(schema.is_object(), "{name}: {field} is not documented");
            if let Some(constant) = schema.get("const") {
                assert_eq!(constant, value, "{name}: {field}");
            }
        }
    }

    #[test]
    fn what_the_server_sends_stands_in_the_document() {
        let document = document();
        let (stream, epoch) = (StreamId::User(UserId(7)), Uuid::from_u128(1));
        let streams = [(stream, StreamHead { epoch, head: 1 })];
        let messages = [
            ServerMessage::Hello {
                protocol: 1,
                session: "s",
                streams: &streams,
                cursor: "c",
                ping_interval: 30,
            },
            ServerMessage::Recovered { stream, from: 1, to: 0 },
            ServerMessage::SnapshotRequired { stream, reason: SnapshotReason::TooOld },
            ServerMessage::ServerClosing { retry_ms: 1 },
            ServerMessage::Error { code: "c", detail: "d" },
            ServerMessage::Pong,
        ];
        for message in &messages {
            // A new variant has to be added here and to the document.
            match message {
                ServerMessage::Hello { .. }
                | ServerMessage::Recovered { .. }
                | ServerMessage::SnapshotRequired { .. }
                | ServerMessage::ServerClosing { .. }
                | ServerMessage::Error { .. }
                | ServerMessage::Pong => {}
            }
            fits(&document, &serde_json::from_slice(&message.to_text()).unwrap());
        }
        for kind in EventKind::ALL {
            let event = StreamEvent {
                stream,
                epoch,
                offset: 1,
                kind,
                data: "{}".into(),
                at: chrono::DateTime::UNIX_EPOCH,
            };
            let cursor = Cursor {
                user: UserId(7),
                user_at: Position { epoch, offset: 1 },
                broadcast_at: Position::UNBORN,
            };
            fits(&document, &serde_json::from_slice(&EventFrame::encode(&event).text(&cursor)).unwrap());
        }
        for kind in [EventKind::PositionUpdated, EventKind::PnlUpdated] {
            let text = tick_text(UserId(7), kind, "{}", chrono::DateTime::UNIX_EPOCH);
            fits(&document, &serde_json::from_slice(&text).unwrap());
        }
    }

    #[test]
    fn what_the_document_lets_a_client_say_is_understood() {
        let document = document();
        for refer in document["operations"]["say"]["messages"].as_array().unwrap() {
            let name = refer["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
            let payload = &document["components"]["messages"][name]["payload"];
            let mut message = json!({});
            for (field, schema) in payload["properties"].as_object().unwrap() {
                message[field] = match schema.get("const") {
                    Some(constant) => constant.clone(),
                    None if schema["type"] == "string" => "x".into(),
                    None => json!(["order_filled"]),
                };
            }
            ClientMessage::parse(&message.to_string()).unwrap_or_else(|why| panic!("{message}: {why}"));
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(name, value)| match value.as_str() {
                    Some(target) if name == "$ref" => found.push(target.to_owned()),
                    _ => references(value, found),
                }),
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let (document, mut found) = (document(), Vec::new());
        references(&document, &mut found);
        assert!(found.len() > 40);
        for target in found {
            assert!(document.pointer(&target[1..]).is_some(), "{target}");
        }
        assert_eq!(document["x-close-codes"]["4008"], "reading too slowly");
    }
}
