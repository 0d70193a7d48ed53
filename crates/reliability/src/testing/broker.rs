//! A broker in memory that refuses a client id's second order for ever, and that loses answers on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{
    AccountMovement, BoxFuture, Broker, BrokerAccount, BrokerAsset, BrokerError, BrokerOrder, BrokerPosition,
    BrokerStatus, Dedupe, FillActivity, FillQuery, HistoryQuery, MarketClock, OrderListQuery,
    PortfolioHistory, ReplaceOrder, SubmitOrder, TradeSink,
};
use plimsoll_core_domain::order::{NewOrder, OrderSize, OrderStatus};
use plimsoll_core_domain::{AccountId, BrokerOrderId, ClientOrderId, Symbol};
use rust_decimal::Decimal;

use super::faults::Faults;
use super::store::MemoryStore;
use crate::submit::Brokers;

/// What the broker does with the next call that has an effect, or with the next look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As it should.
    Proper,
    /// It acts, and the answer is lost.
    Lost,
    /// It does not act, and nobody can tell.
    Broken,
    /// It does not act and says so.
    Error(BrokerError),
    /// It never answers and does not act.
    Never,
    /// It acts a while later; until then nobody sees it, and no answer comes.
    Late(Duration),
}

#[derive(Default)]
struct Ledger {
    /// With the time from which each can be seen.
    orders: Vec<(DateTime<Utc>, BrokerOrder)>,
    sends: VecDeque<Answer>,
    looks: VecDeque<Answer>,
    hidden: bool,
    lists: Vec<Option<String>>,
    calls: Vec<String>,
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
}

/// The broker as one process reaches it. Clones made by [`for_process`](Self::for_process) share the ledger.
#[derive(Clone)]
pub struct FakeBroker {
    ledger: Arc<Mutex<Ledger>>,
    store: MemoryStore,
    faults: Faults,
    dedupe: Dedupe,
}

impl FakeBroker {
    /// A broker without orders, on the clock of `store`.
    #[must_use]
    pub fn new(store: &MemoryStore) -> Self {
        Self {
            ledger: Arc::default(),
            store: store.clone(),
            faults: Faults::default(),
            dedupe: Dedupe::Forever,
        }
    }

    /// As another process reaches it.
    #[must_use]
    pub fn for_process(&self, faults: Faults) -> Self {
        Self { faults, ..self.clone() }
    }

    /// One that takes a second order under the same client id.
    #[must_use]
    pub fn without_dedupe(self) -> Self {
        Self { dedupe: Dedupe::Never, ..self }
    }

    /// What it does with the next calls that send something.
    pub fn answer_sends(&self, answers: impl IntoIterator<Item = Answer>) {
        self.lock().sends.extend(answers);
    }

    /// What it does with the next looks.
    pub fn answer_looks(&self, answers: impl IntoIterator<Item = Answer>) {
        self.lock().looks.extend(answers);
    }

    /// From now on the look by client id finds nothing, as if its index lagged.
    pub fn hide_from_looks(&self) {
        self.lock().hidden = true;
    }

    /// From behind which order each list was asked for.
    #[must_use]
    pub fn lists(&self) -> Vec<Option<String>> {
        self.lock().lists.clone()
    }

    /// Before the next call that sends something has any effect, runs `work` on a thread of its own to its end: what
    /// others do while the caller is frozen.
    pub fn meanwhile(&self, work: impl FnOnce() + Send + 'static) {
        self.lock().meanwhile = Some(Box::new(work));
    }

    /// All orders that it has taken.
    #[must_use]
    pub fn orders(&self) -> Vec<BrokerOrder> {
        self.lock().orders.iter().map(|(_, order)| order.clone()).collect()
    }

    /// The calls in order: a verb and an id.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// Calls of one verb.
    #[must_use]
    pub fn count(&self, verb: &str) -> usize {
        self.lock().calls.iter().filter(|call| call.split(' ').next() == Some(verb)).count()
    }

    /// Puts an order into the ledger, as if another client had sent it, or changes it.
    pub fn put(&self, order: BrokerOrder) {
        let mut ledger = self.lock();
        ledger.orders.retain(|(_, known)| known.id != order.id);
        let now = self.store.now();
        ledger.orders.push((now, order));
    }

