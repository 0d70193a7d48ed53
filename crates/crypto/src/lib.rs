//! Plimsoll: crypto.
