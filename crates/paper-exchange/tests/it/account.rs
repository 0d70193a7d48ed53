//! What an owner is shown: account, positions, lists, activities, history.

use plimsoll_paper_exchange::account::{Activity, ActivityQuery, HistoryQuery, PositionSide, Timeframe};
use plimsoll_paper_exchange::order::{CloseAmount, Direction, OrderQuery, OrderStatus, Side, StatusFilter};
use plimsoll_paper_exchange::{ExchangeConfig, MarketData};
use rust_decimal::Decimal;

use crate::support::{Sim, buy, dec, limit, prints, sell, stop, time};

#[test]
fn a_long_position_in_figures() {
    let mut sim = Sim::printing(&[("15:00:00", "150.2"), ("15:30:00", "150.5")]);
    sim.hold(10);
    sim.at("15:30:00");
    let view = sim.exchange.account_view(sim.account).unwrap();
    // Bought at 150.22: half a spread of 4 cents above.
    assert_eq!((view.cash, view.long_market_value), (dec("98497.8"), dec("1505")));
    assert_eq!((view.equity, view.last_equity), (dec("100002.8"), dec("100000")));
    assert_eq!((view.initial_margin, view.maintenance_margin), (dec("752.5"), dec("451.5")));
    assert_eq!((view.buying_power, view.regt_buying_power), (dec("198500.6"), dec("198500.6")));
    assert_eq!(view.non_marginable_buying_power, dec("98497.8"));
    assert_eq!((view.multiplier, view.shorting_enabled), (Decimal::TWO, true));
    assert_eq!(view.balance_asof.to_string(), "2026-11-23");
    assert!(view.account_number.starts_with("PA3") && view.account_number.len() == 12);

    let position = sim.exchange.position(sim.account, "XYZ").unwrap();
    assert_eq!(
        (position.side, position.qty, position.qty_available),
        (PositionSide::Long, dec("10"), dec("10"))
    );
    assert_eq!((position.avg_entry_price, position.cost_basis), (dec("150.22"), dec("1502.2")));
    assert_eq!((position.unrealized_pl, position.unrealized_intraday_pl), (dec("2.8"), dec("2.8")));
    assert_eq!(position.unrealized_plpc, (dec("2.8") / dec("1502.2")).round_dp(16).normalize());
    assert_eq!(position.current_price, dec("150.5"));
    let by_id = sim.exchange.position(sim.account, &position.asset_id.to_string()).unwrap();
    assert_eq!(by_id, position);
}

#[test]
fn a_short_position_in_figures() {
    let mut sim = Sim::printing(&[("15:00:00", "410"), ("15:30:00", "400")]);
    sim.take(sell(5));
    sim.at("15:30:00");
    let position = sim.exchange.position(sim.account, "XYZ").unwrap();
    // Sold at 409.95: the spread is 9 cents, and the bid half of it, rounded down, below.
    assert_eq!(
        (position.side, position.qty, position.qty_available),
        (PositionSide::Short, dec("-5"), dec("-5"))
    );
    assert_eq!((position.market_value, position.cost_basis), (dec("-2000"), dec("-2049.75")));
    assert_eq!(position.unrealized_pl, dec("49.75"));
    let view = sim.exchange.account_view(sim.account).unwrap();
    assert_eq!((view.cash, view.short_market_value), (dec("102049.75"), dec("-2000")));
    assert_eq!((view.equity, view.maintenance_margin), (dec("100049.75"), dec("600")));
    assert!(view.non_marginable_buying_power < view.cash, "short proceeds buy nothing");
    sim.take(buy(5));
    assert!(sim.exchange.positions(sim.account).unwrap().is_empty());
    assert_eq!(sim.exchange.account_view(sim.account).unwrap().buying_power, dec("200099.1"));
}

