//! Plimsoll: testkit.
