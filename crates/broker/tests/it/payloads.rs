//! Every example payload of the contract comes out as the port's types say.

use chrono::{DateTime, NaiveDate, Utc};
use plimsoll_broker::Alpaca;
use plimsoll_core_domain::Symbol;
use plimsoll_core_domain::broker::{
    Broker, BrokerError, BrokerOrder, BrokerStatus, FillQuery, HistoryQuery, OrderListQuery,
};
use plimsoll_core_domain::order::{LegRole, OrderClass, OrderStatus, OrderType, Side, TimeInForce};
use rust_decimal::Decimal;
use wiremock::matchers::{header, method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::support::{KEY, SECRET, adapter, client_id, config, dec, fixture, json, order_id};

async fn serving(at: &str, body: String) -> (MockServer, Alpaca) {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path(at))
        .and(header("APCA-API-KEY-ID", KEY))
        .and(header("APCA-API-SECRET-KEY", SECRET))
        .respond_with(ResponseTemplate::new(200).set_body_raw(body, "application/json"))
        .mount(&server)
        .await;
    let broker = adapter(config(&server.uri()));
    (server, broker)
}

async fn order(name: &str) -> BrokerOrder {
    let (_server, broker) = serving("/v2/orders/x", fixture(name)).await;
    broker.order(&order_id("x")).await.unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_filled_order() {
    let order = order("order_filled").await;
    assert_eq!(
        order,
        BrokerOrder {
            id: order_id("7b08df51-c1ac-453c-99f9-323a5f075f0d"),
            client_order_id: "sma-cross-2026-11-03-AAPL-1-1".to_owned(),
            symbol: "AAPL".to_owned(),
            side: Some(Side::Buy),
            order_type: Some(OrderType::Limit),
            time_in_force: Some(TimeInForce::Day),
            class: Some(OrderClass::Simple),
            role: None,
            qty: Some(dec("10")),
            notional: None,
            limit_price: Some(dec("150.25")),
            stop_price: None,
            trail_price: None,
            trail_percent: None,
            extended_hours: false,
            status: BrokerStatus::Known(OrderStatus::Filled),
            filled_qty: dec("10"),
            filled_avg_price: Some(dec("150.228")),
            submitted_at: Some(at("2026-11-03T15:31:24.577215Z")),
            updated_at: at("2026-11-03T15:31:29.911002Z"),
            replaces: None,
            replaced_by: None,
            legs: Vec::new(),
        }
    );
}

#[tokio::test]
async fn every_example_order_has_its_state() {
    use OrderStatus::*;
    for (name, status, filled) in [
        ("order_accepted_market_closed", Accepted, "0"),
        ("order_bracket_nested", Accepted, "0"),
        ("order_canceled_with_partial_fill", Canceled, "4"),
        ("order_expired_day", Expired, "0"),
        ("order_filled", Filled, "10"),
        ("order_new", New, "0"),
        ("order_notional_filled", Filled, "3.328362509"),
        ("order_oco_nested", Accepted, "0"),
        ("order_partially_filled", PartiallyFilled, "4"),
        ("order_pending_new", Accepted, "0"),
        ("order_rejected", Rejected, "0"),
        ("order_replaced_old", Replaced, "0"),
        ("order_replacement_new", Accepted, "0"),
        ("order_stop_limit_new", New, "0"),
        ("order_trailing_stop_new", New, "0"),
    ] {
        let (order, example) = (order(name).await, json(name));
        assert_eq!(order.status, BrokerStatus::Known(status), "{name}");
        assert_eq!(order.filled_qty, dec(filled), "{name}");
        let text = |field: &str| example[field].as_str().map(dec);
        assert_eq!(order.qty, text("qty"), "{name}");
        assert_eq!(order.notional, text("notional"), "{name}");
        assert_eq!(order.limit_price, text("limit_price"), "{name}");
        assert_eq!(order.stop_price, text("stop_price"), "{name}");
        assert_eq!(order.trail_price, text("trail_price"), "{name}");
        assert_eq!(order.trail_percent, text("trail_percent"), "{name}");
        assert_eq!(order.filled_avg_price, text("filled_avg_price"), "{name}");
        assert_eq!(order.order_type.unwrap().as_str(), example["type"], "{name}");
        assert_eq!(order.time_in_force.unwrap().as_str(), example["time_in_force"], "{name}");
        assert_eq!(order.replaced_by.map(String::from).as_deref(), example["replaced_by"].as_str(), "{name}");
        assert_eq!(order.replaces.map(String::from).as_deref(), example["replaces"].as_str(), "{name}");
    }
}

#[tokio::test]
async fn legs_are_nested() {
    let bracket = order("order_bracket_nested").await;
    assert_eq!((bracket.class, bracket.role), (Some(OrderClass::Bracket), Some(LegRole::Entry)));
    let [take, stop] = bracket.legs.as_slice() else { panic!("{:?}", bracket.legs) };
    assert_eq!((take.role, take.limit_price), (Some(LegRole::TakeProfit), Some(dec("170"))));
    assert_eq!((stop.role, stop.stop_price), (Some(LegRole::StopLoss), Some(dec("140"))));
    assert_eq!(stop.status, BrokerStatus::Known(OrderStatus::Held));
    let oco = order("order_oco_nested").await;
    assert_eq!((oco.class, oco.legs.len()), (Some(OrderClass::Oco), 1));
}

#[tokio::test]
async fn a_look_up_by_client_id_fetches_a_groups_legs() {
    let mut flat = json("order_bracket_nested");
    let id = flat["id"].as_str().unwrap().to_owned();
    flat["legs"] = serde_json::Value::Null;
    let (server, broker) = serving("/v2/orders:by_client_order_id", flat.to_string()).await;
    Mock::given(method("GET"))
        .and(path(format!("/v2/orders/{id}")))
        .and(query_param("nested", "true"))
        .respond_with(
            ResponseTemplate::new(200).set_body_raw(fixture("order_bracket_nested"), "application/json"),
        )
        .expect(1)
        .mount(&server)
        .await;
    let order = broker.order_by_client_id(&client_id("brk-AAPL-1")).await.unwrap();
    assert_eq!(order.legs.len(), 2);
    let asked = &server.received_requests().await.unwrap()[0];
    assert_eq!(asked.url.query(), Some("client_order_id=brk-AAPL-1"));
}

#[tokio::test]
async fn a_look_up_by_client_id_of_a_simple_order_is_one_call() {
    let (server, broker) = serving("/v2/orders:by_client_order_id", fixture("order_new")).await;
    let order = broker.order_by_client_id(&client_id("a b".replace(' ', "&=").as_str())).await.unwrap();
    assert_eq!(order.status, BrokerStatus::Known(OrderStatus::New));
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].url.query(), Some("client_order_id=a%26%3Db"));
}

