//! Control messages to the client.

use bytes::Bytes;
use plimsoll_core_domain::stream::{StreamHead, StreamId};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Why a client must take a snapshot instead of what it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotReason {
    /// History was lost or replaced, or the cursor lies beyond the head.
    EpochChanged,
    /// What was missed is no longer kept.
    TooOld,
    /// More was missed than a resume sends.
    TooMany,
}

/// What the server says beside events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage<'a> {
    /// The first message after authentication.
    Hello {
        /// The version of this protocol.
        protocol: u32,
        /// This connection's name, for logs and support.
        session: &'a str,
        /// Where the client's streams stand now.
        #[serde(serialize_with = "by_stream")]
        streams: &'a [(StreamId, StreamHead)],
        /// The same point as a cursor.
        cursor: &'a str,
        /// Seconds between the server's protocol pings.
        ping_interval: u64,
    },
    /// The events `from..=to` of a stream follow; `to` = `from` − 1 when nothing was missed.
    Recovered {
        /// Which stream.
        #[serde(serialize_with = "as_text")]
        stream: StreamId,
        /// The first offset that follows.
        from: i64,
        /// The last offset that follows before the live ones.
        to: i64,
    },
    /// What was missed cannot be sent: take a snapshot over REST; live events follow.
    SnapshotRequired {
        /// Which stream.
        #[serde(serialize_with = "as_text")]
        stream: StreamId,
        /// Why.
        reason: SnapshotReason,
    },
    /// The server shuts down; close code 1001 follows.
    ServerClosing {
        /// Milliseconds to wait before connecting again.
        retry_ms: u64,
    },
    /// The last message was not obeyed.
    Error {
        /// A stable word.
        code: &'a str,
        /// A sentence for a developer.
        detail: &'a str,
    },
    /// The answer to `ping`.
    Pong,
}

impl ServerMessage<'_> {
    /// The message as JSON text.
    #[must_use]
    pub fn to_text(&self) -> Bytes {
        serde_json::to_vec(self).expect("strings and integers always serialise").into()
    }
}

fn as_text<S: Serializer>(stream: &StreamId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(stream)
}

fn by_stream<S: Serializer>(streams: &&[(StreamId, StreamHead)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(streams.len()))?;
    for (stream, head) in *streams {
        map.serialize_entry(&stream.to_string(), head)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_core_domain::UserId;
    use uuid::Uuid;

    #[test]
    fn control_messages_read_as_the_contract_says() {
        let (user, broadcast) = (StreamId::User(UserId(123)), StreamId::Broadcast);
        let streams = [
            (user, StreamHead { epoch: Uuid::from_u128(1), head: 42 }),
            (broadcast, StreamHead { epoch: Uuid::from_u128(2), head: 0 }),
        ];
        let table = [
            (
                ServerMessage::Hello {
                    protocol: 1,
                    session: "a-1",
                    streams: &streams,
                    cursor: "c",
                    ping_interval: 30,
                },
                r#"{"type":"hello","protocol":1,"session":"a-1","streams":{"user:123":{"epoch":"00000000-0000-0000-0000-000000000001","head":42},"broadcast":{"epoch":"00000000-0000-0000-0000-000000000002","head":0}},"cursor":"c","ping_interval":30}"#,
            ),
            (
                ServerMessage::Recovered { stream: user, from: 3, to: 5 },
                r#"{"type":"recovered","stream":"user:123","from":3,"to":5}"#,
            ),
            (
                ServerMessage::SnapshotRequired { stream: broadcast, reason: SnapshotReason::TooOld },
                r#"{"type":"snapshot_required","stream":"broadcast","reason":"too_old"}"#,
            ),
            (ServerMessage::ServerClosing { retry_ms: 500 }, r#"{"type":"server_closing","retry_ms":500}"#),
            (
                ServerMessage::Error { code: "malformed", detail: "no \"JSON\"" },
                r#"{"type":"error","code":"malformed","detail":"no \"JSON\""}"#,
            ),
            (ServerMessage::Pong, r#"{"type":"pong"}"#),
        ];
        for (message, text) in table {
            assert_eq!(message.to_text(), text);
        }
    }

    #[test]
    fn the_reasons_are_the_contracts_words() {
        let words = [SnapshotReason::EpochChanged, SnapshotReason::TooOld, SnapshotReason::TooMany]
            .map(|reason| serde_json::to_string(&reason).unwrap());
        assert_eq!(words, [r#""epoch_changed""#, r#""too_old""#, r#""too_many""#]);
    }
}
