//! Sockets that are told to look again whether they still may.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plimsoll_core_domain::UserId;
use tokio::sync::watch;

/// Who is to be told, by user.
#[derive(Debug, Default)]
pub(super) struct Rechecks(Mutex<HashMap<UserId, watch::Sender<()>>>);

/// A socket's ear. A call that comes while it does not listen is kept.
pub(super) struct Recheck {
    all: Arc<Rechecks>,
    user: UserId,
    receiver: watch::Receiver<()>,
}

impl Rechecks {
    fn senders(&self) -> MutexGuard<'_, HashMap<UserId, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of the user's logins from now on.
    pub(super) fn of(self: &Arc<Self>, user: UserId) -> Recheck {
        let receiver = self.senders().entry(user).or_insert_with(|| watch::channel(()).0).subscribe();
        Recheck { all: Arc::clone(self), user, receiver }
    }

    pub(super) fn ring(&self, user: UserId) {
        if let Some(sender) = self.senders().get(&user) {
            sender.send_replace(());
        }
    }

    pub(super) fn ring_all(&self) {
        for sender in self.senders().values() {
            sender.send_replace(());
        }
    }
}

impl Recheck {
    /// Returns when the user's logins have changed since the last return.
    pub(super) async fn called(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The sender lives as long as this ear.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Recheck {
    fn drop(&mut self) {
        let mut senders = self.all.senders();
        // this ear is counted still
        if senders.get(&self.user).is_some_and(|sender| sender.receiver_count() <= 1) {
            senders.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_heard_by_its_user_and_kept_until_then() {
        let all = Arc::new(Rechecks::default());
        let (mut one, mut two, other) = (all.of(UserId(1)), all.of(UserId(1)), all.of(UserId(2)));
        all.ring(UserId(1));
        one.called().await;
        two.called().await;
        assert!(!other.receiver.has_changed().unwrap());
        all.ring_all();
        one.called().await;
        assert!(other.receiver.has_changed().unwrap());
        drop((one, other));
        assert_eq!(all.senders().len(), 1);
        drop(two);
        assert!(all.senders().is_empty(), "nothing stays behind");
    }
}
