//! Warnings that repeat word by word are counted instead of written: a database that is away for minutes is no reason to
//! fill a disk.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long the same line is counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// How many of them are written.
const WRITTEN: u64 = 3;
/// Different lines that are remembered; beyond, everything is written.
const REMEMBERED: usize = 512;

/// What was written lately, by a hash of its text.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<HashMap<u64, Window>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    seen: u64,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write it.
    Write,
    /// Write it, and that it came so often since it was last written.
    WriteAfter(u64),
    /// It has been written often enough.
    Skip,
}

impl Repeats {
    /// Of a line without its time: the first three of a minute are written, the first of the next minute tells how many
    /// were not.
    pub(super) fn judge(&self, text: impl Hash, now: Instant) -> Verdict {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let key = hasher.finish();
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(window) = windows.get_mut(&key) {
            if now.saturating_duration_since(window.began) < WINDOW {
                window.seen += 1;
                return if window.seen <= WRITTEN { Verdict::Write } else { Verdict::Skip };
            }
            let skipped = window.seen.saturating_sub(WRITTEN);
            *window = Window { began: now, seen: 1 };
            return if skipped == 0 { Verdict::Write } else { Verdict::WriteAfter(skipped) };
        }
        if windows.len() >= REMEMBERED {
            windows.retain(|_, window| now.saturating_duration_since(window.began) < WINDOW);
        }
        if windows.len() < REMEMBERED {
            windows.insert(key, Window { began: now, seen: 1 });
        }
        Verdict::Write
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_is_written_three_times_a_minute() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let at = |second: u64| start + Duration::from_secs(second);
        let verdicts: Vec<_> = (0..6).map(|second| repeats.judge("away", at(second))).collect();
        assert_eq!(verdicts[..3], [Verdict::Write; 3]);
        assert_eq!(verdicts[3..], [Verdict::Skip; 3]);
        assert_eq!(repeats.judge("another", at(6)), Verdict::Write);
        assert_eq!(repeats.judge("away", at(60)), Verdict::WriteAfter(3));
        assert_eq!(repeats.judge("away", at(61)), Verdict::Write);
        assert_eq!(repeats.judge("away", at(200)), Verdict::Write, "nothing was left out since");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_not_is_written() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        for line in 0..REMEMBERED {
            repeats.judge(line, start);
        }
        for _ in 0..10 {
            assert_eq!(repeats.judge("one too many", start), Verdict::Write);
        }
        assert_eq!(repeats.judge("room again", start + WINDOW), Verdict::Write);
        assert_eq!(repeats.0.lock().unwrap().len(), 1);
    }
}