#[tokio::test]
async fn orders_page_by_time_or_by_the_last_row() {
    let server = MockServer::start().await;
    let page = |rows: &str| ResponseTemplate::new(200).set_body_raw(format!("[{rows}]"), "application/json");
    Mock::given(path("/v2/orders"))
        .and(query_param("status", "all"))
        .and(query_param("limit", "500"))
        .and(query_param("direction", "asc"))
        .and(query_param("nested", "true"))
        .and(query_param("after", "2026-11-03T15:31:24.577215Z"))
        .and(query_param_is_missing("after_order_id"))
        .respond_with(page(&fixture("order_new")))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path("/v2/orders"))
        .and(query_param("status", "open"))
        .and(query_param("limit", "2"))
        .and(query_param("after_order_id", "o-1"))
        .and(query_param_is_missing("after"))
        .respond_with(page(""))
        .expect(1)
        .mount(&server)
        .await;
    let broker = adapter(config(&server.uri()));
    let after = Some(at("2026-11-03T15:31:24.577215Z"));
    let by_time = OrderListQuery { after, ..OrderListQuery::default() };
    assert_eq!(broker.orders(&by_time).await.unwrap().len(), 1);
    let by_row = OrderListQuery { open_only: true, after, after_order_id: Some(order_id("o-1")), limit: 2 };
    assert_eq!(broker.orders(&by_row).await.unwrap(), Vec::new());
}

