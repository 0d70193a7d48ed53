//! The account's budget of calls, as the broker's answers state it (Alpaca's contract section 1).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::DateTime;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use tokio::time::Instant;

/// A wait longer than this is a mistake of the server's.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// What an answer says about the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RateHeaders {
    limit: Option<u32>,
    remaining: Option<u32>,
    /// UNIX seconds: names the window.
    reset: Option<i64>,
    /// From the answer's own date to the reset: broker's time minus broker's time, never minus ours.
    resets_in: Option<Duration>,
    retry_after: Option<Duration>,
}

impl RateHeaders {
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let date = text(DATE.as_str()).and_then(http_date);
        let reset = text("x-ratelimit-reset").and_then(|text| text.parse().ok());
        let until =
            |at: i64| Duration::from_secs(u64::try_from(at.saturating_sub(date?)).unwrap_or(0)).into();
        Self {
            limit: text("x-ratelimit-limit").and_then(|text| text.parse().ok()),
            remaining: text("x-ratelimit-remaining").and_then(|text| text.parse().ok()),
            reset,
            resets_in: reset.and_then(until),
            // RFC 9110 section 10.2.3: seconds or a date.
            retry_after: text(RETRY_AFTER.as_str()).and_then(|text| match text.parse() {
                Ok(seconds) => Some(Duration::from_secs(seconds)),
                Err(_) => http_date(text).and_then(until),
            }),
        }
    }

    /// The delay that the answer asks for in so many words.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after.map(|wait| wait.min(LONGEST_WAIT))
    }
}

fn http_date(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc2822(text).ok().map(|at| at.timestamp())
}

#[derive(Debug, Default)]
struct Window {
    limit: Option<u32>,
    /// Calls that may still be made, those under way taken off; `None` until an answer tells.
    remaining: Option<u32>,
    reset: Option<i64>,
    turns_at: Option<Instant>,
    blocked_until: Option<Instant>,
    under_way: u32,
}

/// Shared by all calls of one account.
#[derive(Debug)]
pub(crate) struct RateBudget {
    window: Mutex<Window>,
    reserve: u32,
    default_window: Duration,
    margin: Duration,
}

/// A call that was let through and is under way.
#[derive(Debug)]
pub(crate) struct Admission<'a>(&'a RateBudget);

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        let mut window = self.0.lock();
        window.under_way = window.under_way.saturating_sub(1);
    }
}

impl RateBudget {
    pub(crate) fn new(reserve: u32, default_window: Duration, margin: Duration) -> Self {
        Self { window: Mutex::default(), reserve, default_window, margin }
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call through, or tells how long to wait. Only a cancel may use the reserve.
    pub(crate) fn admit(&self, is_cancel: bool, now: Instant) -> Result<Admission<'_>, Duration> {
        let mut window = self.lock();
        if let Some(until) = window.blocked_until.filter(|until| *until > now) {
            return Err(until - now);
        }
        window.blocked_until = None;
        if window.turns_at.is_some_and(|at| at <= now) {
            window.turns_at = None;
            window.remaining = window.limit.map(|limit| limit.saturating_sub(window.under_way));
        }
        let kept = match window.limit {
            _ if is_cancel => 0,
            Some(limit) => self.reserve.min(limit / 4),
            None => self.reserve,
        };
        if window.remaining.is_some_and(|remaining| remaining <= kept) {
            // Without a known turn of the window, waiting for answers of calls under way would wait for ever.
            if let Some(at) = window.turns_at {
                return Err(at - now);
            }
        }
        window.remaining = window.remaining.map(|remaining| remaining.saturating_sub(1));
        window.under_way += 1;
        Ok(Admission(self))
    }

    /// Takes in what an answer says. Answers come in any order: of one window the smallest remainder counts, and an
    /// older window's is passed over.
    pub(crate) fn observe(&self, admission: Admission<'_>, headers: &RateHeaders, now: Instant) {
        drop(admission);
        let mut window = self.lock();
        if let Some(limit) = headers.limit {
            window.limit = Some(limit);
        }
        let Some(remaining) = headers.remaining else { return };
        if let (Some(new), Some(old)) = (headers.reset, window.reset)
            && new < old
        {
            return;
        }
        let same = headers.reset.is_some() && headers.reset == window.reset;
        window.remaining = Some(match window.remaining {
            Some(known) if same => known.min(remaining),
            _ => remaining.saturating_sub(window.under_way),
        });
        window.reset = headers.reset;
        if !same || window.turns_at.is_none() {
            window.turns_at = Some(now + self.until_turn(headers));
        }
    }

    /// The broker refused a call for its rate: no call is made until the time is over. Tells that time.
    pub(crate) fn throttled(&self, headers: &RateHeaders, now: Instant) -> Duration {
        let wait = headers.retry_after().unwrap_or_else(|| self.until_turn(headers));
        let mut window = self.lock();
        let until = window.blocked_until.map_or(now + wait, |known| known.max(now + wait));
        window.blocked_until = Some(until);
        wait
    }

