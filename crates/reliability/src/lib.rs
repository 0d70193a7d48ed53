//! Plimsoll: reliability.
