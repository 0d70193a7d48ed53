//! Recorded data: what is read, what is refused, and how it plays.

use chrono::{TimeDelta, Timelike};
use plimsoll_paper_exchange::calendar::{self, TradingDay};
use plimsoll_paper_exchange::{ExchangeConfig, Market, MarketData};
use rust_decimal::Decimal;

use crate::support::{dec, time};

fn read(files: &[(&str, &str)]) -> MarketData {
    MarketData::from_files(files.iter().map(|(name, text)| (*name, text.as_bytes()))).unwrap()
}

fn market(data: MarketData) -> Market {
    Market::new(data, time("15:00:00").date_naive(), &ExchangeConfig::default())
}

const BARS: &str = "symbol,timestamp,open,high,low,close,volume\n";

#[test]
fn wrong_lines_are_named() {
    let cases: &[(&str, usize, &str)] = &[
        ("symbol,when,price\n", 1, "unknown columns \"symbol,when,price\""),
        (
            "symbol,timestamp,open,high,low,close,volume\nA,2026-01-02T15:00:00Z,1,2,1,1\n",
            2,
            "expected 7 fields, found 6",
        ),
        (
            "symbol,timestamp,open,high,low,close,volume\nA,2026-01-02,1,2,1,1,1\n",
            2,
            "no ISO-8601 timestamp: \"2026-01-02\"",
        ),
        (
            "symbol,timestamp,open,high,low,close,volume\nA,2026-01-02T15:00:00Z,NaN,2,1,1,1\n",
            2,
            "open is no decimal: \"NaN\"",
        ),
        (
            "symbol,timestamp,open,high,low,close,volume\nA,2026-01-02T15:00:00Z,0,2,1,1,1\n",
            2,
            "open must be above 0, got 0",
        ),
        (
            "symbol,timestamp,open,high,low,close,volume\nA,2026-01-02T15:00:00Z,1,1,1,1,-1\n",
            2,
            "volume must not be negative, got -1",
        ),
        (
            "symbol,timestamp,open,high,low,close,volume\nA,2026-01-02T15:00:00Z,3,2,1,1,1\n",
            2,
            "open and close must lie between low and high",
        ),
        (
            "symbol,timestamp,open,high,low,close,volume\na b,2026-01-02T15:00:00Z,1,1,1,1,1\n",
            2,
            "no symbol: \"a b\"",
        ),
        (
            "symbol,timestamp,open,high,low,close,volume\nA,2026-01-02T15:00:00Z,1,1,1,1,1\n\nA,2026-01-02T15:00:00Z,1,1,1,1,1\n",
            4,
            "timestamps of a symbol must rise",
        ),
        ("symbol,timestamp,price,size\nA,2026-01-02T15:00:00Z,1\n", 2, "expected at least 4 fields, found 3"),
        (
            "symbol,timestamp,price,size\nA,2026-01-02T15:00:01Z,1,1\nA,2026-01-02T15:00:00Z,1,1\n",
            3,
            "timestamps must not fall",
        ),
        (
            "symbol,ex_date,kind,split_ratio,cash_per_share,source\nA,soon,split,2,,x\n",
            2,
            "no date: \"soon\"",
        ),
    ];
    for (text, line, problem) in cases {
        let error = MarketData::from_files([("dir/a.csv", text.as_bytes())]).unwrap_err().to_string();
        assert_eq!(error, format!("dir/a.csv, line {line}: {problem}"));
    }
    let twice = format!("{BARS}A,2026-01-02T05:00:00Z,1,1,1,1,1\n");
    let error =
        MarketData::from_files([("a.csv", twice.as_bytes()), ("b.csv", twice.as_bytes())]).unwrap_err();
    assert_eq!(error.to_string(), "b.csv, line 1: A on 2026-01-02 is also in a.csv");
    let error = MarketData::from_files([("a.csv.gz", b"no gzip".as_slice())]).unwrap_err().to_string();
    assert!(error.starts_with("a.csv.gz: "), "{error}");
    assert!(
        MarketData::from_files([("a.csv", BARS.as_bytes())])
            .unwrap_err()
            .to_string()
            .contains("no bars and no trades")
    );
    assert!(MarketData::fixed_price(Decimal::ZERO).is_err());
}

#[test]
fn a_folder_is_read_with_its_sub_folders() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
    let from_dir = MarketData::from_dir(data.as_ref()).unwrap();
    assert_eq!(from_dir.symbols(), MarketData::bundled().symbols());
    let missing = MarketData::from_dir("no/such/folder".as_ref()).unwrap_err().to_string();
    assert!(missing.starts_with("no/such/folder: "), "{missing}");
}

#[test]
fn a_daily_bar_walks_its_corners() {
    // High is nearer to the open than low: 100, 103, 94, 100.
    let market = market(read(&[("d.csv", &format!("{BARS}A,2020-01-02T05:00:00Z,100,103,94,100,39000\n"))]));
    for (at, price) in [
        ("14:30:00", "100"),
        ("14:30:59", "100"),
        ("16:40:00", "103"),
        ("17:45:00", "98.5"),
        ("18:50:00", "94"),
        ("21:00:00", "100"),
        ("23:00:00", "100"),
    ] {
        assert_eq!(market.last("A", time(at)).unwrap().price, dec(price), "{at}");
    }
    assert_eq!(market.last("A", time("14:31:00")).unwrap().minute_volume, Some(dec("100")));
    // Before the first recorded day a symbol stands at its first price.
    assert_eq!(market.last("A", time("2026-11-20T15:00:00Z")).unwrap().price, dec("100"));
    assert!(market.last("B", time("15:00:00")).is_none());
}

