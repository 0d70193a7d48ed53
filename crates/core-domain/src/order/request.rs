//! Orders as they are asked for, and the rules that need no market to check.

use rust_decimal::Decimal;

use super::kind::{OrderClass, OrderSize, OrderType, Pricing, Side, StopLoss, TimeInForce, Trail};
use crate::ids::Symbol;
use crate::money::{MoneyError, Price, Quantity};

/// An order as a caller asks for it: all the fields, none of the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderRequest {
    /// What to trade.
    pub symbol: String,
    /// Which way.
    pub side: Option<Side>,
    /// Its type.
    pub order_type: Option<OrderType>,
    /// How long it stands.
    pub time_in_force: Option<TimeInForce>,
    /// Units.
    pub qty: Option<Decimal>,
    /// Amount of money.
    pub notional: Option<Decimal>,
    /// For `limit` and `stop_limit`.
    pub limit_price: Option<Decimal>,
    /// For `stop` and `stop_limit`.
    pub stop_price: Option<Decimal>,
    /// For `trailing_stop`, in currency.
    pub trail_price: Option<Decimal>,
    /// For `trailing_stop`, in per cent.
    pub trail_percent: Option<Decimal>,
    /// Outside regular hours too.
    pub extended_hours: bool,
    /// Its class; `simple` when absent.
    pub class: Option<OrderClass>,
    /// Limit of the take-profit.
    pub take_profit: Option<Decimal>,
    /// Stop and perhaps limit of the stop-loss.
    pub stop_loss: Option<(Option<Decimal>, Option<Decimal>)>,
}

/// One rule that a request breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) of the field.
    pub pointer: &'static str,
    /// Stable.
    pub code: &'static str,
    /// For the caller.
    pub detail: String,
}

/// An order that keeps every rule that can be checked without a market.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// What to trade.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// Its type and prices.
    pub pricing: Pricing,
    /// How long it stands.
    pub time_in_force: TimeInForce,
    /// How much.
    pub size: OrderSize,
    /// Outside regular hours too.
    pub extended_hours: bool,
    /// Its class.
    pub class: OrderClass,
    /// Limit of the take-profit.
    pub take_profit: Option<Price>,
    /// The stop-loss.
    pub stop_loss: Option<StopLoss>,
}

impl NewOrder {
    /// Units ordered; `None` for an order by amount.
    #[must_use]
    pub fn qty(&self) -> Option<Quantity> {
        match self.size {
            OrderSize::Qty(qty) => Some(qty),
            OrderSize::Notional(_) => None,
        }
    }

    /// Whether the symbol is a crypto pair (`BTC/USD`).
    #[must_use]
    pub fn is_crypto(&self) -> bool {
        self.symbol.as_str().contains('/')
    }
}

struct Checks(Vec<FieldError>);

impl Checks {
    fn fail(&mut self, pointer: &'static str, code: &'static str, detail: impl Into<String>) {
        self.0.push(FieldError { pointer, code, detail: detail.into() });
    }

    fn require<T>(&mut self, value: Option<T>, pointer: &'static str) -> Option<T> {
        if value.is_none() {
            self.fail(pointer, "required", "is required");
        }
        value
    }

    fn money<T>(
        &mut self,
        value: Option<Decimal>,
        pointer: &'static str,
        make: fn(Decimal) -> Result<T, MoneyError>,
    ) -> Option<T> {
        match make(value?) {
            Ok(good) => Some(good),
            Err(error) => {
                self.fail(pointer, money_code(&error), error.to_string());
                None
            }
        }
    }

    /// Alpaca's contract section 3: at or above $1.00 at most 2 decimals, below at most 4.
    fn price(&mut self, value: Option<Decimal>, pointer: &'static str, equity: bool) -> Option<Price> {
        let price = self.money(value, pointer, Price::new)?;
        if equity && let Err(error) = price.check_tick(price.us_equity_tick()) {
            self.fail(pointer, "sub_penny", format!("{error}: sub-penny prices are not allowed"));
            return None;
        }
        Some(price)
    }

    fn absent(&mut self, present: bool, pointer: &'static str, why: &str) {
        if present {
            self.fail(pointer, "not_allowed", format!("must be absent: {why}"));
        }
    }
}

/// The stable code of a number's refusal.
#[must_use]
pub fn money_code(error: &MoneyError) -> &'static str {
    match error {
        MoneyError::NotANumber => "not_a_number",
        MoneyError::NotPositive(_) => "not_positive",
        MoneyError::TooPrecise { .. } => "too_precise",
        MoneyError::TooLarge | MoneyError::Overflow => "too_large",
        MoneyError::OffGrid { .. } => "off_grid",
        MoneyError::CurrencyMismatch(..) | MoneyError::Currency => "currency",
    }
}

