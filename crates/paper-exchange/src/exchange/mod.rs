//! The matching engine.
//!
//! One value holds all accounts. Commands check and change it at once; what takes time (acknowledgements, cancels,
//! fills, expiry) happens in [`Exchange::advance`], in the order of simulator time.

mod advance;
mod amend;
mod close;
mod groups;
mod history;
mod ledger;
mod limits;
mod matching;
mod queries;
mod restore;
mod rules;
mod submit;
mod valuation;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::account::{AccountId, Configurations, ConfigurationsPatch};
use crate::calendar;
use crate::config::ExchangeConfig;
use crate::ids::{self, Purpose};
use crate::market::{Market, MarketData, Quote};
use crate::order::{OrderId, OrderStatus};
use crate::record::{
    AccountRecord, Change, EventKind, ExchangeRecord, Execution, OrderRecord, Record, TradeEvent, TradeUpdate,
};
use crate::refusal::Refusal;

use ledger::Account;
pub use restore::RestoreError;

/// Decimal places of crypto and fractional quantities.
const QTY_DECIMALS: u32 = 9;

/// A paper exchange; see the crate's documentation.
#[derive(Debug)]
pub struct Exchange {
    config: ExchangeConfig,
    market: Market,
    seed: u64,
    epoch: NaiveDate,
    /// Counter behind ids; the newest one used.
    seq: u64,
    now: DateTime<Utc>,
    /// The newest stamp given out; stamps strictly increase.
    stamp: DateTime<Utc>,
    /// The next close whose day is still to be rolled.
    next_close: DateTime<Utc>,
    /// The next start or end of a part of the day, not yet stopped at; looked for while orders are open.
    next_boundary: Option<DateTime<Utc>>,
    accounts: BTreeMap<AccountId, Account>,
    orders: HashMap<OrderId, OrderRecord>,
    executions: Vec<Execution>,
    /// Orders that are not final, by symbol and number.
    live: BTreeMap<String, BTreeMap<u64, OrderId>>,
    /// Times at which an order is due; an entry that its order no longer names is stale.
    timers: BTreeSet<(DateTime<Utc>, u64, OrderId)>,
    /// Symbols met so far, by asset id.
    assets: BTreeMap<Uuid, String>,
    changes: Vec<Change>,
}

impl Exchange {
    /// A new exchange at simulator time `start`, whose trading day (or the next) shows every symbol's first recorded day.
    pub fn new(config: ExchangeConfig, data: MarketData, seed: u64, start: DateTime<Utc>) -> Self {
        let epoch = calendar::TradingDay::from_date(calendar::date_of(start)).date;
        let mut exchange = Self::empty(config, data, seed, epoch, micros(start));
        let record = ExchangeRecord { seq: exchange.next_seq(), seed, epoch, now: exchange.now };
        exchange.changes.push(Change::Record(Record::Exchange(record)));
        exchange
    }

    fn empty(
        config: ExchangeConfig,
        data: MarketData,
        seed: u64,
        epoch: NaiveDate,
        now: DateTime<Utc>,
    ) -> Self {
        let assets = data.symbols().into_iter().map(|symbol| (ids::asset_id(&symbol), symbol)).collect();
        Self {
            market: Market::new(data, epoch, &config),
            config,
            seed,
            epoch,
            seq: 0,
            now,
            stamp: now,
            next_close: calendar::next_close(now),
            next_boundary: None,
            accounts: BTreeMap::new(),
            orders: HashMap::new(),
            executions: Vec::new(),
            live: BTreeMap::new(),
            timers: BTreeSet::new(),
            assets,
            changes: Vec::new(),
        }
    }

    /// Simulator time reached.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// The trading day that shows every symbol's first recorded day.
    pub fn epoch(&self) -> NaiveDate {
        self.epoch
    }

    /// Prices.
    pub fn market(&self) -> &Market {
        &self.market
    }

    /// Bid and ask now; `None` for an unknown symbol.
    pub fn quote(&self, symbol: &str) -> Option<Quote> {
        self.market.quote(symbol, self.now)
    }

