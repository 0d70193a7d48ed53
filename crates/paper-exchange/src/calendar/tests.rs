use super::*;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

#[test]
fn holidays_are_those_the_exchange_published() {
    let closed = [
        // 2024 to 2027 as published by the exchange.
        "2024-01-01",
        "2024-01-15",
        "2024-02-19",
        "2024-03-29",
        "2024-05-27",
        "2024-06-19",
        "2024-07-04",
        "2024-09-02",
        "2024-11-28",
        "2024-12-25",
        "2025-01-01",
        "2025-01-09",
        "2025-01-20",
        "2025-02-17",
        "2025-04-18",
        "2025-05-26",
        "2025-06-19",
        "2025-07-04",
        "2025-09-01",
        "2025-11-27",
        "2025-12-25",
        "2026-01-01",
        "2026-01-19",
        "2026-02-16",
        "2026-04-03",
        "2026-05-25",
        "2026-06-19",
        "2026-07-03",
        "2026-09-07",
        "2026-11-26",
        "2026-12-25",
        "2027-01-01",
        "2027-01-18",
        "2027-02-15",
        "2027-03-26",
        "2027-05-31",
        "2027-06-18",
        "2027-07-05",
        "2027-09-06",
        "2027-11-25",
        "2027-12-24",
    ];
    let mut day = date("2024-01-01");
    while day <= date("2027-12-31") {
        let weekend = matches!(day.weekday(), Weekday::Sat | Weekday::Sun);
        let expected = !weekend && !closed.contains(&day.to_string().as_str());
        assert_eq!(TradingDay::on(day).is_some(), expected, "{day}");
        day = next_date(day);
    }
    // New Year's Day 2022 was a Saturday and was not kept; Juneteenth 2021 was not a holiday yet.
    assert!(TradingDay::on(date("2021-12-31")).is_some());
    assert!(TradingDay::on(date("2021-06-18")).is_some());
    assert!(TradingDay::on(date("2012-10-30")).is_none());
}

#[test]
fn half_days_close_at_one() {
    for half in [
        "2024-07-03",
        "2024-11-29",
        "2024-12-24",
        "2025-07-03",
        "2025-11-28",
        "2025-12-24",
        "2026-11-27",
        "2026-12-24",
    ] {
        let day = TradingDay::on(date(half)).unwrap();
        assert!(day.half_day, "{half}");
        assert_eq!(local(day.close()).time(), NaiveTime::from_hms_opt(13, 0, 0).unwrap());
    }
    for whole in ["2026-07-02", "2026-11-25", "2026-12-23", "2027-07-02", "2027-12-23"] {
        assert!(!TradingDay::on(date(whole)).unwrap().half_day, "{whole}");
    }
}

#[test]
fn rows_have_the_documented_form() {
    let rows = rows(date("2026-11-25"), date("2026-11-30"));
    let expected = serde_json::json!([
        {"date": "2026-11-25", "open": "09:30", "close": "16:00", "session_open": "0400", "session_close": "2000",
         "settlement_date": "2026-11-27"},
        {"date": "2026-11-27", "open": "09:30", "close": "13:00", "session_open": "0400", "session_close": "1700",
         "settlement_date": "2026-11-30"},
        {"date": "2026-11-30", "open": "09:30", "close": "16:00", "session_open": "0400", "session_close": "2000",
         "settlement_date": "2026-12-01"},
    ]);
    assert_eq!(serde_json::to_value(rows).unwrap(), expected);
}

#[test]
fn the_clock_is_in_new_yorks_offset() {
    let view = serde_json::to_value(clock_view(utc("2026-11-03T15:31:24.451Z"))).unwrap();
    assert_eq!(view["timestamp"], "2026-11-03T10:31:24.451-05:00");
    assert_eq!(view["is_open"], true);
    assert_eq!(view["next_open"], "2026-11-04T09:30:00-05:00");
    assert_eq!(view["next_close"], "2026-11-03T16:00:00-05:00");
    // Over the change to summer time on 8 March 2026.
    let view = serde_json::to_value(clock_view(utc("2026-03-07T17:00:00Z"))).unwrap();
    assert_eq!(view["timestamp"], "2026-03-07T12:00:00-05:00");
    assert_eq!(view["next_open"], "2026-03-09T09:30:00-04:00");
}

#[test]
fn sessions_begin_and_end_on_the_minute() {
    let cases = [
        ("2026-11-24T08:59:59Z", Session::Closed),
        ("2026-11-24T09:00:00Z", Session::Pre),
        ("2026-11-24T14:29:59Z", Session::Pre),
        ("2026-11-24T14:30:00Z", Session::Regular),
        ("2026-11-24T20:59:59Z", Session::Regular),
        ("2026-11-24T21:00:00Z", Session::After),
        ("2026-11-25T01:00:00Z", Session::Closed),
        ("2026-11-26T15:00:00Z", Session::Closed),
        ("2026-11-27T18:00:00Z", Session::After),
        ("2026-11-27T22:00:00Z", Session::Closed),
        ("2026-11-28T15:00:00Z", Session::Closed),
    ];
    for (at, session) in cases {
        assert_eq!(session_of(utc(at)), session, "{at}");
    }
}

#[test]
fn trading_days_are_counted_both_ways() {
    assert_eq!(trading_days_between(date("2026-11-24"), date("2026-11-24")), 0);
    assert_eq!(trading_days_between(date("2026-11-24"), date("2026-11-30")), 3);
    assert_eq!(trading_days_between(date("2026-11-30"), date("2026-11-24")), -3);
    assert_eq!(trading_days_between(date("2024-01-01"), date("2025-01-01")), 252);
    assert_eq!(
        trading_days_between(date("1968-01-01"), date("1971-01-01")),
        -trading_days_between(date("1971-01-01"), date("1968-01-01"))
    );
}
