//! The daily loss, and when it halts trading.

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Utc, Weekday};
use rust_decimal::Decimal;

use crate::broker::{AccountMovement, MarketClock};

use super::{RiskLimits, RiskRefusal, RiskRule};

/// From which loss on the limit counts. A halt that was lifted by hand counts from the loss of that moment on, for the
/// rest of the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossMark {
    /// The loss that counts no more.
    pub baseline: Decimal,
    /// The equity at the last session's close that `baseline` belongs to.
    pub session: Option<Decimal>,
    /// The loss of the last look, while it has reached its limit: `baseline` when its halt is lifted.
    pub seen: Option<Decimal>,
}

/// What a look at an account brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The mark from now on.
    pub mark: LossMark,
    /// The limit is reached: trading halts.
    pub reached: Option<RiskRefusal>,
}

/// Looks at an account's equity, and at that of the last session's close. Cash that was `moved` since, in or out, is neither
/// gain nor loss.
///
/// Where there is nothing to lose from, equity of zero or below at the last close and nothing that came in since, there is no
/// loss.
#[must_use]
pub fn look(
    limits: &RiskLimits,
    mark: LossMark,
    equity: Decimal,
    last_equity: Decimal,
    moved: Decimal,
) -> Look {
    let baseline = if mark.session == Some(last_equity) { mark.baseline } else { Decimal::ZERO };
    let still = LossMark { baseline, session: Some(last_equity), seen: None };
    let Some(limit) = limits.max_daily_loss else { return Look { mark: still, reached: None } };
    let from = last_equity.saturating_add(moved);
    let loss = from.saturating_sub(equity).normalize();
    if from <= Decimal::ZERO || loss.saturating_sub(baseline) < limit.get() {
        return Look { mark: still, reached: None };
    }
    let reached = RiskRefusal {
        rule: RiskRule::MaxDailyLoss,
        limit: limit.to_string(),
        actual: loss.saturating_sub(baseline).normalize().to_string(),
    };
    Look { mark: LossMark { seen: Some(loss), ..still }, reached: Some(reached) }
}

/// What moves cash in or out and is neither gain nor loss, in the broker's words.
const CASH: [&str; 6] = ["CSD", "CSW", "JNL", "JNLC", "ACATC", "TRANS"];

/// The exchange's day, an hour off around midnight in summer, when nothing is traded.
fn day_of(at: DateTime<Utc>) -> NaiveDate {
    (at - TimeDelta::hours(5)).date_naive()
}

/// The first day whose movements came after the last session's close, by the broker's clock: today, and the weekend before
/// a Monday.
#[must_use]
pub fn first_day_since_close(clock: &MarketClock) -> NaiveDate {
    let today = day_of(clock.timestamp);
    let back = match today.weekday() {
        Weekday::Mon => 2,
        Weekday::Sun => 1,
        _ => 0,
    };
    today - TimeDelta::days(back)
}