    /// The order that the broker makes of ours.
    #[must_use]
    pub fn taken(id: &str, client_order_id: &str, terms: &NewOrder, now: DateTime<Utc>) -> BrokerOrder {
        let (qty, notional) = match terms.size {
            OrderSize::Qty(qty) => (Some(qty.get()), None),
            OrderSize::Notional(amount) => (None, Some(amount.get())),
        };
        BrokerOrder {
            id: BrokerOrderId::new(id).expect("visible ASCII"),
            client_order_id: client_order_id.to_owned(),
            symbol: terms.symbol.to_string(),
            side: Some(terms.side),
            order_type: Some(terms.pricing.order_type()),
            time_in_force: Some(terms.time_in_force),
            class: Some(terms.class),
            role: None,
            qty,
            notional,
            limit_price: terms.pricing.limit_price().map(|price| price.get()),
            stop_price: terms.pricing.stop_price().map(|price| price.get()),
            trail_price: None,
            trail_percent: None,
            extended_hours: terms.extended_hours,
            status: BrokerStatus::Known(OrderStatus::New),
            filled_qty: Decimal::ZERO,
            filled_avg_price: None,
            submitted_at: Some(now),
            updated_at: now,
            replaces: None,
            replaced_by: None,
            legs: Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost() -> BrokerError {
        BrokerError::Ambiguous("the answer was lost".into())
    }

    /// A call with an effect: `act` is the effect, made unless the script or a death prevents it.
    async fn sent<T>(
        &self,
        call: String,
        act: impl FnOnce(&mut Ledger, DateTime<Utc>) -> Result<T, BrokerError>,
    ) -> Result<T, BrokerError> {
        if !self.faults.step() {
            return Err(Self::lost());
        }
        let meanwhile = self.lock().meanwhile.take();
        if let Some(work) = meanwhile {
            std::thread::spawn(work).join().expect("what happens meanwhile goes well");
        }
        let (now, answer) = {
            let mut ledger = self.lock();
            ledger.calls.push(call);
            (self.store.now(), ledger.sends.pop_front().unwrap_or(Answer::Proper))
        };
        let result = match answer {
            Answer::Proper => act(&mut self.lock(), now),
            Answer::Lost => {
                let _ = act(&mut self.lock(), now);
                Err(Self::lost())
            }
            Answer::Late(after) => {
                let _ = act(&mut self.lock(), now + after);
                Err(Self::lost())
            }
            Answer::Error(error) => Err(error),
            Answer::Never => std::future::pending().await,
            Answer::Broken => Err(Self::lost()),
        };
        if self.faults.step() { result } else { Err(Self::lost()) }
    }

    async fn looked<T>(
        &self,
        call: String,
        read: impl FnOnce(&Ledger, DateTime<Utc>) -> Result<T, BrokerError>,
    ) -> Result<T, BrokerError> {
        if !self.faults.step() {
            return Err(Self::lost());
        }
        let answer = {
            let mut ledger = self.lock();
            ledger.calls.push(call);
            ledger.looks.pop_front().unwrap_or(Answer::Proper)
        };
        match answer {
            Answer::Proper => read(&self.lock(), self.store.now()),
            Answer::Error(error) => Err(error),
            Answer::Never => std::future::pending().await,
            _ => Err(Self::lost()),
        }
    }
}

fn visible(ledger: &Ledger, now: DateTime<Utc>) -> impl Iterator<Item = &BrokerOrder> {
    ledger.orders.iter().filter(move |(from, _)| *from <= now).map(|(_, order)| order)
}

fn add(
    ledger: &mut Ledger,
    dedupe: Dedupe,
    order: BrokerOrder,
    at: DateTime<Utc>,
) -> Result<BrokerOrder, BrokerError> {
    let twin = ledger.orders.iter().any(|(_, known)| known.client_order_id == order.client_order_id);
    if twin && dedupe == Dedupe::Forever {
        return Err(BrokerError::DuplicateClientOrderId);
    }
    ledger.orders.push((at, order.clone()));
    Ok(order)
}

fn elsewhere<T: Send + 'static>(what: &'static str) -> BoxFuture<'static, Result<T, BrokerError>> {
    Box::pin(async move {
        Err(BrokerError::Refused {
            status: 501,
            code: None,
            message: format!("this broker in memory has no {what}"),
        })
    })
}

impl Broker for FakeBroker {
    fn dedupe(&self) -> Dedupe {
        self.dedupe
    }