    /// Everything that happened since the last call, in order.
    pub fn drain(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Opens an account with `cash` dollars (`None`: the configured amount).
    pub fn create_account(&mut self, cash: Option<Decimal>, now: DateTime<Utc>) -> AccountId {
        self.advance(now);
        let seq = self.next_seq();
        let record = AccountRecord {
            seq,
            id: ids::uuid(self.seed, Purpose::Account, seq),
            number: ids::account_number(self.seed, seq),
            created_at: self.tick(),
            deposit: cash.unwrap_or(self.config.starting_cash).normalize(),
            configurations: Configurations::default(),
        };
        let id = record.id;
        self.changes.push(Change::Record(Record::Account(record.clone())));
        self.accounts.insert(id, Account::new(record));
        id
    }

    /// All accounts.
    pub fn accounts(&self) -> Vec<AccountId> {
        self.accounts.keys().copied().collect()
    }

    /// The owner's settings.
    ///
    /// # Errors
    /// 404 for an unknown account.
    pub fn configurations(&self, account: AccountId) -> Result<Configurations, Refusal> {
        Ok(self.account(account)?.record.configurations.clone())
    }

    /// Changes the owner's settings.
    ///
    /// # Errors
    /// 404 for an unknown account, 422 for a value out of range; nothing is changed then.
    pub fn configure(
        &mut self,
        account: AccountId,
        patch: ConfigurationsPatch,
        now: DateTime<Utc>,
    ) -> Result<Configurations, Refusal> {
        self.advance(now);
        let mut next = self.configurations(account)?;
        if let Some(multiplier) = patch.max_margin_multiplier {
            if !["1", "2", "4"].contains(&multiplier.as_str()) {
                return Err(Refusal::field("max_margin_multiplier must be 1, 2 or 4"));
            }
            next.max_margin_multiplier = multiplier;
        }
        if let Some(mail) = patch.trade_confirm_email {
            if !["all", "none"].contains(&mail.as_str()) {
                return Err(Refusal::field("trade_confirm_email must be all or none"));
            }
            next.trade_confirm_email = mail;
        }
        if let Some(level) = patch.max_options_trading_level {
            next.max_options_trading_level = Some(level);
        }
        let flags = [
            (&mut next.disable_overnight_trading, patch.disable_overnight_trading),
            (&mut next.fractional_trading, patch.fractional_trading),
            (&mut next.no_shorting, patch.no_shorting),
            (&mut next.ptp_no_exception_entry, patch.ptp_no_exception_entry),
            (&mut next.suspend_trade, patch.suspend_trade),
        ];
        for (flag, value) in flags {
            *flag = value.unwrap_or(*flag);
        }
        let seq = self.next_seq();
        let state = self.account_mut(account);
        state.record.configurations = next.clone();
        state.record.seq = seq;
        let record = state.record.clone();
        self.changes.push(Change::Record(Record::Account(record)));
        Ok(next)
    }

    /// Every order of every account, in the order of submission.
    pub fn ledger_orders(&self) -> impl Iterator<Item = &OrderRecord> {
        let mut all: Vec<&OrderRecord> = self.orders.values().collect();
        all.sort_by_key(|record| record.number);
        all.into_iter()
    }

    /// Every execution of every account, oldest first.
    pub fn executions(&self) -> impl Iterator<Item = &Execution> {
        self.executions.iter()
    }

    fn account(&self, id: AccountId) -> Result<&Account, Refusal> {
        self.accounts.get(&id).ok_or_else(|| Refusal::not_found("account not found"))
    }

    fn account_mut(&mut self, id: AccountId) -> &mut Account {
        self.accounts.get_mut(&id).expect("orders and callers name accounts that were looked up before")
    }

    fn record(&self, id: OrderId) -> OrderRecord {
        self.orders.get(&id).expect("orders are never removed").clone()
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// A stamp that no other event has: now, or a microsecond after the stamp before.
    fn tick(&mut self) -> DateTime<Utc> {
        self.stamp = self.now.max(self.stamp + TimeDelta::microseconds(1));
        self.stamp
    }

    /// Stores an order and everything that follows from it, and notes the row.
    fn save(&mut self, mut record: OrderRecord) {
        record.seq = self.next_seq();
        record.order.updated_at = self.tick();
        self.index(&record);
        self.changes.push(Change::Record(Record::Order(record.clone())));
        self.orders.insert(record.order.id, record);
    }

    /// Keeps the look-ups of open orders and timers in step with an order.
    fn index(&mut self, record: &OrderRecord) {
        let (id, number) = (record.order.id, record.number);
        if record.order.status.is_final() {
            if let Some(orders) = self.live.get_mut(&record.order.symbol) {
                orders.remove(&number);
                if orders.is_empty() {
                    self.live.remove(&record.order.symbol);
                }
            }
            self.account_mut(record.account).open.remove(&number);
            return;
        }
        self.live.entry(record.order.symbol.clone()).or_default().insert(number, id);
        self.account_mut(record.account).open.insert(number, id);
        for at in [record.working.due, record.working.retry_at].into_iter().flatten() {
            self.timers.insert((at, number, id));
        }
    }

    /// Sends an event without an execution.
    fn emit(&mut self, id: OrderId, event: EventKind, reason: Option<&str>) {
        self.emit_event(id, event, reason, None);
    }

    fn emit_event(&mut self, id: OrderId, event: EventKind, reason: Option<&str>, fill: Option<&Execution>) {
        let seq = match fill {
            Some(execution) => execution.seq,
            None => self.next_seq(),
        };
        let record = self.orders.get(&id).expect("orders are never removed");
        let execution_id =
            (event != EventKind::PendingNew).then(|| ids::uuid(self.seed, Purpose::Execution, seq));
        let data = TradeEvent {
            event,
            execution_id,
            order: record.order.clone(),
            timestamp: self.now,
            price: fill.map(|execution| execution.price),
            qty: fill.map(|execution| execution.qty),
            position_qty: fill.map(|execution| execution.position_qty),
            reason: reason.map(str::to_owned),
        };
        let update = TradeUpdate { seq, account: record.account, data };
        self.changes.push(Change::Update(update));
    }

    /// Ends an order, tells its stream, and ends what depends on it.
    fn finish(&mut self, id: OrderId, status: OrderStatus, reason: Option<&str>) {
        let mut record = self.record(id);
        if record.order.status.is_final() {
            return;
        }
        let at = Some(self.now);
        let event = match status {
            OrderStatus::Expired => {
                record.order.expired_at = at;
                EventKind::Expired
            }
            OrderStatus::Rejected => {
                record.order.failed_at = at;
                EventKind::Rejected
            }
            _ => {
                record.order.canceled_at = at;
                EventKind::Canceled
            }
        };
        record.order.status = status;
        let successor = record.working.successor.take();
        record.working.live = false;
        record.working.due = None;
        record.working.retry_at = None;
        let successor_of = record.order.replaces.filter(|old| self.is_successor(*old, id));
        let group = record.order.group_id;
        let account = record.account;
        self.save(record);
        self.emit(id, event, reason);
        if let Some(successor) = successor {
            self.drop_successor(id, successor);
        }
        // A replacement that never took over leaves the group to the order it should have replaced.
        if successor_of.is_none()
            && let Some(group) = group
        {
            self.end_group(account, group, status);
        }
    }

    fn is_successor(&self, old: OrderId, new: OrderId) -> bool {
        self.orders.get(&old).is_some_and(|record| record.working.successor == Some(new))
    }

    /// Rejects the replacement that waited for an order that ended first.
    fn drop_successor(&mut self, old: OrderId, successor: OrderId) {
        self.emit(old, EventKind::OrderReplaceRejected, Some("TOO_LATE_TO_REPLACE"));
        let mut record = self.record(successor);
        if record.order.status.is_final() {
            return;
        }
        record.order.status = OrderStatus::Rejected;
        record.order.failed_at = Some(self.now);
        record.working.live = false;
        record.working.due = None;
        self.save(record);
        self.emit(successor, EventKind::Rejected, Some("TOO_LATE_TO_REPLACE"));
    }
}

/// Microseconds, as a database keeps them.
fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros())
        .expect("an instant's own microseconds are in range")
}
