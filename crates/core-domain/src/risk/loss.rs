//! The daily loss, and when it halts trading.

use rust_decimal::Decimal;

use super::{RiskLimits, RiskRefusal, RiskRule};

/// From which loss on the limit counts. A halt that was lifted by hand counts from the loss of that moment on, for the
/// rest of the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossMark {
    /// The loss that counts no more.
    pub baseline: Decimal,
    /// The equity at the last session's close that `baseline` belongs to.
    pub session: Option<Decimal>,
    /// A halt was lifted, and no look has come since.
    pub rearmed: bool,
}

/// What a look at an account brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The mark from now on.
    pub mark: LossMark,
    /// The limit is reached: trading halts.
    pub reached: Option<RiskRefusal>,
}

/// Looks at an account's equity, and at that of the last session's close.
///
/// Equity of zero or below at the last close, as of an account without money, is no loss.
#[must_use]
pub fn look(limits: &RiskLimits, mark: LossMark, equity: Decimal, last_equity: Decimal) -> Look {
    let baseline = if mark.session == Some(last_equity) { mark.baseline } else { Decimal::ZERO };
    let still = LossMark { baseline, session: Some(last_equity), rearmed: false };
    let Some(limit) = limits.max_daily_loss else { return Look { mark: still, reached: None } };
    let loss = last_equity.saturating_sub(equity);
    if last_equity <= Decimal::ZERO || loss.saturating_sub(baseline) < limit.get() {
        return Look { mark: still, reached: None };
    }
    if mark.rearmed {
        return Look { mark: LossMark { baseline: loss, ..still }, reached: None };
    }
    let reached = RiskRefusal {
        rule: RiskRule::MaxDailyLoss,
        limit: limit.to_string(),
        actual: loss.saturating_sub(baseline).normalize().to_string(),
    };
    Look { mark: still, reached: Some(reached) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(loss: Option<i64>) -> RiskLimits {
        RiskLimits {
            max_daily_loss: loss.map(|loss| crate::Price::new(loss.into()).unwrap()),
            ..RiskLimits::default()
        }
    }

    fn seen(loss: Option<i64>, mark: LossMark, equity: i64, last: i64) -> Look {
        look(&limits(loss), mark, equity.into(), last.into())
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
    fn what_was_lifted_counts_from_that_moment_on_until_the_session_ends() {
        let lifted = LossMark { rearmed: true, ..LossMark::default() };
        let after = seen(Some(100), lifted, 9_850, 10_000);
        assert_eq!(after.reached, None);
        assert_eq!(after.mark.baseline, Decimal::from(150));
        assert!(!after.mark.rearmed);
        assert_eq!(seen(Some(100), after.mark, 9_751, 10_000).reached, None);
        let again = seen(Some(100), after.mark, 9_750, 10_000).reached.unwrap();
        assert_eq!(again.actual, "100");
        // The next session has another close, and the whole limit.
        let next = seen(Some(100), after.mark, 9_700, 9_800);
        assert_eq!(next.mark.baseline, Decimal::ZERO);
        assert!(next.reached.is_some());
    }

    #[test]
    fn lifting_another_halt_within_the_limit_takes_nothing_from_it() {
        let lifted = LossMark { rearmed: true, ..LossMark::default() };
        let after = seen(Some(100), lifted, 9_960, 10_000);
        assert_eq!((after.mark.baseline, after.mark.rearmed), (Decimal::ZERO, false));
        assert!(seen(Some(100), after.mark, 9_900, 10_000).reached.is_some());
    }
}
