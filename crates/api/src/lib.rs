//! Plimsoll: api.
