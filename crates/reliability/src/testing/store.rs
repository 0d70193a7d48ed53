//! A store in memory with all the ports of this crate.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::order::Order;
use plimsoll_core_domain::{AccountId, BrokerOrderId, Clock, OrderId, StoreError, StoreErrorKind, UserId};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::faults::Faults;
use crate::idempotency::{Claimed, IdempotencyStore, KeyClaim, KeyRecord, StoredReply};
use crate::jobs::{Job, JobId, JobState, JobStore, Wake};
use crate::leases::{FenceToken, LeaseStore, LiveLease};
use crate::submit::{CANCEL_ORDER, LockedOrder, OrderEvent, SubmitStore};

/// A job's row.
#[derive(Clone, Debug)]
pub struct StoredJob {
    /// As the last claim gave it out.
    pub job: Job,
    /// Where it stands.
    pub state: JobState,
    /// Smaller goes first.
    pub priority: i16,
    /// Not before.
    pub run_at: DateTime<Utc>,
    /// Until then it is its worker's.
    pub lease_until: DateTime<Utc>,
    /// Whose.
    pub owner: Uuid,
    /// When a worker last vanished with it.
    pub crashed_at: Option<DateTime<Utc>>,
    /// Of the last failure.
    pub last_error: Option<String>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug)]
struct Lease {
    owner: Uuid,
    expires_at: DateTime<Utc>,
    ready: bool,
}

#[derive(Clone, Debug)]
struct Key {
    record: KeyRecord,
    expires_at: DateTime<Utc>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) jobs: BTreeMap<JobId, StoredJob>,
    /// Queue and kind → period in milliseconds and beginning of the last slot that was asked for.
    pub(super) slots: HashMap<(String, String), (i64, DateTime<Utc>)>,
    leases: HashMap<String, Lease>,
    fences: HashMap<String, i64>,
    keys: HashMap<(UserId, String), Key>,
    orders: HashMap<OrderId, Order>,
    history: Vec<(OrderId, &'static str)>,
    effects: u32,
    forbidden: bool,
}

enum Time {
    Stopped(Mutex<DateTime<Utc>>),
    Running(Arc<dyn Clock>),
}

struct Shared {
    state: Mutex<State>,
    time: Time,
    wake: Wake,
}

/// Everything of this crate in memory. Clones share the data; transactions run one after another.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    faults: Faults,
}

/// An open transaction, or with [`JobStore::autocommit`] a series of single statements.
pub struct MemoryTx<'a> {
    pub(super) state: &'a mut State,
    pub(super) now: DateTime<Utc>,
    pub(super) topics: Vec<String>,
}

impl MemoryStore {
    /// On a clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_time(Time::Running(clock))
    }

    /// On a clock that stands at 2026-11-24T15:30:00Z until it is moved.
    #[must_use]
    pub fn stopped() -> Self {
        let start = DateTime::from_timestamp(1_795_534_200, 0).expect("a time in 2026");
        Self::with_time(Time::Stopped(Mutex::new(start)))
    }

    fn with_time(time: Time) -> Self {
        let shared = Shared { state: Mutex::default(), time, wake: Wake::new() };
        Self { shared: Arc::new(shared), faults: Faults::default() }
    }

    /// The same store as a process sees it that may die.
    #[must_use]
    pub fn with_faults(&self, faults: Faults) -> Self {
        Self { shared: Arc::clone(&self.shared), faults }
    }

    /// Now, by the store's clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match &self.shared.time {
            Time::Stopped(now) => *now.lock().unwrap_or_else(PoisonError::into_inner),
            Time::Running(clock) => clock.now(),
        }
    }

    /// Moves the stopped clock.
    ///
    /// # Panics
    /// The store is on a running clock.
    pub fn advance(&self, by: Duration) {
        let Time::Stopped(now) = &self.shared.time else { panic!("the clock runs by itself") };
        *now.lock().unwrap_or_else(PoisonError::into_inner) +=
            TimeDelta::from_std(by).expect("less than an age");
    }

    /// Rung after commits that insert due jobs.
    #[must_use]
    pub fn wake(&self) -> &Wake {
        &self.shared.wake
    }

    /// All jobs by id.
    #[must_use]
    pub fn jobs(&self) -> Vec<StoredJob> {
        self.lock().jobs.values().cloned().collect()
    }

    /// One job.
    ///
    /// # Panics
    /// There is none of this id.
    #[must_use]
    pub fn job(&self, id: JobId) -> StoredJob {
        self.lock().jobs.get(&id).cloned().expect("a job of this id")
    }

    /// Takes all jobs away.
    pub fn clear_jobs(&self) {
        self.lock().jobs.clear();
    }

    /// Puts an order in, as the business would.
    pub fn put_order(&self, order: Order) {
        self.lock().orders.insert(order.id, order);
    }

    /// One order.
    ///
    /// # Panics
    /// There is none of this id.
    #[must_use]
    pub fn order(&self, id: OrderId) -> Order {
        self.lock().orders.get(&id).cloned().expect("an order of this id")
    }

    /// Whether accounts may send orders: trading with real money is forbidden, or allowed again.
    pub fn forbid(&self, forbidden: bool) {
        self.lock().forbidden = forbidden;
    }

    /// The causes of an order's changes, in order.
    #[must_use]
    pub fn history(&self, id: OrderId) -> Vec<&'static str> {
        self.lock().history.iter().filter(|(order, _)| *order == id).map(|(_, cause)| *cause).collect()
    }

    /// How many effects were committed.
    #[must_use]
    pub fn effects(&self) -> u32 {
        self.lock().effects
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone() -> StoreError {
        StoreError::new(StoreErrorKind::Unavailable, "this process is dead")
    }
}

