//! The decision table: what is here × what the broker shows → what is done.

use std::fmt::Write as _;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
        impl $name {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
            /// The word on the wire and in the store.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
        impl std::str::FromStr for $name {
            type Err = &'static str;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or("not a word of this list")
            }
        }
    };
}
pub(super) use words;

words!(
    /// In what the two differ.
    Kind {
        /// An order that is here and not at the broker.
        MissingOrder = "missing_order",
        /// An order that is at the broker and not here.
        ExtraOrder = "extra_order",
        /// An order's state.
        Status = "status",
        /// An order's filled quantity.
        FilledQty = "filled_qty",
        /// A fill that the broker has and that is not here.
        MissingFill = "missing_fill",
        /// A fill that is here and that the broker does not have.
        ExtraFill = "extra_fill",
        /// What is held of a symbol.
        PositionQty = "position_qty",
        /// What it cost on average.
        AvgPrice = "avg_price",
        /// The account's cash.
        Cash = "cash",
        /// An order that has been under way for too long.
        Stale = "stale",
    }
);

words!(
    /// What a difference means.
    Class {
        /// Both move: the next run settles it.
        Timing = "timing",
        /// The broker says why.
        Explained = "explained",
        /// The broker's word was taken over.
        Adopted = "adopted",
        /// The record was changed by a row of its own.
        Adjusted = "adjusted",
        /// Nothing is proven: somebody must look.
        NeedsHuman = "needs_human",
    }
);

words!(
    /// What is done about it.
    Action {
        /// Nothing now: it is looked at again.
        Wait = "wait",
        /// The order follows the broker's report.
        FollowBroker = "follow_broker",
        /// The fill is booked.
        BookFill = "book_fill",
        /// A fill is inferred from the order's totals.
        InferFill = "infer_fill",
        /// Inferred fills make room for the real ones.
        ReplaceInferred = "replace_inferred",
        /// The order is taken over as an external one.
        AdoptExternal = "adopt_external",
        /// The order is taken over as one of ours.
        ImportOurs = "import_ours",
        /// The position is taken over as it stood when the account was first compared.
        AdoptOpening = "adopt_opening",
        /// A row of the ledger says what the broker did.
        BookMovement = "book_movement",
        /// Ours stays, and the difference is flagged.
        KeepOurs = "keep_ours",
        /// It is flagged.
        Flag = "flag",
    }
);

words!(
    /// One row of the table.
    Case {
        /// Sending is unclear: the submit protocol looks on.
        UnsentNotFound = "unsent_not_found",
        /// A live order that a targeted look did not find, so far.
        LiveNotFound = "live_not_found",
        /// A live order that stayed away from spaced looks and from a complete list.
        LiveGone = "live_gone",
        /// The broker's report leads on.
        BrokerAhead = "broker_ahead",
        /// No move leads from our state to the broker's.
        Contradiction = "contradiction",
        /// The broker's book has fills that are not here.
        FillMissing = "fill_missing",
        /// The order's total has units that the broker's book does not show yet.
        FillUntold = "fill_untold",
        /// They were inferred.
        FillInferred = "fill_inferred",
        /// The real ones came.
        FillReplaced = "fill_replaced",
        /// The broker shows less filled than is booked here.
        FilledLess = "filled_less",
        /// Placed elsewhere.
        OrderExternal = "order_external",
        /// Its client order id is one of ours, and it is not on record.
        OrderLost = "order_lost",
        /// It is of a form that cannot be kept here.
        OrderUnreadable = "order_unreadable",
        /// Held before the account was first compared.
        PositionOpening = "position_opening",
        /// Something was traded while it was compared.
        PositionMoving = "position_moving",
        /// The broker's movements, such as a split, make the difference.
        PositionExplained = "position_explained",
        /// Nothing explains the difference.
        PositionUnexplained = "position_unexplained",
        /// The average differs, the quantity does not.
        AverageDiffers = "average_differs",
        /// Something was traded while it was compared.
        CashMoving = "cash_moving",
        /// The broker's movements make the difference.
        CashExplained = "cash_explained",
        /// Nothing explains the difference.
        CashUnexplained = "cash_unexplained",
        /// On its way for too long.
        StalePending = "stale_pending",
        /// Live here, and not confirmed by the broker for too long.
        StaleUnconfirmed = "stale_unconfirmed",
    }
);

/// What follows from one case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The case.
    pub case: Case,
    /// What is here.
    pub local: &'static str,
    /// What the broker shows.
    pub broker: &'static str,
    /// In what they differ.
    pub kind: Kind,
    /// What that means.
    pub class: Class,
    /// What is done.
    pub action: Action,
    /// What is held of the symbol is not known until somebody has looked: the user is told so as critical.
    pub blocks: bool,
    /// The user is told at once, the first time.
    pub alerts: bool,
}

macro_rules! rules {
    ($($case:ident: $local:literal, $broker:literal => $kind:ident, $class:ident, $action:ident $(, $flag:ident)*;)+) => {
        /// The table.
        pub const RULES: &[Rule] = &[$(
            rules!(@one Rule {
                case: Case::$case, local: $local, broker: $broker, kind: Kind::$kind, class: Class::$class,
                action: Action::$action, blocks: false, alerts: false,
            } $(, $flag)*)
        ),+];
    };
    (@one $rule:expr) => { $rule };
    (@one $rule:expr, alerts) => { Rule { alerts: true, ..$rule } };
    (@one $rule:expr, blocks) => { Rule { blocks: true, alerts: true, ..$rule } };
}

