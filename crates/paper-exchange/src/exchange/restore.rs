//! An exchange from kept records.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Account, Exchange};
use crate::calendar;
use crate::config::ExchangeConfig;
use crate::ids::{self, Purpose};
use crate::market::MarketData;
use crate::record::{AccountRecord, ExchangeRecord, Execution, OrderRecord, Record};

/// Why records do not make an exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The exchange's own row is missing.
    #[error("the exchange's own record is missing")]
    NoExchange,
    /// An order names an account that is not there.
    #[error("order {order} names account {account}, which has no record")]
    NoAccount {
        /// The order.
        order: Uuid,
        /// The account it names.
        account: Uuid,
    },
    /// An execution names an order that is not there.
    #[error("execution {execution} names order {order}, which has no record")]
    NoOrder {
        /// The execution.
        execution: Uuid,
        /// The order it names.
        order: Uuid,
    },
    /// An order's filled quantity is not the sum of its executions.
    #[error("order {order} is filled with {filled}, its executions sum to {executed}")]
    Unbalanced {
        /// The order.
        order: Uuid,
        /// What the order says.
        filled: rust_decimal::Decimal,
        /// What the executions say.
        executed: rust_decimal::Decimal,
    },
}

impl Exchange {
    /// The exchange that wrote these records; any order will do, older versions of a row are passed over.
    ///
    /// Simulator time goes on from the newest time in the records.
    ///
    /// # Errors
    /// When records are missing or contradict one another.
    pub fn restore(
        config: ExchangeConfig,
        data: MarketData,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Self, RestoreError> {
        let mut own: Option<ExchangeRecord> = None;
        let mut accounts: HashMap<Uuid, AccountRecord> = HashMap::new();
        let mut orders: HashMap<Uuid, OrderRecord> = HashMap::new();
        let mut executions: HashMap<Uuid, Execution> = HashMap::new();
        for record in records {
            match record {
                Record::Exchange(row) if own.as_ref().is_none_or(|kept| kept.seq < row.seq) => {
                    own = Some(row)
                }
                Record::Account(row) if accounts.get(&row.id).is_none_or(|kept| kept.seq < row.seq) => {
                    accounts.insert(row.id, row);
                }
                Record::Order(row) if orders.get(&row.order.id).is_none_or(|kept| kept.seq < row.seq) => {
                    orders.insert(row.order.id, row);
                }
                Record::Execution(row) => {
                    executions.insert(row.id, row);
                }
                _ => {}
            }
        }
        let own = own.ok_or(RestoreError::NoExchange)?;
        let mut exchange = Self::empty(config, data, own.seed, own.epoch, own.now);
        exchange.seq = own.seq;
        for row in accounts.into_values() {
            exchange.seen(row.seq, row.created_at);
            exchange.accounts.insert(row.id, Account::new(row));
        }
        let mut orders: Vec<OrderRecord> = orders.into_values().collect();
        orders.sort_by_key(|row| row.number);
        for row in orders {
            let order = &row.order;
            exchange.seen(row.seq.max(row.number), order.updated_at.max(order.submitted_at));
            if !exchange.accounts.contains_key(&row.account) {
                return Err(RestoreError::NoAccount { order: order.id, account: row.account });
            }
            exchange.assets.insert(order.asset_id, order.symbol.clone());
            exchange.account_mut(row.account).enter(order);
            exchange.index(&row);
            exchange.orders.insert(order.id, row);
        }
        let mut executions: Vec<Execution> = executions.into_values().collect();
        executions.sort_by_key(|row| row.seq);
        exchange.replay(executions)?;
        Ok(exchange)
    }

    fn seen(&mut self, seq: u64, at: chrono::DateTime<chrono::Utc>) {
        self.seq = self.seq.max(seq);
        self.now = self.now.max(at);
        self.stamp = self.stamp.max(at);
    }

    /// Books all executions, with the day's roll in between where it was.
    fn replay(&mut self, executions: Vec<Execution>) -> Result<(), RestoreError> {
        let mut filled: HashMap<Uuid, rust_decimal::Decimal> = HashMap::new();
        for row in &executions {
            if !self.orders.contains_key(&row.order_id) {
                return Err(RestoreError::NoOrder { execution: row.id, order: row.order_id });
            }
            *filled.entry(row.order_id).or_default() += row.qty;
            self.seen(row.seq, row.at);
        }
        for (id, row) in &self.orders {
            let executed = filled.get(id).copied().unwrap_or_default();
            if executed != row.order.filled_qty {
                return Err(RestoreError::Unbalanced { order: *id, filled: row.order.filled_qty, executed });
            }
        }
        // Events that no row records came after their row's counter: leave room, so that no id is given out twice.
        self.seq += SEQ_ROOM;
        self.next_close = calendar::next_close(self.now);
        let rolled = calendar::last_closed(self.now);
        let mut pending = executions.into_iter().peekable();
        while let Some(row) = pending.next_if(|row| row.at <= rolled.close()) {
            self.book(row);
        }
        self.roll(rolled);
        pending.for_each(|row| self.book(row));
        Ok(())
    }

    pub(super) fn book(&mut self, execution: Execution) {
        let index = self.executions.len();
        self.account_mut(execution.account).book(&execution, index);
        self.executions.push(execution);
    }

    /// A new id; `purpose` keeps ids of one counter apart.
    pub(super) fn new_id(&self, purpose: Purpose, counter: u64) -> Uuid {
        ids::uuid(self.seed, purpose, counter)
    }
}

/// Most events that one command or timer sends after the last row it writes.
const SEQ_ROOM: u64 = 16;
