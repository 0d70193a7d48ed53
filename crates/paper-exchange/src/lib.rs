//! Plimsoll: paper-exchange.