#[test]
fn multiplier_four_is_bounded_by_maintenance() {
    let config = ExchangeConfig { multiplier: 4, ..ExchangeConfig::default() };
    let mut sim = Sim::new(MarketData::fixed_price(dec("100")).unwrap(), config);
    sim.hold(100);
    let view = sim.exchange.account_view(sim.account).unwrap();
    assert_eq!((view.buying_power, view.regt_buying_power), (dec("388000"), dec("190000")));
}

#[test]
fn the_day_rolls_at_the_close() {
    let rows = [("15:00:00", "100"), ("21:00:00", "110"), ("2026-11-25T15:00:00Z", "120")];
    let mut sim = Sim::printing(&rows);
    sim.hold(10);
    sim.at("2026-11-25T15:00:00Z");
    let view = sim.exchange.account_view(sim.account).unwrap();
    assert_eq!(view.last_equity, dec("100099.9"), "bought at 100.01, closed at 110");
    assert_eq!(view.equity, dec("100199.9"));
    assert_eq!(view.last_maintenance_margin, dec("330"));
    let position = sim.exchange.position(sim.account, "XYZ").unwrap();
    assert_eq!((position.lastday_price, position.unrealized_intraday_pl), (dec("110"), dec("100")));
    assert_eq!(position.unrealized_pl, dec("199.9"));
    assert_eq!(position.change_today, (dec("10") / dec("110")).round_dp(16));
    // Half of it sold at 119.99 today: what is left keeps its half of yesterday's value.
    sim.take(sell(5));
    let position = sim.exchange.position(sim.account, "XYZ").unwrap();
    assert_eq!(position.unrealized_intraday_pl, dec("50"));
}

#[test]
fn closing_positions() {
    let mut sim = Sim::fixed();
    let account = sim.account;
    sim.hold(10);
    let now = sim.now();
    let close = |sim: &mut Sim, amount| sim.exchange.close_position(account, "XYZ", amount, now).unwrap();
    let third = close(&mut sim, CloseAmount::Percentage(dec("33")));
    assert_eq!((third.qty, third.side), (Some(dec("3.3")), Side::Sell));
    let two = close(&mut sim, CloseAmount::Qty(dec("2")));
    assert_eq!(two.qty, Some(dec("2")));
    sim.settle();
    assert_eq!(sim.qty(), dec("4.7"));
    sim.take(limit(Side::Sell, 4, "120"));
    // A stop holds the shares: one row fails. After canceling, none does.
    let now = sim.now();
    let rows = sim.exchange.close_all(account, false, now).unwrap();
    assert_eq!(rows[0].result.as_ref().unwrap_err().http_status, 403);
    let rows = sim.exchange.close_all(account, true, now).unwrap();
    assert_eq!(rows[0].result.as_ref().unwrap().qty, Some(dec("4.7")));
    sim.settle();
    assert!(sim.exchange.positions(account).unwrap().is_empty());
    assert!(sim.exchange.close_all(account, true, now).unwrap().is_empty());
}

#[test]
fn cancel_all_has_a_row_for_each_open_order() {
    let mut sim = Sim::fixed();
    let ids = [sim.take(limit(Side::Buy, 1, "90")), sim.take(stop(Side::Buy, 1, "110"))];
    let now = sim.now();
    let rows = sim.exchange.cancel_all(sim.account, now).unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.id, row.refusal.is_none())).collect::<Vec<_>>(),
        ids.map(|id| (id, true))
    );
    sim.settle();
    assert!(ids.iter().all(|id| sim.status(*id) == OrderStatus::Canceled));
    let now = sim.now();
    assert!(sim.exchange.cancel_all(sim.account, now).unwrap().is_empty());
}