impl OrderRequest {
    /// Checks every rule that needs no market (Alpaca's contract section 3, combination rules).
    ///
    /// # Errors
    /// All the rules that are broken, at once.
    pub fn validate(self) -> Result<NewOrder, Vec<FieldError>> {
        let mut checks = Checks(Vec::new());
        let symbol = match Symbol::new(self.symbol.clone()) {
            Ok(symbol) => Some(symbol),
            Err(error) => {
                checks.fail("/symbol", "invalid_symbol", error.to_string());
                None
            }
        };
        let equity = !self.symbol.contains('/');
        let side = checks.require(self.side, "/side");
        let order_type = checks.require(self.order_type, "/type");
        let time_in_force = checks.require(self.time_in_force, "/time_in_force");
        let class = self.class.unwrap_or(OrderClass::Simple);
        let size = self.size(&mut checks);
        let pricing = order_type.and_then(|order_type| self.pricing(&mut checks, order_type, class, equity));
        let take_profit = checks.price(self.take_profit, "/take_profit/limit_price", equity);
        let stop_loss = self.stop_loss.and_then(|(stop, limit)| {
            let stop = checks.require(stop, "/stop_loss/stop_price");
            let limit = checks.price(limit, "/stop_loss/limit_price", equity);
            Some(StopLoss { stop: checks.price(stop, "/stop_loss/stop_price", equity)?, limit })
        });

        let (Some(symbol), Some(side), Some(pricing), Some(time_in_force), Some(size)) =
            (symbol, side, pricing, time_in_force, size)
        else {
            return Err(checks.0);
        };
        let order = NewOrder {
            symbol,
            side,
            pricing,
            time_in_force,
            size,
            extended_hours: self.extended_hours,
            class,
            take_profit,
            stop_loss,
        };
        combination(&order, &mut checks);
        group(&order, &mut checks);
        if checks.0.is_empty() { Ok(order) } else { Err(checks.0) }
    }

    fn size(&self, checks: &mut Checks) -> Option<OrderSize> {
        match (self.qty, self.notional) {
            (Some(_), Some(_)) => {
                checks.fail("/notional", "not_allowed", "give either qty or notional, not both");
                None
            }
            (None, None) => {
                checks.fail("/qty", "required", "qty or notional is required");
                None
            }
            (qty @ Some(_), None) => checks.money(qty, "/qty", Quantity::new).map(OrderSize::Qty),
            (None, notional) => {
                let amount = checks.money(notional, "/notional", Price::new)?;
                if amount.check_tick(Decimal::new(1, 2)).is_err() {
                    checks.fail("/notional", "too_precise", "has more than 2 digits after the point");
                    return None;
                }
                if amount.get() < Decimal::ONE {
                    checks.fail("/notional", "too_small", "must be at least 1");
                    return None;
                }
                Some(OrderSize::Notional(amount))
            }
        }
    }

    fn pricing(
        &self,
        checks: &mut Checks,
        order_type: OrderType,
        class: OrderClass,
        equity: bool,
    ) -> Option<Pricing> {
        use OrderType::{Limit, Market, Stop, StopLimit, TrailingStop};
        let why = format!("a {order_type} order has none");
        if !matches!(order_type, Limit | StopLimit) {
            checks.absent(self.limit_price.is_some(), "/limit_price", &why);
        }
        if !matches!(order_type, Stop | StopLimit) {
            checks.absent(self.stop_price.is_some(), "/stop_price", &why);
        }
        if order_type != TrailingStop {
            checks.absent(self.trail_price.is_some(), "/trail_price", &why);
            checks.absent(self.trail_percent.is_some(), "/trail_percent", &why);
        }
        // An OCO's own limit is its take-profit's (contract section 9).
        let limit =
            if class == OrderClass::Oco { self.limit_price.or(self.take_profit) } else { self.limit_price };
        match order_type {
            Market => Some(Pricing::Market),
            Limit => {
                let limit = checks.require(limit, "/limit_price");
                Some(Pricing::Limit { limit: checks.price(limit, "/limit_price", equity)? })
            }
            Stop => {
                let stop = checks.require(self.stop_price, "/stop_price");
                Some(Pricing::Stop { stop: checks.price(stop, "/stop_price", equity)? })
            }
            StopLimit => {
                let stop = checks.require(self.stop_price, "/stop_price");
                let limit = checks.require(limit, "/limit_price");
                let stop = checks.price(stop, "/stop_price", equity);
                let limit = checks.price(limit, "/limit_price", equity);
                Some(Pricing::StopLimit { stop: stop?, limit: limit? })
            }
            TrailingStop => match (self.trail_price, self.trail_percent) {
                (Some(_), Some(_)) | (None, None) => {
                    checks.fail(
                        "/trail_price",
                        "required",
                        "exactly one of trail_price and trail_percent is required",
                    );
                    None
                }
                (price @ Some(_), None) => {
                    let trail = Trail::Price(checks.price(price, "/trail_price", equity)?);
                    Some(Pricing::TrailingStop { trail })
                }
                (None, percent) => {
                    let percent = checks.money(percent, "/trail_percent", Price::new)?;
                    if percent.get() >= Decimal::ONE_HUNDRED {
                        checks.fail("/trail_percent", "too_large", "must be below 100");
                        return None;
                    }
                    Some(Pricing::TrailingStop { trail: Trail::Percent(percent) })
                }
            },
        }
    }
}

