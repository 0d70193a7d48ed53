//! Attempts to reach the server: one at a time, and after failures with growing pauses between them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel::result::ConnectionError;

/// The pause after the first failure; it doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// An attempt that takes longer than so large a part of its time counts as failing before it has ended.
const SLOW: u32 = 12;

/// How the attempts of one pool go.
#[derive(Debug)]
pub(super) struct Attempts {
    slow: Duration,
    /// Held by the one that is made.
    turn: Mutex<()>,
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    /// When the one that is being made began.
    began: Option<Instant>,
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    at: Instant,
    pause: Duration,
    why: String,
}

impl Attempts {
    /// Each may take `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { slow: limit / SLOW, turn: Mutex::default(), latest: Mutex::default() }
    }

    /// Makes an attempt by `connect`, or answers with the last one's error while its pause lasts. A first failure may be
    /// one connection's bad luck, and is followed by another attempt at once.
    pub(super) fn make<T>(
        &self,
        mut connect: impl FnMut() -> Result<T, ConnectionError>,
    ) -> Result<T, ConnectionError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = {
            let mut latest = self.latest();
            let pause = match &latest.failed {
                Some(failed) if failed.at.elapsed() < failed.pause => {
                    return Err(ConnectionError::BadConnection(failed.why.clone()));
                }
                Some(failed) => (failed.pause * 2).min(LONGEST_PAUSE),
                None => FIRST_PAUSE,
            };
            latest.began = Some(Instant::now());
            pause
        };
        let mut outcome = connect();
        if outcome.is_err() && pause == FIRST_PAUSE {
            outcome = connect();
        }
        let mut latest = self.latest();
        latest.began = None;
        match &outcome {
            Ok(_) => latest.failed = None,
            Err(error) => {
                tracing::warn!(%error, "a connection to the database could not be opened");
                latest.failed = Some(Failed { at: Instant::now(), pause, why: error.to_string() });
            }
        }
        outcome
    }

    /// Whether the last one failed and none has come through since, or the present one does not come through.
    pub(super) fn are_failing(&self) -> bool {
        let latest = self.latest();
        latest.failed.is_some() || latest.began.is_some_and(|began| began.elapsed() > self.slow)
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails() -> Result<(), ConnectionError> {
        Err(ConnectionError::BadConnection("nobody there".to_owned()))
    }

    #[test]
    fn failures_are_followed_by_pauses_in_which_nothing_is_tried() {
        let attempts = Attempts::new(Duration::from_secs(3));
        assert!(!attempts.are_failing());
        let mut tried = 0;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(200) {
            let error = attempts.make(|| {
                tried += 1;
                fails()
            });
            assert_eq!(error.unwrap_err().to_string(), "nobody there", "the reason is told either way");
            assert!(attempts.are_failing());
        }
        // twice at 0 ms, then at 50 and 150, or later
        assert!((2..=4).contains(&tried), "{tried} attempts");
    }

    #[test]
    fn a_success_ends_it() {
        let attempts = Attempts::new(Duration::from_secs(3));
        attempts.make(fails).unwrap_err();
        let began = Instant::now();
        while attempts.make(|| Ok(())).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!attempts.are_failing());
        attempts.make(|| Ok(())).unwrap();
    }

    #[test]
    fn one_failure_alone_is_not_told() {
        let attempts = Attempts::new(Duration::from_secs(3));
        let mut first = true;
        attempts.make(|| if std::mem::take(&mut first) { fails() } else { Ok(()) }).unwrap();
        assert!(!attempts.are_failing());
    }

    #[test]
    fn one_that_hangs_is_known_before_it_ends_and_nobody_else_tries() {
        let attempts = Attempts::new(Duration::from_millis(120));
        std::thread::scope(|scope| {
            let (end, ended) = std::sync::mpsc::channel::<()>();
            let ours = &attempts;
            let first = scope.spawn(move || {
                ours.make(|| {
                    ended.recv().unwrap();
                    fails()
                })
            });
            while !attempts.are_failing() {
                std::thread::yield_now();
            }
            let second = scope.spawn(|| attempts.make(|| -> Result<(), _> { panic!("two at a time") }));
            end.send(()).unwrap();
            end.send(()).unwrap();
            first.join().unwrap().unwrap_err();
            second.join().unwrap().unwrap_err();
        });
    }
}
