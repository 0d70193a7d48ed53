//! Plimsoll: auth.
