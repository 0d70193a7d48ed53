//! What is posted to a user's own webhooks: which events, in which form, under which id.

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::stream::{EventKind, StreamEvent, StreamId};
use crate::views::At;

/// The type of a message that only tries a hook.
pub const TEST: &str = "webhook_test";
/// The type of a message that says that events are missing: read the state over the API.
pub const SNAPSHOT_REQUIRED: &str = "snapshot_required";

/// The kinds of events that a hook is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter(Vec<EventKind>);

impl EventFilter {
    /// Of these kinds; without one: of every kind.
    #[must_use]
    pub fn new(mut kinds: Vec<EventKind>) -> Self {
        kinds.sort_unstable();
        kinds.dedup();
        Self(kinds)
    }

    /// Whether events of this kind are posted.
    #[must_use]
    pub fn takes(&self, kind: EventKind) -> bool {
        self.0.is_empty() || self.0.contains(&kind)
    }

    /// The names of the kinds, each once; none for every kind.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|kind| kind.as_str()).collect()
    }
}

/// Why events are missing from what a hook gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The history was replaced: a backup was restored.
    EpochChanged,
    /// They were deleted before they could be posted.
    TooOld {
        /// The first one that is missing.
        from: i64,
        /// The last one.
        to: i64,
    },
}

/// The id of the delivery of one event to one hook: the same whenever it is made again.
#[must_use]
pub fn delivery_id(hook: Uuid, epoch: Uuid, offset: i64) -> Uuid {
    Uuid::new_v5(&hook, format!("event {epoch} {offset}").as_bytes())
}

/// The id of the delivery that tells of a gap which ends at an offset.
#[must_use]
pub fn gap_id(hook: Uuid, epoch: Uuid, offset: i64) -> Uuid {
    Uuid::new_v5(&hook, format!("gap {epoch} {offset}").as_bytes())
}

/// The id of a delivery as the receiver sees it, in `webhook-id`.
#[must_use]
pub fn message_id(delivery: Uuid) -> String {
    format!("msg_{}", delivery.simple())
}

fn quoted(time: DateTime<Utc>) -> String {
    json!(At(time)).to_string()
}

/// The body that tells of an event: `{"type","timestamp","data","stream","epoch","offset"}`, `data` as everywhere else.
#[must_use]
pub fn event_body(event: &StreamEvent) -> String {
    format!(
        r#"{{"type":"{}","timestamp":{},"data":{},"stream":"{}","epoch":"{}","offset":{}}}"#,
        event.kind.as_str(),
        quoted(event.at),
        event.data,
        event.stream,
        event.epoch,
        event.offset
    )
}

/// The body that tells of missing events; those after `head` follow.
#[must_use]
pub fn gap_body(stream: StreamId, epoch: Uuid, head: i64, gap: Gap, at: DateTime<Utc>) -> String {
    let data = match gap {
        Gap::EpochChanged => json!({ "reason": "epoch_changed" }),
        Gap::TooOld { from, to } => json!({ "reason": "too_old", "from": from, "to": to }),
    };
    format!(
        r#"{{"type":"{SNAPSHOT_REQUIRED}","timestamp":{},"data":{data},"stream":"{stream}","epoch":"{epoch}","offset":{head}}}"#,
        quoted(at)
    )
}

/// The body that only tries a hook.
#[must_use]
pub fn test_body(stream: StreamId, at: DateTime<Utc>) -> String {
    let data = json!({ "message": "This is a test. Nothing has happened." });
    format!(r#"{{"type":"{TEST}","timestamp":{},"data":{data},"stream":"{stream}"}}"#, quoted(at))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::ids::UserId;

    fn at() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 5_000).unwrap()
    }

    #[test]
    fn bodies_are_json_of_the_documented_form() {
        let event = StreamEvent {
            stream: StreamId::User(UserId(7)),
            epoch: Uuid::from_u128(1),
            offset: 42,
            kind: EventKind::OrderFilled,
            data: r#"{"qty":"1.50"}"#.into(),
            at: at(),
        };
        let body: Value = serde_json::from_str(&event_body(&event)).unwrap();
        assert_eq!(
            body,
            json!({"type": "order_filled", "timestamp": "2027-01-15T08:00:00.000005Z", "data": {"qty": "1.50"},
                "stream": "user:7", "epoch": "00000000-0000-0000-0000-000000000001", "offset": 42})
        );
        let gap = Gap::TooOld { from: 3, to: 9 };
        let body: Value = serde_json::from_str(&gap_body(event.stream, event.epoch, 9, gap, at())).unwrap();
        assert_eq!(body["type"], "snapshot_required");
        assert_eq!(body["data"], json!({"reason": "too_old", "from": 3, "to": 9}));
        let body: Value = serde_json::from_str(&test_body(event.stream, at())).unwrap();
        assert_eq!((&body["type"], &body["stream"]), (&json!("webhook_test"), &json!("user:7")));
    }

    #[test]
    fn a_message_has_the_same_id_whenever_it_is_made() {
        let (hook, epoch) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let id = delivery_id(hook, epoch, 5);
        assert_eq!(id, delivery_id(hook, epoch, 5));
        let others = [
            delivery_id(hook, epoch, 6),
            delivery_id(hook, Uuid::from_u128(3), 5),
            delivery_id(Uuid::from_u128(4), epoch, 5),
            gap_id(hook, epoch, 5),
        ];
        assert!(others.iter().all(|other| *other != id));
        assert_eq!(message_id(Uuid::from_u128(0xab)), "msg_000000000000000000000000000000ab");
    }

    #[test]
    fn a_filter_without_kinds_takes_all() {
        assert!(EventKind::ALL.iter().all(|kind| EventFilter::default().takes(*kind)));
        let filter =
            EventFilter::new(vec![EventKind::PnlUpdated, EventKind::OrderFilled, EventKind::PnlUpdated]);
        assert_eq!(filter.names(), ["order_filled", "pnl_updated"]);
        assert!(filter.takes(EventKind::OrderFilled) && !filter.takes(EventKind::OrderCreated));
    }
}
