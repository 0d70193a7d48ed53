//! Taking new orders.

use chrono::{DateTime, Days, Utc};
use rust_decimal::Decimal;

use crate::account::AccountId;
use crate::asset::Asset;
use crate::calendar::{self, Session, TradingDay};
use crate::ids::Purpose;
use crate::order::{
    AssetClass, GroupRole, NewOrder, Order, OrderClass, OrderId, OrderStatus, OrderType, PositionIntent,
    Side, TimeInForce,
};
use crate::record::{EventKind, OrderRecord, Working};
use crate::refusal::Refusal;

use super::limits::Candidate;
use super::{Exchange, rules};

/// Days after which a gtc order is canceled.
const GTC_DAYS: u64 = 90;

impl Exchange {
    /// Checks an order and takes it. The answer is the order as accepted, `pending_new` or `accepted`, with its legs
    /// where it has some; what becomes of it happens in [`Exchange::advance`].
    ///
    /// # Errors
    /// The first rule that it breaks, in the order: account, asset, combination rules, client id, wash trade,
    /// quantity and shorting, buying power. Nothing of a refused order remains.
    pub fn submit(
        &mut self,
        account: AccountId,
        order: NewOrder,
        now: DateTime<Utc>,
    ) -> Result<Order, Refusal> {
        self.advance(now);
        if self.account(account)?.record.configurations.suspend_trade {
            return Err(Refusal::forbidden("trading is suspended by user"));
        }
        let asset = self.asset_for_order(&order.symbol)?;
        let mut order = order;
        if order.order_class == OrderClass::Oco
            && let Some(limit) = order.take_profit.as_ref().and_then(|leg| leg.limit_price)
        {
            order.limit_price = Some(limit);
        }
        order.client_order_id = order.client_order_id.filter(|id| !id.is_empty());
        let (intent, collar) = self.check_new(account, &order, &asset)?;
        self.assets.insert(asset.id, asset.symbol.clone());
        let id = self.place(account, order, &asset, intent, collar);
        self.order(account, id, self.orders[&id].order.group_id.is_some())
    }

    fn asset_for_order(&self, symbol: &str) -> Result<Asset, Refusal> {
        let unknown = || Refusal::rule(format!("asset \"{symbol}\" not found"));
        let asset = self.asset(symbol).map_err(|_| unknown())?;
        if asset.tradable { Ok(asset) } else { Err(Refusal::field(format!("asset {symbol} is not active"))) }
    }

    /// All checks of a new order; its intent, and the limit that a market buy is held under.
    fn check_new(
        &self,
        account: AccountId,
        order: &NewOrder,
        asset: &Asset,
    ) -> Result<(PositionIntent, Option<Decimal>), Refusal> {
        let quote = self
            .quote(&asset.symbol)
            .ok_or_else(|| Refusal::rule(format!("asset \"{}\" not found", asset.symbol)))?;
        let state = self.account(account)?;
        let context = rules::Context {
            asset,
            configurations: &state.record.configurations,
            last: quote.last,
            ask: quote.ask,
            now: self.now,
        };
        rules::check(order, &context)?;
        let intent = self.intent(account, &asset.symbol, order.side)?;
        if let Some(specified) = order.position_intent
            && specified != intent
        {
            return Err(Refusal::rule(format!(
                "position intent mismatch, inferred: {intent}, specified: {specified}"
            )));
        }
        match order.order_class {
            OrderClass::Oco if !intent.closes() => {
                return Err(Refusal::rule("oco orders must be exit orders"));
            }
            OrderClass::Bracket | OrderClass::Oto if intent.closes() => {
                return Err(Refusal::rule(format!("{} orders must be entry orders", order.order_class)));
            }
            _ => {}
        }
        if order.client_order_id.as_ref().is_some_and(|id| state.by_client_id.contains_key(id)) {
            return Err(Refusal::field("client_order_id must be unique"));
        }
        self.check_limits(&Candidate::of(account, order, asset.class, &quote), intent)?;
        let collared = order.kind == OrderType::Market && order.side == Side::Buy && !intent.closes();
        Ok((intent, collared.then(|| super::limits::collar(quote.ask))))
    }

