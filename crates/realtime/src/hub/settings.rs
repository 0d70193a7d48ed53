//! Limits and times of the hub.

use std::time::Duration;

/// Limits and times; the defaults are the contract's.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Names this process in the names of sessions.
    pub instance: String,
    /// The most bytes that may wait in a session's queue before it is closed as too slow.
    pub queue_bytes: usize,
    /// The most messages that may wait in a session's queue before it is closed as too slow.
    pub queue_messages: usize,
    /// How many of the last events of each active stream stay in memory.
    pub recent_events: usize,
    /// The most events of one stream that a resume sends.
    pub resume_events: usize,
    /// How long an event waits for the ones before it until these are read from the log.
    pub hole_patience: Duration,
    /// How long a stream that nobody hears stays in memory.
    pub linger: Duration,
    /// The least time between two price ticks of one kind and symbol to one session.
    pub tick_interval: Duration,
    /// What `hello` states as the time between protocol pings; the socket's side sends them.
    pub ping_interval: Duration,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            instance: "plimsoll".into(),
            queue_bytes: 1 << 20,
            queue_messages: 1_000,
            recent_events: 128,
            resume_events: 1_000,
            hole_patience: Duration::from_millis(200),
            linger: Duration::from_secs(60),
            tick_interval: Duration::from_millis(250),
            ping_interval: Duration::from_secs(30),
        }
    }
}
