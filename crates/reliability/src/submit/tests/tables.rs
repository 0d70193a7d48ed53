use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{BrokerError, BrokerOrder, Dedupe};

use super::*;
use crate::submit::{Absent, Difference, Outcome, Step, classify, compare, next_step};

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_534_200, 0).unwrap()
}

#[test]
fn the_next_step_follows_from_state_and_time() {
    use OrderStatus::{PendingSubmit, Submitting, Unknown};
    let step = |status, attempts, probes, deadline_in: i64, sent_ago: Option<i64>, dedupe| {
        let now = noon();
        let notes = SubmitNotes {
            attempts,
            deadline: now + TimeDelta::seconds(deadline_in),
            started_at: sent_ago.map(|ago| now - TimeDelta::seconds(ago)),
            probes,
            doubt: false,
        };
        next_step(status, &notes, dedupe, &Timings::default(), now)
    };
    let look = Step::LookUpFirst;
    let (forever, never) = (Dedupe::Forever, Dedupe::Never);
    for (line, (status, attempts, probes, deadline_in, sent_ago, dedupe, expected)) in [
        // never tried
        (PendingSubmit, 0, 0, 60, None, forever, Step::Send),
        (PendingSubmit, 0, 0, 1, None, never, Step::Send),
        (PendingSubmit, 0, 0, 0, None, forever, Step::NotSent),
        (PendingSubmit, 0, 0, -9, None, never, Step::NotSent),
        // tried, with clear answers that nothing was done
        (PendingSubmit, 1, 0, 60, Some(1), forever, look(Absent::Send)),
        (PendingSubmit, 1, 0, 60, Some(1), never, look(Absent::Send)),
        (PendingSubmit, 7, 0, -1, Some(90), forever, Step::NotSent),
        // a crash between the mark and the outcome
        (Submitting, 1, 0, 60, Some(9), forever, look(Absent::Early)),
        (Submitting, 1, 0, 60, Some(10), forever, look(Absent::Send)),
        (Submitting, 3, 0, 60, Some(10), forever, look(Absent::Send)),
        (Submitting, 1, 0, 0, Some(10), forever, look(Absent::Miss)),
        (Submitting, 1, 0, 60, Some(10), never, look(Absent::Miss)),
        (Submitting, 1, 0, 60, None, forever, look(Absent::Send)),
        // sent for certain, without a clear answer
        (Unknown, 1, 0, 60, Some(3), forever, look(Absent::Early)),
        (Unknown, 1, 0, 60, Some(15), forever, look(Absent::Send)),
        (Unknown, 1, 0, 60, Some(15), never, look(Absent::Miss)),
        (Unknown, 2, 0, 60, Some(15), forever, look(Absent::Miss)),
        (Unknown, 1, 0, -1, Some(15), forever, look(Absent::Miss)),
        (Unknown, 2, 4, -1, Some(59), forever, look(Absent::Miss)),
        (Unknown, 2, 3, -1, Some(90), forever, look(Absent::Miss)),
        (Unknown, 2, 4, -1, Some(60), forever, look(Absent::LastLook)),
        (Unknown, 1, 4, 60, Some(60), never, look(Absent::AskHuman)),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(step(status, attempts, probes, deadline_in, sent_ago, dedupe), expected, "line {line}");
    }
    for status in OrderStatus::ALL {
        if !matches!(status, PendingSubmit | Submitting | Unknown) {
            assert_eq!(step(status, 1, 0, 60, Some(1), forever), Step::Nothing, "{status}");
        }
    }
}

#[test]
fn each_answer_has_its_outcome() {
    let id = ClientOrderId::new("plm-1").unwrap();
    let taken = |client_id: &str| FakeBroker::taken("b-1", client_id, &terms(OrderType::Market), noon());
    assert!(matches!(classify(Ok(taken("plm-1")), &id), Outcome::Taken(_)));
    assert!(matches!(classify(Ok(taken("plm-2")), &id), Outcome::Unclear { .. }));
    let refused =
        BrokerError::Refused { status: 403, code: Some(40_310_000), message: "no buying power".into() };
    for (error, expected) in [
        (refused, Outcome::Rejected { code: Some(40_310_000), reason: "no buying power".into() }),
        (BrokerError::DuplicateClientOrderId, Outcome::Duplicate),
        (BrokerError::NotFound, Outcome::Rejected { code: None, reason: "not found at the broker".into() }),
        (BrokerError::Throttled { retry_after: secs(3) }, Outcome::Throttled { after: secs(3) }),
        (BrokerError::Unreachable("refused".into()), Outcome::Unreachable),
        (BrokerError::Ambiguous("502".into()), Outcome::Unclear { reason: "502".into() }),
    ] {
        assert_eq!(classify(Err(error), &id), expected);
    }
    let unauthorized = classify(Err(BrokerError::Unauthorized("PK…".into())), &id);
    assert!(
        matches!(unauthorized, Outcome::Rejected { reason, .. } if !reason.contains("PK")),
        "no credentials in it"
    );
}

#[test]
fn two_orders_are_the_same_by_symbol_side_type_and_size() {
    let ours = terms(OrderType::Limit);
    let theirs = FakeBroker::taken("b-1", "plm-1", &ours, noon());
    assert_eq!(compare(&ours, &theirs), Ok(()));
    let mut rounded = theirs.clone();
    rounded.limit_price = Some(Decimal::ONE);
    assert_eq!(compare(&ours, &rounded), Ok(()), "prices may move");
    let base = || theirs.clone();
    for (expected, other) in [
        (Difference::Symbol, BrokerOrder { symbol: "SPYX".into(), ..base() }),
        (Difference::Side, BrokerOrder { side: Some(Side::Sell), ..base() }),
        (Difference::Side, BrokerOrder { side: None, ..base() }),
        (Difference::OrderType, BrokerOrder { order_type: Some(OrderType::Market), ..base() }),
        (Difference::Size, BrokerOrder { qty: Some(Decimal::new(101, 1)), ..base() }),
        (Difference::Size, BrokerOrder { qty: None, ..base() }),
    ] {
        assert_eq!(compare(&ours, &other), Err(expected));
    }
    let crypto = OrderRequest {
        symbol: "BTC/USD".into(),
        side: Some(Side::Buy),
        order_type: Some(OrderType::Market),
        time_in_force: Some(TimeInForce::Gtc),
        notional: Some(Decimal::new(2_550, 2)),
        ..OrderRequest::default()
    };
    let crypto = crypto.validate().unwrap();
    let mut seen = FakeBroker::taken("b-1", "plm-1", &crypto, noon());
    seen.symbol = "BTCUSD".into();
    seen.qty = Some(Decimal::ONE);
    assert_eq!(compare(&crypto, &seen), Ok(()), "an order by amount is compared by its amount");
}
