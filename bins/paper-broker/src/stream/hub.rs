//! Who listens, and what reaches whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use plimsoll_paper_exchange::{AccountId, TradeUpdate};
use serde::Serialize;
use tokio::sync::mpsc;

use super::protocol::TRADE_UPDATES;
use super::{Connections, StreamSettings};
use crate::faults::{Facts, FaultBook, MessageFault};
use crate::keys::Keys;

/// Messages that may wait for a slow client before it is cut off.
const QUEUE: usize = 8_192;

/// What a connection is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// Send this.
    Message(Bytes),
    /// Close politely: another connection took its place, or the server stops.
    Close,
    /// Go without a word.
    Cut,
}

/// Names a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionId {
    account: AccountId,
    number: u64,
}

/// All stream connections.
pub(crate) struct Hub {
    settings: StreamSettings,
    faults: Arc<FaultBook>,
    keys: Arc<Keys>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    accounts: HashMap<AccountId, Listeners>,
    made: u64,
}

#[derive(Default)]
struct Listeners {
    connections: Vec<Connection>,
    /// Messages that a fault holds back, with the time at which they go at the latest.
    held_back: Vec<(Instant, Bytes)>,
    silent_until: Option<Instant>,
}

struct Connection {
    number: u64,
    listens: bool,
    queue: mpsc::Sender<Outgoing>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    stream: &'a str,
    data: &'a plimsoll_paper_exchange::TradeEvent,
}

impl Hub {
    pub(crate) fn new(settings: StreamSettings, faults: Arc<FaultBook>, keys: Arc<Keys>) -> Self {
        Self { settings, faults, keys, state: Mutex::default() }
    }

    pub(crate) fn settings(&self) -> StreamSettings {
        self.settings
    }

    /// Takes an authenticated connection in. It gets no messages before it [`listens`](Self::listen).
    pub(crate) fn join(&self, account: AccountId) -> (ConnectionId, mpsc::Receiver<Outgoing>) {
        let (queue, outgoing) = mpsc::channel(QUEUE);
        let mut state = self.lock();
        state.made += 1;
        let number = state.made;
        let listeners = state.accounts.entry(account).or_default();
        if self.settings.connections == Connections::NewestWins {
            for old in listeners.connections.drain(..) {
                // a full queue means that the connection is on its way out already
                drop(old.queue.try_send(Outgoing::Close));
            }
        }
        listeners.connections.push(Connection { number, listens: false, queue });
        (ConnectionId { account, number }, outgoing)
    }

    /// Starts or ends the messages.
    pub(crate) fn listen(&self, id: ConnectionId, streams: &[&str]) {
        let mut state = self.lock();
        let connections = state.accounts.get_mut(&id.account).map(|listeners| &mut listeners.connections);
        if let Some(connection) =
            connections.and_then(|all| all.iter_mut().find(|one| one.number == id.number))
        {
            connection.listens = streams.contains(&TRADE_UPDATES);
        }
    }

    /// Lets a connection go.
    pub(crate) fn leave(&self, id: ConnectionId) {
        if let Some(listeners) = self.lock().accounts.get_mut(&id.account) {
            listeners.connections.retain(|connection| connection.number != id.number);
        }
    }

    /// Closes all connections.
    pub(crate) fn close_all(&self) {
        for listeners in self.lock().accounts.values_mut() {
            for connection in listeners.connections.drain(..) {
                drop(connection.queue.try_send(Outgoing::Close));
            }
        }
    }

    /// Closes the connections of one account.
    pub(crate) fn close(&self, account: AccountId) {
        if let Some(listeners) = self.lock().accounts.get_mut(&account) {
            for connection in listeners.connections.drain(..) {
                drop(connection.queue.try_send(Outgoing::Close));
            }
        }
    }

    /// How many connections each account has that listens, by account.
    pub(crate) fn counts(&self) -> Vec<(AccountId, usize)> {
        let state = self.lock();
        let count = |listeners: &Listeners| listeners.connections.iter().filter(|one| one.listens).count();
        let mut counts: Vec<_> =
            state.accounts.iter().map(|(account, listeners)| (*account, count(listeners))).collect();
        counts.retain(|(_, count)| *count > 0);
        counts.sort_unstable();
        counts
    }

