//! The JSON shapes of orders, fills, positions and profit: one form for REST answers and for events.
//!
//! Field names and words are the HTTP contract's (sections 4 and 8). Decimals are strings without trailing zeros,
//! times RFC 3339 UTC with microseconds.

use chrono::{DateTime, SecondsFormat, Utc};
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

use crate::broker::BrokerAccount;
use crate::digits;
use crate::fill::Fill;
use crate::ids::{AccountId, FillId, OrderId, Symbol};
use crate::money::{Price, round_money};
use crate::order::{Order, OrderSize, Trail};
use crate::position::Position;

/// A decimal as the contract writes it: a string without trailing zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dec(pub Decimal);

impl Serialize for Dec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(digits::decimal(&self.0).as_str())
    }
}

/// A time as the contract writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At(pub DateTime<Utc>);

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match digits::time(&self.0) {
            Some(text) => serializer.serialize_str(text.as_str()),
            None => serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true)),
        }
    }
}

/// Where an order came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceView<'a> {
    /// `api`, `webhook`, `external` or `strategy`.
    pub kind: &'static str,
    /// Which one, where there are several.
    pub id: Option<&'a str>,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the HTTP contract's, section 4")]
pub struct OrderView<'a> {
    pub id: OrderId,
    pub client_order_id: &'a str,
    pub broker_order_id: Option<&'a str>,
    pub symbol: &'a str,
    pub side: &'static str,
    #[serde(rename = "type")]
    pub order_type: &'static str,
    pub time_in_force: &'static str,
    pub qty: Option<Dec>,
    pub notional: Option<Dec>,
    pub limit_price: Option<Dec>,
    pub stop_price: Option<Dec>,
    pub trail_price: Option<Dec>,
    pub trail_percent: Option<Dec>,
    pub extended_hours: bool,
    pub order_class: &'static str,
    pub legs: Vec<OrderView<'a>>,
    pub filled_qty: Dec,
    pub avg_fill_price: Option<Dec>,
    pub status: &'static str,
    pub status_reason: Option<&'a str>,
    pub source: SourceView<'a>,
    pub environment: &'static str,
    pub replaces: Option<OrderId>,
    pub replaced_by: Option<OrderId>,
    pub created_at: At,
    pub submitted_at: Option<At>,
    pub updated_at: At,
    pub closed_at: Option<At>,
    pub version: i64,
}

impl<'a> OrderView<'a> {
    /// The order with its legs.
    #[must_use]
    pub fn new(order: &'a Order, legs: &'a [Order]) -> Self {
        let terms = &order.terms;
        let (qty, notional) = match terms.size {
            OrderSize::Qty(qty) => (Some(Dec(qty.get())), None),
            OrderSize::Notional(amount) => (None, Some(Dec(amount.get()))),
        };
        let price = |price: Price| Dec(price.get());
        let (trail_price, trail_percent) = match terms.pricing.trail() {
            Some(Trail::Price(by)) => (Some(price(by)), None),
            Some(Trail::Percent(by)) => (None, Some(price(by))),
            None => (None, None),
        };
        Self {
            id: order.id,
            client_order_id: order.client_order_id.as_str(),
            broker_order_id: order.broker_order_id.as_ref().map(|id| id.as_str()),
            symbol: terms.symbol.as_str(),
            side: terms.side.as_str(),
            order_type: terms.pricing.order_type().as_str(),
            time_in_force: terms.time_in_force.as_str(),
            qty,
            notional,
            limit_price: terms.pricing.limit_price().map(price),
            stop_price: terms.pricing.stop_price().map(price),
            trail_price,
            trail_percent,
            extended_hours: terms.extended_hours,
            order_class: terms.class.as_str(),
            legs: legs.iter().map(|leg| OrderView::new(leg, &[])).collect(),
            filled_qty: Dec(order.filled_qty),
            avg_fill_price: order.avg_fill_price().map(Dec),
            status: order.status.as_str(),
            status_reason: order.status_reason.as_deref(),
            source: SourceView { kind: order.source.kind.as_str(), id: order.source.id.as_deref() },
            environment: order.environment.as_str(),
            replaces: order.replaces,
            replaced_by: order.replaced_by,
            created_at: At(order.created_at),
            submitted_at: order.submitted_at.map(At),
            updated_at: At(order.updated_at),
            closed_at: order.closed_at.map(At),
            version: order.version,
        }
    }
}

/// A fill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the HTTP contract's, section 8")]
pub struct FillView<'a> {
    pub id: FillId,
    pub order_id: OrderId,
    pub symbol: &'a str,
    pub side: &'static str,
    pub qty: Dec,
    pub price: Dec,
    pub cum_qty: Dec,
    pub fee: Dec,
    pub source: &'static str,
    pub executed_at: At,
}

impl<'a> From<&'a Fill> for FillView<'a> {
    fn from(fill: &'a Fill) -> Self {
        Self {
            id: fill.id,
            order_id: fill.order_id,
            symbol: fill.symbol.as_str(),
            side: fill.side.as_str(),
            qty: Dec(fill.execution.qty.get()),
            price: Dec(fill.execution.price.get()),
            cum_qty: Dec(fill.execution.cum_qty.get()),
            fee: Dec(fill.fee),
            source: fill.execution.source.as_str(),
            executed_at: At(fill.execution.executed_at),
        }
    }
}

