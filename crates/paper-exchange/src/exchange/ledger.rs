//! An account's books: cash and holdings follow from its executions alone.

use std::collections::{BTreeMap, HashMap};

use rust_decimal::Decimal;
use uuid::Uuid;

use crate::order::{Order, OrderId};
use crate::record::{AccountRecord, Execution};

/// A holding of one symbol. Signs: negative when short.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) qty: Decimal,
    /// Dollars paid (long) or, negative, received (short) for what is held now.
    pub(super) cost: Decimal,
    /// The same, but with what was held at the last close at that close's price.
    pub(super) day_cost: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) record: AccountRecord,
    pub(super) cash: Decimal,
    pub(super) holdings: BTreeMap<String, Holding>,
    /// All orders in the order of submission.
    pub(super) orders: Vec<OrderId>,
    /// Orders that are not final, by number.
    pub(super) open: BTreeMap<u64, OrderId>,
    pub(super) by_client_id: HashMap<String, OrderId>,
    /// Members of each group, in the order of submission.
    pub(super) groups: HashMap<Uuid, Vec<OrderId>>,
    /// Indices into the exchange's executions.
    pub(super) executions: Vec<usize>,
    pub(super) last_equity: Decimal,
    pub(super) last_maintenance: Decimal,
}

impl Account {
    pub(super) fn new(record: AccountRecord) -> Self {
        let cash = record.deposit;
        Self {
            record,
            cash,
            holdings: BTreeMap::new(),
            orders: Vec::new(),
            open: BTreeMap::new(),
            by_client_id: HashMap::new(),
            groups: HashMap::new(),
            executions: Vec::new(),
            last_equity: cash,
            last_maintenance: Decimal::ZERO,
        }
    }

    /// Signed shares held.
    pub(super) fn position(&self, symbol: &str) -> Decimal {
        self.holdings.get(symbol).map_or(Decimal::ZERO, |holding| holding.qty)
    }

    /// Enters a new order.
    pub(super) fn enter(&mut self, order: &Order) {
        self.orders.push(order.id);
        self.by_client_id.insert(order.client_order_id.clone(), order.id);
        if let Some(group) = order.group_id {
            self.groups.entry(group).or_default().push(order.id);
        }
    }

    /// Books an execution.
    pub(super) fn book(&mut self, execution: &Execution, index: usize) {
        let signed = execution.side.signed(execution.qty);
        self.cash -= signed * execution.price;
        let holding = self.holdings.entry(execution.symbol.clone()).or_default();
        holding.trade(signed, execution.price);
        if holding.qty.is_zero() {
            self.holdings.remove(&execution.symbol);
        }
        self.executions.push(index);
    }
}

impl Holding {
    fn trade(&mut self, signed: Decimal, price: Decimal) {
        let closing = !self.qty.is_zero() && self.qty.is_sign_negative() != signed.is_sign_negative();
        if !closing {
            self.qty += signed;
            self.cost += signed * price;
            self.day_cost += signed * price;
            return;
        }
        let left = self.qty + signed;
        if left.is_zero() || left.is_sign_negative() == self.qty.is_sign_negative() {
            self.cost = self.cost * left / self.qty;
            self.day_cost = self.day_cost * left / self.qty;
        } else {
            // Through zero: what remains was opened at this price.
            self.cost = left * price;
            self.day_cost = left * price;
        }
        self.qty = left;
    }

    /// Average price of what is held.
    pub(super) fn average(&self) -> Decimal {
        if self.qty.is_zero() { Decimal::ZERO } else { self.cost / self.qty }
    }
}
