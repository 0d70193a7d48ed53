//! Halts: what is still done while trading is halted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::RiskRule;
use crate::order::{UnknownWord, words};

words!(
    /// How far a halt goes; each level does what the one before it does, and more.
    HaltLevel {
        /// No order that opens or enlarges a position is accepted, sent or enlarged. An order must make its position smaller
        /// even if every other open order on its side fills first.
        BlockEntries = "block_entries",
        /// Open orders that open or enlarge a position are not replaced any more.
        ReduceOnly = "reduce_only",
        /// Every open order is canceled.
        CancelOpen = "cancel_open",
        /// When they are, every position is closed.
        Flatten = "flatten",
    }
);

words!(
    /// What set a halt.
    HaltCause {
        /// Somebody did.
        Manual = "manual",
        /// The daily loss reached its limit.
        DailyLoss = "daily_loss",
    }
);

impl HaltLevel {
    /// Whether open orders are canceled.
    #[must_use]
    pub fn cancels(self) -> bool {
        self >= Self::CancelOpen
    }
}

/// What is halted for an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Halts {
    /// For its user.
    pub user: Option<HaltLevel>,
    /// For everybody.
    pub global: Option<HaltLevel>,
}

impl Halts {
    /// The level in force, and for whom it was set: the higher one, and of two alike that for everybody.
    #[must_use]
    pub fn in_force(self) -> Option<(HaltLevel, RiskRule)> {
        let global = self.global.map(|level| (level, RiskRule::GlobalHalt));
        let user = self.user.map(|level| (level, RiskRule::UserHalt));
        match (global, user) {
            (Some(global), Some(user)) => Some(if user.0 > global.0 { user } else { global }),
            (one, other) => one.or(other),
        }
    }

    /// The level in force.
    #[must_use]
    pub fn level(self) -> Option<HaltLevel> {
        self.in_force().map(|(level, _)| level)
    }
}

#[cfg(test)]
mod tests {
    use super::HaltLevel::{BlockEntries, CancelOpen, Flatten, ReduceOnly};
    use super::*;

    #[test]
    fn the_higher_level_is_in_force() {
        let of = |user, global| Halts { user, global }.in_force();
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some(BlockEntries), None), Some((BlockEntries, RiskRule::UserHalt)));
        assert_eq!(of(Some(BlockEntries), Some(Flatten)), Some((Flatten, RiskRule::GlobalHalt)));
        assert_eq!(of(Some(Flatten), Some(ReduceOnly)), Some((Flatten, RiskRule::UserHalt)));
        assert_eq!(of(Some(ReduceOnly), Some(ReduceOnly)), Some((ReduceOnly, RiskRule::GlobalHalt)));
    }

    #[test]
    fn levels_stand_in_their_order() {
        let mut sorted = HaltLevel::ALL.to_vec();
        sorted.sort();
        assert_eq!(sorted, [BlockEntries, ReduceOnly, CancelOpen, Flatten]);
        assert_eq!(sorted.iter().filter(|level| level.cancels()).count(), 2);
        assert!("halt".parse::<HaltLevel>().is_err());
    }
}
