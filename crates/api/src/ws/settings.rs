//! Limits and times of the sockets.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Limits and times of the sockets; the defaults are the contract's. The time between pings is the hub's
/// ([`HubSettings::ping_interval`](plimsoll_realtime::HubSettings::ping_interval)), since `hello` states it.
#[derive(Clone, Debug)]
pub struct WsSettings {
    /// How long a client without a bearer header may take to send `auth`.
    pub auth_timeout: Duration,
    /// How long after a ping its pong may come.
    pub pong_timeout: Duration,
    /// How long one message may wait for the client to read.
    pub write_timeout: Duration,
    /// How long a close frame may wait for the client to read before the socket is dropped.
    pub close_timeout: Duration,
    /// How often the login behind a socket is looked at again.
    pub reauthorise_every: Duration,
    /// How soon that is tried again when it could not be answered; after two periods without an answer the socket closes.
    pub reauthorise_retry: Duration,
    /// The longest message from a client, in bytes.
    pub max_message_bytes: usize,
    /// The message in a row that is not understood and closes the socket.
    pub max_bad_messages: u32,
    /// The most messages, protocol pings included, that a client may send in a minute.
    pub max_messages_per_minute: u32,
    /// The most sockets of one user (WS_MAX_PER_USER).
    pub max_per_user: usize,
    /// The most sockets of one address (WS_MAX_PER_IP); an IPv6 client is its /64 network.
    pub max_per_ip: usize,
    /// The most sockets altogether; upgrades beyond it get 503.
    pub max_connections: usize,
    /// The most upgrades in a second; those beyond it get 503.
    pub upgrades_per_second: u32,
    /// How many sockets may read history at once; the others wait for their turn, so that a thousand that come back
    /// together do not crowd each other out of the database.
    pub concurrent_reads: usize,
    /// The origins whose pages may connect, exactly as browsers send them (`https://trade.example.com`). A request
    /// without `Origin` is no browser's and needs none.
    pub allowed_origins: Vec<String>,
    /// When clients are asked to come back after a shutdown, in milliseconds.
    pub retry_ms: RangeInclusive<u64>,
}

impl Default for WsSettings {
    fn default() -> Self {
        Self {
            auth_timeout: Duration::from_secs(10),
            pong_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(1),
            reauthorise_every: Duration::from_secs(60),
            reauthorise_retry: Duration::from_secs(5),
            max_message_bytes: 64 * 1024,
            max_bad_messages: 16,
            max_messages_per_minute: 100,
            max_per_user: 10,
            max_per_ip: 50,
            max_connections: 100_000,
            upgrades_per_second: 500,
            concurrent_reads: 3,
            allowed_origins: Vec::new(),
            retry_ms: 500..=5_000,
        }
    }
}
