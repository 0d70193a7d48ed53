//! Kinds of failure, and what each allows.

use std::time::Duration;

use plimsoll_core_domain::broker::BrokerError;
use plimsoll_core_domain::{StoreError, StoreErrorKind};

/// What kind of failure it was, which decides what may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Nothing was done, and another try may succeed.
    Transient,
    /// Nothing was done; not before this time.
    Throttled {
        /// The other side's word for when.
        after: Duration,
    },
    /// Another try ends the same way.
    Permanent,
    /// It may have been done: look before trying again.
    Ambiguous,
    /// It was not tried at all (a breaker is open, it is too early): no attempt is used up.
    Snooze {
        /// When to come back.
        after: Duration,
    },
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again.
    Retry {
        /// After this pause.
        after: Duration,
    },
    /// Look whether it was done; only then may it be tried again.
    Probe {
        /// After this pause.
        after: Duration,
    },
    /// Come back; the attempt does not count.
    Snooze {
        /// After this pause.
        after: Duration,
    },
    /// No further try.
    GiveUp,
}

/// An error that knows its class. Where an error type cannot, a closure does: [`Retry::call_by`](super::Retry::call_by).
pub trait Classify {
    /// Its class.
    fn class(&self) -> ErrorClass;
}

impl<E: Classify + ?Sized> Classify for Box<E> {
    fn class(&self) -> ErrorClass {
        (**self).class()
    }
}

impl Classify for StoreError {
    fn class(&self) -> ErrorClass {
        match self.kind() {
            StoreErrorKind::Contention | StoreErrorKind::Unavailable => {
                self.retry_after().map_or(ErrorClass::Transient, |after| ErrorClass::Throttled { after })
            }
            StoreErrorKind::CommitUnknown => ErrorClass::Ambiguous,
            _ => ErrorClass::Permanent,
        }
    }
}

impl Classify for BrokerError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Throttled { retry_after } => ErrorClass::Throttled { after: *retry_after },
            Self::Unreachable(_) | Self::Unreadable(_) => ErrorClass::Transient,
            Self::Ambiguous(_) => ErrorClass::Ambiguous,
            Self::Refused { .. } | Self::DuplicateClientOrderId | Self::Unauthorized(_) | Self::NotFound => {
                ErrorClass::Permanent
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_store_and_of_brokers_have_their_classes() {
        let second = Duration::from_secs(1);
        let store = |kind| StoreError::new(kind, "x").class();
        assert_eq!(store(StoreErrorKind::Contention), ErrorClass::Transient);
        assert_eq!(store(StoreErrorKind::CommitUnknown), ErrorClass::Ambiguous);
        assert_eq!(store(StoreErrorKind::Inconsistent), ErrorClass::Permanent);
        assert_eq!(StoreError::busy(second).class(), ErrorClass::Throttled { after: second });
        for (error, class) in [
            (BrokerError::Unreachable("x".into()), ErrorClass::Transient),
            (BrokerError::Unreadable("x".into()), ErrorClass::Transient),
            (BrokerError::Ambiguous("x".into()), ErrorClass::Ambiguous),
            (BrokerError::NotFound, ErrorClass::Permanent),
            (BrokerError::Throttled { retry_after: second }, ErrorClass::Throttled { after: second }),
        ] {
            assert_eq!(Box::new(error).class(), class);
        }
    }
}