impl JobStore for MemoryStore {
    type Tx<'a> = MemoryTx<'a>;

    fn transaction<T, E, F>(&self, mut work: F) -> Result<T, E>
    where
        F: FnMut(&mut MemoryTx<'_>) -> Result<T, E>,
        E: From<StoreError>,
    {
        if !self.faults.step() {
            return Err(Self::gone().into());
        }
        let mut committed = self.lock();
        let mut copy = committed.clone();
        let mut tx = MemoryTx { state: &mut copy, now: self.now(), topics: Vec::new() };
        let value = work(&mut tx)?;
        let topics = tx.topics;
        // a death before the commit, and one after it whose answer is lost
        if !self.faults.step() {
            return Err(Self::gone().into());
        }
        *committed = copy;
        drop(committed);
        if !self.faults.step() {
            return Err(Self::gone().into());
        }
        topics.iter().for_each(|topic| self.shared.wake.ring(topic));
        Ok(value)
    }

    fn autocommit<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut MemoryTx<'_>) -> Result<T, E>,
        E: From<StoreError>,
    {
        self.transaction(work)
    }
}

impl MemoryTx<'_> {
    /// An effect of the business, to see how often it is committed.
    pub fn note_effect(&mut self) {
        self.state.effects += 1;
    }
}

