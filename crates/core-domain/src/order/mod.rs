//! Orders: what was asked for, where it stands, and how the broker's reports change it.

mod external;
mod kind;
mod observe;
mod request;
mod status;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

pub use external::External;
pub(crate) use kind::words;
pub use kind::{
    Environment, LegRole, OrderClass, OrderSize, OrderType, Pricing, Side, SourceKind, StopLoss, TimeInForce,
    Trail, UnknownWord,
};
pub use observe::{BrokerView, ObserveError};
pub use request::{FieldError, NewOrder, OrderRequest, money_code};
pub use status::{IllegalMove, OrderStatus, TRANSITIONS};

use crate::ids::{AccountId, BrokerOrderId, ClientOrderId, OrderId, UserId};
use crate::money::round_money;

/// Where an order came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderSource {
    /// What kind of place.
    pub kind: SourceKind,
    /// Which one, where there are several: a hook's or a strategy's id.
    pub id: Option<String>,
}

/// The submit protocol's notes about an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitNotes {
    /// How often sending was begun.
    pub attempts: i32,
    /// After it the order is not sent any more.
    pub deadline: DateTime<Utc>,
    /// When sending was last begun.
    pub started_at: Option<DateTime<Utc>>,
    /// How often it was looked for without being found since then.
    pub probes: i32,
    /// A sending before the last one may have arrived: a clear answer to a later one says nothing of it.
    pub doubt: bool,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Ours.
    pub id: OrderId,
    /// Whose account.
    pub account_id: AccountId,
    /// Whose order.
    pub user_id: UserId,
    /// Under which the broker knows it from us.
    pub client_order_id: ClientOrderId,
    /// The broker's own, once known.
    pub broker_order_id: Option<BrokerOrderId>,
    /// What was asked for.
    pub terms: NewOrder,
    /// The entry that it is a leg of.
    pub parent_id: Option<OrderId>,
    /// What it is within its group.
    pub role: LegRole,
    /// Where it stands.
    pub status: OrderStatus,
    /// Why, where that is known: the broker's words or ours.
    pub status_reason: Option<String>,
    /// The sum of its booked fills.
    pub filled_qty: Decimal,
    /// The value of its booked fills.
    pub filled_value: Decimal,
    /// The best report of the broker so far.
    pub broker: Option<BrokerView>,
    /// Where it came from.
    pub source: OrderSource,
    /// With whose money.
    pub environment: Environment,
    /// The order that it replaces.
    pub replaces: Option<OrderId>,
    /// The order that replaced it.
    pub replaced_by: Option<OrderId>,
    /// The submit protocol's notes.
    pub submit: SubmitNotes,
    /// When it was accepted here.
    pub created_at: DateTime<Utc>,
    /// When the broker took it, by the broker's clock.
    pub submitted_at: Option<DateTime<Utc>>,
    /// When it last changed here.
    pub updated_at: DateTime<Utc>,
    /// When it became final here.
    pub closed_at: Option<DateTime<Utc>>,
    /// Counts its changes from 1.
    pub version: i64,
}

/// A change of state, for the order's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Before.
    pub from: OrderStatus,
    /// After.
    pub to: OrderStatus,
}

/// The average price of `qty` units that came to `value`; `None` of none.
#[must_use]
pub fn avg_price(value: Decimal, qty: Decimal) -> Option<Decimal> {
    value.checked_div(qty).map(round_money)
}

impl Order {
    /// The average price of its booked fills; `None` before the first.
    #[must_use]
    pub fn avg_fill_price(&self) -> Option<Decimal> {
        avg_price(self.filled_value, self.filled_qty)
    }

    /// Whether its size is what the broker says: that of a leg, or of what replaces one, follows the entry and the other leg;
    /// a replacement that was asked for twice may be of either size.
    #[must_use]
    pub const fn takes_the_brokers_size(&self) -> bool {
        self.parent_id.is_some() || (self.replaces.is_some() && self.submit.doubt)
    }

    /// Moves to another state by the table.
    ///
    /// # Errors
    /// The table has no such move; the order stays as it was.
    pub fn move_to(
        &mut self,
        to: OrderStatus,
        reason: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Option<StateChange>, IllegalMove> {
        self.status.check_move(to)?;
        let from = self.status;
        if from == to && (reason.is_none() || reason == self.status_reason.as_deref()) {
            return Ok(None);
        }
        self.status = to;
        self.status_reason = reason.map(|text| text.chars().take(500).collect());
        self.touch(now);
        Ok((from != to).then_some(StateChange { from, to }))
    }

    pub(crate) fn touch(&mut self, now: DateTime<Utc>) {
        self.version += 1;
        self.updated_at = now.max(self.updated_at);
        self.closed_at = if self.status.is_final() { self.closed_at.or(Some(self.updated_at)) } else { None };
    }

    /// Units not filled yet; `None` for an order by amount.
    #[must_use]
    pub fn open_qty(&self) -> Option<Decimal> {
        let qty = self.terms.qty()?.get();
        Some(if self.status.is_final() { Decimal::ZERO } else { qty - self.filled_qty })
    }
}