#[test]
fn order_lists() {
    let mut sim = Sim::fixed();
    let ids: Vec<_> =
        ["90", "91", "92", "93"].iter().map(|price| sim.take(limit(Side::Buy, 1, price))).collect();
    sim.cancel(ids[1]).unwrap();
    sim.settle();
    let filled = sim.take(buy(1));
    let list = |query: &OrderQuery| -> Vec<_> {
        sim.exchange.orders(sim.account, query).unwrap().iter().map(|order| order.id).collect()
    };
    let all = OrderQuery { status: StatusFilter::All, ..OrderQuery::default() };
    assert_eq!(list(&OrderQuery::default()), [ids[3], ids[2], ids[0]]);
    assert_eq!(list(&OrderQuery { status: StatusFilter::Closed, ..all.clone() }), [filled, ids[1]]);
    assert_eq!(
        list(&OrderQuery { limit: Some(2), direction: Direction::Asc, ..all.clone() }),
        [ids[0], ids[1]]
    );
    let stamp = sim.order(ids[1]).submitted_at;
    assert_eq!(
        list(&OrderQuery { after: Some(stamp), direction: Direction::Asc, ..all.clone() }),
        [ids[2], ids[3], filled]
    );
    assert_eq!(list(&OrderQuery { until: Some(stamp), ..all.clone() }), [ids[0]]);
    assert_eq!(list(&OrderQuery { after_order_id: Some(ids[2]), ..all.clone() }), [filled, ids[3]]);
    assert_eq!(list(&OrderQuery { before_order_id: Some(ids[1]), ..all.clone() }), [ids[0]]);
    assert!(list(&OrderQuery { symbols: vec!["ABC".into()], ..all.clone() }).is_empty());
    assert!(list(&OrderQuery { side: Some(Side::Sell), ..all.clone() }).is_empty());
    for wrong in [
        OrderQuery { limit: Some(0), ..all.clone() },
        OrderQuery { limit: Some(501), ..all.clone() },
        OrderQuery { before_order_id: Some(ids[0]), after_order_id: Some(ids[0]), ..all.clone() },
        OrderQuery { before_order_id: Some(ids[0]), after: Some(stamp), ..all.clone() },
    ] {
        assert_eq!(sim.exchange.orders(sim.account, &wrong).unwrap_err().http_status, 422);
    }
}

#[test]
fn activities_page_by_their_ids() {
    let mut sim = Sim::fixed();
    for _ in 0..5 {
        sim.hold(1);
    }
    let page = |query: &ActivityQuery| sim.exchange.activities(sim.account, query).unwrap();
    let everything = page(&ActivityQuery::default());
    assert_eq!(everything.len(), 6, "five fills and the deposit");
    let mut token = None;
    let mut seen = Vec::new();
    loop {
        let rows = page(&ActivityQuery {
            page_size: Some(2),
            page_token: token.clone(),
            ..ActivityQuery::default()
        });
        token = rows.last().map(|row| row.id().to_owned());
        seen.extend(rows.iter().cloned());
        if rows.len() < 2 {
            break;
        }
    }
    assert_eq!(seen, everything);
    let fills = page(&ActivityQuery {
        types: vec!["FILL".into()],
        direction: Direction::Asc,
        ..ActivityQuery::default()
    });
    assert!(fills.iter().all(|row| matches!(row, Activity::Fill(_))) && fills.len() == 5);
    // The id begins with New York time.
    let Activity::Fill(first) = &fills[0] else { panic!() };
    assert!(first.id.starts_with("20261124100000005::"), "{}", first.id);
    let trades = page(&ActivityQuery { category: Some("trade_activity".into()), ..ActivityQuery::default() });
    assert_eq!(trades.len(), 5);
    let order = page(&ActivityQuery { order_id: Some(first.order_id), ..ActivityQuery::default() });
    assert_eq!(order.len(), 1);
    let after = page(&ActivityQuery { after: Some(first.transaction_time), ..ActivityQuery::default() });
    assert_eq!(after.len(), 4, "strictly after");
    let other_day =
        page(&ActivityQuery { date: Some("2026-11-23".parse().unwrap()), ..ActivityQuery::default() });
    assert!(other_day.is_empty());
    for wrong in [
        ActivityQuery { page_size: Some(101), ..ActivityQuery::default() },
        ActivityQuery { page_token: Some("x".into()), ..ActivityQuery::default() },
        ActivityQuery { category: Some("x".into()), ..ActivityQuery::default() },
        ActivityQuery {
            category: Some("trade_activity".into()),
            types: vec!["FILL".into()],
            ..ActivityQuery::default()
        },
    ] {
        assert_eq!(sim.exchange.activities(sim.account, &wrong).unwrap_err().http_status, 422);
    }
}

