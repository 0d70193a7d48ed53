//! Plimsoll: paper-broker.