impl LeaseStore for MemoryTx<'_> {
    fn acquire_lease(
        &mut self,
        name: &str,
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Option<FenceToken>, StoreError> {
        let expires_at = self.now + ttl;
        let known = self.state.leases.get(name).cloned();
        if known.as_ref().is_some_and(|lease| lease.owner != owner && lease.expires_at >= self.now) {
            return Ok(None);
        }
        let token = self.state.fences.entry(name.to_owned()).or_default();
        let own = known.filter(|lease| lease.owner == owner);
        if own.is_none() {
            *token += 1;
        }
        let (token, ready) = (FenceToken(*token), own.is_some_and(|lease| lease.ready));
        self.state.leases.insert(name.to_owned(), Lease { owner, expires_at, ready });
        Ok(Some(token))
    }

    fn acquire_leases(
        &mut self,
        names: &[String],
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Vec<(String, FenceToken)>, StoreError> {
        let mut taken = Vec::new();
        for name in names {
            taken.extend(self.acquire_lease(name, owner, ttl)?.map(|token| (name.clone(), token)));
        }
        Ok(taken)
    }

    fn renew_leases(
        &mut self,
        names: &[String],
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Vec<String>, StoreError> {
        let expires_at = self.now + ttl;
        let mut renewed = Vec::new();
        for name in names {
            if let Some(lease) = self.state.leases.get_mut(name).filter(|lease| lease.owner == owner) {
                lease.expires_at = expires_at;
                renewed.push(name.clone());
            }
        }
        Ok(renewed)
    }

    fn live_leases(&mut self, kinds: &[&str]) -> Result<Vec<LiveLease>, StoreError> {
        let live = self.state.leases.iter().filter(|(name, lease)| {
            lease.expires_at >= self.now
                && name.split_once(':').is_some_and(|(kind, _)| kinds.contains(&kind))
        });
        Ok(live
            .map(|(name, lease)| LiveLease { name: name.clone(), owner: lease.owner, ready: lease.ready })
            .collect())
    }

    fn mark_ready(&mut self, name: &str, owner: Uuid) -> Result<bool, StoreError> {
        let lease = self.state.leases.get_mut(name).filter(|lease| lease.owner == owner);
        Ok(lease.map(|lease| lease.ready = true).is_some())
    }

    fn release_leases(&mut self, names: &[String], owner: Uuid) -> Result<usize, StoreError> {
        let mut released = 0;
        for name in names {
            released += usize::from(self.release_lease(name, owner)?);
        }
        Ok(released)
    }

    fn forget_leases(&mut self, kinds: &[&str]) -> Result<usize, StoreError> {
        let before = self.state.leases.len();
        self.state
            .leases
            .retain(|name, _| name.split_once(':').is_none_or(|(kind, _)| !kinds.contains(&kind)));
        Ok(before - self.state.leases.len())
    }

    fn release_lease(&mut self, name: &str, owner: Uuid) -> Result<bool, StoreError> {
        let ours = self.state.leases.get(name).is_some_and(|lease| lease.owner == owner);
        if ours {
            self.state.leases.remove(name);
        }
        Ok(ours)
    }

    fn hold_fence(&mut self, name: &str, token: FenceToken) -> Result<bool, StoreError> {
        Ok(self.state.fences.get(name) == Some(&token.0))
    }
}

impl IdempotencyStore for MemoryTx<'_> {
    fn claim_key(&mut self, claim: &KeyClaim) -> Result<Claimed, StoreError> {
        let id = (claim.user, claim.key.as_str().to_owned());
        if let Some(key) = self.state.keys.get(&id).filter(|key| key.expires_at > self.now) {
            return Ok(Claimed::Taken(key.record.clone()));
        }
        let record = KeyRecord { fingerprint: claim.fingerprint, reply: None };
        self.state.keys.insert(id, Key { record, expires_at: self.now + claim.keep });
        Ok(Claimed::Fresh)
    }

    fn store_reply(&mut self, claim: &KeyClaim, reply: &StoredReply) -> Result<(), StoreError> {
        let id = (claim.user, claim.key.as_str().to_owned());
        let key = self
            .state
            .keys
            .get_mut(&id)
            .ok_or_else(|| StoreError::new(StoreErrorKind::Other, "no such key"))?;
        key.record.reply = Some(reply.clone());
        Ok(())
    }
}

impl SubmitStore for MemoryTx<'_> {
    fn lock_order(&mut self, id: OrderId) -> Result<Option<LockedOrder>, StoreError> {
        let forbidden = self.state.forbidden.then(|| "trading with real money was forbidden".to_owned());
        let (order, now) = (self.state.orders.get(&id).cloned(), self.now);
        Ok(order.map(|order| LockedOrder { order, now, forbidden }))
    }

    fn sent_before(&mut self, order: &Order) -> Result<Option<BrokerOrderId>, StoreError> {
        let before = order.created_at - TimeDelta::minutes(10);
        let known = self.state.orders.values().filter(|known| {
            known.account_id == order.account_id && known.submit.started_at.is_some_and(|at| at < before)
        });
        Ok(known
            .filter(|known| known.broker_order_id.is_some())
            .max_by_key(|known| known.created_at)
            .and_then(|known| known.broker_order_id.clone()))
    }

    fn filled_of(&mut self, _account: AccountId, id: OrderId) -> Result<Decimal, StoreError> {
        Ok(self.state.orders.get(&id).map_or(Decimal::ZERO, |order| order.filled_qty + order.unbooked_qty()))
    }

    fn save_order(
        &mut self,
        before: &Order,
        after: &Order,
        event: &OrderEvent<'_>,
        _now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let known = self.state.orders.get(&after.id);
        if known != Some(before) || after.version <= before.version {
            return Err(StoreError::inconsistent(
                "orders",
                "version",
                after.id,
                "not what was locked, or not moved on",
            ));
        }
        if matches!(event, OrderEvent::Revived(_)) {
            let key = after.id.to_string();
            for row in self.state.jobs.values_mut().filter(|row| row.state == JobState::Ready) {
                if row.job.kind == CANCEL_ORDER && row.job.dedup_key.as_deref() == Some(key.as_str()) {
                    row.run_at = self.now;
                }
            }
        }
        self.state.history.push((after.id, event.cause()));
        self.state.orders.insert(after.id, after.clone());
        Ok(())
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for MemoryTx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryTx").field("now", &self.now).finish_non_exhaustive()
    }
}
