//! Plimsoll: storage.
