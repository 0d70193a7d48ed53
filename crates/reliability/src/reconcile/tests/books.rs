//! Books in memory, by the domain's own rules.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::broker::{AccountMovement, BoxFuture, BrokerOrder};
use plimsoll_core_domain::fill::{Booking, Execution, FillBook, make_room};
use plimsoll_core_domain::order::{Environment, External, NewOrder, Order, OrderStatus};
use plimsoll_core_domain::position::Position;
use plimsoll_core_domain::{AccountId, BrokerOrderId, OrderId, Quantity, UserId};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::super::{
    Adopted, Applied, Books, BooksError, Class, Held, Lack, Missing, OrderNews, Outcome, Reported, Snapshot,
    Standing,
};
use super::broker::time;
use crate::testing::FakeBroker;

#[derive(Default)]
pub(super) struct State {
    pub(super) orders: BTreeMap<OrderId, Order>,
    pub(super) fills: HashMap<OrderId, Vec<Execution>>,
    /// What is held beside the fills.
    pub(super) opening: BTreeMap<String, Decimal>,
    opening_cost: Decimal,
    movements: Vec<AccountMovement>,
    moved: HashMap<String, Decimal>,
    base: Option<(Decimal, Decimal, i64)>,
    pub(super) missing: HashMap<OrderId, Missing>,
    pub(super) opened: bool,
    pub(super) now: i64,
    pub(super) left: Vec<OrderId>,
    /// Runs once, before the next answer about an order.
    pub(super) meanwhile: Option<Meanwhile>,
}

/// The books.
#[derive(Default)]
pub(super) struct MemoryBooks(pub(super) Mutex<State>);

type Meanwhile = Box<dyn FnOnce(&mut State) + Send>;

const ACCOUNT: AccountId = AccountId(3);

impl State {
    /// An order of ours as it was accepted.
    pub(super) fn place(&mut self, client_id: &str, terms: &NewOrder, status: OrderStatus) -> OrderId {
        let id = OrderId(Uuid::from_u128(self.orders.len() as u128 + 1));
        let seen = FakeBroker::taken("x", client_id, terms, time(0));
        let mut order = Order::external(of(id, true), &seen, time(0)).unwrap();
        (order.status, order.broker, order.broker_order_id) = (status, None, None);
        self.orders.insert(id, order);
        self.fills.insert(id, Vec::new());
        id
    }

    pub(super) fn find(&self, seen: &BrokerOrder) -> Option<OrderId> {
        let mut all = self.orders.values();
        all.find(|one| {
            one.broker_order_id.as_ref() == Some(&seen.id)
                || one.client_order_id.as_str() == seen.client_order_id
        })
        .map(|one| one.id)
    }

    pub(super) fn apply(&mut self, report: &Reported) -> Applied {
        let Some(id) = self.find(&report.seen) else { return Applied::Unknown };
        let now = time(self.now);
        let before = self.orders[&id].clone();
        match fold(&before, &self.fills[&id], report, now) {
            Ok((after, fills, replaced)) => {
                let news = OrderNews {
                    id,
                    symbol: before.terms.symbol.clone(),
                    from: before.status,
                    to: after.status,
                    filled: (before.filled_qty, after.filled_qty),
                    unbooked: after.unbooked_qty(),
                    replaced,
                };
                self.orders.insert(id, after);
                self.fills.insert(id, fills);
                Applied::Known(Box::new(news))
            }
            Err(why) => Applied::Contradiction {
                order: id,
                symbol: before.terms.symbol.clone(),
                status: before.status,
                why,
            },
        }
    }

    pub(super) fn positions(&self) -> BTreeMap<String, Position> {
        let mut all: Vec<(&Order, &Execution)> = self
            .fills
            .iter()
            .flat_map(|(id, fills)| fills.iter().map(|one| (&self.orders[id], one)))
            .collect();
        all.sort_by_key(|(order, one)| (one.executed_at, order.id, one.cum_qty.get()));
        let mut positions: BTreeMap<String, Position> = BTreeMap::new();
        for (order, one) in all {
            let position = positions.entry(order.terms.symbol.to_string()).or_default();
            position.apply(order.terms.side, one.qty, one.price).unwrap();
        }
        for (symbol, qty) in self.opening.iter().chain(&self.moved) {
            positions.entry(symbol.clone()).or_default().qty += qty;
        }
        positions
    }

