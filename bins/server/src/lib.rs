//! Plimsoll: server.
