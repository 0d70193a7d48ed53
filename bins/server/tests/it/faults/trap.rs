//! What a [`Proxy`](super::proxy::Proxy) lies in wait for, and what it does then.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where in an exchange (a request of the driver's and the server's whole answer to it) a trap acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The database has not seen the request, and will not where the deed is the end.
    Before,
    /// The database has done it; the answer is not passed on where the deed is the end.
    Executed,
    /// The answer has been passed on.
    Answered,
}

/// What is done.
#[derive(Clone)]
pub(crate) enum Deed {
    /// `kill -9` of a process. The exchange ends there.
    Kill(u32),
    /// SIGSTOP of a process; the exchange goes on.
    Freeze(u32),
    /// The connection is closed on both sides. The exchange ends there.
    Cut,
    /// The exchange stands still until the trap is released.
    Hold,
    /// The exchange goes on after this time.
    Delay(Duration),
    /// Something of the test's own, on the connection's thread; then the exchange goes on.
    Run(Arc<dyn Fn() + Send + Sync>),
}

impl fmt::Debug for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill(_) => "Kill",
            Self::Freeze(_) => "Freeze",
            Self::Cut => "Cut",
            Self::Hold => "Hold",
            Self::Delay(_) => "Delay",
            Self::Run(_) => "Run",
        })
    }
}

/// Which exchanges are meant; everything that is not asked for fits.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    after: Option<Arc<Trap>>,
    pool: Option<&'static str>,
    text: Option<String>,
    from: u64,
    times: u64,
}

impl Wanted {
    /// Any exchange, once.
    pub(crate) fn any() -> Self {
        Self { after: None, pool: None, text: None, from: 1, times: 1 }
    }

    /// Exchanges with this in a statement's text, once. Prepared statements count by their text each time they run.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::any() }
    }

    /// Only those of a pool: `http`, `jobs`, `control`, `listen` or `notify`.
    pub(crate) fn of(mut self, pool: &'static str) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Only once another trap has taken an exchange, and on the same connection.
    pub(crate) fn after(mut self, trap: &Arc<Trap>) -> Self {
        self.after = Some(Arc::clone(trap));
        self
    }

    /// From the `number`th on that fits, counted from 1.
    pub(crate) fn from(mut self, number: u64) -> Self {
        self.from = number;
        self
    }

    /// That many; `u64::MAX` for ever.
    pub(crate) fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    fn fits(&self, connection: u64, pool: &str, text: &str) -> bool {
        self.pool.is_none_or(|wanted| pool.strip_prefix("plimsoll-") == Some(wanted))
            && self.text.as_ref().is_none_or(|wanted| text.contains(wanted.as_str()))
            && self.after.as_ref().is_none_or(|trap| trap.lock().on == Some(connection))
    }
}

/// How an exchange goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onward {
    Goes,
    Ends,
}

/// A trap that is set. It stays set until it is [lifted](Trap::lift), also when it has acted as often as it should.
#[derive(Debug)]
pub(crate) struct Trap {
    wanted: Wanted,
    pub(super) moment: Moment,
    deed: Deed,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    seen: u64,
    acted: u64,
    released: bool,
    /// The connection of the last exchange it took.
    on: Option<u64>,
}

impl Trap {
    pub(super) fn new(wanted: Wanted, moment: Moment, deed: Deed) -> Arc<Self> {
        Arc::new(Self { wanted, moment, deed, state: Mutex::default(), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it acts on this exchange. Counts it.
    pub(super) fn takes(&self, connection: u64, pool: &str, text: &str) -> bool {
        if !self.wanted.fits(connection, pool, text) {
            return false;
        }
        let mut state = self.lock();
        state.seen += 1;
        let taken = !state.released
            && state.seen >= self.wanted.from
            && state.seen - self.wanted.from < self.wanted.times;
        if taken {
            state.on = Some(connection);
        }
        taken
    }

    pub(super) fn act(&self) -> Onward {
        let signal = |pid: u32, signal| {
            // a process that has ended meanwhile needs none
            let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal);
        };
        let onward = match &self.deed {
            Deed::Kill(pid) => {
                signal(*pid, Signal::SIGKILL);
                Onward::Ends
            }
            Deed::Freeze(pid) => {
                signal(*pid, Signal::SIGSTOP);
                Onward::Goes
            }
            Deed::Cut => Onward::Ends,
            Deed::Hold | Deed::Delay(_) | Deed::Run(_) => Onward::Goes,
        };
        let mut state = self.lock();
        state.acted += 1;
        self.changed.notify_all();
        match &self.deed {
            Deed::Hold => drop(self.changed.wait_while(state, |state| !state.released)),
            Deed::Delay(time) => drop(self.changed.wait_timeout_while(state, *time, |state| !state.released)),
            Deed::Run(work) => {
                drop(state);
                work();
            }
            Deed::Kill(_) | Deed::Freeze(_) | Deed::Cut => {}
        }
        onward
    }

    /// How many exchanges fitted so far.
    pub(crate) fn seen(&self) -> u64 {
        self.lock().seen
    }

    /// How often it acted so far.
    pub(crate) fn acted(&self) -> u64 {
        self.lock().acted
    }

    /// Waits until it has acted `times` times; whether it did. Not for async code without a thread of its own.
    pub(crate) fn wait(&self, times: u64, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        while state.acted < times {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Lets go on what it holds, and acts no more.
    pub(crate) fn lift(&self) {
        self.lock().released = true;
        self.changed.notify_all();
    }
}
