//! Plimsoll: core-domain.