    fn until_turn(&self, headers: &RateHeaders) -> Duration {
        headers.resets_in.unwrap_or(self.default_window).min(LONGEST_WAIT) + self.margin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);
    const MARGIN: Duration = Duration::from_secs(1);

    fn headers(pairs: &[(&'static str, &str)]) -> RateHeaders {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.insert(*name, value.parse().unwrap());
        }
        RateHeaders::read(&map)
    }

    fn stated(limit: u32, remaining: u32, reset: i64) -> RateHeaders {
        RateHeaders {
            limit: Some(limit),
            remaining: Some(remaining),
            reset: Some(reset),
            resets_in: Some(Duration::from_secs(30)),
            retry_after: None,
        }
    }

    fn answered(budget: &RateBudget, headers: &RateHeaders, now: Instant) {
        let admission = budget.admit(true, now).unwrap();
        budget.observe(admission, headers, now);
    }

    #[test]
    fn waits_are_differences_of_the_brokers_own_times() {
        const DATE: (&str, &str) = ("date", "Tue, 03 Nov 2026 15:31:00 GMT");
        let at = |offset: i64| (1_793_719_860 + offset).to_string();
        let read = headers(&[DATE, ("x-ratelimit-reset", &at(20)), ("x-ratelimit-remaining", "7")]);
        assert_eq!((read.resets_in, read.remaining), (Some(Duration::from_secs(20)), Some(7)));
        assert_eq!(headers(&[DATE, ("x-ratelimit-reset", &at(-5))]).resets_in, Some(Duration::ZERO));
        assert_eq!(headers(&[("x-ratelimit-reset", &at(20))]).resets_in, None);
        assert_eq!(headers(&[("retry-after", "30")]).retry_after(), Some(Duration::from_secs(30)));
        assert_eq!(headers(&[("retry-after", "99999999")]).retry_after(), Some(LONGEST_WAIT));
        assert_eq!(
            headers(&[DATE, ("retry-after", "Tue, 03 Nov 2026 15:31:09 GMT")]).retry_after(),
            Some(Duration::from_secs(9))
        );
        assert_eq!(headers(&[("retry-after", "soon"), ("x-ratelimit-limit", "-1")]), RateHeaders::default());
    }

    #[test]
    fn the_reserve_is_for_cancels() {
        let (budget, now) = (RateBudget::new(20, WINDOW, MARGIN), Instant::now());
        assert!(budget.admit(false, now).is_ok(), "nothing is known yet");
        answered(&budget, &stated(200, 21, 100), now);
        assert!(budget.admit(false, now).is_ok());
        // That call took the one above the reserve.
        assert_eq!(budget.admit(false, now).unwrap_err(), Duration::from_secs(31));
        assert!(budget.admit(true, now).is_ok());
        answered(&budget, &stated(200, 0, 100), now);
        assert!(budget.admit(true, now).is_err(), "an empty window holds cancels back too");
        assert!(budget.admit(false, now + Duration::from_secs(31)).is_ok(), "the window has turned");
    }

    #[test]
    fn a_small_limit_keeps_a_small_reserve() {
        let (budget, now) = (RateBudget::new(20, WINDOW, MARGIN), Instant::now());
        answered(&budget, &stated(10, 3, 100), now);
        assert!(budget.admit(false, now).is_ok());
        assert!(budget.admit(false, now).is_err());
    }

    #[test]
    fn late_answers_give_nothing_back() {
        let (budget, now) = (RateBudget::new(0, WINDOW, MARGIN), Instant::now());
        answered(&budget, &stated(200, 1, 100), now);
        answered(&budget, &stated(200, 50, 100), now);
        assert!(budget.admit(false, now).is_err(), "of one window the smallest remainder counts");
        let later = now + Duration::from_secs(40);
        answered(&budget, &stated(200, 5, 160), later);
        answered(&budget, &stated(200, 0, 100), later);
        assert!(budget.admit(false, later).is_ok(), "an older window's answer is passed over");
    }

    #[test]
    fn a_refusal_for_the_rate_holds_every_call_back() {
        let (budget, now) = (RateBudget::new(20, WINDOW, MARGIN), Instant::now());
        assert_eq!(budget.throttled(&headers(&[("retry-after", "30")]), now), Duration::from_secs(30));
        assert_eq!(budget.admit(true, now).unwrap_err(), Duration::from_secs(30));
        assert_eq!(budget.throttled(&headers(&[]), now), WINDOW + MARGIN);
        assert!(budget.admit(true, now + Duration::from_secs(60)).is_err());
        assert!(budget.admit(true, now + Duration::from_secs(61)).is_ok());
    }
}
