//! The order state machine: one table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::kind::UnknownWord;

/// Where an order stands. Names as in the HTTP contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// On disk here; the broker has not been asked yet.
    PendingSubmit,
    /// About to be sent, or being sent.
    Submitting,
    /// Sent, and no clear answer came: it may live at the broker.
    Unknown,
    /// Taken by the broker, not yet working.
    Accepted,
    /// Working.
    New,
    /// Working, part of it filled.
    PartiallyFilled,
    /// All of it filled. Final.
    Filled,
    /// A cancel was asked for.
    PendingCancel,
    /// Canceled, perhaps after a partial fill. Final.
    Canceled,
    /// A replacement was asked for.
    PendingReplace,
    /// Replaced by another order. Final.
    Replaced,
    /// Refused by the broker. Final.
    Rejected,
    /// Its time ran out, perhaps after a partial fill. Final.
    Expired,
    /// Rests until the next session.
    DoneForDay,
    /// Not working for a while.
    Suspended,
    /// Never reached the broker, and will not be sent any more.
    NotSent,
    /// A leg that waits for its entry.
    Held,
    /// The broker holds another order under this id: a human must look.
    Conflict,
}

use OrderStatus::{
    Accepted, Canceled, Conflict, DoneForDay, Expired, Filled, Held, New, NotSent, PartiallyFilled,
    PendingCancel, PendingReplace, PendingSubmit, Rejected, Replaced, Submitting, Suspended, Unknown,
};

/// From each state, the states that may follow. Staying is always allowed and not listed.
///
/// The broker's part follows Alpaca's contract section 3 (states), the part before it the submit protocol.
/// `not_sent` may come alive: a broker that shows the order late is right, and the owner is told.
pub const TRANSITIONS: &[(OrderStatus, &[OrderStatus])] = &[
    (PendingSubmit, &[Submitting, NotSent, Canceled]),
    (
        Submitting,
        &[
            PendingSubmit,
            Unknown,
            Accepted,
            New,
            PartiallyFilled,
            Filled,
            PendingCancel,
            Canceled,
            PendingReplace,
            Replaced,
            Rejected,
            Expired,
            DoneForDay,
            Suspended,
            NotSent,
            Held,
            Conflict,
        ],
    ),
    (
        Unknown,
        &[
            Submitting,
            Accepted,
            New,
            PartiallyFilled,
            Filled,
            PendingCancel,
            Canceled,
            PendingReplace,
            Replaced,
            Rejected,
            Expired,
            DoneForDay,
            Suspended,
            NotSent,
            Held,
            Conflict,
        ],
    ),
    (
        Accepted,
        &[
            New,
            PartiallyFilled,
            Filled,
            PendingCancel,
            Canceled,
            PendingReplace,
            Replaced,
            Rejected,
            Expired,
            DoneForDay,
            Suspended,
            Held,
        ],
    ),
    (
        New,
        &[
            PartiallyFilled,
            Filled,
            PendingCancel,
            Canceled,
            PendingReplace,
            Replaced,
            Rejected,
            Expired,
            DoneForDay,
            Suspended,
            Held,
        ],
    ),
    (
        PartiallyFilled,
        &[
            Filled,
            PendingCancel,
            Canceled,
            PendingReplace,
            Replaced,
            Rejected,
            Expired,
            DoneForDay,
            Suspended,
        ],
    ),
    (
        PendingCancel,
        &[
            Accepted,
            New,
            PartiallyFilled,
            Filled,
            Canceled,
            Replaced,
            Rejected,
            Expired,
            DoneForDay,
            Suspended,
            Held,
        ],
    ),
    (
        PendingReplace,
        &[
            Accepted,
            New,
            PartiallyFilled,
            Filled,
            PendingCancel,
            Canceled,
            Replaced,
            Rejected,
            Expired,
            DoneForDay,
            Suspended,
            Held,
        ],
    ),
    (
        DoneForDay,
        &[
            Accepted,
            New,
            PartiallyFilled,
            Filled,
            PendingCancel,
            Canceled,
            PendingReplace,
            Replaced,
            Rejected,
            Expired,
            Suspended,
        ],
    ),
    (
        Suspended,
        &[
            Accepted,
            New,
            PartiallyFilled,
            Filled,
            PendingCancel,
            Canceled,
            PendingReplace,
            Replaced,
            Rejected,
            Expired,
            DoneForDay,
        ],
    ),
    (
        Held,
        &[
            Accepted,
            New,
            PartiallyFilled,
            Filled,
            PendingCancel,
            Canceled,
            PendingReplace,
            Replaced,
            Rejected,
            Expired,
            DoneForDay,
            Suspended,
        ],
    ),
    (
        NotSent,
        &[
            Accepted,
            New,
            PartiallyFilled,
            Filled,
            PendingCancel,
            Canceled,
            Replaced,
            Rejected,
            Expired,
            DoneForDay,
            Suspended,
            Held,
            Conflict,
        ],
    ),
    (Filled, &[]),
    // A fill that was on its way when the order ended is taken: account for fills, not for states.
    (Canceled, &[Filled]),
    (Replaced, &[Filled]),
    (Rejected, &[]),
    (Expired, &[Filled]),
    (Conflict, &[]),
];

