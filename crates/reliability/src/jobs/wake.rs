//! Telling waiting threads that there is something to do. A hint only: who misses it finds the work by its regular look.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

type Callback = dyn Fn() + Send + Sync;

/// Rings whoever listens to a topic. Clones share the listeners.
#[derive(Clone, Default)]
pub struct Wake {
    listeners: Arc<Mutex<HashMap<String, Vec<Weak<Callback>>>>>,
}

/// Listens as long as it lives.
#[must_use = "listening ends when this is dropped"]
pub struct Listening {
    _callback: Arc<Callback>,
}

impl Wake {
    /// Without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `callback` at every ring of `topic`, on the ringing thread: keep it short.
    pub fn listen(&self, topic: impl Into<String>, callback: impl Fn() + Send + Sync + 'static) -> Listening {
        let callback: Arc<Callback> = Arc::new(callback);
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let of_topic = listeners.entry(topic.into()).or_default();
        of_topic.retain(|known| known.strong_count() > 0);
        of_topic.push(Arc::downgrade(&callback));
        Listening { _callback: callback }
    }

    /// Rings the listeners of `topic`.
    pub fn ring(&self, topic: &str) {
        let callbacks: Vec<_> = {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            listeners.get(topic).into_iter().flatten().filter_map(Weak::upgrade).collect()
        };
        for callback in callbacks {
            callback();
        }
    }

    /// Rings everybody: after a gap in the notifications.
    pub fn ring_all(&self) {
        let callbacks: Vec<_> = {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            listeners.values().flatten().filter_map(Weak::upgrade).collect()
        };
        for callback in callbacks {
            callback();
        }
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake")
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listening")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn only_the_topics_listeners_are_rung_and_only_while_they_listen() {
        let wake = Wake::new();
        let counter = || {
            let count = Arc::new(AtomicU32::new(0));
            (Arc::clone(&count), move || {
                count.fetch_add(1, Ordering::Relaxed);
            })
        };
        let ((a, on_a), (b, on_b)) = (counter(), counter());
        let listening = wake.listen("a", on_a);
        let _other = wake.clone().listen("b", on_b);
        wake.ring("a");
        wake.ring("nobody");
        assert_eq!((a.load(Ordering::Relaxed), b.load(Ordering::Relaxed)), (1, 0));
        wake.ring_all();
        assert_eq!((a.load(Ordering::Relaxed), b.load(Ordering::Relaxed)), (2, 1));
        drop(listening);
        wake.ring("a");
        assert_eq!(a.load(Ordering::Relaxed), 2);
    }
}
