//! Plimsoll: realtime.
