//! What accounts and positions are worth.

use rust_decimal::Decimal;

use crate::account::{AccountId, AccountView, PositionSide, PositionView};
use crate::asset::Asset;
use crate::calendar;
use crate::order::{AssetClass, OrderId, Side};
use crate::refusal::Refusal;

use super::Exchange;
use super::ledger::Holding;

/// Equity below which an account has no margin and may not short.
const MARGIN_EQUITY: u32 = 2_000;

/// Decimal places of fractions.
const FRACTION_DECIMALS: u32 = 16;

struct Worth {
    cash: Decimal,
    long: Decimal,
    short: Decimal,
    initial: Decimal,
    maintenance: Decimal,
}

impl Worth {
    fn equity(&self) -> Decimal {
        self.cash + self.long + self.short
    }
}

/// Maintenance: long 30 % from $2.50, else 100 %; short from $5 the larger of $5 a share and 30 %, below the larger of
/// $2.50 a share and 100 %; crypto 100 %.
pub(super) fn maintenance_of(symbol: &str, qty: Decimal, price: Decimal) -> Decimal {
    let value = (qty * price).abs();
    let third = value * Decimal::new(3, 1);
    if symbol.contains('/') {
        value
    } else if qty >= Decimal::ZERO {
        if price >= Decimal::new(25, 1) { third } else { value }
    } else if price >= Decimal::from(5) {
        third.max(qty.abs() * Decimal::from(5))
    } else {
        value.max(qty.abs() * Decimal::new(25, 1))
    }
}

impl Exchange {
    fn price(&self, symbol: &str, holding: &Holding) -> Decimal {
        self.market.last(symbol, self.now).map_or_else(|| holding.average(), |print| print.price)
    }

    fn worth(&self, account: AccountId) -> Result<Worth, Refusal> {
        let account = self.account(account)?;
        let zero = Decimal::ZERO;
        let mut worth =
            Worth { cash: account.cash, long: zero, short: zero, initial: zero, maintenance: zero };
        for (symbol, holding) in &account.holdings {
            let price = self.price(symbol, holding);
            let value = holding.qty * price;
            if value.is_sign_negative() {
                worth.short += value;
            } else {
                worth.long += value;
            }
            worth.initial += if symbol.contains('/') { value.abs() } else { value.abs() / Decimal::TWO };
            worth.maintenance += maintenance_of(symbol, holding.qty, price);
        }
        Ok(worth)
    }

    fn multiplier(&self, account: AccountId, worth: &Worth) -> Result<Decimal, Refusal> {
        if worth.equity() < Decimal::from(MARGIN_EQUITY) {
            return Ok(Decimal::ONE);
        }
        let own = self.account(account)?.record.configurations.max_margin_multiplier.parse().unwrap_or(1);
        Ok(Decimal::from(self.config.multiplier.min(own)))
    }

    /// Buying power for an asset class, with open orders (but `without`) taken off.
    pub(super) fn buying_power(
        &self,
        account: AccountId,
        class: AssetClass,
        without: Option<OrderId>,
    ) -> Result<Decimal, Refusal> {
        let worth = self.worth(account)?;
        let reserved = self.reserved(account, without);
        Ok(match class {
            AssetClass::UsEquity => marginable(&worth, self.multiplier(account, &worth)?, reserved),
            AssetClass::Crypto => non_marginable(&worth, reserved),
        })
    }

    /// Whether the account may sell short.
    pub(super) fn may_short(&self, account: AccountId) -> Result<bool, Refusal> {
        let worth = self.worth(account)?;
        let allowed = !self.account(account)?.record.configurations.no_shorting;
        Ok(allowed
            && worth.equity() >= Decimal::from(MARGIN_EQUITY)
            && self.multiplier(account, &worth)? > Decimal::ONE)
    }

