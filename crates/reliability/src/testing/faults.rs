//! A process that dies at a chosen step: from then on nothing it does has an effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts the steps of a process and ends it at one of them. Clones are of the same process.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    steps: AtomicU64,
    /// 0: never.
    die_at: AtomicU64,
    dead: AtomicBool,
}

impl Faults {
    /// A process that dies at its `step`th step, counted from 1.
    #[must_use]
    pub fn dying_at(step: u64) -> Self {
        let faults = Self::default();
        faults.inner.die_at.store(step, Ordering::SeqCst);
        faults
    }

    /// One step; `false` when the process is dead, from this step on or before.
    #[must_use]
    pub fn step(&self) -> bool {
        let step = self.inner.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if step == self.inner.die_at.load(Ordering::SeqCst) {
            self.kill();
        }
        self.alive()
    }

    /// Whether it lives.
    #[must_use]
    pub fn alive(&self) -> bool {
        !self.inner.dead.load(Ordering::SeqCst)
    }

    /// Ends it.
    pub fn kill(&self) {
        self.inner.dead.store(true, Ordering::SeqCst);
    }

    /// How many steps it has made.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.inner.steps.load(Ordering::SeqCst)
    }
}