/// A move that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an order that is {from} cannot become {to}")]
pub struct IllegalMove {
    /// Where the order stands.
    pub from: OrderStatus,
    /// Where it was asked to go.
    pub to: OrderStatus,
}

impl OrderStatus {
    /// Every state.
    pub const ALL: [OrderStatus; 18] = [
        PendingSubmit,
        Submitting,
        Unknown,
        Accepted,
        New,
        PartiallyFilled,
        Filled,
        PendingCancel,
        Canceled,
        PendingReplace,
        Replaced,
        Rejected,
        Expired,
        DoneForDay,
        Suspended,
        NotSent,
        Held,
        Conflict,
    ];

    /// The states that may follow this one.
    #[must_use]
    pub fn successors(self) -> &'static [OrderStatus] {
        TRANSITIONS.iter().find(|(from, _)| *from == self).map_or(&[], |(_, to)| to)
    }

    /// # Errors
    /// The table has no such move. Staying is no move and allowed.
    pub fn check_move(self, to: OrderStatus) -> Result<(), IllegalMove> {
        if self == to || self.successors().contains(&to) {
            Ok(())
        } else {
            Err(IllegalMove { from: self, to })
        }
    }

    /// Nothing will happen to it any more (busts and corrections of the broker aside).
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Filled | Canceled | Replaced | Rejected | Expired | NotSent | Conflict)
    }

    /// The broker may hold it, or will soon: it counts as open.
    #[must_use]
    pub const fn is_open(self) -> bool {
        !self.is_final()
    }

    /// The broker has confirmed that it holds it.
    #[must_use]
    pub const fn is_live_at_broker(self) -> bool {
        matches!(
            self,
            Accepted | New | PartiallyFilled | PendingCancel | PendingReplace | DoneForDay | Suspended | Held
        )
    }

    /// Among reports of one instant the later stage wins.
    #[must_use]
    pub(crate) const fn rank(self) -> u8 {
        match self {
            PendingSubmit => 0,
            Submitting => 1,
            Unknown => 2,
            NotSent => 3,
            Held => 4,
            Accepted => 5,
            Suspended => 6,
            DoneForDay => 7,
            New => 8,
            PartiallyFilled => 9,
            PendingReplace => 10,
            PendingCancel => 11,
            Replaced => 12,
            Rejected => 13,
            Expired => 14,
            Canceled => 15,
            Filled => 16,
            Conflict => 17,
        }
    }

    /// The name on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            PendingSubmit => "pending_submit",
            Submitting => "submitting",
            Unknown => "unknown",
            Accepted => "accepted",
            New => "new",
            PartiallyFilled => "partially_filled",
            Filled => "filled",
            PendingCancel => "pending_cancel",
            Canceled => "canceled",
            PendingReplace => "pending_replace",
            Replaced => "replaced",
            Rejected => "rejected",
            Expired => "expired",
            DoneForDay => "done_for_day",
            Suspended => "suspended",
            NotSent => "not_sent",
            Held => "held",
            Conflict => "conflict",
        }
    }
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OrderStatus {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| UnknownWord {
            given: text.chars().take(40).collect(),
            allowed: "the order states of the HTTP contract",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_line_for_each_state() {
        for status in OrderStatus::ALL {
            assert_eq!(TRANSITIONS.iter().filter(|(from, _)| *from == status).count(), 1, "{status}");
            assert_eq!(status.as_str().parse::<OrderStatus>(), Ok(status));
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
    }

    #[test]
    fn final_states_stay_and_the_rest_can_end() {
        for status in OrderStatus::ALL {
            if status.is_final() && status != NotSent {
                assert!(status.successors().iter().all(|to| *to == Filled), "{status}");
            } else {
                assert!(status.successors().iter().any(|to| to.is_final()), "{status}");
            }
            assert_eq!(status.check_move(status), Ok(()));
        }
    }

    #[test]
    fn an_illegal_move_is_a_typed_error() {
        assert_eq!(Filled.check_move(New), Err(IllegalMove { from: Filled, to: New }));
        assert_eq!(PendingSubmit.check_move(Filled), Err(IllegalMove { from: PendingSubmit, to: Filled }));
        assert_eq!(
            Filled.check_move(New).unwrap_err().to_string(),
            "an order that is filled cannot become new"
        );
    }

    #[test]
    fn nothing_is_sent_before_it_is_marked_as_being_sent() {
        for (from, to) in TRANSITIONS {
            if to.contains(&Submitting) {
                assert!(matches!(from, PendingSubmit | Unknown), "{from}");
            }
        }
    }
}
