//! The thread that makes deliveries of what stands in the streams. Every instance has one; they share out the hooks by
//! the locks on their rows.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll_core_domain::{Clock, StoreError, StoreErrorKind, UserId};
use plimsoll_reliability::jobs::Listening;
use plimsoll_reliability::retry::Policy;
use plimsoll_storage::platform::outbound::LOG_OF_HOOK;
use plimsoll_storage::{Db, Tx};
use uuid::Uuid;

use super::EVENTS;
use crate::workers::JobParts;

/// How often all hooks are looked at without being woken.
const SWEEP: Duration = Duration::from_secs(1);
/// Between two looks, so that events that come together are taken together.
const GATHER: Duration = Duration::from_millis(20);
/// Rows of a hook's log deleted at once: more than come between two cuts.
const CUT_AT_ONCE: usize = 2_000;

#[derive(Default)]
struct State {
    rung: bool,
    stopped: bool,
}

/// The thread; it ends when this is dropped.
pub(super) struct Dispatcher {
    shared: Arc<(Mutex<State>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    _listening: Listening,
}

impl Dispatcher {
    pub(super) fn start(job: &JobParts, policy: Policy) -> io::Result<Self> {
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let rings = Arc::clone(&shared);
        let listening = job.wake.listen(EVENTS, move || {
            rings.0.lock().unwrap_or_else(PoisonError::into_inner).rung = true;
            rings.1.notify_all();
        });
        let work = Work { db: job.jobs.clone(), clock: Arc::clone(&job.clock), policy };
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("webhook-dispatch".to_owned())
            .spawn(move || run(&work, &theirs))?;
        Ok(Self { shared, thread: Some(thread), _listening: listening })
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.shared.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported by its own thread; a drop must not panic again.
            let _ = thread.join();
        }
    }
}

struct Work {
    db: Db,
    clock: Arc<dyn Clock>,
    policy: Policy,
}

fn run(work: &Work, (state, changed): &(Mutex<State>, Condvar)) {
    // Until a sweep has found a hook that wants anything, events are nobody's business here.
    let (mut wanted, mut swept, mut failing) = (false, None::<Instant>, false);
    loop {
        let due = swept.is_none_or(|swept| swept.elapsed() >= SWEEP);
        let result = if due {
            swept = Some(Instant::now());
            work.db.read_blocking(|tx| tx.any_active_outbound_hook()).and_then(|any| {
                wanted = any;
                if any { dispatch(work, state) } else { Ok(()) }
            })
        } else if wanted {
            dispatch(work, state)
        } else {
            Ok(())
        };
        match result {
            Ok(()) => failing = false,
            // Said once per outage: it is tried again each second.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "Webhooks' deliveries cannot be made; this is tried again.");
            }
            Err(_) => {}
        }
        let guard = state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(guard, GATHER, |state| !state.stopped);
        let (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let waited = changed
            .wait_timeout_while(guard, SWEEP - GATHER, |state| !(state.stopped || state.rung && wanted));
        let (mut guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if guard.stopped {
            return;
        }
        guard.rung = false;
    }
}

/// Goes round all hooks that lag behind, a transaction for each, until none does.
fn dispatch(work: &Work, state: &Mutex<State>) -> Result<(), StoreError> {
    loop {
        let (mut behind, mut more) = ((UserId(0), Uuid::nil()), false);
        loop {
            if state.lock().unwrap_or_else(PoisonError::into_inner).stopped {
                return Ok(());
            }
            let now = work.clock.now();
            match work.db.run_blocking(|tx| tx.dispatch_outbound(behind, &work.policy, now)) {
                Ok(Some(done)) => {
                    behind = (done.user, done.hook);
                    more |= done.more;
                    if done.cut {
                        let cut = |tx: &mut Tx<'_>| {
                            tx.cut_delivery_log(done.user, done.hook, LOG_OF_HOOK, CUT_AT_ONCE)
                        };
                        let _: usize = work.db.run_blocking(cut)?;
                    }
                }
                Ok(None) => break,
                // What this hook or its stream holds cannot be read: it must not stand in the way of all behind it.
                Err(error) if error.kind() == StoreErrorKind::Inconsistent => {
                    let Some(passed) = work.db.read_blocking(|tx| tx.lagging_outbound_hook(behind))? else {
                        break;
                    };
                    tracing::error!(%error, user.id = %passed.0, hook.id = %passed.1, "A webhook cannot be dispatched and is passed over.");
                    behind = passed;
                }
                Err(error) => return Err(error),
            }
        }
        if !more {
            return Ok(());
        }
    }
}