    fn standing(&self) -> Standing {
        let mut flow = Decimal::ZERO;
        for (id, fills) in &self.fills {
            let side = self.orders[id].terms.side;
            flow -= fills.iter().map(|one| side.signed(one.qty.get() * one.price.get())).sum::<Decimal>();
        }
        let held = self
            .positions()
            .into_iter()
            .map(|(symbol, position)| Held { symbol, qty: position.qty, cost_basis: position.cost_basis })
            .collect();
        let ledger = self.movements.len() as i64;
        let since = |base: i64| -> Decimal {
            self.movements[usize::try_from(base).unwrap()..].iter().map(|row| row.amount).sum()
        };
        let cash = self.base.map(|(cash, base, seq)| cash + flow - base + since(seq));
        Standing { held, flow, ledger, cash }
    }
}

fn of(id: OrderId, ours: bool) -> External {
    External { id, account_id: ACCOUNT, user_id: UserId(7), environment: Environment::Paper, ours }
}

fn fold(
    before: &Order,
    booked: &[Execution],
    report: &Reported,
    now: DateTime<Utc>,
) -> Result<(Order, Vec<Execution>, u32), String> {
    let (mut after, mut fills, mut replaced) = (before.clone(), booked.to_vec(), 0);
    after.observe(&report.seen, now).map_err(|why| why.to_string())?;
    if let Some(next) =
        make_room(&fills, &report.executions, after.terms.qty()).map_err(|why| why.to_string())?
    {
        after.rebook(&next, now).map_err(|why| why.to_string())?;
        replaced = u32::try_from(fills.iter().filter(|one| !next.contains(one)).count()).unwrap();
        fills = next;
    }
    let mut book = FillBook::new(fills.iter().map(|one| (one.qty.get(), one.cum_qty.get())));
    for one in &report.executions {
        if after.book(&mut book, one, now).map_err(|why| why.to_string())?.0 == Booking::New {
            fills.push(one.clone());
        }
    }
    Ok((after, fills, replaced))
}

impl MemoryBooks {
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }

    /// Keeps what a run noted, as the store does.
    pub(super) fn note(&self, outcome: &Outcome) {
        self.with(|state| {
            let now = time(state.now);
            let mut missing = HashMap::new();
            for finding in &outcome.findings {
                if let Some(id) = finding.subject.order()
                    && finding.case.rule().class == Class::Timing
                {
                    let known = state.missing.get(&id).copied();
                    let since = known.map_or(now, |known| known.since);
                    missing.insert(id, Missing { since, looks: known.map_or(1, |known| known.looks + 1) });
                }
            }
            state.missing = missing;
            state.opened = true;
        });
    }

    fn answer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> T,
    ) -> BoxFuture<'static, Result<T, BooksError>> {
        let answer = self.with(work);
        Box::pin(async { Ok(answer) })
    }
}

