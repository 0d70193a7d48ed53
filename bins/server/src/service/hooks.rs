//! What follows a commit, here and in the other instances.

use std::str::FromStr;

use plimsoll_core_domain::stream::StreamId;
use plimsoll_realtime::Hub;
use plimsoll_reliability::jobs::Wake;
use plimsoll_storage::notify::{Notifier, Wakeups};
use plimsoll_storage::{AfterCommit, CommitNote};

/// The topic of a stream, among those of job queues.
fn stream_topic(stream: StreamId) -> String {
    format!("stream:{stream}")
}

/// Hands what was committed to this process's own subscribers, and flags it for the others.
pub(super) struct Hooks {
    hub: Hub,
    wake: Wake,
    notifier: Notifier,
}

impl Hooks {
    pub(super) fn new(hub: Hub, wake: Wake, notifier: Notifier) -> Self {
        Self { hub, wake, notifier }
    }
}

impl AfterCommit for Hooks {
    fn committed(&self, notes: Vec<CommitNote>) {
        for note in notes {
            match note {
                CommitNote::Stream(event) => {
                    self.hub.publish(&event);
                    self.notifier.flag(stream_topic(event.stream));
                }
                CommitNote::Wake(topic) => {
                    self.wake.ring(&topic);
                    self.notifier.flag(topic);
                }
            }
        }
    }
}

/// Hears what other instances flagged.
pub(super) struct Heard {
    hub: Hub,
    wake: Wake,
}

impl Heard {
    pub(super) fn new(hub: Hub, wake: Wake) -> Self {
        Self { hub, wake }
    }
}

impl Wakeups for Heard {
    fn topics(&self, topics: &[&str]) {
        let mut streams = Vec::new();
        for topic in topics {
            match topic.strip_prefix("stream:").map(StreamId::from_str) {
                Some(Ok(stream)) => streams.push(stream),
                Some(Err(_)) => {}
                None => self.wake.ring(topic),
            }
        }
        if let Err(error) = self.hub.wake(&streams) {
            tracing::debug!(%error, "streams could not be read now; the next sweep reads them");
        }
    }

    fn sweep(&self) {
        self.wake.ring_all();
        if let Err(error) = self.hub.sweep() {
            tracing::debug!(%error, "streams could not be swept now; the next sweep comes in a second");
        }
    }
}
