//! Fault rules: making the broker misbehave on purpose. They act on the Trading API's routes and its stream only.

mod rule;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plimsoll_paper_exchange::Order;
use serde::Serialize;

pub(crate) use rule::Facts;
use rule::Place;
pub use rule::{Action, FaultRule, Match};

const DEFAULT_MS: u64 = 1_000;

/// The rules and how often each acted.
#[derive(Debug, Default)]
pub(crate) struct FaultBook {
    rules: Mutex<Rules>,
    /// Mirrors "there are rules", so that a broker without faults takes no lock.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Rules {
    list: Vec<Live>,
    made: u64,
}

/// A rule as it is listed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Live {
    #[serde(flatten)]
    rule: FaultRule,
    /// How often it acted.
    hits: u64,
    /// How many it has let through.
    #[serde(skip)]
    passed: u64,
}

impl Live {
    fn id(&self) -> &str {
        self.rule.id.as_deref().unwrap_or_default()
    }

    fn has_hits_left(&self) -> bool {
        self.rule.times.is_none_or(|times| self.hits < times)
    }

    /// Whether one that matches is let through.
    fn passes(&mut self) -> bool {
        let passes = self.passed < self.rule.skip.unwrap_or(0);
        self.passed += u64::from(passes);
        passes
    }

    fn ms(&self) -> Duration {
        Duration::from_millis(self.rule.ms.unwrap_or(DEFAULT_MS))
    }
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestFault {
    Drop,
    AcceptThenDrop,
    StatusBefore(u16),
    StatusAfter(u16),
    Garbage,
    RateLimit(Duration),
    Lookup404,
}

/// All that happens to a request.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) delay: Duration,
    pub(crate) delay_after: Duration,
    pub(crate) fault: Option<RequestFault>,
    /// Ids of the rules that act, for the request log.
    pub(crate) rules: Vec<String>,
}

/// What happens to a message of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageFault {
    Drop,
    Duplicate,
    Reorder(Duration),
    /// For that long; `None`: this message only (the rule will match the next one too).
    Silence(Option<Duration>),
    Cut,
}

impl FaultBook {
    pub(crate) fn new(rules: Vec<FaultRule>) -> Self {
        let book = Self::default();
        book.replace(rules);
        book
    }

    /// Appends rules and answers them as listed. A rule whose id is taken replaces that rule in its place.
    pub(crate) fn add(&self, rules: Vec<FaultRule>) -> Vec<Live> {
        let mut book = self.lock();
        let mut added = Vec::with_capacity(rules.len());
        for mut rule in rules {
            book.made += 1;
            let made = book.made;
            rule.id.get_or_insert_with(|| format!("rule-{made}"));
            let live = Live { rule, hits: 0, passed: 0 };
            added.push(live.clone());
            match book.list.iter_mut().find(|old| old.id() == live.id()) {
                Some(old) => *old = live,
                None => book.list.push(live),
            }
        }
        self.any.store(!book.list.is_empty(), Ordering::Relaxed);
        added
    }

    pub(crate) fn replace(&self, rules: Vec<FaultRule>) -> Vec<Live> {
        self.clear();
        self.add(rules)
    }

    pub(crate) fn clear(&self) {
        let mut book = self.lock();
        book.list.clear();
        self.any.store(false, Ordering::Relaxed);
    }

    /// Whether there was such a rule.
    pub(crate) fn remove(&self, id: &str) -> bool {
        let mut book = self.lock();
        let before = book.list.len();
        book.list.retain(|live| live.id() != id);
        self.any.store(!book.list.is_empty(), Ordering::Relaxed);
        book.list.len() < before
    }

    pub(crate) fn list(&self) -> Vec<Live> {
        self.lock().list.clone()
    }

