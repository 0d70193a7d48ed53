//! What the account may: wash trades, quantity available, shorting, buying power.

use rust_decimal::Decimal;

use crate::account::AccountId;
use crate::market::Quote;
use crate::order::{
    AssetClass, GroupRole, NewOrder, Order, OrderClass, OrderId, OrderType, PositionIntent, Side,
};
use crate::record::OrderRecord;
use crate::refusal::Refusal;

use super::{Exchange, QTY_DECIMALS};

/// A candidate: an order that would be made, or an amended one that would replace `instead_of`.
pub(super) struct Candidate<'a> {
    pub(super) account: AccountId,
    pub(super) symbol: &'a str,
    pub(super) class: AssetClass,
    pub(super) side: Side,
    pub(super) kind: OrderType,
    pub(super) simple: bool,
    pub(super) limit_price: Option<Decimal>,
    pub(super) stop_price: Option<Decimal>,
    /// Shares; for a notional order what they come to at the present quote.
    pub(super) qty: Decimal,
    pub(super) notional: Option<Decimal>,
    pub(super) instead_of: Option<OrderId>,
}

impl<'a> Candidate<'a> {
    pub(super) fn of(account: AccountId, order: &'a NewOrder, class: AssetClass, quote: &'a Quote) -> Self {
        let price = match order.side {
            Side::Buy => order.limit_price.unwrap_or(quote.ask),
            Side::Sell => order.limit_price.unwrap_or(quote.bid),
        };
        let qty = match (order.qty, order.notional) {
            (Some(qty), _) => qty,
            (None, notional) => shares_for(notional.unwrap_or_default(), price),
        };
        Self {
            account,
            symbol: &quote.symbol,
            class,
            side: order.side,
            kind: order.kind,
            simple: order.order_class == OrderClass::Simple,
            limit_price: order.limit_price,
            stop_price: order.stop_price.or_else(|| trailing_start(order, quote)),
            qty,
            notional: order.notional,
            instead_of: None,
        }
    }
}

/// Where a trailing stop would start.
fn trailing_start(order: &NewOrder, quote: &Quote) -> Option<Decimal> {
    trail_stop(order.side, quote.last, order.trail_price, order.trail_percent)
}

/// The stop that belongs to a high-water mark.
pub(super) fn trail_stop(
    side: Side,
    hwm: Decimal,
    trail_price: Option<Decimal>,
    trail_percent: Option<Decimal>,
) -> Option<Decimal> {
    let distance = match (trail_price, trail_percent) {
        (Some(price), _) => price,
        (None, Some(percent)) => hwm * percent / Decimal::ONE_HUNDRED,
        (None, None) => return None,
    };
    let stop = match side {
        Side::Sell => hwm - distance,
        Side::Buy => hwm + distance,
    };
    Some(stop.max(Decimal::new(1, 4)).normalize())
}

/// Shares that dollars buy, rounded down.
pub(super) fn shares_for(notional: Decimal, price: Decimal) -> Decimal {
    (notional / price).trunc_with_scale(QTY_DECIMALS).normalize()
}

/// How far above its reference a collared buy may go: 4 % below $50, else 2.5 %.
pub(super) fn collar(reference: Decimal) -> Decimal {
    let factor = if reference < Decimal::from(50) { Decimal::new(104, 2) } else { Decimal::new(1_025, 3) };
    reference * factor
}

impl Exchange {
    /// Opening or closing, by the position held.
    pub(super) fn intent(
        &self,
        account: AccountId,
        symbol: &str,
        side: Side,
    ) -> Result<PositionIntent, Refusal> {
        let position = self.account(account)?.position(symbol);
        Ok(match side {
            Side::Buy if position < Decimal::ZERO => PositionIntent::BuyToClose,
            Side::Buy => PositionIntent::BuyToOpen,
            Side::Sell if position > Decimal::ZERO => PositionIntent::SellToClose,
            Side::Sell => PositionIntent::SellToOpen,
        })
    }

    /// Wash trade, then quantity and shorting, then buying power.
    pub(super) fn check_limits(
        &self,
        candidate: &Candidate<'_>,
        intent: PositionIntent,
    ) -> Result<(), Refusal> {
        self.check_wash_trade(candidate, intent)?;
        self.check_quantity(candidate, intent)?;
        if intent.closes() { Ok(()) } else { self.check_buying_power(candidate) }
    }