#[test]
fn a_minute_bar_prints_every_quarter() {
    let text =
        format!("{BARS}A,2011-06-01T13:30:00Z,100,100.5,98,99,5000\nA,2011-06-01T13:31:00Z,99,99,99,99,10\n");
    let market = market(read(&[("m.csv", &text)]));
    // A summer day on a winter day: 09:30 New York is 09:30 New York.
    let mut at = time("14:29:59");
    let mut seen = Vec::new();
    for _ in 0..5 {
        let print = market.next_print("A", at).unwrap();
        at = print.at;
        seen.push((at.minute(), at.second(), print.price));
    }
    let expected = [(30, 0, "100"), (30, 15, "100.5"), (30, 30, "98"), (30, 45, "99"), (31, 0, "99")];
    assert_eq!(seen, expected.map(|(minute, second, price)| (minute, second, dec(price))));
}

#[test]
fn bid_and_ask_keep_their_distance() {
    let data = "symbol,timestamp,price,size\n\
        A,2026-11-24T15:00:00Z,5,1\nA,2026-11-24T15:01:00Z,100,1\nA,2026-11-24T15:02:00Z,412.34,1\nA,2026-11-24T15:03:00Z,0.5432,1\n";
    let market = market(read(&[("t.csv", data)]));
    for (at, bid, ask) in [
        ("15:00:00", "4.99", "5"),
        ("15:01:00", "99.99", "100.01"),
        ("15:02:00", "412.29", "412.38"),
        ("15:03:00", "0.5382", "0.5482"),
    ] {
        let quote = market.quote("A", time(at)).unwrap();
        assert_eq!((quote.bid, quote.ask), (dec(bid), dec(ask)), "{at}");
    }
    let fixed = market_fixed().quote("ANY", time("15:00:00")).unwrap();
    assert_eq!((fixed.bid, fixed.ask), (dec("7"), dec("7")));
}

fn market_fixed() -> Market {
    market(MarketData::fixed_price(dec("7")).unwrap())
}

#[test]
fn gaps_are_spliced_and_splits_taken_out() {
    let bars = format!(
        "{BARS}A,2020-01-02T05:00:00Z,100,100,100,100,10\nA,2020-01-03T05:00:00Z,50,55,50,55,20\n\
         A,2020-06-01T04:00:00Z,200,200,190,190,10\n"
    );
    let splits = "symbol,ex_date,kind,split_ratio,cash_per_share,source\nA,2020-01-03,split,2,,x\nA,2020-01-03,dividend,,1,x\n";
    let market = market(read(&[("d.csv", &bars), ("corporate_actions.csv", splits)]));
    let close = |date: &str| market.close("A", TradingDay::on(date.parse().unwrap()).unwrap()).unwrap();
    assert_eq!(close("2026-11-24"), dec("50"), "halved by the split");
    assert_eq!(close("2026-11-25"), dec("55"));
    // Thanksgiving is no trading day; the gap of five months is spliced: 200 counts as 55.
    assert_eq!(market.last("A", time("2026-11-27T14:30:00Z")).unwrap().price, dec("55"));
    assert_eq!(close("2026-11-27"), dec("52.25"));
    // The second pass is mirrored: it starts where the first ended and ends where that began.
    assert_eq!(market.last("A", time("2026-11-30T14:30:00Z")).unwrap().price, dec("52.25"));
    assert_eq!(close("2026-12-02"), dec("50"));
    assert_eq!(market.last("A", time("2026-12-03T14:30:00Z")).unwrap().price, dec("50"));
}

#[test]
fn bundled_symbols_neither_jump_at_seams_nor_drift() {
    let data = MarketData::bundled();
    let market = market(data.clone());
    for symbol in data.symbols() {
        let first = market.last(&symbol, time("2026-11-24T14:30:00Z")).unwrap().price;
        let mut day = TradingDay::on("2026-11-24".parse().unwrap()).unwrap();
        let (mut low, mut high) = (first, first);
        let mut before = market.close(&symbol, day).unwrap();
        // Short recordings are over their seams several times in a year and a half; all are within forty years.
        for number in 0..10_000 {
            day = day.next();
            if number < 400 {
                let close = market.close(&symbol, day).unwrap();
                let change = (close / before).max(before / close);
                assert!(change < dec("2.7"), "{symbol} on {}: {before} to {close}", day.date);
                before = close;
            } else if number % 37 == 0 {
                let close = market.close(&symbol, day).unwrap();
                low = low.min(close);
                high = high.max(close);
            }
        }
        assert!(low > dec("0.01") && high < first * dec("1000"), "{symbol}: {low} to {high}");
    }
}

#[test]
fn prints_rise_in_time_and_agree_with_look_ups() {
    let market = market(MarketData::bundled());
    for symbol in ["SPY", "MSFT", "AAPL", "BTC/USD"] {
        let mut at = time("14:00:00");
        for _ in 0..4_000 {
            let print = market.next_print(symbol, at).unwrap();
            assert!(print.at > at);
            let found = market.last(symbol, print.at).unwrap();
            assert_eq!(found.at, print.at);
            let quote = market.quote(symbol, print.at).unwrap();
            assert!(quote.bid < quote.ask && quote.bid <= quote.last && quote.last <= quote.ask, "{quote:?}");
            at = print.at;
        }
        assert!(at > time("14:00:00") + TimeDelta::hours(5));
        assert_ne!(calendar::date_of(at), calendar::date_of(time("2026-11-23T15:00:00Z")));
    }
}