    /// Whether a rule asks for an order's symbol or client id, so that a request by order id must look them up first.
    pub(crate) fn asks_for_orders(&self) -> bool {
        self.any()
            && self.lock().list.iter().any(|live| live.rule.matching.names_order() && live.has_hits_left())
    }

    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Decides a request's fate and counts the hits.
    pub(crate) fn plan(&self, facts: &Facts<'_>, is_lookup: bool) -> Plan {
        let mut plan = Plan::default();
        if !self.any() {
            return plan;
        }
        for live in &mut self.lock().list {
            let action = live.rule.action;
            if action.place() != Place::Request
                || (action == Action::Lookup404 && !is_lookup)
                || !live.has_hits_left()
                || !live.rule.matching.matches(facts)
                || live.passes()
            {
                continue;
            }
            live.hits += 1;
            plan.rules.push(live.id().to_owned());
            plan.fault = match action {
                Action::Delay => {
                    plan.delay += live.ms();
                    continue;
                }
                Action::DelayAfter => {
                    plan.delay_after += live.ms();
                    continue;
                }
                Action::Drop => Some(RequestFault::Drop),
                Action::AcceptThenDrop => Some(RequestFault::AcceptThenDrop),
                Action::StatusBefore => Some(RequestFault::StatusBefore(live.rule.status.unwrap_or(503))),
                Action::StatusAfter => Some(RequestFault::StatusAfter(live.rule.status.unwrap_or(504))),
                Action::Garbage => Some(RequestFault::Garbage),
                Action::RateLimit => Some(RequestFault::RateLimit(live.ms())),
                Action::Lookup404 => Some(RequestFault::Lookup404),
                Action::HideFromList
                | Action::HideFromBook
                | Action::StreamDrop
                | Action::StreamDuplicate
                | Action::StreamReorder
                | Action::StreamSilence
                | Action::StreamCut => None,
            };
            break;
        }
        plan
    }

    /// Decides a message's fate and counts the hit.
    pub(crate) fn message(&self, facts: &Facts<'_>) -> Option<MessageFault> {
        if !self.any() {
            return None;
        }
        let mut book = self.lock();
        let live = book.list.iter_mut().find(|live| {
            live.rule.action.place() == Place::Message
                && live.has_hits_left()
                && live.rule.matching.matches(facts)
        })?;
        live.hits += 1;
        match live.rule.action {
            Action::StreamDuplicate => Some(MessageFault::Duplicate),
            Action::StreamReorder => Some(MessageFault::Reorder(live.ms())),
            Action::StreamSilence => Some(MessageFault::Silence(live.rule.ms.map(Duration::from_millis))),
            Action::StreamCut => Some(MessageFault::Cut),
            _ => Some(MessageFault::Drop),
        }
    }

    /// The rules that hide orders, or their fills, from a list.
    pub(crate) fn hidden(self: &Arc<Self>, facts: &Facts<'_>) -> Hidden {
        if !self.any() {
            return Hidden::default();
        }
        let book = self.lock();
        let rules = book.list.iter().filter(|live| {
            live.rule.action.place() == Place::List
                && live.has_hits_left()
                && live.rule.matching.matches_caller(facts)
        });
        let rules: Vec<Hiding> = rules
            .map(|live| Hiding {
                id: live.id().to_owned(),
                action: live.rule.action,
                matching: live.rule.matching.clone(),
                counted: AtomicBool::new(false),
            })
            .collect();
        drop(book);
        Hidden((!rules.is_empty()).then(|| (Arc::clone(self), rules)))
    }

    fn hit(&self, id: &str) {
        if let Some(live) = self.lock().list.iter_mut().find(|live| live.id() == id) {
            live.hits += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Orders to leave out of one list. A rule that hides several orders of one list counts one hit.
#[derive(Debug, Default)]
pub(crate) struct Hidden(Option<(Arc<FaultBook>, Vec<Hiding>)>);

#[derive(Debug)]
struct Hiding {
    id: String,
    action: Action,
    matching: Match,
    counted: AtomicBool,
}

impl Hidden {
    pub(crate) fn hides(&self, order: &Order) -> bool {
        self.any(Action::HideFromList, order)
    }

    pub(crate) fn hides_fills(&self, order: &Order) -> bool {
        self.any(Action::HideFromBook, order)
    }

    /// Whether a rule hides something, so that orders are worth looking up.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn any(&self, action: Action, order: &Order) -> bool {
        let Some((book, rules)) = &self.0 else { return false };
        let client_id = [order.client_order_id.as_str()];
        let found = rules
            .iter()
            .filter(|rule| rule.action == action)
            .find(|rule| rule.matching.matches_order(Some(&order.symbol), &client_id));
        if let Some(rule) = found
            && !rule.counted.swap(true, Ordering::Relaxed)
        {
            book.hit(&rule.id);
        }
        found.is_some()
    }
}

#[cfg(test)]
mod tests;