/// What an account holds of one symbol, with its last known price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Whose.
    pub account_id: AccountId,
    /// Of what.
    pub symbol: Symbol,
    /// How much, at which cost.
    pub position: Position,
    /// The last price seen, from a fill or the broker.
    pub last_price: Option<Price>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Holding {
    /// Profit of the held units at the last price; `None` while no price is known or it does not fit.
    #[must_use]
    pub fn unrealized_pl(&self) -> Option<Decimal> {
        if self.position.qty.is_zero() {
            return Some(Decimal::ZERO);
        }
        self.position.unrealized_pl(self.last_price?).ok()
    }
}

/// A position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the HTTP contract's, section 8")]
pub struct PositionView<'a> {
    pub symbol: &'a str,
    pub qty: Dec,
    pub side: &'static str,
    pub avg_entry_price: Option<Dec>,
    pub cost_basis: Dec,
    pub last_price: Option<Dec>,
    pub market_value: Option<Dec>,
    pub unrealized_pl: Option<Dec>,
    pub realized_pl: Dec,
    pub updated_at: At,
}

impl<'a> From<&'a Holding> for PositionView<'a> {
    fn from(holding: &'a Holding) -> Self {
        let position = &holding.position;
        Self {
            symbol: holding.symbol.as_str(),
            qty: Dec(position.qty),
            side: if position.qty.is_zero() {
                "flat"
            } else if position.qty.is_sign_negative() {
                "short"
            } else {
                "long"
            },
            avg_entry_price: position.avg_entry_price().map(Dec),
            cost_basis: Dec(position.cost_basis),
            last_price: holding.last_price.map(|price| Dec(price.get())),
            market_value: holding.last_price.and_then(|price| position.market_value(price).ok()).map(Dec),
            unrealized_pl: holding.unrealized_pl().map(Dec),
            realized_pl: Dec(position.realized_pl),
            updated_at: At(holding.updated_at),
        }
    }
}

/// Profit and loss of one symbol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "named by the contract's `/pnl`")]
pub struct SymbolPnl {
    pub symbol: Symbol,
    pub realized_today: Dec,
    pub realized_total: Dec,
    pub unrealized: Dec,
}

/// Profit and loss of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "named by the contract's `/pnl`")]
pub struct PnlView {
    pub realized_today: Dec,
    pub realized_total: Dec,
    pub unrealized: Dec,
    pub by_symbol: Vec<SymbolPnl>,
    pub as_of: At,
}

impl PnlView {
    /// From the holdings and what each symbol realised today; symbols in ascending order.
    ///
    /// A holding without a known price counts as unchanged.
    #[must_use]
    pub fn new(holdings: &[Holding], realized_today: &[(Symbol, Decimal)], as_of: DateTime<Utc>) -> Self {
        let mut by_symbol: Vec<SymbolPnl> = holdings
            .iter()
            .map(|holding| SymbolPnl {
                symbol: holding.symbol.clone(),
                realized_today: Dec(realized_today
                    .iter()
                    .filter(|(symbol, _)| *symbol == holding.symbol)
                    .map(|(_, amount)| *amount)
                    .sum()),
                realized_total: Dec(holding.position.realized_pl),
                unrealized: Dec(holding.unrealized_pl().unwrap_or_default()),
            })
            .collect();
        by_symbol.sort_by(|a, b| a.symbol.cmp(&b.symbol));
        let sum = |of: fn(&SymbolPnl) -> Dec| Dec(round_money(by_symbol.iter().map(|row| of(row).0).sum()));
        Self {
            realized_today: sum(|row| row.realized_today),
            realized_total: sum(|row| row.realized_total),
            unrealized: sum(|row| row.unrealized),
            by_symbol,
            as_of: At(as_of),
        }
    }
}

/// The broker account as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "named by the contract's `/account`")]
pub struct AccountView {
    pub cash: Dec,
    pub buying_power: Dec,
    pub equity: Dec,
    pub last_equity: Dec,
    pub currency: String,
    pub status: String,
    pub environment: &'static str,
    pub as_of: At,
    pub stale: bool,
}

impl AccountView {
    /// What the broker said at `as_of`.
    #[must_use]
    pub fn new(
        account: &BrokerAccount,
        environment: &'static str,
        as_of: DateTime<Utc>,
        stale: bool,
    ) -> Self {
        Self {
            cash: Dec(account.cash),
            buying_power: Dec(account.buying_power),
            equity: Dec(account.equity),
            last_equity: Dec(account.last_equity),
            currency: account.currency.clone(),
            status: account.status.clone(),
            environment,
            as_of: At(as_of),
            stale,
        }
    }
}

/// A line of an order's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "named by the contract, section 8")]
pub struct HistoryView {
    pub at: At,
    pub from: Option<String>,
    pub to: String,
    pub cause: String,
    pub detail: Option<String>,
}

/// The JSON text of a view.
///
/// # Panics
/// Never: the views hold only strings, numbers and booleans under string keys.
#[must_use]
pub fn json(view: &impl Serialize) -> String {
    serde_json::to_string(view).expect("views serialise")
}