#[tokio::test]
async fn fills_page_oldest_first() {
    let server = MockServer::start().await;
    Mock::given(path("/v2/account/activities/FILL"))
        .and(query_param("direction", "asc"))
        .and(query_param("page_size", "100"))
        .and(query_param("page_token", "20261103::a"))
        .and(query_param("order_id", "o-1"))
        .and(query_param_is_missing("after"))
        .respond_with(
            ResponseTemplate::new(200).set_body_raw(fixture("activities_fill_page_desc"), "application/json"),
        )
        .expect(1)
        .mount(&server)
        .await;
    let broker = adapter(config(&server.uri()));
    let query = FillQuery {
        page_token: Some("20261103::a".to_owned()),
        order_id: Some(order_id("o-1")),
        ..FillQuery::default()
    };
    let fills = broker.fills(&query).await.unwrap();
    assert_eq!(fills.len(), 2);
    let last = &fills[0];
    assert_eq!(last.id, "20261103103129902::2d7be4ff-d1f3-43e9-856a-0f5cf5c5088e");
    assert_eq!(last.order_id, order_id("7b08df51-c1ac-453c-99f9-323a5f075f0d"));
    assert_eq!((last.symbol.as_str(), last.side), ("AAPL", Some(Side::Buy)));
    assert_eq!((last.qty.get(), last.price.get(), last.cum_qty.get()), (dec("6"), dec("150.24"), dec("10")));
    assert_eq!(last.at, at("2026-11-03T15:31:29.902214Z"));
}

#[tokio::test]
async fn positions_are_signed() {
    for (name, symbol, qty, price) in [
        ("position_long", "AAPL", None, None),
        ("position_long_held_by_stop", "AAPL", None, None),
        ("position_short", "MSFT", Some("-5"), Some("408")),
    ] {
        let (_server, broker) = serving("/v2/positions", format!("[{}]", fixture(name))).await;
        let held = broker.positions().await.unwrap().remove(0);
        let example = json(name);
        assert_eq!(held.symbol, symbol, "{name}");
        assert_eq!(held.qty, dec(qty.unwrap_or(example["qty"].as_str().unwrap())), "{name}");
        assert_eq!(held.avg_entry_price, dec(example["avg_entry_price"].as_str().unwrap()), "{name}");
        let price = price.unwrap_or(example["current_price"].as_str().unwrap());
        assert_eq!(held.current_price, Some(dec(price)), "{name}");
        assert_eq!(held.lastday_price, example["lastday_price"].as_str().map(dec), "{name}");
    }
}

#[tokio::test]
async fn an_account_tells_every_kind_of_block() {
    let (_server, broker) = serving("/v2/account", fixture("account_margin")).await;
    let account = broker.account().await.unwrap();
    assert_eq!((account.number.as_str(), account.status.as_str()), ("PA3ABCDEFGH1", "ACTIVE"));
    assert_eq!((account.cash, account.buying_power), (dec("98497.72"), dec("198500.44")));
    assert_eq!((account.equity, account.last_equity), (dec("100002.72"), dec("100000")));
    assert!(!account.trading_blocked);
    for block in ["trading_blocked", "account_blocked", "trade_suspended_by_user"] {
        let mut blocked = json("account_margin");
        blocked[block] = true.into();
        let (_server, broker) = serving("/v2/account", blocked.to_string()).await;
        assert!(broker.account().await.unwrap().trading_blocked, "{block}");
    }
}

