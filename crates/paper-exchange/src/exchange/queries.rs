//! Looking orders and assets up.

use uuid::Uuid;

use crate::account::AccountId;
use crate::asset::Asset;
use crate::order::{AssetClass, Direction, Order, OrderId, OrderQuery, StatusFilter};
use crate::record::OrderRecord;
use crate::refusal::Refusal;

use super::Exchange;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

impl Exchange {
    /// One order; `nested` puts its legs inside.
    ///
    /// # Errors
    /// 404 `order not found`.
    pub fn order(&self, account: AccountId, id: OrderId, nested: bool) -> Result<Order, Refusal> {
        let record = self.own(account, id)?;
        Ok(if nested { self.nested(record) } else { record.order.clone() })
    }

    /// One order by its client's id.
    ///
    /// # Errors
    /// 404 `order not found`.
    pub fn order_by_client_id(&self, account: AccountId, client_order_id: &str) -> Result<Order, Refusal> {
        let id = self.account(account)?.by_client_id.get(client_order_id);
        let id = id.copied().ok_or_else(|| Refusal::not_found("order not found"))?;
        self.order(account, id, false)
    }

    /// A list of orders with the Trading API's meaning: by submission, newest first unless asked otherwise, held legs
    /// only in lists of all states, and nested lists without legs on the top level.
    ///
    /// # Errors
    /// 404 for an unknown account, 422 for a limit out of range, an unknown order named as a bound, or bounds that
    /// exclude one another.
    pub fn orders(&self, account: AccountId, query: &OrderQuery) -> Result<Vec<Order>, Refusal> {
        let state = self.account(account)?;
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Refusal::field(format!("limit must be between 1 and {MAX_LIMIT}")));
        }
        let ids = [query.before_order_id, query.after_order_id];
        if ids.iter().all(Option::is_some) {
            return Err(Refusal::field("before_order_id and after_order_id are mutually exclusive"));
        }
        if ids.iter().any(Option::is_some) && (query.after.is_some() || query.until.is_some()) {
            return Err(Refusal::field(
                "before_order_id and after_order_id cannot be used with after or until",
            ));
        }
        let number = |id: Option<OrderId>| -> Result<Option<u64>, Refusal> {
            id.map(|id| self.own(account, id).map(|record| record.number)).transpose()
        };
        let (before, after) = (number(query.before_order_id)?, number(query.after_order_id)?);
        let matches = |record: &&OrderRecord| {
            let order = &record.order;
            let state = match query.status {
                StatusFilter::Open => order.status.is_open(),
                StatusFilter::Closed => order.status.is_final(),
                StatusFilter::All => true,
            };
            state
                && query.after.is_none_or(|after| order.submitted_at > after)
                && query.until.is_none_or(|until| order.submitted_at < until)
                && before.is_none_or(|before| record.number < before)
                && after.is_none_or(|after| record.number > after)
                && (query.symbols.is_empty() || query.symbols.contains(&order.symbol))
                && query.side.is_none_or(|side| side == order.side)
                && query.asset_class.is_none_or(|class| class == order.asset_class)
                && !(query.nested && record.working.parent.is_some())
        };
        // The few open orders have an index of their own; all orders are in the order of submission.
        let ids: Box<dyn DoubleEndedIterator<Item = &OrderId>> = match query.status {
            StatusFilter::Open => Box::new(state.open.values()),
            StatusFilter::Closed | StatusFilter::All => Box::new(state.orders.iter()),
        };
        let records = ids.filter_map(|id| self.orders.get(id));
        let view =
            |record: &OrderRecord| if query.nested { self.nested(record) } else { record.order.clone() };
        let limit = limit as usize;
        Ok(match query.direction {
            Direction::Asc => records.filter(matches).take(limit).map(view).collect(),
            Direction::Desc => records.rev().filter(matches).take(limit).map(view).collect(),
        })
    }

    /// An order with its legs inside; `legs` stays `None` where it has none.
    fn nested(&self, record: &OrderRecord) -> Order {
        let mut order = record.order.clone();
        let Some(group) = order.group_id else { return order };
        let members = self.accounts[&record.account].groups.get(&group).into_iter().flatten();
        let children: Vec<Order> = members
            .filter_map(|id| self.orders.get(id))
            .filter(|leg| leg.working.parent == Some(order.id))
            .map(|leg| leg.order.clone())
            .collect();
        order.legs = (!children.is_empty()).then_some(children);
        order
    }

    /// All assets that are recorded or were met, by symbol.
    pub fn assets(&self, class: Option<AssetClass>) -> Vec<Asset> {
        let mut symbols: Vec<&String> = self.assets.values().collect();
        symbols.sort_unstable();
        symbols
            .into_iter()
            .map(|symbol| Asset::of(symbol))
            .filter(|asset| class.is_none_or(|class| class == asset.class))
            .collect()
    }

    /// An asset by symbol or id.
    ///
    /// # Errors
    /// 404 `asset not found for …`.
    pub fn asset(&self, symbol_or_id: &str) -> Result<Asset, Refusal> {
        let symbol = self.symbol_of(symbol_or_id);
        if self.market.data().knows(&symbol) {
            Ok(Asset::of(&symbol))
        } else {
            Err(Refusal::not_found(format!("asset not found for {symbol_or_id}")))
        }
    }

    /// The symbol meant by a symbol, an asset id, or a coin pair without its slash.
    pub(super) fn symbol_of(&self, text: &str) -> String {
        if let Ok(id) = Uuid::parse_str(text)
            && let Some(symbol) = self.assets.get(&id)
        {
            return symbol.clone();
        }
        if let Some(coin) = text.strip_suffix("USD") {
            let pair = format!("{coin}/USD");
            if self.assets.values().any(|symbol| *symbol == pair) {
                return pair;
            }
        }
        text.to_owned()
    }
}
