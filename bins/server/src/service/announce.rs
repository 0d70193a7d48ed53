//! Word of what was committed: to this process's own listeners at once, to other instances by notification.

use std::sync::Arc;

use metrics::counter;
use plimsoll_api::logins::Logins;
use plimsoll_core_domain::order::OrderStatus;
use plimsoll_core_domain::stream::{EventKind, StreamEvent, StreamId};
use plimsoll_observability::metrics::names;
use plimsoll_realtime::Hub;
use plimsoll_reliability::jobs::Wake;
use plimsoll_storage::notify::{Notifier, Wakeups};
use plimsoll_storage::{AfterCommit, CommitNote};
use serde::Deserialize;
use tokio::runtime::Handle;

use crate::outbound::EVENTS;
use crate::trading::ACCOUNTS;

/// What listeners call a topic: whichever account has changed, the one supervisor looks at all of them.
fn heard_as(topic: &str) -> &str {
    if topic.starts_with(ACCOUNTS) { ACCOUNTS } else { topic }
}

/// Passes on what this process committed.
pub(super) struct Announcer {
    pub(super) hub: Hub,
    pub(super) wake: Wake,
    pub(super) notifier: Arc<Notifier>,
    pub(super) logins: Arc<Logins>,
}

#[derive(Deserialize)]
struct Told {
    status: OrderStatus,
}

/// Counts the status that an order's event tells of.
fn count_order(event: &StreamEvent) {
    use EventKind::{OrderCancelled, OrderCreated, OrderFilled, OrderUpdated};
    if matches!(event.kind, OrderCreated | OrderUpdated | OrderFilled | OrderCancelled)
        && let Ok(told) = serde_json::from_str::<Told>(&event.data)
    {
        counter!(names::ORDERS, "status" => told.status.as_str()).increment(1);
    }
}

impl AfterCommit for Announcer {
    fn committed(&self, notes: Vec<CommitNote>) {
        for note in notes {
            match note {
                CommitNote::Stream(event) => {
                    count_order(&event);
                    self.hub.publish(&event);
                    self.wake.ring(EVENTS);
                    self.notifier.flag(event.stream.to_string());
                }
                CommitNote::Wake(topic) => {
                    if !self.logins.heard(&topic) {
                        self.wake.ring(heard_as(&topic));
                    }
                    self.notifier.flag(topic);
                }
            }
        }
    }
}

/// Hears what other processes committed. The log is read on a thread that may block.
pub(super) struct Hearer {
    pub(super) hub: Hub,
    pub(super) wake: Wake,
    pub(super) runtime: Handle,
    pub(super) logins: Arc<Logins>,
}

impl Wakeups for Hearer {
    fn topics(&self, topics: &[&str]) {
        let mut streams: Vec<StreamId> = Vec::new();
        for topic in topics {
            match topic.parse() {
                Ok(stream) => streams.push(stream),
                Err(_) if self.logins.heard(topic) => {}
                Err(_) => self.wake.ring(heard_as(topic)),
            }
        }
        if !streams.is_empty() {
            let hub = self.hub.clone();
            // an error is made up for by the next sweep
            drop(self.runtime.spawn_blocking(move || hub.wake(&streams)));
        }
    }

    fn sweep(&self) {
        self.wake.ring_all();
        self.logins.missed();
        let hub = self.hub.clone();
        drop(self.runtime.spawn_blocking(move || hub.sweep()));
    }
}