    /// Sends messages, in their order but for what fault rules do to them. They must be on disk.
    pub(crate) fn publish(&self, updates: &[TradeUpdate]) {
        if updates.is_empty() {
            return;
        }
        let mut state = self.lock();
        for update in updates {
            let fault = self.fault(update);
            let listeners = state.accounts.entry(update.account).or_default();
            if fault.is_none() && listeners.connections.is_empty() && listeners.held_back.is_empty() {
                continue; // nothing is sent again later
            }
            let envelope = Envelope { stream: TRADE_UPDATES, data: &update.data };
            let message = Bytes::from(serde_json::to_vec(&envelope).expect("an event has text keys only"));
            listeners.deliver(message, fault, Instant::now());
        }
    }

    /// Sends held-back messages whose time has come.
    pub(crate) fn send_held_back(&self) {
        if !self.faults.any() {
            return;
        }
        let now = Instant::now();
        for listeners in self.lock().accounts.values_mut() {
            if listeners.held_back.iter().any(|(due, _)| *due <= now) {
                listeners.release();
            }
        }
    }

    fn fault(&self, update: &TradeUpdate) -> Option<MessageFault> {
        if !self.faults.any() {
            return None;
        }
        let order = &update.data.order;
        let event = serde_json::to_value(update.data.event).ok();
        self.faults.message(&Facts {
            method: "GET",
            path: "/stream",
            symbol: Some(&order.symbol),
            client_order_ids: vec![&order.client_order_id],
            accounts: &self.keys.names_of(update.account),
            event: event.as_ref().and_then(|event| event.as_str()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listeners {
    fn deliver(&mut self, message: Bytes, fault: Option<MessageFault>, now: Instant) {
        if self.silent_until.is_some_and(|until| now < until) {
            return;
        }
        match fault {
            None => self.send_then_release(message),
            Some(MessageFault::Drop | MessageFault::Silence(None)) => {}
            Some(MessageFault::Silence(Some(time))) => self.silent_until = Some(now + time),
            Some(MessageFault::Duplicate) => {
                self.send(&message);
                self.send_then_release(message);
            }
            Some(MessageFault::Reorder(at_most)) => self.held_back.push((now + at_most, message)),
            Some(MessageFault::Cut) => {
                for connection in self.connections.drain(..) {
                    drop(connection.queue.try_send(Outgoing::Cut));
                }
            }
        }
    }

    fn send_then_release(&mut self, message: Bytes) {
        self.send(&message);
        self.release();
    }

    fn release(&mut self) {
        for (_, message) in std::mem::take(&mut self.held_back) {
            self.send(&message);
        }
    }

    /// A client that does not read is dropped: its queue's end is what its socket sees next.
    fn send(&mut self, message: &Bytes) {
        self.connections.retain(|connection| {
            !connection.listens || connection.queue.try_send(Outgoing::Message(message.clone())).is_ok()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const A_WHILE: Duration = Duration::from_millis(500);

    fn listeners() -> (Listeners, mpsc::Receiver<Outgoing>) {
        let (queue, outgoing) = mpsc::channel(8);
        let connection = Connection { number: 1, listens: true, queue };
        (Listeners { connections: vec![connection], ..Listeners::default() }, outgoing)
    }

    fn drain(outgoing: &mut mpsc::Receiver<Outgoing>) -> Vec<Outgoing> {
        std::iter::from_fn(|| outgoing.try_recv().ok()).collect()
    }

    fn message(text: &'static str) -> Outgoing {
        Outgoing::Message(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn faults_change_what_arrives() {
        let now = Instant::now();
        let (mut to, mut outgoing) = listeners();
        for (text, fault) in [
            ("a", Some(MessageFault::Reorder(A_WHILE))),
            ("b", None),
            ("c", Some(MessageFault::Drop)),
            ("d", Some(MessageFault::Duplicate)),
            ("e", Some(MessageFault::Silence(None))),
            ("f", None),
            ("g", Some(MessageFault::Silence(Some(A_WHILE)))),
            ("h", None),
        ] {
            to.deliver(Bytes::from_static(text.as_bytes()), fault, now);
        }
        let expected = ["b", "a", "d", "d", "f"].map(message);
        assert_eq!(drain(&mut outgoing), expected);
        to.deliver(Bytes::from_static(b"i"), None, now + A_WHILE);
        to.deliver(Bytes::from_static(b"j"), Some(MessageFault::Cut), now + A_WHILE);
        assert_eq!(drain(&mut outgoing), [message("i"), Outgoing::Cut]);
    }

    #[test]
    fn a_client_that_does_not_read_is_let_go() {
        let (mut to, mut outgoing) = listeners();
        (0..9).for_each(|_| to.send(&Bytes::from_static(b"x")));
        assert!(to.connections.is_empty());
        assert_eq!(drain(&mut outgoing).len(), 8);
    }
}