impl Books for MemoryBooks {
    fn now(&self) -> DateTime<Utc> {
        self.with(|state| time(state.now))
    }
    fn claim<'a>(&'a self, number: &'a str) -> BoxFuture<'a, Result<bool, BooksError>> {
        self.answer(|_| number == "one")
    }
    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, BooksError>> {
        self.answer(|state| Snapshot {
            open: state.orders.values().filter(|one| one.status.is_open()).cloned().collect(),
            last_execution: state.fills.values().flatten().map(|one| one.executed_at).max(),
            opening: !state.opened,
            missing: state.missing.clone(),
            compared_at: None,
        })
    }
    fn order(&self, id: OrderId) -> BoxFuture<'_, Result<Option<Order>, BooksError>> {
        self.answer(|state| {
            if let Some(work) = state.meanwhile.take() {
                work(state);
            }
            state.orders.get(&id).cloned()
        })
    }
    fn unknown(
        &self,
        ids: Vec<(BrokerOrderId, String)>,
    ) -> BoxFuture<'_, Result<HashSet<BrokerOrderId>, BooksError>> {
        self.answer(|state| {
            let here = |id: &BrokerOrderId, client: &str| {
                state.orders.values().any(|one| {
                    one.broker_order_id.as_ref() == Some(id) || one.client_order_id.as_str() == client
                })
            };
            ids.into_iter().filter(|(id, client)| !here(id, client)).map(|(id, _)| id).collect()
        })
    }
    fn lacking(
        &self,
        fills: Vec<(BrokerOrderId, Vec<Quantity>)>,
    ) -> BoxFuture<'_, Result<HashMap<BrokerOrderId, Lack>, BooksError>> {
        self.answer(|state| {
            let lack = |id: &BrokerOrderId, sums: &[Quantity]| {
                let known = state.orders.values().find(|one| one.broker_order_id.as_ref() == Some(id));
                let Some(known) = known else { return Some(Lack::Order) };
                let booked = &state.fills[&known.id];
                let has = |sum: &Quantity| booked.iter().any(|one| one.cum_qty.get() == sum.get());
                (!sums.iter().all(has)).then_some(Lack::Fills)
            };
            fills.into_iter().filter_map(|(id, sums)| lack(&id, &sums).map(|lack| (id, lack))).collect()
        })
    }
    fn apply(&self, report: Reported) -> BoxFuture<'_, Result<Applied, BooksError>> {
        self.answer(|state| state.apply(&report))
    }
    fn adopt<'a>(&'a self, seen: &'a BrokerOrder, ours: bool) -> BoxFuture<'a, Result<Adopted, BooksError>> {
        self.answer(|state| {
            if state.find(seen).is_some() {
                return Adopted::Known;
            }
            let id = OrderId(Uuid::from_u128(state.orders.len() as u128 + 1));
            match Order::external(of(id, ours), seen, time(state.now)) {
                Ok(order) => {
                    state.orders.insert(id, order);
                    state.fills.insert(id, Vec::new());
                    Adopted::Taken(id)
                }
                Err(what) => Adopted::Unreadable(what.to_owned()),
            }
        })
    }
    fn is_ours(&self, client_order_id: &str) -> bool {
        client_order_id.starts_with("plm-")
    }
    fn leave_to_a_job(&self, order: OrderId) -> BoxFuture<'_, Result<(), BooksError>> {
        self.answer(|state| state.left.push(order))
    }
    fn standing(&self) -> BoxFuture<'_, Result<Standing, BooksError>> {
        self.answer(|state| state.standing())
    }
    fn adopt_opening(&self, held: Vec<Held>) -> BoxFuture<'_, Result<(), BooksError>> {
        self.answer(|state| {
            for one in held {
                state.opening_cost += one.cost_basis;
                *state.opening.entry(one.symbol).or_default() += one.qty;
            }
        })
    }
    fn book_movements(
        &self,
        rows: Vec<AccountMovement>,
        moves: HashSet<String>,
    ) -> BoxFuture<'_, Result<(), BooksError>> {
        self.answer(|state| {
            for row in rows {
                if moves.contains(&row.id) {
                    let symbol = row.symbol.clone().unwrap();
                    *state.moved.entry(symbol).or_default() += row.qty.unwrap();
                }
                state.movements.push(row);
            }
        })
    }
    fn known_movements(&self, ids: Vec<String>) -> BoxFuture<'_, Result<HashSet<String>, BooksError>> {
        self.answer(|state| {
            ids.into_iter().filter(|id| state.movements.iter().any(|row| row.id == *id)).collect()
        })
    }
    fn settle_cash(&self, cash: Decimal, standing: Standing) -> BoxFuture<'_, Result<(), BooksError>> {
        self.answer(|state| state.base = Some((cash, standing.flow, standing.ledger)))
    }
}

pub(super) fn later(books: &MemoryBooks, by: TimeDelta) {
    books.with(|state| state.now += by.num_seconds());
}
