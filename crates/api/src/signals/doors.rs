//! Hooks seen a moment ago, so that a delivery that proves itself reads nothing before its transaction.
//!
//! Dropped at once, on every instance, when the hook or its owner changes: they are told as sessions are. Hooks that are
//! not there are not remembered, and what a remembered one does not admit is read again, so that no refusal is faster for
//! a hook that is in use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_core_domain::UserId;
use plimsoll_storage::platform::signals::Door;

use super::receive::To;

/// The hooks.
#[derive(Debug)]
pub(crate) struct Doors {
    life: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    known: HashMap<To, (Instant, Arc<Door>)>,
    /// How often something was forgotten: what was read before is not kept after.
    forgotten: u64,
}

/// When a look at the store began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    at: Instant,
    forgotten: u64,
}

impl Doors {
    /// Keeps hooks for `life`, counted from before they were read; zero keeps none.
    pub(super) fn new(life: Duration) -> Self {
        Self { life, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, to: To) -> Option<Arc<Door>> {
        let seen = self.seen();
        let (at, door) = seen.known.get(&to)?;
        (at.elapsed() < self.life).then(|| Arc::clone(door))
    }

    pub(super) fn look(&self) -> Look {
        Look { at: Instant::now(), forgotten: self.seen().forgotten }
    }

    pub(super) fn put(&self, to: To, look: Look, door: &Arc<Door>) {
        let mut seen = self.seen();
        if !self.life.is_zero() && seen.forgotten == look.forgotten {
            seen.known.insert(to, (look.at, Arc::clone(door)));
        }
    }

    fn forget(&self, which: impl Fn(&Door) -> bool) {
        let mut seen = self.seen();
        seen.forgotten += 1;
        seen.known.retain(|_, (_, door)| !which(door));
    }

    /// Forgets the hooks of a user.
    pub(crate) fn forget_user(&self, user: UserId) {
        self.forget(|door| door.hook.user == user);
    }

    /// Forgets everything: word of changes may have been missed.
    pub(crate) fn forget_all(&self) {
        self.forget(|_| true);
    }

    /// Forgets what is too old.
    pub(super) fn tidy(&self) {
        self.seen().known.retain(|_, (at, _)| at.elapsed() < self.life);
    }
}
