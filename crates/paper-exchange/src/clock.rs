//! Simulator time from real time.
//!
//! Rule of [`Hours::RegularOnly`], the default: simulator time runs through core sessions only. At a close it jumps to
//! the next trading day's 09:30, so that a market is always open; the exchange, which advances over the jump,
//! expires day orders on the way. Under [`Hours::RoundTheClock`] it also runs through nights and weekends.
//!
//! Simulator time is `base_sim` plus real time since `base_real` times `speed`, counted in session time. That is a
//! pure function of the state and real time, so a restart with a kept state goes on where time would have been. A
//! real clock that is set back stands still here.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::{Decimal, prelude::ToPrimitive};
use serde::{Deserialize, Serialize};

use crate::calendar::{self, Session, TradingDay};

/// Fastest replay.
pub const MAX_SPEED: u32 = 100_000;

/// Which hours simulator time runs through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hours {
    /// Core sessions only.
    #[default]
    RegularOnly,
    /// All hours.
    RoundTheClock,
}

/// What a store keeps of a clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockState {
    /// Simulator time at `base_real`.
    pub base_sim: DateTime<Utc>,
    /// The real time that it belongs to.
    pub base_real: DateTime<Utc>,
    /// Simulator seconds a real second; 0 stands still.
    pub speed: Decimal,
    /// Hours it runs through.
    pub hours: Hours,
}

/// Why a clock was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// Speed out of range.
    #[error("speed must be between 0 and {MAX_SPEED}, got {0}")]
    Speed(Decimal),
    /// Simulator time never goes back.
    #[error("simulator time is {now}, it cannot go back to {asked}")]
    Back {
        /// Simulator time.
        now: DateTime<Utc>,
        /// The time asked for.
        asked: DateTime<Utc>,
    },
}

/// Maps real time to simulator time; see the module for the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayClock {
    state: ClockState,
    last: DateTime<Utc>,
}

impl ReplayClock {
    /// A clock that starts at `real` when that is in a core session, else at the next opening.
    ///
    /// # Errors
    /// [`ClockError::Speed`] for a speed out of range.
    pub fn start(real: DateTime<Utc>, speed: Decimal) -> Result<Self, ClockError> {
        let real = micros(real);
        let base_sim = into_session(real);
        let state =
            ClockState { base_sim, base_real: real, speed: checked(speed)?, hours: Hours::RegularOnly };
        Ok(Self { state, last: base_sim })
    }

    /// A clock that goes on from a kept state, never before `floor` (the newest time in the store).
    ///
    /// # Errors
    /// [`ClockError::Speed`] for a speed out of range.
    pub fn restore(state: ClockState, floor: DateTime<Utc>, real: DateTime<Utc>) -> Result<Self, ClockError> {
        checked(state.speed)?;
        let mut clock = Self { last: state.base_sim, state };
        let now = clock.now(real);
        if now < floor {
            clock.rebase(floor, real);
        }
        Ok(clock)
    }

    /// What to keep; keep it anew after each change of time, speed or hours.
    pub fn state(&self) -> &ClockState {
        &self.state
    }

    /// Simulator seconds a real second.
    pub fn speed(&self) -> Decimal {
        self.state.speed
    }

    /// Simulator time at a real time; never less than what it answered before.
    pub fn now(&mut self, real: DateTime<Utc>) -> DateTime<Utc> {
        let real = micros(real);
        let sim = self.at(real);
        if sim > self.last {
            // Rebased once a trading day, so that the walk over sessions stays short.
            if calendar::date_of(sim) != calendar::date_of(self.state.base_sim) && self.state.base_real < real
            {
                self.state.base_sim = sim;
                self.state.base_real = real;
            }
            self.last = sim;
        }
        self.last
    }

