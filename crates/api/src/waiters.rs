//! Requests that wait for what becomes of their order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use plimsoll_core_domain::stream::{EventKind, StreamEvent, StreamId};
use plimsoll_core_domain::{OrderId, UserId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Wakes requests when their user's stream moves. A wake is a hint: the request then looks for itself.
#[derive(Clone, Default)]
pub struct Waiters(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<HashMap<UserId, HashMap<OrderId, Arc<Notify>>>>,
    draining: CancellationToken,
}

/// A place among the waiters; gone when dropped.
pub struct Waiter {
    inner: Arc<Inner>,
    user: UserId,
    order: OrderId,
    woken: Arc<Notify>,
}

impl Waiters {
    /// Registers a request; do it before the commit that the wake may follow.
    #[must_use]
    pub fn register(&self, user: UserId, order: OrderId) -> Waiter {
        let woken = Arc::new(Notify::new());
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(user).or_default().insert(order, Arc::clone(&woken));
        Waiter { inner: Arc::clone(&self.0), user, order, woken }
    }

    /// Tells the waiters of an event.
    pub fn event(&self, event: &StreamEvent) {
        let StreamId::User(user) = event.stream else { return };
        let about_orders = matches!(
            event.kind,
            EventKind::OrderUpdated
                | EventKind::OrderFilled
                | EventKind::OrderCancelled
                | EventKind::TradeExecuted
        );
        if !about_orders {
            return;
        }
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_user) = waiting.get(&user) else { return };
        for (order, woken) in of_user {
            // Ids are plain hexadecimal and stand in the event's data as text.
            if of_user.len() == 1 || event.data.contains(&order.to_string()) {
                woken.notify_one();
            }
        }
    }

    /// From now on nobody waits: the server is shutting down.
    pub fn drain(&self) {
        self.0.draining.cancel();
    }

    /// How many requests wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).values().map(HashMap::len).sum()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Waiter {
    /// Waits for the next wake; `false` when the server is shutting down and waiting has no point.
    pub async fn woken(&self) -> bool {
        tokio::select! {
            () = self.woken.notified() => true,
            () = self.inner.draining.cancelled() => false,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_user) = waiting.get_mut(&self.user) {
            of_user.remove(&self.order);
            if of_user.is_empty() {
                waiting.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn event(user: i64, data: &str) -> StreamEvent {
        StreamEvent {
            stream: StreamId::User(UserId(user)),
            epoch: Uuid::nil(),
            offset: 1,
            kind: EventKind::OrderUpdated,
            data: data.into(),
            at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn a_waiter_hears_of_its_own_order_and_leaves_nothing_behind() {
        let waiters = Waiters::default();
        let (a, b) = (OrderId(Uuid::from_u128(1)), OrderId(Uuid::from_u128(2)));
        let (first, second) = (waiters.register(UserId(7), a), waiters.register(UserId(7), b));
        waiters.event(&event(8, &a.to_string()));
        waiters.event(&event(7, &format!("{{\"id\":\"{b}\"}}")));
        assert!(second.woken().await);
        let silent = tokio::time::timeout(std::time::Duration::from_millis(20), first.woken()).await;
        assert!(silent.is_err());
        waiters.drain();
        assert!(!first.woken().await);
        drop((first, second));
        assert!(waiters.is_empty());
    }
}