    fn submit<'a>(&'a self, order: &'a SubmitOrder) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(self.sent(format!("submit {}", order.client_order_id), |ledger, at| {
            let id = format!("b-{}", ledger.orders.len() + 1);
            add(ledger, self.dedupe, Self::taken(&id, order.client_order_id.as_str(), &order.order, at), at)
        }))
    }

    fn order_by_client_id<'a>(
        &'a self,
        id: &'a ClientOrderId,
    ) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(self.looked(format!("look {id}"), |ledger, now| {
            visible(ledger, now)
                .filter(|_| !ledger.hidden)
                .find(|order| order.client_order_id == id.as_str())
                .cloned()
                .ok_or(BrokerError::NotFound)
        }))
    }

    fn order<'a>(&'a self, id: &'a BrokerOrderId) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(self.looked(format!("order {id}"), |ledger, now| {
            visible(ledger, now).find(|order| order.id == *id).cloned().ok_or(BrokerError::NotFound)
        }))
    }

    fn cancel<'a>(&'a self, id: &'a BrokerOrderId) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(self.sent(format!("cancel {id}"), |ledger, at| {
            let (_, order) =
                ledger.orders.iter_mut().find(|(_, order)| order.id == *id).ok_or(BrokerError::NotFound)?;
            if matches!(&order.status, BrokerStatus::Known(status) if status.is_final()) {
                let message = "order is already in a final state".into();
                return Err(BrokerError::Refused { status: 422, code: Some(42_210_000), message });
            }
            order.status = BrokerStatus::Known(OrderStatus::Canceled);
            order.updated_at = at;
            Ok(())
        }))
    }

    fn replace<'a>(
        &'a self,
        id: &'a BrokerOrderId,
        change: &'a ReplaceOrder,
    ) -> BoxFuture<'a, Result<BrokerOrder, BrokerError>> {
        Box::pin(self.sent(format!("replace {id}"), |ledger, at| {
            let new_id = format!("b-{}", ledger.orders.len() + 1);
            let (_, old) =
                ledger.orders.iter_mut().find(|(_, order)| order.id == *id).ok_or(BrokerError::NotFound)?;
            if matches!(&old.status, BrokerStatus::Known(status) if status.is_final()) {
                let message = "order is already in a final state".into();
                return Err(BrokerError::Refused { status: 422, code: Some(42_210_000), message });
            }
            let new_id = BrokerOrderId::new(new_id).expect("visible ASCII");
            let mut new = old.clone();
            (old.status, old.replaced_by) =
                (BrokerStatus::Known(OrderStatus::Replaced), Some(new_id.clone()));
            new.replaces = Some(old.id.clone());
            new.id = new_id;
            new.client_order_id =
                change.client_order_id.as_ref().map_or_else(String::new, ToString::to_string);
            new.qty = change.qty.map(|qty| qty.get()).or(new.qty);
            new.limit_price = change.limit_price.map(|price| price.get()).or(new.limit_price);
            new.updated_at = at;
            add(ledger, self.dedupe, new, at)
        }))
    }

    fn orders<'a>(
        &'a self,
        query: &'a OrderListQuery,
    ) -> BoxFuture<'a, Result<Vec<BrokerOrder>, BrokerError>> {
        self.lock().lists.push(query.after_order_id.as_ref().map(ToString::to_string));
        Box::pin(self.looked("list".to_owned(), |ledger, now| {
            let all: Vec<_> = visible(ledger, now).collect();
            let from =
                query.after_order_id.as_ref().and_then(|id| all.iter().position(|order| order.id == *id));
            let rest = all.into_iter().skip(from.map_or(0, |at| at + 1));
            let open = |order: &&BrokerOrder| {
                !query.open_only || matches!(&order.status, BrokerStatus::Known(status) if status.is_open())
            };
            Ok(rest.filter(open).take(usize::from(query.limit)).cloned().collect())
        }))
    }

    fn fills<'a>(&'a self, _: &'a FillQuery) -> BoxFuture<'a, Result<Vec<FillActivity>, BrokerError>> {
        elsewhere("fills")
    }
    fn movements(&self, _: chrono::NaiveDate) -> BoxFuture<'_, Result<Vec<AccountMovement>, BrokerError>> {
        elsewhere("movements")
    }
    fn positions(&self) -> BoxFuture<'_, Result<Vec<BrokerPosition>, BrokerError>> {
        elsewhere("positions")
    }
    fn account(&self) -> BoxFuture<'_, Result<BrokerAccount, BrokerError>> {
        elsewhere("account")
    }
    fn asset<'a>(&'a self, _: &'a Symbol) -> BoxFuture<'a, Result<BrokerAsset, BrokerError>> {
        elsewhere("assets")
    }
    fn clock(&self) -> BoxFuture<'_, Result<MarketClock, BrokerError>> {
        elsewhere("market clock")
    }
    fn portfolio_history<'a>(
        &'a self,
        _: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<PortfolioHistory, BrokerError>> {
        elsewhere("history")
    }
    fn follow<'a>(&'a self, _: &'a dyn TradeSink) -> BoxFuture<'a, BrokerError> {
        Box::pin(std::future::pending())
    }
}

impl Brokers for FakeBroker {
    fn of_account(&self, _: AccountId) -> Result<Arc<dyn Broker>, Duration> {
        Ok(Arc::new(self.clone()))
    }
}

impl std::fmt::Debug for FakeBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeBroker").field("calls", &self.calls()).finish_non_exhaustive()
    }
}
