//! Why a signal was not followed as it stands: stable codes, each with a sentence.

use crate::order::UnknownWord;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        /// A reason code, as answers and the decision log have it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $variant),+ }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

reasons! {
    /// No body.
    Empty = "empty",
    /// The body is no JSON object: broken, binary, a name twice, NUL, nested without end.
    Malformed = "malformed",
    /// More than 64 KiB.
    TooLarge = "too_large",
    /// The body did not arrive in time.
    TooSlow = "too_slow",
    /// More signals than the hook takes in a minute.
    RateLimited = "rate_limited",
    /// Neither the secret nor a signature is right, or the hook does not take this way.
    WrongSecret = "wrong_secret",
    /// The signature's time is too far from now.
    SignatureTime = "signature_time",
    /// The hook is switched off.
    HookDisabled = "hook_disabled",
    /// It came from an address that is not in the hook's list.
    AddressNotAllowed = "address_not_allowed",
    /// It came before.
    Duplicate = "duplicate",
    /// A placeholder was not filled in.
    UnfilledPlaceholder = "unfilled_placeholder",
    /// A field that is needed is missing.
    MissingField = "missing_field",
    /// A field has not the form that it should have.
    InvalidField = "invalid_field",
    /// NaN, an infinity, an exponent beyond reason, more digits than are kept exactly.
    InvalidNumber = "invalid_number",
    /// A size of zero or below, or less than one unit.
    InvalidSize = "invalid_size",
    /// Two fields say different things.
    Contradiction = "contradiction",
    /// The action is none of the known words.
    UnknownAction = "unknown_action",
    /// It asks for what is not offered.
    Unsupported = "unsupported",
    /// It is older than the hook allows.
    Stale = "stale",
    /// It was sent later than now.
    FromTheFuture = "from_the_future",
    /// The hook does not trade this symbol.
    SymbolNotAllowed = "symbol_not_allowed",
    /// The hook does not take this action.
    ActionNotAllowed = "action_not_allowed",
    /// The broker does not know the symbol.
    UnknownSymbol = "unknown_symbol",
    /// The broker does not trade the symbol at the moment.
    NotTradable = "not_tradable",
    /// No price is known to size by.
    NoPrice = "no_price",
    /// The account's equity is not known to size by.
    NoEquity = "no_equity",
    /// There is no broker account.
    NoAccount = "no_account",
    /// The account takes no orders.
    AccountDisabled = "account_disabled",
    /// Orders with real money are not allowed.
    LiveDisabled = "live_disabled",
    /// The user trades in the other environment than the hook.
    WrongEnvironment = "wrong_environment",
    /// The broker does not take the saved key, or it cannot be used.
    KeyUnusable = "key_unusable",
    /// An order that follows from it breaks a rule that needs no market.
    InvalidOrder = "invalid_order",
    /// The position is what it should be already.
    NothingToDo = "nothing_to_do",
    /// A later signal came first.
    Superseded = "superseded",
    /// Open orders in the symbol did not end in time.
    OpenOrders = "open_orders",
    /// A risk limit forbids the order.
    RiskLimit = "risk_limit",
    /// Trading is halted.
    TradingHalted = "trading_halted",
    /// It could not be acted on in time.
    TooLate = "too_late",
    /// The first order of a reversal did not close the position.
    CloseNotFilled = "close_not_filled",
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Reason {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let known = Self::ALL.iter().copied().find(|reason| reason.as_str() == text);
        known.ok_or_else(|| UnknownWord {
            given: text.chars().take(40).collect(),
            allowed: "the documented reason codes",
        })
    }
}

/// A refusal: the code, and a sentence for whoever reads the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// The code.
    pub reason: Reason,
    /// For people; at most 500 characters, no secrets.
    pub detail: String,
}

impl Refusal {
    /// A refusal with its sentence, which is cut to 500 characters.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        Self { reason, detail: detail.chars().filter(|c| !c.is_control()).take(500).collect() }
    }
}