rules! {
    UnsentNotFound: "being sent, or its fate unknown", "not found" => MissingOrder, Timing, Wait;
    LiveNotFound: "live", "not found, fewer than three times or for less than a minute" => MissingOrder, Timing, Wait;
    LiveGone: "live", "not found three times over at least a minute, and in no complete list" => MissingOrder, NeedsHuman, KeepOurs, blocks;
    BrokerAhead: "any state", "a state that may follow" => Status, Adopted, FollowBroker;
    Contradiction: "any state", "a state or fill that cannot follow" => Status, NeedsHuman, KeepOurs, blocks;
    FillMissing: "fewer units filled", "more, and its book shows the fills" => MissingFill, Adopted, BookFill;
    FillUntold: "fewer units filled", "more, and its book does not show the fills yet" => MissingFill, Timing, Wait;
    FillInferred: "fewer units filled", "more, and its book still lacks the fills" => MissingFill, Adjusted, InferFill;
    FillReplaced: "an inferred fill", "the real fill" => MissingFill, Adjusted, ReplaceInferred;
    FilledLess: "more units filled", "fewer" => FilledQty, NeedsHuman, KeepOurs, blocks;
    OrderExternal: "not on record", "an order with a foreign client order id" => ExtraOrder, Adopted, AdoptExternal;
    OrderLost: "not on record", "an order with a client order id of ours" => ExtraOrder, Adopted, ImportOurs, alerts;
    OrderUnreadable: "not on record", "an order of a form that cannot be kept here" => ExtraOrder, NeedsHuman, Flag, blocks;
    PositionOpening: "never compared before", "a position that no fill on record explains" => PositionQty, Adopted, AdoptOpening;
    PositionMoving: "changed while it was compared", "another quantity" => PositionQty, Timing, Wait;
    PositionExplained: "a position", "another quantity, by a movement that the broker reports" => PositionQty, Explained, BookMovement;
    PositionUnexplained: "a position, or none", "another quantity, or none" => PositionQty, NeedsHuman, KeepOurs, blocks;
    AverageDiffers: "a position", "the same quantity, another average price" => AvgPrice, Explained, KeepOurs;
    CashMoving: "changed while it was compared", "another amount" => Cash, Timing, Wait;
    CashExplained: "cash by the record", "another amount, by movements that the broker reports" => Cash, Explained, BookMovement;
    CashUnexplained: "cash by the record", "another amount" => Cash, NeedsHuman, Flag, alerts;
    StalePending: "waiting to be sent, canceled or replaced for longer than STALE_ORDER_AGE", "anything" => Stale, NeedsHuman, Flag, alerts;
    StaleUnconfirmed: "live", "not confirmed for longer than STALE_ORDER_AGE" => Stale, NeedsHuman, Flag, alerts;
}

impl Case {
    /// Its row of the table.
    #[must_use]
    pub fn rule(self) -> &'static Rule {
        // A test holds that every case has its row.
        RULES.iter().find(|rule| rule.case == self).unwrap_or(&RULES[0])
    }
}

/// The table as `docs/reconciliation.md` has it.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "| here | at the broker | kind | class | action | told at once |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for rule in RULES {
        let told = match (rule.blocks, rule.alerts) {
            (true, _) => "critical",
            (false, true) => "warning",
            (false, false) => "no",
        };
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | `{}` | `{}` | `{}` | {told} |",
            rule.local,
            rule.broker,
            rule.kind.as_str(),
            rule.class.as_str(),
            rule.action.as_str(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_one_row() {
        for case in Case::ALL {
            assert_eq!(RULES.iter().filter(|rule| rule.case == *case).count(), 1, "{case:?}");
            assert_eq!(case.rule().case, *case);
        }
    }

    /// What is done by itself is proven safe: nothing that needs a human changes the record, and only that blocks.
    #[test]
    fn only_what_needs_a_human_blocks_and_it_changes_nothing() {
        for rule in RULES {
            let passive = matches!(rule.action, Action::Wait | Action::KeepOurs | Action::Flag);
            match rule.class {
                Class::NeedsHuman => {
                    assert!(passive && rule.action != Action::Wait && rule.alerts, "{rule:?}");
                }
                Class::Timing => assert!(rule.action == Action::Wait && !rule.blocks, "{rule:?}"),
                _ => assert!(!rule.blocks, "{rule:?}"),
            }
        }
    }

    #[test]
    fn words_are_read_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
        }
        for class in Class::ALL {
            assert_eq!(class.as_str().parse(), Ok(*class));
        }
        assert!("other".parse::<Action>().is_err());
    }

    /// `docs/reconciliation.md` has this table and no other.
    #[test]
    fn the_document_has_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reconciliation.md");
        let text = std::fs::read_to_string(path).expect("the document is there");
        let begin = text.find("| here | at the broker |").expect("the document has the table");
        let end = text[begin..].find("\n\n").map_or(text.len(), |at| begin + at + 1);
        assert_eq!(&text[begin..end], markdown(), "write the table anew from `markdown()`");
    }
}
