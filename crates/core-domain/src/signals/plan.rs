//! From the position that is held to the one that is wanted.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use crate::order::Side;

/// One order of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which way.
    pub side: Side,
    /// Units, greater than zero.
    pub units: Decimal,
    /// It only makes a position smaller.
    pub closes: bool,
}

/// The orders that lead from one position to another: none, one, or two through flat. No broker takes an order through
/// zero, so the second one waits for the first one's fill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Now.
    pub first: Option<Move>,
    /// Once the first is filled.
    pub then: Option<Move>,
}

impl Plan {
    /// From the units held to the units wanted, both negative when short.
    #[must_use]
    pub fn between(held: Decimal, wanted: Decimal) -> Self {
        let difference = wanted - held;
        if difference.is_zero() {
            return Self::default();
        }
        let side = if difference.is_sign_negative() { Side::Sell } else { Side::Buy };
        let opposite =
            !held.is_zero() && !wanted.is_zero() && held.is_sign_negative() != wanted.is_sign_negative();
        if opposite {
            return Self {
                first: Some(Move { side, units: held.abs(), closes: true }),
                then: Some(Move { side, units: wanted.abs(), closes: false }),
            };
        }
        let closes = wanted.abs() < held.abs();
        Self { first: Some(Move { side, units: difference.abs(), closes }), then: None }
    }
}

/// A signal about a position, among others of its hook and symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// When the sender sent it.
    pub sent_at: Option<DateTime<Utc>>,
    /// The position after it, as far as it is stated.
    pub target: Option<Decimal>,
    /// The position before it, as far as it is stated.
    pub previous: Option<Decimal>,
}

impl Place {
    /// Whether this signal, which came now, was sent before one that was acted on already: by its time or, within one
    /// second, because the other began where this one ends. The order in which two signals arrive says nothing.
    #[must_use]
    pub fn precedes(&self, other: &Self) -> bool {
        let (Some(sent), Some(others)) = (self.sent_at, other.sent_at) else { return false };
        if sent != others {
            return sent < others;
        }
        // An exit and the entry after it, told of the wrong way round.
        self.target.is_some() && self.target == other.previous && self.previous != other.target
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn step(side: Side, units: &str, closes: bool) -> Option<Move> {
        Some(Move { side, units: dec(units), closes })
    }

    #[test]
    fn targets_of_the_documented_table() {
        let plan = |held: &str, wanted: &str| Plan::between(dec(held), dec(wanted));
        assert_eq!(plan("0", "10"), Plan { first: step(Side::Buy, "10", false), then: None });
        assert_eq!(plan("10", "10"), Plan::default());
        assert_eq!(plan("0", "0"), Plan::default(), "a target of nothing opens nothing");
        assert_eq!(plan("10", "0"), Plan { first: step(Side::Sell, "10", true), then: None });
        assert_eq!(plan("10", "4"), Plan { first: step(Side::Sell, "6", true), then: None });
        assert_eq!(plan("-4", "-10"), Plan { first: step(Side::Sell, "6", false), then: None });
        assert_eq!(
            plan("10", "-10"),
            Plan { first: step(Side::Sell, "10", true), then: step(Side::Sell, "10", false) }
        );
        assert_eq!(
            plan("-100", "100"),
            Plan { first: step(Side::Buy, "100", true), then: step(Side::Buy, "100", false) }
        );
    }

    #[test]
    fn two_messages_of_one_reversal_in_either_order() {
        let at = |second: i64| DateTime::from_timestamp(second, 0);
        let place = |second, target: &str, previous: &str| Place {
            sent_at: at(second),
            target: Some(dec(target)),
            previous: Some(dec(previous)),
        };
        let (exit, entry) = (place(5, "0", "10"), place(5, "-10", "0"));
        assert!(exit.precedes(&entry) && !entry.precedes(&exit));
        let (earlier, later) = (place(4, "5", "0"), place(5, "7", "5"));
        assert!(earlier.precedes(&later) && !later.precedes(&earlier));
        let unknown = Place { sent_at: None, ..exit };
        assert!(!unknown.precedes(&entry) && !entry.precedes(&unknown), "without times as they come");
        // A round trip within one second fits either way: then as they come.
        let (out, back) = (place(5, "0", "10"), place(5, "10", "0"));
        assert!(!out.precedes(&back) && !back.precedes(&out));
    }

    proptest! {
        #[test]
        fn no_order_goes_through_flat_and_together_they_arrive(held in -1_000_i64..1_000, wanted in -1_000_i64..1_000) {
            let (held, wanted) = (Decimal::new(held, 1), Decimal::new(wanted, 1));
            let mut at = held;
            let plan = Plan::between(held, wanted);
            for step in plan.first.iter().chain(&plan.then) {
                prop_assert!(step.units > Decimal::ZERO);
                let next = at + step.side.signed(step.units);
                prop_assert!(at.is_zero() || next.is_zero() || at.is_sign_negative() == next.is_sign_negative());
                prop_assert_eq!(step.closes, next.abs() < at.abs());
                at = next;
            }
            prop_assert_eq!(at, wanted);
            prop_assert!(plan.first.is_some() || plan.then.is_none());
        }
    }
}
