//! Plimsoll: broker.
