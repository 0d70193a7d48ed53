//! What an answer of the broker means for an order that was sent.

use std::time::Duration;

use plimsoll_core_domain::ClientOrderId;
use plimsoll_core_domain::broker::{BrokerError, BrokerOrder};

/// What is known after sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has it.
    Taken(Box<BrokerOrder>),
    /// Refused for good; nothing was done.
    Rejected {
        /// The broker's own code.
        code: Option<i64>,
        /// The broker's words.
        reason: String,
    },
    /// Its client id is taken: look, do not send again.
    Duplicate,
    /// Not processed; the same order may be sent again after this time.
    Throttled {
        /// The broker's word for when.
        after: Duration,
    },
    /// Nothing was sent.
    Unreachable,
    /// It may have been done.
    Unclear {
        /// Why that is not known.
        reason: String,
    },
}

/// Sorts the answer to sending the order `sent`. A clear answer about another order is no clear answer.
#[must_use]
pub fn classify(answer: Result<BrokerOrder, BrokerError>, sent: &ClientOrderId) -> Outcome {
    match answer {
        Ok(order) if order.client_order_id == sent.as_str() => Outcome::Taken(Box::new(order)),
        Ok(_) => Outcome::Unclear { reason: "the broker answered with another order".into() },
        Err(BrokerError::Refused { code, message, .. }) => Outcome::Rejected { code, reason: message },
        Err(BrokerError::DuplicateClientOrderId) => Outcome::Duplicate,
        Err(BrokerError::Unauthorized(_)) => Outcome::Rejected {
            code: None,
            reason: "the broker does not accept the account's credentials".into(),
        },
        Err(BrokerError::NotFound) => {
            Outcome::Rejected { code: None, reason: "not found at the broker".into() }
        }
        Err(BrokerError::Throttled { retry_after }) => Outcome::Throttled { after: retry_after },
        Err(BrokerError::Unreachable(_)) => Outcome::Unreachable,
        // A question's answer, which this is none of: whatever was sent may have been done.
        Err(BrokerError::Ambiguous(reason) | BrokerError::Unreadable(reason)) => Outcome::Unclear { reason },
    }
}