#[test]
fn history_follows_executions_and_prices() {
    let rows =
        [("15:00:00", "100"), ("16:00:00", "101"), ("21:00:00", "110"), ("2026-11-25T15:00:00Z", "120")];
    let mut sim = Sim::new(
        prints(&rows),
        ExchangeConfig { spread_bp: dec("0"), min_spread: dec("0"), ..ExchangeConfig::default() },
    );
    sim.hold(100);
    sim.at("2026-11-25T15:30:00Z");
    let history = sim.exchange.portfolio_history(sim.account, &HistoryQuery::default()).unwrap();
    assert_eq!(history.timeframe, Timeframe::Day1);
    assert_eq!(history.timestamp, [time("21:00:00").timestamp(), time("2026-11-25T15:30:00Z").timestamp()]);
    assert_eq!(history.equity, [dec("101000"), dec("102000")]);
    assert_eq!(history.profit_loss, [dec("1000"), dec("1000")]);
    assert_eq!((history.base_value, history.profit_loss_pct[0]), (dec("100000"), dec("0.01")));

    let day = HistoryQuery {
        start: Some(time("15:30:00")),
        end: Some(time("17:00:00")),
        timeframe: Some(Timeframe::Hour1),
        ..HistoryQuery::default()
    };
    let history = sim.exchange.portfolio_history(sim.account, &day).unwrap();
    assert_eq!(history.equity, [dec("100000"), dec("100100"), dec("100100")]);
    let json = serde_json::to_string(&history).unwrap();
    assert!(json.contains("\"equity\":[100000,100100,100100]"), "{json}");
    for wrong in [
        HistoryQuery { period: Some("1X".into()), ..HistoryQuery::default() },
        HistoryQuery { period: Some(String::new()), ..HistoryQuery::default() },
        HistoryQuery {
            period: Some("1A".into()),
            timeframe: Some(Timeframe::Min1),
            ..HistoryQuery::default()
        },
        HistoryQuery { start: Some(time("2027-01-04T15:00:00Z")), ..HistoryQuery::default() },
    ] {
        assert_eq!(
            sim.exchange.portfolio_history(sim.account, &wrong).unwrap_err().http_status,
            422,
            "{wrong:?}"
        );
    }
    for period in ["1D", "1W", "3M", "1A"] {
        let query = HistoryQuery { period: Some(period.into()), ..HistoryQuery::default() };
        assert_eq!(
            sim.exchange.portfolio_history(sim.account, &query).unwrap().equity.last(),
            Some(&dec("102000"))
        );
    }
}

#[test]
fn assets_are_found_by_symbol_and_id() {
    let sim = Sim::new(MarketData::bundled(), ExchangeConfig::default());
    let symbols: Vec<String> = sim.exchange.assets(None).into_iter().map(|asset| asset.symbol).collect();
    assert_eq!(
        symbols,
        ["AAPL", "AES", "AIG", "BTC/USD", "FB", "GOOG", "GORO", "IBM", "MSFT", "ORCL", "SPY", "YHOO"]
    );
    for asset in sim.exchange.assets(None) {
        assert_eq!(sim.exchange.asset(&asset.id.to_string()).unwrap(), asset);
        assert_eq!(sim.exchange.asset(&asset.symbol).unwrap(), asset);
    }
}