    /// Changes the speed from now on.
    ///
    /// # Errors
    /// [`ClockError::Speed`] for a speed out of range.
    pub fn set_speed(&mut self, speed: Decimal, real: DateTime<Utc>) -> Result<(), ClockError> {
        let speed = checked(speed)?;
        let now = self.now(real);
        self.rebase(now, real);
        self.state.speed = speed;
        Ok(())
    }

    /// Jumps forward to a time; one outside core sessions also switches to [`Hours::RoundTheClock`].
    ///
    /// # Errors
    /// [`ClockError::Back`] for a time before now.
    pub fn set_time(&mut self, asked: DateTime<Utc>, real: DateTime<Utc>) -> Result<(), ClockError> {
        let now = self.now(real);
        let asked = micros(asked);
        if asked < now {
            return Err(ClockError::Back { now, asked });
        }
        if calendar::session_of(asked) != Session::Regular {
            self.state.hours = Hours::RoundTheClock;
        }
        self.rebase(asked, real);
        Ok(())
    }

    /// Jumps forward to the next instant in such a part of the day, or stays when it is one already.
    ///
    /// `Regular` switches to [`Hours::RegularOnly`], the others to [`Hours::RoundTheClock`].
    pub fn set_session(&mut self, session: Session, real: DateTime<Utc>) {
        let now = self.now(real);
        self.state.hours =
            if session == Session::Regular { Hours::RegularOnly } else { Hours::RoundTheClock };
        let sim = if calendar::session_of(now) == session { now } else { next_start(session, now) };
        self.rebase(sim, real);
    }

    fn rebase(&mut self, sim: DateTime<Utc>, real: DateTime<Utc>) {
        let sim = match self.state.hours {
            Hours::RegularOnly => into_session(sim),
            Hours::RoundTheClock => sim,
        };
        self.state.base_sim = sim;
        self.state.base_real = micros(real);
        self.last = self.last.max(sim);
    }

    fn at(&self, real: DateTime<Utc>) -> DateTime<Utc> {
        let elapsed = (real - self.state.base_real).max(TimeDelta::zero());
        let elapsed = Decimal::from(elapsed.num_microseconds().unwrap_or(i64::MAX));
        let run = elapsed.checked_mul(self.state.speed).and_then(|run| run.to_i64()).unwrap_or(i64::MAX);
        // A few million years of real time away from overflow at any speed: bound it to a century of sessions.
        let run = TimeDelta::microseconds(run.min(CENTURY));
        match self.state.hours {
            Hours::RegularOnly => add_session_time(self.state.base_sim, run),
            Hours::RoundTheClock => self.state.base_sim + run,
        }
    }
}

const CENTURY: i64 = 100 * 366 * 24 * 3_600 * 1_000_000;

fn checked(speed: Decimal) -> Result<Decimal, ClockError> {
    if (Decimal::ZERO..=Decimal::from(MAX_SPEED)).contains(&speed) {
        Ok(speed)
    } else {
        Err(ClockError::Speed(speed))
    }
}

fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros())
        .expect("an instant's own microseconds are in range")
}

fn into_session(at: DateTime<Utc>) -> DateTime<Utc> {
    if calendar::session_of(at) == Session::Regular { at } else { calendar::next_open(at) }
}

fn add_session_time(base: DateTime<Utc>, mut run: TimeDelta) -> DateTime<Utc> {
    let mut at = into_session(base);
    let mut day = TradingDay::from_date(calendar::date_of(at));
    loop {
        let left = day.close() - at;
        if run < left {
            return at + run;
        }
        run -= left;
        day = day.next();
        at = day.open();
    }
}

fn next_start(session: Session, now: DateTime<Utc>) -> DateTime<Utc> {
    let start = |day: TradingDay| match session {
        Session::Pre => day.pre_open(),
        Session::Regular => day.open(),
        Session::After => day.close(),
        Session::Closed => day.after_close(),
    };
    let day = TradingDay::from_date(calendar::date_of(now));
    if start(day) > now { start(day) } else { start(day.next()) }
}

#[cfg(test)]
mod tests;
