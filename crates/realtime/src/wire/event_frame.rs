//! Events as text, encoded once and shared.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::stream::{EventKind, StreamEvent, StreamId};

use crate::cursor::{Cursor, Position};

/// An event's text but for its `id`, which is the receiving client's own cursor.
#[derive(Debug)]
pub struct EventFrame {
    stream: StreamId,
    at: Position,
    kind: EventKind,
    /// The text without the id; the id belongs at `id_place`.
    text: Box<str>,
    id_place: usize,
}

impl EventFrame {
    /// Encodes an event. Its `data` is JSON text and is taken over as it is.
    #[must_use]
    pub fn encode(event: &StreamEvent) -> Self {
        let mut text = String::with_capacity(event.data.len() + 160);
        for part in [r#"{"type":""#, event.kind.as_str(), r#"","data":"#, &event.data, r#","id":""#] {
            text.push_str(part);
        }
        let id_place = text.len();
        let (stream, offset, ts) = (event.stream, event.offset, timestamp(event.at));
        text.push_str(&format!(r#"","stream":"{stream}","offset":{offset},"ts":"{ts}"}}"#));
        let at = Position { epoch: event.epoch, offset };
        Self { stream, at, kind: event.kind, text: text.into(), id_place }
    }

    /// The stream it belongs to.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// Its place in that stream.
    #[must_use]
    pub fn at(&self) -> Position {
        self.at
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// The length in bytes of every text that [`text`](Self::text) gives.
    #[must_use]
    pub fn text_len(&self) -> usize {
        self.text.len() + Cursor::TEXT_LEN
    }

    /// The whole text, for the client that has then seen everything up to `cursor`. It is valid UTF-8.
    #[must_use]
    pub fn text(&self, cursor: &Cursor) -> Bytes {
        let (before, after) = self.text.split_at(self.id_place);
        let mut text = String::with_capacity(self.text_len());
        text.push_str(before);
        cursor.encode_to(&mut text);
        text.push_str(after);
        text.into()
    }
}

/// A price tick's text: an event without `id` and `offset`, since it is in no history. `data` is JSON text.
#[must_use]
pub fn tick_text(user: UserId, kind: EventKind, data: &str, at: DateTime<Utc>) -> Bytes {
    let (kind, stream, ts) = (kind.as_str(), StreamId::User(user), timestamp(at));
    format!(r#"{{"type":"{kind}","data":{data},"stream":"{stream}","ts":"{ts}"}}"#).into()
}

fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn an_event_reads_as_the_contract_says() {
        let event = StreamEvent {
            stream: StreamId::User(UserId(123)),
            epoch: Uuid::from_u128(1),
            offset: 42,
            kind: EventKind::OrderFilled,
            data: r#"{"qty":"10.50","note":"\"id\":\" ü"}"#.into(),
            at: DateTime::from_timestamp_micros(1_764_000_000_123_456).unwrap(),
        };
        let frame = EventFrame::encode(&event);
        let cursor = Cursor { user: UserId(123), user_at: frame.at(), broadcast_at: Position::UNBORN };
        let text = frame.text(&cursor);
        assert_eq!(text.len(), frame.text_len());
        let id = cursor.encode();
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            format!(
                r#"{{"type":"order_filled","data":{{"qty":"10.50","note":"\"id\":\" ü"}},"id":"{id}","stream":"user:123","offset":42,"ts":"2025-11-24T16:00:00.123456Z"}}"#
            )
        );
        serde_json::from_slice::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn a_tick_has_neither_id_nor_offset() {
        let text = tick_text(UserId(5), EventKind::PnlUpdated, r#"{"unrealized":"1"}"#, DateTime::UNIX_EPOCH);
        assert_eq!(
            text,
            r#"{"type":"pnl_updated","data":{"unrealized":"1"},"stream":"user:5","ts":"1970-01-01T00:00:00.000000Z"}"#
        );
    }
}
