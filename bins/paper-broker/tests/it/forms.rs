//! The wire forms against sample payloads: the same members, and each of the same JSON kind.

use plimsoll_paper_broker::MarketSource;
use serde_json::{Value, json};

use crate::support::{Bench, fixture, market, resting, text};

/// Whether two values have the same form. `null` goes with anything, since absence is data; `may_lack` names members that
/// the sample has and we need not, or the other way round.
fn same_form(ours: &Value, sample: &Value, optional: &[&str], at: &str) {
    match (ours, sample) {
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(ours), Value::Object(sample)) => {
            let names = ours.keys().chain(sample.keys());
            for name in names.filter(|name| !optional.contains(&name.as_str())) {
                let (Some(our), Some(their)) = (ours.get(name), sample.get(name)) else {
                    panic!(
                        "{at}.{name}: ours has it: {}, the sample has it: {}",
                        ours.contains_key(name),
                        sample.contains_key(name)
                    );
                };
                same_form(our, their, optional, &format!("{at}.{name}"));
            }
        }
        (Value::Array(ours), Value::Array(sample)) => {
            let Some(first) = sample.first() else { return };
            ours.iter()
                .enumerate()
                .for_each(|(i, our)| same_form(our, first, optional, &format!("{at}[{i}]")));
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => {}
        _ => panic!("{at}: {ours} is not of the kind of {sample}"),
    }
}

fn check(ours: &Value, sample: &str) {
    same_form(ours, &fixture(sample), &[], sample);
}

