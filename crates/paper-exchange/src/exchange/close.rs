//! Closing positions.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use crate::account::AccountId;
use crate::order::{
    AssetClass, CloseAmount, CloseOutcome, NewOrder, Order, OrderId, OrderStatus, Side, TimeInForce,
};
use crate::refusal::Refusal;

use super::{Exchange, QTY_DECIMALS};

impl Exchange {
    /// Sends a market day order (gtc for crypto) that closes a position or a part of it. It cancels nothing: shares
    /// that open orders hold are not available.
    ///
    /// # Errors
    /// 404 `position does not exist`, 422 for an amount out of range, and what a new order may be refused for.
    pub fn close_position(
        &mut self,
        account: AccountId,
        symbol_or_asset_id: &str,
        amount: CloseAmount,
        now: DateTime<Utc>,
    ) -> Result<Order, Refusal> {
        self.advance(now);
        let position = self.position(account, symbol_or_asset_id)?;
        let held = position.qty.abs();
        let qty = match amount {
            CloseAmount::All => held,
            CloseAmount::Qty(qty) if qty <= Decimal::ZERO => return Err(Refusal::field("qty must be > 0")),
            CloseAmount::Qty(qty) => qty,
            CloseAmount::Percentage(percent)
                if percent <= Decimal::ZERO || percent > Decimal::ONE_HUNDRED =>
            {
                return Err(Refusal::field("percentage must be > 0 and <= 100"));
            }
            CloseAmount::Percentage(percent) => {
                // Short positions are closed in whole shares.
                let decimals = if position.qty.is_sign_negative() { 0 } else { QTY_DECIMALS };
                (held * percent / Decimal::ONE_HUNDRED).trunc_with_scale(decimals)
            }
        };
        if qty.is_zero() {
            return Err(Refusal::field("qty must be > 0"));
        }
        let side = if position.qty.is_sign_negative() { Side::Buy } else { Side::Sell };
        let mut order = NewOrder::market(&position.symbol, side, qty);
        if position.asset_class == AssetClass::Crypto {
            order.time_in_force = TimeInForce::Gtc;
        }
        self.submit(account, order, now)
    }

    /// Closes every position, after canceling every open order at once where that is asked for.
    ///
    /// # Errors
    /// 404 for an unknown account.
    pub fn close_all(
        &mut self,
        account: AccountId,
        cancel_orders: bool,
        now: DateTime<Utc>,
    ) -> Result<Vec<CloseOutcome>, Refusal> {
        self.advance(now);
        if cancel_orders {
            let open: Vec<OrderId> = self.account(account)?.open.values().copied().collect();
            for id in open {
                self.finish(id, OrderStatus::Canceled, None);
            }
        }
        let symbols: Vec<String> = self.account(account)?.holdings.keys().cloned().collect();
        let close = |symbol: String| {
            let result = self.close_position(account, &symbol, CloseAmount::All, now).map(Box::new);
            CloseOutcome { symbol, result }
        };
        Ok(symbols.into_iter().map(close).collect())
    }
}
