//! Why a connection is closed.

/// The close codes of the contract; 4xxx are private ones (RFC 6455, 7.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCode {
    /// 1001: the server shuts down; come back after `server_closing`'s `retry_ms`.
    ShuttingDown,
    /// 1002: not the WebSocket protocol.
    Protocol,
    /// 1003: binary messages are not understood.
    Binary,
    /// 1007: a text message that is not UTF-8.
    InvalidText,
    /// 1009: a message over 64 KiB.
    TooBig,
    /// 4008: the client reads more slowly than events come.
    TooSlow,
    /// 4400: sixteen messages in a row were not understood.
    Malformed,
    /// 4401: not, or no longer, authenticated. Coming back with the same token is in vain.
    Unauthenticated,
    /// 4403: not allowed. Coming back is in vain.
    Forbidden,
    /// 4408: no pong came.
    TimedOut,
    /// 4409: history was lost or replaced; drop what is cached and take a snapshot.
    StateInvalidated,
    /// 4429: too many connections or messages.
    TooMany,
    /// 4500: a fault on our side; come back.
    InternalError,
}

impl CloseCode {
    /// Every code.
    pub const ALL: [Self; 13] = [
        Self::ShuttingDown,
        Self::Protocol,
        Self::Binary,
        Self::InvalidText,
        Self::TooBig,
        Self::TooSlow,
        Self::Malformed,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::TimedOut,
        Self::StateInvalidated,
        Self::TooMany,
        Self::InternalError,
    ];

    /// The number in the close frame.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::ShuttingDown => 1001,
            Self::Protocol => 1002,
            Self::Binary => 1003,
            Self::InvalidText => 1007,
            Self::TooBig => 1009,
            Self::TooSlow => 4008,
            Self::Malformed => 4400,
            Self::Unauthenticated => 4401,
            Self::Forbidden => 4403,
            Self::TimedOut => 4408,
            Self::StateInvalidated => 4409,
            Self::TooMany => 4429,
            Self::InternalError => 4500,
        }
    }

    /// The close frame's reason: under 123 bytes (RFC 6455, 5.5.1), for a developer's console.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::ShuttingDown => "shutting down",
            Self::Protocol => "protocol error",
            Self::Binary => "binary messages are not supported",
            Self::InvalidText => "text is not UTF-8",
            Self::TooBig => "message too big",
            Self::TooSlow => "reading too slowly",
            Self::Malformed => "too many messages that could not be understood",
            Self::Unauthenticated => "not authenticated",
            Self::Forbidden => "forbidden",
            Self::TimedOut => "timed out",
            Self::StateInvalidated => "state invalidated",
            Self::TooMany => "too many connections or messages",
            Self::InternalError => "internal error",
        }
    }
}