    /// Makes the rows of a checked order and its legs, and tells the stream.
    fn place(
        &mut self,
        account: AccountId,
        order: NewOrder,
        asset: &Asset,
        intent: PositionIntent,
        collar: Option<Decimal>,
    ) -> OrderId {
        let works = may_work(asset.class, order.extended_hours, order.time_in_force, self.now);
        let mut top = self.blank(account, asset, order.side, order.kind, order.time_in_force);
        let complex = order.order_class != OrderClass::Simple;
        let group = complex.then(|| self.new_id(Purpose::Group, top.number));
        if let Some(id) = order.client_order_id {
            top.order.client_order_id = id;
        }
        top.order.qty = order.qty.map(|qty| qty.normalize());
        top.order.notional = order.notional.map(|notional| notional.normalize());
        top.order.limit_price = order.limit_price.map(|price| price.normalize());
        top.order.stop_price = order.stop_price.map(|price| price.normalize());
        top.order.trail_price = order.trail_price.map(|price| price.normalize());
        top.order.trail_percent = order.trail_percent.map(|percent| percent.normalize());
        top.order.extended_hours = order.extended_hours;
        top.order.order_class = order.order_class;
        top.order.position_intent = intent;
        top.order.group_id = group;
        top.order.group_role = complex.then_some(match order.order_class {
            OrderClass::Oco => GroupRole::TakeProfit,
            _ => GroupRole::Entry,
        });
        top.order.expires_at = self.expiry(&top.order);
        top.order.status = if works { OrderStatus::PendingNew } else { OrderStatus::Accepted };
        top.working.collar = collar.map(|price| price.normalize());
        top.working.due = works.then(|| self.now + self.config.ack_delay());
        let id = top.order.id;
        let entry = top.order.clone();
        self.enter(top);

        let exit = if order.order_class == OrderClass::Oco { order.side } else { order.side.opposite() };
        let take_profit = order.take_profit.filter(|_| order.order_class != OrderClass::Oco);
        if let Some(limit) = take_profit.and_then(|leg| leg.limit_price) {
            let mut leg = self.leg(account, asset, &entry, exit, OrderType::Limit);
            leg.order.limit_price = Some(limit.normalize());
            leg.order.group_role = Some(GroupRole::TakeProfit);
            self.enter(leg);
        }
        if let Some(stop_loss) = order.stop_loss {
            let kind = if stop_loss.limit_price.is_some() { OrderType::StopLimit } else { OrderType::Stop };
            let mut leg = self.leg(account, asset, &entry, exit, kind);
            leg.order.stop_price = stop_loss.stop_price.map(|price| price.normalize());
            leg.order.limit_price = stop_loss.limit_price.map(|price| price.normalize());
            leg.order.group_role = Some(GroupRole::StopLoss);
            self.enter(leg);
        }
        let event = if works { EventKind::PendingNew } else { EventKind::Accepted };
        self.emit(id, event, None);
        id
    }

    fn leg(
        &mut self,
        account: AccountId,
        asset: &Asset,
        entry: &Order,
        side: Side,
        kind: OrderType,
    ) -> OrderRecord {
        let mut leg = self.blank(account, asset, side, kind, entry.time_in_force);
        leg.order.qty = entry.qty;
        leg.order.order_class = entry.order_class;
        leg.order.group_id = entry.group_id;
        leg.order.expires_at = entry.expires_at;
        leg.order.status = OrderStatus::Held;
        leg.order.position_intent = match side {
            Side::Buy => PositionIntent::BuyToClose,
            Side::Sell => PositionIntent::SellToClose,
        };
        leg.working.parent = Some(entry.id);
        leg
    }

    /// A row with new ids and stamps and nothing else.
    pub(super) fn blank(
        &mut self,
        account: AccountId,
        asset: &Asset,
        side: Side,
        kind: OrderType,
        time_in_force: TimeInForce,
    ) -> OrderRecord {
        let number = self.next_seq();
        let at = self.tick();
        let order = Order {
            id: self.new_id(Purpose::Order, number),
            client_order_id: self.new_id(Purpose::ClientOrder, number).to_string(),
            created_at: at,
            updated_at: at,
            submitted_at: at,
            filled_at: None,
            expired_at: None,
            canceled_at: None,
            failed_at: None,
            replaced_at: None,
            replaced_by: None,
            replaces: None,
            asset_id: asset.id,
            symbol: asset.symbol.clone(),
            asset_class: asset.class,
            notional: None,
            qty: None,
            filled_qty: Decimal::ZERO,
            filled_avg_price: None,
            order_class: OrderClass::Simple,
            order_type: kind,
            kind,
            side,
            position_intent: PositionIntent::BuyToOpen,
            time_in_force,
            limit_price: None,
            stop_price: None,
            status: OrderStatus::PendingNew,
            extended_hours: false,
            legs: None,
            trail_percent: None,
            trail_price: None,
            hwm: None,
            subtag: None,
            source: None,
            expires_at: None,
            group_id: None,
            group_role: None,
        };
        OrderRecord { seq: number, number, account, order, working: Working::default() }
    }

    /// Enters a new row in its account's books.
    pub(super) fn enter(&mut self, record: OrderRecord) {
        self.account_mut(record.account).enter(&record.order);
        self.save(record);
    }

    /// When the exchange ends an order by itself.
    pub(super) fn expiry(&self, order: &Order) -> Option<DateTime<Utc>> {
        let today = TradingDay::from_date(calendar::date_of(self.now));
        let end = |day: TradingDay| if order.extended_hours { day.after_close() } else { day.close() };
        match order.time_in_force {
            TimeInForce::Gtc => {
                Some(end(TradingDay::from_date(calendar::date_of(self.now) + Days::new(GTC_DAYS))))
            }
            _ if end(today) > self.now => Some(end(today)),
            _ => Some(end(today.next())),
        }
    }
}

/// Whether an order can be taken by the market now; if not, it waits as `accepted`.
pub(super) fn may_work(
    class: AssetClass,
    extended: bool,
    time_in_force: TimeInForce,
    now: DateTime<Utc>,
) -> bool {
    if class == AssetClass::Crypto {
        return true;
    }
    if time_in_force == TimeInForce::Opg {
        return false;
    }
    match calendar::session_of(now) {
        Session::Regular => true,
        Session::Pre | Session::After => extended,
        Session::Closed => false,
    }
}
