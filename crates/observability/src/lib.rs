//! Plimsoll: observability.
