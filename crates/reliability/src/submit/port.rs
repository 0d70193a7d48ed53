//! What the protocol needs from the store and from the server.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{Broker, BrokerOrder};
use plimsoll_core_domain::order::Order;
use plimsoll_core_domain::{AccountId, BrokerOrderId, OrderId, StoreError};
use rust_decimal::Decimal;

/// An order under lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedOrder {
    /// As it stands.
    pub order: Order,
    /// Now, by the store's clock: ages of submissions are measured with one clock, whichever instance asks.
    pub now: DateTime<Utc>,
    /// Why it may not be sent any more, although it was accepted: real money was forbidden, or trading halted since.
    pub forbidden: Option<String>,
}

/// What happened to an order: the cause of a change, for its history and its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderEvent<'a> {
    /// About to be sent; commits before anything leaves.
    Submitting,
    /// The broker took it. It may bring legs.
    Taken(&'a BrokerOrder),
    /// It was found at the broker by its client id. It may bring legs.
    Found(&'a BrokerOrder),
    /// It counted as not sent, and the broker shows it after all. It may bring legs.
    Revived(&'a BrokerOrder),
    /// The broker refused it. Of a replacement: the old order goes on.
    Rejected {
        /// The broker's own code.
        code: Option<i64>,
    },
    /// This sending did not reach the broker; it will be sent later, or looked for where an earlier one is in doubt.
    PutOff,
    /// It was sent, and no answer came that settles it.
    Unclear,
    /// It was looked for and not found, again.
    Missed,
    /// The broker does not have it, as far as looking tells, and it will not be sent any more.
    NotSent,
    /// The broker holds another order under its client id: a human must look.
    Conflict(&'a BrokerOrder),
    /// It was called off before it was sent.
    Withdrawn,
    /// The broker was asked to cancel it.
    CancelAsked,
    /// The broker would not cancel it, and shows it like this.
    CancelRefused(&'a BrokerOrder),
}

impl<'a> OrderEvent<'a> {
    /// A stable word for the order's history.
    #[must_use]
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Submitting => "submitting",
            Self::Taken(_) => "taken",
            Self::Found(_) => "found",
            Self::Revived(_) => "revived",
            Self::Rejected { .. } => "rejected",
            Self::PutOff => "put_off",
            Self::Unclear => "unclear",
            Self::Missed => "missed",
            Self::NotSent => "not_sent",
            Self::Conflict(_) => "conflict",
            Self::Withdrawn => "withdrawn",
            Self::CancelAsked => "cancel_asked",
            Self::CancelRefused(_) => "cancel_refused",
        }
    }

    /// The broker's order that came with it.
    #[must_use]
    pub const fn seen(&self) -> Option<&'a BrokerOrder> {
        match self {
            Self::Taken(seen)
            | Self::Found(seen)
            | Self::Revived(seen)
            | Self::Conflict(seen)
            | Self::CancelRefused(seen) => Some(seen),
            _ => None,
        }
    }
}

/// The orders in the store, in the same transaction as the jobs.
///
/// A transaction of the protocol is: [`lock_order`](Self::lock_order), the settlement of the job, then
/// [`save_order`](Self::save_order): the order in which rows are locked everywhere.
pub trait SubmitStore {
    /// Locks the order; `None` when there is no such order. Limits and halts of its account are read without a lock: a halt
    /// waits for the orders that are being sent.
    ///
    /// # Errors
    /// The store's.
    fn lock_order(&mut self, id: OrderId) -> Result<Option<LockedOrder>, StoreError>;

    /// An order of the same account that the broker had before `order` can have reached it, by the broker's id: the one from
    /// which a list shows everything that may be `order`. `None`: none is known.
    ///
    /// # Errors
    /// The store's.
    fn sent_before(&mut self, order: &Order) -> Result<Option<BrokerOrderId>, StoreError>;

    /// How much of an order is filled, by the booked fills or by the broker's best report, whichever is more. Locks nothing.
    ///
    /// # Errors
    /// The store's.
    fn filled_of(&mut self, account: AccountId, id: OrderId) -> Result<Decimal, StoreError>;

    /// Writes a changed order and all that follows from the change: a line of history where the status moved, stream
    /// events, audit, exposure, the legs that the broker's order brings, a task to fetch fills when
    /// `after.unbooked_qty()` is positive, an alert on [`OrderEvent::Conflict`] and [`OrderEvent::Revived`]; after the
    /// latter a cancel that waits for the order is due at once. `before` is the order as it was locked;
    /// the two may differ in nothing but their notes and, for a replacement, its size.
    ///
    /// # Errors
    /// The store's.
    fn save_order(
        &mut self,
        before: &Order,
        after: &Order,
        event: &OrderEvent<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;
}

/// Finds the broker of an account. Blocks the thread while it reads credentials.
pub trait Brokers: Send + Sync + 'static {
    /// The adapter with the account's credentials.
    ///
    /// # Errors
    /// For how long nothing can be sent for this account (credentials missing or refused, trading held back, a broker that
    /// is given rest).
    fn of_account(&self, account: AccountId) -> Result<Arc<dyn Broker>, Duration>;

    /// Whether an order of the account that was sent before may be sent again now. Counts against the broker's budget of
    /// repeats, where there is one.
    ///
    /// # Errors
    /// For how long not.
    fn may_repeat(&self, _account: AccountId) -> Result<(), Duration> {
        Ok(())
    }
}