    /// Orders of the account on a symbol that are not final, without the one being replaced.
    pub(super) fn open_orders<'a>(
        &'a self,
        account: AccountId,
        symbol: &'a str,
        without: Option<OrderId>,
    ) -> impl Iterator<Item = &'a OrderRecord> {
        self.accounts
            .get(&account)
            .into_iter()
            .flat_map(|account| account.open.values())
            .filter_map(|id| self.orders.get(id))
            .filter(move |row| row.order.symbol == symbol && without != Some(row.order.id))
    }

    fn check_wash_trade(&self, candidate: &Candidate<'_>, intent: PositionIntent) -> Result<(), Refusal> {
        if !candidate.simple {
            return Ok(());
        }
        for row in self.open_orders(candidate.account, candidate.symbol, candidate.instead_of) {
            let other = &row.order;
            let waits = row.working.parent.is_some() && !row.working.live;
            if other.side == candidate.side
                || waits
                || other.group_role == Some(GroupRole::StopLoss) && self.has_open_twin(row)
            {
                continue;
            }
            // Opening against an opening market order: the shorting checks have the better word for it.
            if !intent.closes() && other.kind == OrderType::Market {
                continue;
            }
            let crosses = match (candidate.limit_price, other.limit_price) {
                (Some(mine), Some(theirs)) => match candidate.side {
                    Side::Buy => mine >= theirs,
                    Side::Sell => mine <= theirs,
                },
                _ => true,
            };
            if crosses {
                let kind = if other.limit_price.is_some() { "limit" } else { "market/stop" };
                return Err(Refusal::forbidden(format!(
                    "potential wash trade detected. opposite side {kind} order exists. use complex orders"
                )));
            }
        }
        Ok(())
    }

    /// Whether a stop leg's take-profit twin is still open: the two hold one lot of shares.
    fn has_open_twin(&self, row: &OrderRecord) -> bool {
        self.open_orders(row.account, &row.order.symbol, Some(row.order.id)).any(|other| {
            other.order.group_id == row.order.group_id
                && other.order.group_role == Some(GroupRole::TakeProfit)
        })
    }

    /// Shares that open closing orders hold, and those orders.
    pub(super) fn held(
        &self,
        account: AccountId,
        symbol: &str,
        side: Side,
        without: Option<OrderId>,
    ) -> (Decimal, Vec<OrderId>) {
        let mut held = Decimal::ZERO;
        let mut by = Vec::new();
        for row in self.open_orders(account, symbol, without) {
            let waits = row.working.parent.is_some() && !row.working.live;
            let twin = row.order.group_role == Some(GroupRole::StopLoss) && self.has_open_twin(row);
            if row.order.side != side || !row.order.position_intent.closes() || waits || twin {
                continue;
            }
            let mut qty = self.remaining(row);
            // A replacement holds only what goes beyond the order it will replace, while that is open.
            if let Some(old) = row
                .order
                .replaces
                .filter(|old| self.is_successor(*old, row.order.id) && without != Some(*old))
            {
                qty = (qty - self.remaining(&self.orders[&old])).max(Decimal::ZERO);
            }
            if qty > Decimal::ZERO {
                held += qty;
                by.push(row.order.id);
            }
        }
        (held, by)
    }

    /// Shares an order still wants; for a notional order what is left buys at the last print.
    pub(super) fn remaining(&self, row: &OrderRecord) -> Decimal {
        match (row.order.remaining_qty(), row.order.notional) {
            (Some(qty), _) => qty,
            (None, Some(notional)) => match self.market.last(&row.order.symbol, self.now) {
                Some(print) => shares_for(notional - row.working.spent, print.price),
                None => Decimal::ZERO,
            },
            (None, None) => Decimal::ZERO,
        }
    }

    fn check_quantity(&self, candidate: &Candidate<'_>, intent: PositionIntent) -> Result<(), Refusal> {
        let account = self.account(candidate.account)?;
        let position = account.position(candidate.symbol);
        if intent.closes() {
            let (held, related) =
                self.held(candidate.account, candidate.symbol, candidate.side, candidate.instead_of);
            let available = (position.abs() - held).max(Decimal::ZERO);
            if candidate.qty <= available {
                return Ok(());
            }
            let mut refusal = Refusal::forbidden(format!(
                "insufficient qty available for order (requested: {}, available: {})",
                candidate.qty.normalize(),
                available.normalize()
            ))
            .with_decimal("available", available)
            .with_decimal("existing_qty", position.abs())
            .with_decimal("held_for_orders", held)
            .with("symbol", candidate.symbol);
            if !related.is_empty() {
                let related: Vec<String> = related.iter().map(ToString::to_string).collect();
                refusal = refusal.with("related_orders", related);
            }
            return Err(refusal);
        }
        let opposite =
            |row: &&OrderRecord| row.order.side != candidate.side && !row.order.position_intent.closes();
        let opposed = self
            .open_orders(candidate.account, candidate.symbol, candidate.instead_of)
            .find(opposite)
            .is_some();
        match candidate.side {
            Side::Buy if opposed => {
                Err(Refusal::forbidden("cannot open a long buy while a short sell order is open"))
            }
            Side::Buy => Ok(()),
            Side::Sell if opposed => {
                Err(Refusal::forbidden("cannot open a short sell while a long buy order is open"))
            }
            Side::Sell if candidate.class == AssetClass::Crypto => {
                Err(Refusal::forbidden(format!("asset \"{}\" cannot be sold short", candidate.symbol)))
            }
            Side::Sell if !self.may_short(candidate.account)? => {
                Err(Refusal::forbidden("account is not allowed to short"))
            }
            Side::Sell if candidate.notional.is_some() || !candidate.qty.fract().is_zero() => {
                Err(Refusal::rule("fractional orders cannot be sold short"))
            }
            Side::Sell => Ok(()),
        }
    }

    fn check_buying_power(&self, candidate: &Candidate<'_>) -> Result<(), Refusal> {
        let quote = self.quote(candidate.symbol).ok_or_else(|| Refusal::rule("asset has no price"))?;
        let cost = match candidate.notional {
            Some(notional) => notional,
            None => {
                let price = reference(
                    candidate.side,
                    candidate.kind,
                    candidate.limit_price,
                    candidate.stop_price,
                    &quote,
                );
                price * candidate.qty
            }
        };
        let power = self.buying_power(candidate.account, candidate.class, candidate.instead_of)?;
        if cost > power {
            return Err(Refusal::forbidden("insufficient buying power")
                .with_decimal("buying_power", power.round_dp(2))
                .with_decimal("cost_basis", cost.round_dp(2)));
        }
        Ok(())
    }

    /// Dollars that open opening orders may still cost.
    pub(super) fn reserved(&self, account: AccountId, without: Option<OrderId>) -> Decimal {
        let Some(state) = self.accounts.get(&account) else { return Decimal::ZERO };
        let rows = state.open.values().filter_map(|id| self.orders.get(id));
        rows.filter(|row| without != Some(row.order.id) && !row.order.position_intent.closes())
            .map(|row| {
                let value = self.value(row);
                match row
                    .order
                    .replaces
                    .filter(|old| self.is_successor(*old, row.order.id) && without != Some(*old))
                {
                    Some(old) => (value - self.value(&self.orders[&old])).max(Decimal::ZERO),
                    None => value,
                }
            })
            .sum()
    }

    /// What is left of an opening order in dollars.
    fn value(&self, row: &OrderRecord) -> Decimal {
        let order: &Order = &row.order;
        if let Some(notional) = order.notional {
            return notional - row.working.spent;
        }
        let price = match (order.side, order.kind, row.working.collar, order.limit_price) {
            // Known without a quote, which counts where thousands of limits are open.
            (Side::Buy, OrderType::Limit | OrderType::StopLimit, _, Some(limit)) => limit,
            (Side::Buy, OrderType::Market | OrderType::Stop | OrderType::TrailingStop, Some(collared), _) => {
                collared
            }
            (side, kind, _, limit) => match self.quote(&order.symbol) {
                Some(quote) => reference(side, kind, limit, order.stop_price, &quote),
                None => return Decimal::ZERO,
            },
        };
        price * self.remaining(row)
    }
}

/// The price at which an opening order is valued.
fn reference(
    side: Side,
    kind: OrderType,
    limit: Option<Decimal>,
    stop: Option<Decimal>,
    quote: &Quote,
) -> Decimal {
    match (side, kind) {
        (Side::Sell, _) => (quote.ask * Decimal::new(103, 2)).max(limit.unwrap_or_default()),
        (Side::Buy, OrderType::Market) => collar(quote.ask),
        (Side::Buy, OrderType::Limit | OrderType::StopLimit) => limit.unwrap_or(quote.ask),
        (Side::Buy, OrderType::Stop | OrderType::TrailingStop) => collar(stop.unwrap_or(quote.ask)),
    }
}