    /// The account as its owner sees it.
    ///
    /// # Errors
    /// 404 for an unknown account.
    pub fn account_view(&self, account: AccountId) -> Result<AccountView, Refusal> {
        let worth = self.worth(account)?;
        let state = self.account(account)?;
        let multiplier = self.multiplier(account, &worth)?;
        let reserved = self.reserved(account, None);
        let zero = Decimal::ZERO;
        let cash_only = non_marginable(&worth, reserved).normalize();
        let regt = marginable(&worth, multiplier.min(Decimal::TWO), reserved);
        let equity = worth.equity().normalize();
        Ok(AccountView {
            id: account,
            account_number: state.record.number.clone(),
            status: "ACTIVE".into(),
            crypto_status: "ACTIVE".into(),
            currency: "USD".into(),
            buying_power: marginable(&worth, multiplier, reserved).normalize(),
            regt_buying_power: regt.normalize(),
            non_marginable_buying_power: cash_only,
            options_buying_power: cash_only,
            cash: worth.cash.normalize(),
            accrued_fees: zero,
            pending_reg_taf_fees: zero,
            portfolio_value: equity,
            equity,
            last_equity: state.last_equity.normalize(),
            long_market_value: worth.long.normalize(),
            short_market_value: worth.short.normalize(),
            position_market_value: (worth.long - worth.short).normalize(),
            initial_margin: worth.initial.normalize(),
            maintenance_margin: worth.maintenance.normalize(),
            last_maintenance_margin: state.last_maintenance.normalize(),
            sma: state.last_equity.normalize(),
            multiplier,
            shorting_enabled: self.may_short(account)?,
            trading_blocked: false,
            transfers_blocked: false,
            account_blocked: false,
            trade_suspended_by_user: state.record.configurations.suspend_trade,
            created_at: state.record.created_at,
            intraday_adjustments: zero,
            balance_asof: calendar::last_closed(self.now).date,
            options_approved_level: 2,
            options_trading_level: 2,
        })
    }

    /// All positions, by symbol.
    ///
    /// # Errors
    /// 404 for an unknown account.
    pub fn positions(&self, account: AccountId) -> Result<Vec<PositionView>, Refusal> {
        let state = self.account(account)?;
        Ok(state
            .holdings
            .iter()
            .map(|(symbol, holding)| self.position_view(account, symbol, holding))
            .collect())
    }

    /// One position.
    ///
    /// # Errors
    /// 404 `position does not exist`, also for a position that is flat.
    pub fn position(&self, account: AccountId, symbol_or_asset_id: &str) -> Result<PositionView, Refusal> {
        let state = self.account(account)?;
        let symbol = self.symbol_of(symbol_or_asset_id);
        let holding =
            state.holdings.get(&symbol).ok_or_else(|| Refusal::not_found("position does not exist"))?;
        Ok(self.position_view(account, &symbol, holding))
    }

    fn position_view(&self, account: AccountId, symbol: &str, holding: &Holding) -> PositionView {
        let asset = Asset::of(symbol);
        let short = holding.qty.is_sign_negative();
        let price = self.price(symbol, holding);
        let closed = self.market.close(symbol, calendar::last_closed(self.now)).unwrap_or(price);
        let value = holding.qty * price;
        let exit = if short { Side::Buy } else { Side::Sell };
        let (held, _) = self.held(account, symbol, exit, None);
        let available = (holding.qty.abs() - held).max(Decimal::ZERO);
        let fraction = |gain: Decimal, base: Decimal| match base.abs() {
            base if base.is_zero() => Decimal::ZERO,
            base => (gain / base).round_dp(FRACTION_DECIMALS).normalize(),
        };
        let (gain, day_gain) = (value - holding.cost, value - holding.day_cost);
        PositionView {
            asset_id: asset.id,
            symbol: symbol.to_owned(),
            exchange: asset.exchange,
            asset_class: asset.class,
            asset_marginable: asset.marginable,
            qty: holding.qty.normalize(),
            qty_available: if short { -available } else { available }.normalize(),
            avg_entry_price: holding.average().round_dp(FRACTION_DECIMALS).normalize(),
            side: if short { PositionSide::Short } else { PositionSide::Long },
            market_value: value.normalize(),
            cost_basis: holding.cost.round_dp(FRACTION_DECIMALS).normalize(),
            unrealized_pl: gain.round_dp(FRACTION_DECIMALS).normalize(),
            unrealized_plpc: fraction(gain, holding.cost),
            unrealized_intraday_pl: day_gain.round_dp(FRACTION_DECIMALS).normalize(),
            unrealized_intraday_plpc: fraction(day_gain, holding.day_cost),
            current_price: price,
            lastday_price: closed,
            change_today: fraction(price - closed, closed),
        }
    }
}

fn marginable(worth: &Worth, multiplier: Decimal, reserved: Decimal) -> Decimal {
    let gross = match multiplier {
        one if one == Decimal::ONE => worth.cash + worth.short * Decimal::TWO,
        four if four == Decimal::from(4) => (worth.equity() - worth.maintenance) * four,
        two => (worth.equity() - worth.initial) * two,
    };
    (gross - reserved).max(Decimal::ZERO)
}

fn non_marginable(worth: &Worth, reserved: Decimal) -> Decimal {
    (worth.cash.min(worth.equity() - worth.initial) - reserved).max(Decimal::ZERO)
}
