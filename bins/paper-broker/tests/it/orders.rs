//! Lists, paging, cancels and everything else that is more than one request.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Bench, market, resting, text};

fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|order| text(&order["client_order_id"]).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_paged() {
    let bench = Bench::start().await;
    for number in 0..5 {
        let mut order = resting(if number % 2 == 0 { "AAPL" } else { "IBM" }, 1);
        order["client_order_id"] = json!(format!("o{number}"));
        bench.order(order).await;
    }
    let mut sold = market("MSFT", "sell", 1);
    sold["client_order_id"] = json!("short");
    bench.filled(sold).await;

    assert_eq!(
        ids(&bench.get("/v2/orders").await),
        ["o4", "o3", "o2", "o1", "o0"],
        "open ones, newest first"
    );
    assert_eq!(ids(&bench.get("/v2/orders?status=closed").await), ["short"]);
    assert_eq!(ids(&bench.get("/v2/orders?status=all&side=sell").await), ["short"]);
    assert_eq!(
        ids(&bench.get("/v2/orders?symbols=IBM%2CMSFT&status=all&direction=asc").await),
        ["o1", "o3", "short"]
    );

    // page by time, then by id
    let mut seen = Vec::new();
    let mut after = "2020-01-01".to_owned();
    loop {
        let page = bench.get(&format!("/v2/orders?status=all&direction=asc&limit=4&after={after}")).await;
        let rows = page.as_array().unwrap();
        let Some(last) = rows.last() else { break };
        seen.extend(ids(&page));
        after = text(&last["submitted_at"]).to_owned();
    }
    assert_eq!(seen, ["o0", "o1", "o2", "o3", "o4", "short"], "no two orders share an instant");
    let first = bench.get("/v2/orders:by_client_order_id?client_order_id=o1").await;
    let page = bench.get(&format!("/v2/orders?direction=asc&after_order_id={}", text(&first["id"]))).await;
    assert_eq!(ids(&page), ["o2", "o3", "o4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_takes_effect_once() {
    let bench = Bench::start().await;
    let order = bench.order(resting("AAPL", 1)).await;
    let path = format!("/v2/orders/{}", text(&order["id"]));
    assert_eq!(bench.delete(&path).await.status, 204);
    bench.order_in(&order, "canceled").await;
    let again = bench.delete(&path).await;
    assert_eq!((again.status, text(&again.body["message"])), (422, "order is already in \"canceled\" state"));
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_closed_in_part_and_whole() {
    let bench = Bench::start().await;
    bench.filled(market("AAPL", "buy", 10)).await;
    let part = bench.delete("/v2/positions/AAPL?percentage=30").await;
    assert_eq!((part.status, text(&part.body["qty"]), text(&part.body["side"])), (200, "3", "sell"));
    bench.order_in(&part.body, "filled").await;
    assert_eq!(bench.get("/v2/positions/AAPL").await["qty"], "7");
    assert_eq!(bench.delete("/v2/positions/AAPL?qty=1&percentage=1").await.status, 422);
    let rest = bench.delete("/v2/positions/AAPL").await;
    bench.order_in(&rest.body, "filled").await;
    assert_eq!(bench.send(Method::GET, "/v2/positions/AAPL", None).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn activities_are_paged_by_token() {
    let bench = Bench::start().await;
    for _ in 0..5 {
        bench.filled(market("AAPL", "buy", 1)).await;
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let path = format!("/v2/account/activities/FILL?direction=asc&page_size=2&page_token={token}");
        let page = bench.get(&path).await;
        let rows = page.as_array().unwrap().clone();
        seen.extend(rows.iter().map(|row| text(&row["order_id"]).to_owned()));
        if rows.len() < 2 {
            break;
        }
        token = text(&rows[1]["id"]).to_owned();
    }
    let orders = bench.get("/v2/orders?status=all&direction=asc").await;
    let orders: Vec<_> =
        orders.as_array().unwrap().iter().map(|order| text(&order["id"]).to_owned()).collect();
    assert_eq!(seen, orders);
    assert_eq!(bench.get("/v2/account/activities?activity_types=CSD").await.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_are_null_stay() {
    let bench = Bench::start().await;
    let patch = json!({ "no_shorting": true, "suspend_trade": null, "fractional_trading": null });
    let reply = bench.send(Method::PATCH, "/v2/account/configurations", Some(&patch)).await;
    assert_eq!(
        (reply.status, &reply.body["no_shorting"], &reply.body["fractional_trading"]),
        (200, &json!(true), &json!(true))
    );
    let refused = bench.post("/v2/orders", market("AAPL", "sell", 1)).await;
    assert_eq!((refused.status, text(&refused.body["message"])), (403, "account is not allowed to short"));
}

#[tokio::test(flavor = "multi_thread")]
async fn watchlists() {
    let bench = Bench::start().await;
    let made =
        bench.post("/v2/watchlists", json!({ "name": "mine", "symbols": ["AAPL", "IBM", "AAPL"] })).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let path = format!("/v2/watchlists/{}", text(&made.body["id"]));
    let symbols = |list: &Value| -> Vec<String> {
        list["assets"].as_array().unwrap().iter().map(|asset| text(&asset["symbol"]).to_owned()).collect()
    };
    assert_eq!(symbols(&made.body), ["AAPL", "IBM"]);
    assert_eq!(
        symbols(&bench.post(&path, json!({ "symbol": "BTC/USD" })).await.body),
        ["AAPL", "IBM", "BTC/USD"]
    );
    assert_eq!(bench.post(&path, json!({ "symbol": "IBM" })).await.status, 422);
    assert_eq!(symbols(&bench.delete(&format!("{path}/BTC/USD")).await.body), ["AAPL", "IBM"]);
    let changed = bench.send(Method::PUT, &path, Some(&json!({ "name": "ours", "symbols": ["MSFT"] }))).await;
    assert_eq!((text(&changed.body["name"]), symbols(&changed.body)), ("ours", vec!["MSFT".to_owned()]));
    for (name, body) in [
        ("an unknown symbol", json!({ "name": "x", "symbols": ["nope"] })),
        ("a name that is taken", json!({ "name": "ours" })),
        ("a long name", json!({ "name": "n".repeat(65) })),
        ("no name", json!({})),
    ] {
        assert_eq!(bench.post("/v2/watchlists", body).await.status, 422, "{name}");
    }
    assert_eq!(bench.get("/v2/watchlists").await.as_array().unwrap().len(), 1);
    assert_eq!(bench.delete(&path).await.status, 204);
    assert_eq!(bench.send(Method::GET, &path, None).await.status, 404);
}
