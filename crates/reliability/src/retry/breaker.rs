//! Keeps calls back from a place where they fail, and asks by a single one whether it is well again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::class::ErrorClass;

/// Slots of the window.
const SLOTS: usize = 10;

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Over how long calls are counted.
    pub window: Duration,
    /// It opens from so many calls in the window on,
    pub calls: u32,
    /// when so many per cent of them failed;
    pub percent: u32,
    /// or when so many failed one after another.
    pub in_a_row: u32,
    /// How long it stays open at first; each failed probe doubles it,
    pub open: Duration,
    /// up to this long.
    pub open_longest: Duration,
}

impl BreakerSettings {
    /// Half of at least 20 in 30 s, or 5 in a row; open for 5 s, doubling to 60 s.
    pub const USUAL: Self = Self {
        window: Duration::from_secs(30),
        calls: 20,
        percent: 50,
        in_a_row: 5,
        open: Duration::from_secs(5),
        open_longest: Duration::from_secs(60),
    };

    pub(super) fn scaled(self, factor: f64) -> Self {
        Self {
            window: self.window.mul_f64(factor),
            open: self.open.mul_f64(factor),
            open_longest: self.open_longest.mul_f64(factor),
            ..self
        }
    }

    /// How long it stays open for the time number `nth` in a row, counted from 1.
    fn pause(&self, nth: u32) -> Duration {
        super::curve::ceiling(self.open, self.open_longest.max(self.open), nth)
    }
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self::USUAL
    }
}

/// What a call says about the place that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, be it with a refusal.
    Answered,
    /// It did not, or only that it cannot.
    Failed,
    /// Nothing: the call ended for a reason of its own.
    Nothing,
}

impl From<ErrorClass> for Outcome {
    /// Transient and ambiguous failures are the place's, a permanent one is an answer.
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::Transient | ErrorClass::Ambiguous => Self::Failed,
            ErrorClass::Permanent => Self::Answered,
            ErrorClass::Throttled { .. } | ErrorClass::Snooze { .. } => Self::Nothing,
        }
    }
}

/// The right to make one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Of the breaker's state; a call of an earlier one says nothing any more.
    generation: u64,
}

/// What a call's outcome did to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It keeps calls back from now on.
    Opened {
        /// For so long.
        pause: Duration,
    },
    /// It lets calls through again.
    Closed,
}

#[derive(Debug)]
enum Mode {
    Closed(Box<Tally>),
    Open {
        until: Duration,
        nth: u32,
    },
    /// One call is under way.
    Probing {
        nth: u32,
    },
}

#[derive(Debug)]
struct State {
    mode: Mode,
    generation: u64,
}

impl State {
    fn enter(&mut self, mode: Mode) {
        self.mode = mode;
        self.generation += 1;
    }
}

/// A circuit breaker. It reads no clock: times are arguments, counted from any fixed moment.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: Mutex<State>,
}

impl Breaker {
    /// A closed one, which lets calls through.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Self {
        let state = State { mode: Mode::Closed(Box::default()), generation: 0 };
        Self { settings, state: Mutex::new(state) }
    }

    /// Asks for the right to make a call; [`record`](Self::record) is to follow.
    ///
    /// # Errors
    /// Not now; after this time it is worth asking again.
    pub fn admit(&self, now: Duration) -> Result<Ticket, Duration> {
        let mut state = self.lock();
        self.wait(&state, now)?;
        if let Mode::Open { nth, .. } = state.mode {
            state.enter(Mode::Probing { nth });
        }
        Ok(Ticket { generation: state.generation })
    }

    /// Whether a call would be let through now.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    pub fn check(&self, now: Duration) -> Result<(), Duration> {
        self.wait(&self.lock(), now)
    }

    fn wait(&self, state: &State, now: Duration) -> Result<(), Duration> {
        match &state.mode {
            Mode::Open { until, .. } if now < *until => Err(*until - now),
            Mode::Closed(_) | Mode::Open { .. } => Ok(()),
            // the probe's answer decides soon
            Mode::Probing { .. } => Err(self.settings.open / 5),
        }
    }

    /// Takes the outcome of a call in.
    pub fn record(&self, ticket: Ticket, outcome: Outcome, now: Duration) -> Change {
        let mut state = self.lock();
        if ticket.generation != state.generation {
            return Change::None;
        }
        match (&mut state.mode, outcome) {
            (Mode::Open { .. }, _) | (Mode::Closed(_), Outcome::Nothing) => Change::None,
            (Mode::Closed(tally), outcome) => {
                tally.count(outcome == Outcome::Failed, now, self.settings.window);
                if !tally.is_bad(&self.settings) {
                    return Change::None;
                }
                self.open(&mut state, 1, now)
            }
            (Mode::Probing { .. }, Outcome::Answered) => {
                state.enter(Mode::Closed(Box::default()));
                Change::Closed
            }
            (Mode::Probing { nth }, Outcome::Failed) => {
                let nth = nth.saturating_add(1);
                self.open(&mut state, nth, now)
            }
            (Mode::Probing { nth }, Outcome::Nothing) => {
                let nth = *nth;
                state.enter(Mode::Open { until: now, nth });
                Change::None
            }
        }
    }

    fn open(&self, state: &mut State, nth: u32, now: Duration) -> Change {
        let pause = self.settings.pause(nth);
        state.enter(Mode::Open { until: now + pause, nth });
        Change::Opened { pause }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls of the window, in slots.
#[derive(Debug, Default)]
struct Tally {
    slots: [Slot; SLOTS],
    in_a_row: u32,
    calls: u32,
    failed: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Which tenth of a window it is of, counted from time zero.
    number: u128,
    calls: u32,
    failed: u32,
}

impl Tally {
    fn count(&mut self, failed: bool, now: Duration, window: Duration) {
        self.in_a_row = if failed { self.in_a_row.saturating_add(1) } else { 0 };
        let number = now.as_nanos() / (window.as_nanos() / SLOTS as u128).max(1);
        let place = usize::try_from(number % SLOTS as u128).unwrap_or_default();
        if let Some(slot) = self.slots.get_mut(place) {
            if slot.number != number {
                *slot = Slot { number, calls: 0, failed: 0 };
            }
            slot.calls = slot.calls.saturating_add(1);
            slot.failed = slot.failed.saturating_add(u32::from(failed));
        }
        let recent = self.slots.iter().filter(|slot| slot.number + SLOTS as u128 > number);
        (self.calls, self.failed) = recent.fold((0, 0), |(calls, failed), slot| {
            (slot.calls.saturating_add(calls), slot.failed.saturating_add(failed))
        });
    }

    fn is_bad(&self, settings: &BreakerSettings) -> bool {
        let share = u64::from(self.failed) * 100 >= u64::from(self.calls) * u64::from(settings.percent);
        self.in_a_row >= settings.in_a_row.max(1) || (self.calls >= settings.calls.max(1) && share)
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