fn combination(order: &NewOrder, checks: &mut Checks) {
    use OrderType::{Limit, Market, StopLimit, TrailingStop};
    use TimeInForce::{Cls, Day, Fok, Gtc, Ioc, Opg};
    let order_type = order.pricing.order_type();
    let tif = order.time_in_force;
    let by_part = match order.size {
        OrderSize::Notional(_) => true,
        OrderSize::Qty(qty) => !qty.is_whole(),
    };
    if order.is_crypto() {
        if !matches!(order_type, Market | Limit | StopLimit) {
            checks.fail("/type", "not_allowed", "crypto orders are market, limit or stop_limit");
        }
        if !matches!(tif, Gtc | Ioc) {
            checks.fail("/time_in_force", "not_allowed", "crypto orders are gtc or ioc");
        }
        if order.class != OrderClass::Simple {
            checks.fail("/order_class", "not_allowed", "crypto orders are simple");
        }
    } else if by_part {
        if tif != Day {
            checks.fail("/time_in_force", "not_allowed", "fractional and notional orders must be day orders");
        }
        if order.class != OrderClass::Simple {
            checks.fail(
                "/order_class",
                "not_allowed",
                "fractional and notional orders must be simple orders",
            );
        }
        if order_type == TrailingStop {
            checks.fail("/type", "not_allowed", "a trailing_stop order takes whole units");
        }
    }
    if order.extended_hours && !(order_type == Limit && matches!(tif, Day | Gtc)) {
        checks.fail(
            "/extended_hours",
            "not_allowed",
            "only limit orders that are day or gtc trade in extended hours",
        );
    }
    if matches!(tif, Opg | Cls) && !matches!(order_type, Market | Limit) {
        checks.fail("/time_in_force", "not_allowed", "opg and cls orders are market or limit");
    }
    if matches!(tif, Ioc | Fok) && order_type == TrailingStop {
        checks.fail("/time_in_force", "not_allowed", "trailing_stop orders are day or gtc");
    }
    if order_type == TrailingStop && matches!(tif, Opg | Cls) {
        checks.fail("/type", "not_allowed", "trailing_stop orders are day or gtc");
    }
    if order_type == TrailingStop && order.class != OrderClass::Simple {
        checks.fail("/type", "not_allowed", "a trailing_stop order stands alone");
    }
}

/// Brackets, OCO and OTO: which legs there are, and on which side of each other their prices lie.
fn group(order: &NewOrder, checks: &mut Checks) {
    let (take, stop) = (order.take_profit, order.stop_loss);
    match order.class {
        OrderClass::Simple => {
            checks.absent(take.is_some(), "/take_profit", "a simple order has no legs");
            checks.absent(stop.is_some(), "/stop_loss", "a simple order has no legs");
            return;
        }
        OrderClass::Bracket => {
            checks.require(take, "/take_profit");
            checks.require(stop, "/stop_loss");
        }
        OrderClass::Oco => {
            if order.pricing.order_type() != OrderType::Limit {
                checks.fail("/type", "not_allowed", "an oco order is a limit order");
            }
            checks.require(take, "/take_profit");
            checks.require(stop, "/stop_loss");
        }
        OrderClass::Oto => {
            if take.is_some() == stop.is_some() {
                checks.fail(
                    "/take_profit",
                    "required",
                    "an oto order has exactly one of take_profit and stop_loss",
                );
            }
        }
    }
    if order.extended_hours {
        checks.fail("/extended_hours", "not_allowed", "grouped orders trade in regular hours only");
    }
    if !matches!(order.time_in_force, TimeInForce::Day | TimeInForce::Gtc) {
        checks.fail("/time_in_force", "not_allowed", "grouped orders are day or gtc");
    }
    // Of a long position the exit with gain lies above the exit with loss. An OCO is the exit itself.
    let long = (order.side == Side::Buy) != (order.class == OrderClass::Oco);
    let beyond = |upper: Price, lower: Price| if long { upper > lower } else { upper < lower };
    if let (Some(take), Some(stop)) = (take, stop)
        && !beyond(take, stop.stop)
    {
        checks.fail(
            "/stop_loss/stop_price",
            "wrong_side",
            "the take-profit and the stop-loss are on the wrong sides of each other",
        );
    }
    if let (Some(limit), Some(stop), true) =
        (order.pricing.limit_price(), stop, order.class != OrderClass::Oco)
        && !beyond(limit, stop.stop)
    {
        checks.fail(
            "/stop_loss/stop_price",
            "wrong_side",
            "the stop-loss is not on the losing side of the entry's limit",
        );
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