#[tokio::test(flavor = "multi_thread")]
async fn account_positions_and_activities() {
    let bench = Bench::start().await;
    bench.filled(market("AAPL", "buy", 10)).await;
    bench.filled(market("MSFT", "sell", 2)).await;
    check(&bench.get("/v2/account").await, "account_margin");
    check(&bench.get("/v2/account/configurations").await, "account_configurations");
    check(&bench.get("/v2/positions/AAPL").await, "position_long");
    check(&bench.get("/v2/positions/MSFT").await, "position_short");
    let positions = bench.get("/v2/positions").await;
    assert_eq!(positions.as_array().unwrap().len(), 2);
    let fills = bench.get("/v2/account/activities/FILL").await;
    check(&fills, "activities_fill_page_desc");
    assert_eq!(fills.as_array().unwrap().len(), 2);
    let all = bench.get("/v2/account/activities").await;
    let deposit = all.as_array().unwrap().last().unwrap();
    same_form(deposit, &fixture("activities_non_trade")[1], &[], "deposit");
    let history = bench.get("/v2/account/portfolio/history?period=1D&timeframe=1Min").await;
    same_form(&history, &fixture("portfolio_history_1d"), &["cashflow"], "history");
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_clock_and_calendar() {
    let bench = Bench::with(|config| config.market = MarketSource::Bundled).await;
    let samples = fixture("assets");
    let asset = bench.get("/v2/assets/AAPL").await;
    same_form(&asset, &samples[0], &[], "asset");
    let id = text(&asset["id"]);
    assert_eq!(bench.get(&format!("/v2/assets/{id}")).await, asset);
    for path in ["/v2/assets/BTC/USD", "/v2/assets/BTC%2FUSD", "/v2/assets/BTCUSD"] {
        let optional = ["margin_requirement_long", "margin_requirement_short", "borrow_status"];
        same_form(&bench.get(path).await, &samples[1], &optional, path);
    }
    let list = bench.get("/v2/assets").await;
    assert!(list.as_array().unwrap().iter().all(|asset| asset["class"] == "us_equity"), "the default class");
    let list = bench.get("/v2/assets?asset_class=crypto&status=active").await;
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(bench.get("/v2/assets?status=inactive").await, json!([]));

    let clock = bench.get("/v2/clock").await;
    check(&clock, "clock_open");
    assert_eq!(clock["is_open"], true);
    let days = bench.get("/v2/calendar?start=2026-11-25&end=2026-11-30").await;
    assert_eq!(days, fixture("calendar_with_half_day_and_holiday"));
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_in_their_states() {
    let bench = Bench::start().await;
    let order = bench.order(market("AAPL", "buy", 10)).await;
    assert_eq!((&order["filled_qty"], &order["filled_avg_price"]), (&json!("0"), &Value::Null));
    check(&order, "order_pending_new");
    check(&bench.order_in(&order, "filled").await, "order_filled");

    let order = bench.order(resting("AAPL", 1)).await;
    bench.order_in(&order, "new").await;
    let path = format!("/v2/orders/{}", text(&order["id"]));
    let reply = bench.send(reqwest::Method::PATCH, &path, Some(&json!({ "limit_price": 51.5 }))).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    check(&reply.body, "order_replacement_new");
    assert_eq!((&reply.body["replaces"], &reply.body["limit_price"]), (&order["id"], &json!("51.5")));
    let old = bench.order_in(&order, "replaced").await;
    check(&old, "order_replaced_old");
    assert_eq!(old["replaced_by"], reply.body["id"]);
    assert_eq!(bench.delete(&format!("/v2/orders/{}", text(&reply.body["id"]))).await.status, 204);
    check(&bench.order_in(&reply.body, "canceled").await, "order_canceled_with_partial_fill");

    let trailing = json!({ "symbol": "AAPL", "qty": 2, "side": "sell", "type": "trailing_stop", "time_in_force": "gtc", "trail_percent": 5 });
    let order = bench.order(trailing).await;
    check(&bench.order_in(&order, "new").await, "order_trailing_stop_new");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_with_their_legs() {
    let bench = Bench::start().await;
    let bracket = json!({
        "symbol": "AAPL", "qty": "10", "side": "buy", "type": "limit", "time_in_force": "gtc", "limit_price": "90",
        "order_class": "bracket", "take_profit": { "limit_price": "170" }, "stop_loss": { "stop_price": "80" },
    });
    let order = bench.order(bracket).await;
    let nested = bench.get(&format!("/v2/orders/{}?nested=True", text(&order["id"]))).await;
    check(&nested, "order_bracket_nested");
    assert_eq!(nested["legs"].as_array().unwrap().len(), 2);

    bench.filled(market("IBM", "buy", 10)).await;
    let oco = json!({
        "symbol": "IBM", "qty": 10.0, "side": "sell", "type": "limit", "time_in_force": "gtc", "order_class": "oco",
        "take_profit": { "limit_price": 130.0 }, "stop_loss": { "stop_price": 80.0, "limit_price": 79.5 },
    });
    let order = bench.order(oco).await;
    let nested = bench.get(&format!("/v2/orders/{}?nested=true", text(&order["id"]))).await;
    check(&nested, "order_oco_nested");
    assert_eq!(nested["limit_price"], "130");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_request_is_taken() {
    let bench = Bench::start().await;
    bench.filled(market("AAPL", "buy", 20)).await;
    for sample in fixture("requests_create_order").as_array().unwrap() {
        // the samples' prices suit a market at about $120; move them to $100
        let mut body = sample["body"].clone();
        if body["order_class"] == "bracket" {
            body["limit_price"] = json!(99.1);
            body["stop_loss"]["stop_price"] = json!(90.0);
        }
        if body["order_class"] == "oco" {
            body["stop_loss"]["stop_price"] = json!(90.0);
        }
        if body["client_order_id"].is_string() {
            body["limit_price"] = json!("50.25");
        }
        let reply = bench.post("/v2/orders", body).await;
        assert_eq!(reply.status, 200, "{}: {}", sample["what"], reply.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_in_several_parts() {
    let bench = Bench::start().await;
    assert_eq!(bench.delete("/v2/orders").await.body, json!([]));
    bench.filled(market("AAPL", "buy", 10)).await;
    bench.filled(market("MSFT", "buy", 5)).await;
    let stop = json!({ "symbol": "MSFT", "qty": "5", "side": "sell", "type": "stop", "time_in_force": "gtc", "stop_price": "50" });
    bench.order(stop).await;
    let reply = bench.delete("/v2/positions").await;
    assert_eq!(reply.status, 207);
    let sample = fixture("close_all_207");
    let rows = reply.body.as_array().unwrap();
    assert_eq!(rows.len(), 2);
    same_form(&rows[0], &sample[0], &[], "closed");
    same_form(&rows[1], &sample[1], &["related_orders"], "held");
    assert_eq!((&rows[0]["status"], &rows[1]["status"]), (&json!(200), &json!(403)));

    bench.order(resting("IBM", 1)).await;
    let reply = bench.delete("/v2/orders").await;
    assert_eq!(reply.status, 207);
    same_form(&reply.body[0], &fixture("cancel_all_207")[0], &[], "canceled");
    let reply = bench.delete("/v2/positions?cancel_orders=True").await;
    assert_eq!(reply.body.as_array().unwrap().last().unwrap()["status"], 200);
}

/// Market data as Alpaca's own service tells them: prices are numbers, what is not known is left out, and the limit of the
/// Trading API is not touched.
#[tokio::test(flavor = "multi_thread")]
async fn last_trades_are_market_data() {
    let bench = Bench::with(|config| {
        config.market = MarketSource::Bundled;
    })
    .await;
    let answer = bench.get("/v2/stocks/trades/latest?symbols=AAPL,NOSUCH").await;
    let trades = answer["trades"].as_object().unwrap();
    assert_eq!(trades.keys().collect::<Vec<_>>(), ["AAPL"]);
    let trade = &trades["AAPL"];
    assert!(trade["p"].is_number() && trade["p"].as_f64().unwrap() > 0.0, "{trade}");
    assert!(trade["t"].as_str().unwrap().ends_with('Z') && trade["c"].is_array(), "{trade}");
    let pair = bench.get("/v1beta3/crypto/us/latest/trades?symbols=BTC%2FUSD").await;
    assert!(pair["trades"]["BTC/USD"]["p"].is_number(), "{pair}");
    let none = bench.get("/v2/stocks/trades/latest").await;
    assert_eq!(none, json!({ "trades": {} }));
    let refused = bench.post("/v2/stocks/trades/latest", json!({})).await;
    assert_eq!(refused.status, 405);
}