#[tokio::test]
async fn assets_are_asked_for_with_an_unescaped_slash() {
    let assets = json("assets");
    for (index, symbol, class, fractionable, shortable) in
        [(0, "AAPL", "us_equity", true, true), (1, "BTC/USD", "crypto", true, false)]
    {
        let (_server, broker) = serving(&format!("/v2/assets/{symbol}"), assets[index].to_string()).await;
        let asset = broker.asset(&Symbol::new(symbol).unwrap()).await.unwrap();
        assert_eq!((asset.symbol.as_str(), asset.class.as_str()), (symbol, class));
        assert_eq!((asset.tradable, asset.fractionable, asset.shortable), (true, fractionable, shortable));
    }
}

#[tokio::test]
async fn names_cannot_walk_the_path() {
    let (server, broker) = serving("/v2/account", fixture("account_margin")).await;
    for id in [".", ".."] {
        assert_eq!(broker.order(&order_id(id)).await, Err(BrokerError::NotFound));
        assert_eq!(broker.cancel(&order_id(id)).await, Err(BrokerError::NotFound));
    }
    assert_eq!(broker.asset(&Symbol::new("A/../B").unwrap()).await, Err(BrokerError::NotFound));
    assert!(server.received_requests().await.unwrap().is_empty());
    let _ = broker.order(&order_id("../account?a=#b")).await;
    let asked = &server.received_requests().await.unwrap()[0];
    assert_eq!(asked.url.path(), "/v2/orders/..%2Faccount%3Fa=%23b");
}

#[tokio::test]
async fn clocks_are_in_utc() {
    let (_server, broker) = serving("/v2/clock", fixture("clock_open")).await;
    let clock = broker.clock().await.unwrap();
    assert!(clock.is_open);
    assert_eq!(clock.timestamp, at("2026-11-03T15:31:24.451420Z"));
    assert_eq!(clock.next_open, at("2026-11-04T14:30:00Z"));
    assert_eq!(clock.next_close, at("2026-11-03T21:00:00Z"));
    let (_server, broker) = serving("/v2/clock", fixture("clock_closed_weekend")).await;
    assert!(!broker.clock().await.unwrap().is_open);
}

#[tokio::test]
async fn history_is_read_digit_by_digit() {
    let (server, broker) = serving("/v2/account/portfolio/history", fixture("portfolio_history_1d")).await;
    let query = HistoryQuery {
        period: Some("1M".to_owned()),
        timeframe: Some("1D".to_owned()),
        end: NaiveDate::from_ymd_opt(2026, 5, 6),
    };
    let history = broker.portfolio_history(&query).await.unwrap();
    assert_eq!(history.timestamp, [1_777_852_800, 1_777_939_200, 1_778_025_600]);
    assert_eq!(history.equity, [dec("100000.0"), dec("100002.72"), dec("100110.4")]);
    assert_eq!(history.profit_loss, [dec("0.0"), dec("2.72"), dec("107.68")]);
    assert_eq!((history.base_value, history.timeframe.as_str()), (Decimal::from(100_000), "1D"));
    let asked = server.received_requests().await.unwrap()[0].url.query().unwrap().to_owned();
    assert_eq!(asked, "period=1M&timeframe=1D&end=2026-05-06T23%3A59%3A59Z");
}

#[tokio::test]
async fn history_leaves_out_what_has_no_value() {
    let body = |equity: &str| {
        format!(
            r#"{{"timestamp": [1, 2], "equity": {equity}, "profit_loss": [null, 1e-2], "timeframe": "1D"}}"#
        )
    };
    let (_server, broker) = serving("/v2/account/portfolio/history", body("[null, 5]")).await;
    let history = broker.portfolio_history(&HistoryQuery::default()).await.unwrap();
    assert_eq!((history.timestamp, history.profit_loss), (vec![2], vec![dec("0.01")]));
    let (_server, broker) = serving("/v2/account/portfolio/history", body("[1]")).await;
    let error = broker.portfolio_history(&HistoryQuery::default()).await.unwrap_err();
    assert!(matches!(error, BrokerError::Unreadable(_)), "{error}");
}