/// Cash that came in since the last session's close, less what went out, as far as `last_equity` cannot have it.
///
/// - An account that was opened today has what came in at its opening in both.
/// - Once today's session is over, the broker takes that one's equity for the last at some time of its own: what came in
///   may be in it then. What went out counts either way, so that it is never taken for a loss.
#[must_use]
pub fn cash_moved(clock: &MarketClock, rows: &[AccountMovement], last_equity: Decimal) -> Decimal {
    let first = first_day_since_close(clock);
    let day = |at: DateTime<Utc>| if at.time() == NaiveTime::MIN { at.date_naive() } else { day_of(at) };
    let moved: Decimal = rows
        .iter()
        .filter(|row| CASH.contains(&row.kind.as_str()) && day(row.at) >= first)
        .fold(Decimal::ZERO, |sum, row| sum.saturating_add(row.amount));
    let over = !clock.is_open && day_of(clock.next_open) > day_of(clock.timestamp);
    if over || moved == last_equity { moved.min(Decimal::ZERO) } else { moved }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// A Wednesday in the session unless `now` says otherwise.
    fn clock(now: &str, is_open: bool, next_open: &str) -> MarketClock {
        let (timestamp, next_open) = (at(now), at(next_open));
        MarketClock { timestamp, is_open, next_open, next_close: next_open + TimeDelta::hours(6) }
    }

    fn movement(kind: &str, amount: i64, when: &str) -> AccountMovement {
        AccountMovement {
            id: format!("{kind}{when}"),
            kind: kind.into(),
            symbol: None,
            qty: None,
            amount: amount.into(),
            at: at(when),
        }
    }

    #[test]
    fn cash_of_today_counts_and_dividends_and_older_cash_do_not() {
        let wednesday = clock("2026-11-25T15:00:00Z", true, "2026-11-26T14:30:00Z");
        let rows = [
            movement("CSD", 500, "2026-11-25T00:00:00Z"),
            movement("CSW", -200, "2026-11-25T14:45:00Z"),
            movement("DIV", 7, "2026-11-25T00:00:00Z"),
            movement("FEE", -1, "2026-11-25T00:00:00Z"),
            movement("JNLC", 900, "2026-11-24T00:00:00Z"),
            // Late in the evening of the day before, where the exchange is.
            movement("JNLC", 800, "2026-11-25T02:00:00Z"),
        ];
        assert_eq!(cash_moved(&wednesday, &rows, 10_000.into()), 300.into());
        let monday = clock("2026-11-30T13:00:00Z", false, "2026-11-30T14:30:00Z");
        assert_eq!(first_day_since_close(&monday), "2026-11-28".parse().unwrap());
        let sunday = clock("2026-11-29T13:00:00Z", false, "2026-11-30T14:30:00Z");
        assert_eq!(first_day_since_close(&sunday), "2026-11-28".parse().unwrap());
        let weekend =
            [movement("CSD", 50, "2026-11-28T00:00:00Z"), movement("CSD", 60, "2026-11-27T00:00:00Z")];
        assert_eq!(cash_moved(&monday, &weekend, 10_000.into()), 50.into());
    }

    #[test]
    fn what_last_equity_may_have_already_does_not_count() {
        let wednesday = clock("2026-11-25T15:00:00Z", true, "2026-11-26T14:30:00Z");
        let opening = [movement("CSD", 10_000, "2026-11-25T00:00:00Z")];
        assert_eq!(cash_moved(&wednesday, &opening, 10_000.into()), Decimal::ZERO);
        assert_eq!(cash_moved(&wednesday, &opening, Decimal::ZERO), 10_000.into());
        let evening = clock("2026-11-25T22:00:00Z", false, "2026-11-26T14:30:00Z");
        assert_eq!(cash_moved(&evening, &opening, 20_000.into()), Decimal::ZERO);
        let out = [movement("CSW", -300, "2026-11-25T00:00:00Z")];
        assert_eq!(cash_moved(&evening, &out, 20_000.into()), (-300).into());
        let morning = clock("2026-11-25T13:00:00Z", false, "2026-11-25T14:30:00Z");
        assert_eq!(cash_moved(&morning, &opening, 20_000.into()), 10_000.into());
    }

    fn limits(loss: Option<i64>) -> RiskLimits {
        RiskLimits {
            max_daily_loss: loss.map(|loss| crate::Price::new(loss.into()).unwrap()),
            ..RiskLimits::default()
        }
    }

    fn seen(loss: Option<i64>, mark: LossMark, equity: i64, last: i64) -> Look {
        look(&limits(loss), mark, equity.into(), last.into(), Decimal::ZERO)
    }

    #[test]
    fn the_limit_is_reached_by_the_loss_since_the_last_close() {
        let mark = LossMark::default();
        assert_eq!(seen(Some(100), mark, 9_901, 10_000).reached, None);
        let reached = seen(Some(100), mark, 9_900, 10_000).reached.unwrap();
        assert_eq!((reached.rule, &*reached.limit, &*reached.actual), (RiskRule::MaxDailyLoss, "100", "100"));
        assert_eq!(seen(None, mark, 0, 10_000).reached, None, "no limit");
        assert_eq!(seen(Some(100), mark, 20_000, 10_000).reached, None, "a gain");
        assert_eq!(seen(Some(100), mark, -500, 0).reached, None, "nothing to lose from");
    }

    #[test]
    fn the_loss_past_its_limit_is_kept_for_whoever_lifts_the_halt() {
        let first = seen(Some(100), LossMark::default(), 9_850, 10_000);
        assert_eq!(first.mark.seen, Some(Decimal::from(150)));
        assert_eq!(
            seen(Some(100), first.mark, 9_700, 10_000).mark.seen,
            Some(Decimal::from(300)),
            "as it goes on"
        );
        assert_eq!(seen(Some(100), first.mark, 9_950, 10_000).mark.seen, None, "it is no longer reached");
        assert_eq!(
            seen(None, first.mark, 9_850, 10_000).mark.seen,
            None,
            "nothing is reached without a limit"
        );
    }

    #[test]
    fn what_was_lifted_counts_from_there_on_until_the_session_ends() {
        let session = Some(Decimal::from(10_000));
        let lifted = LossMark { baseline: Decimal::from(150), session, seen: None };
        let after = seen(Some(100), lifted, 9_751, 10_000);
        assert_eq!((after.reached, after.mark), (None, lifted));
        let again = seen(Some(100), after.mark, 9_750, 10_000).reached.unwrap();
        assert_eq!(again.actual, "100");
        // The next session has another close, and the whole limit.
        let next = seen(Some(100), after.mark, 9_700, 9_800);
        assert_eq!(next.mark.baseline, Decimal::ZERO);
        assert!(next.reached.is_some());
    }

    #[test]
    fn cash_that_comes_and_goes_is_neither_gain_nor_loss() {
        let of = |equity: i64, moved: i64| {
            look(&limits(Some(100)), LossMark::default(), equity.into(), 10_000.into(), moved.into()).reached
        };
        assert_eq!(of(9_000, -1_000), None, "taken out");
        assert_eq!(of(8_900, -1_000).unwrap().actual, "100");
        assert_eq!(of(10_500, 600).unwrap().actual, "100", "a deposit hides no loss");
        assert_eq!(of(10_501, 600), None);
        let new = look(&limits(Some(100)), LossMark::default(), 400.into(), Decimal::ZERO, 500.into());
        assert!(new.reached.is_some(), "lost of what came in today");
        assert_eq!(of(-1, -10_000), None, "nothing is left to lose from");
    }
}
