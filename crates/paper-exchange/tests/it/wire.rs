//! The JSON forms that clients of the Trading API read and write.

use plimsoll_paper_exchange::order::{OrderClass, OrderType};
use plimsoll_paper_exchange::{NewOrder, Order, Replacement, TradeEvent};
use serde_json::{Value, json};

use crate::support::{Sim, buy, dec, limit, take_profit};

#[test]
fn requests_are_read_by_their_literal_text() {
    let body = r#"{"symbol":"AAPL","qty":1.0,"side":"buy","type":"limit","time_in_force":"day","order_class":"bracket",
        "extended_hours":false,"take_profit":{"limit_price":130.0},"stop_loss":{"stop_price":110.0},"limit_price":120.1,
        "some_new_field":[1]}"#;
    let order: NewOrder = serde_json::from_str(body).unwrap();
    assert_eq!((order.qty, order.limit_price), (Some(dec("1.0")), Some(dec("120.1"))));
    assert_eq!((order.order_class, order.kind), (OrderClass::Bracket, OrderType::Limit));
    assert_eq!(order.take_profit, take_profit("130.0"));
    // A number that a float would change.
    let body = r#"{"symbol":"A","qty":"0.123456789","side":"sell","type":"market","time_in_force":"day","notional":null,
        "limit_price":90071992547409.93,"order_class":"simple","extended_hours":null,"client_order_id":null}"#;
    let order: NewOrder = serde_json::from_str(body).unwrap();
    assert_eq!((order.limit_price, order.order_class), (Some(dec("90071992547409.93")), OrderClass::Simple));
    assert_eq!(
        serde_json::from_str::<NewOrder>(&body.replace("\"simple\"", "\"\"")).unwrap().order_class,
        OrderClass::Simple
    );
    let change: Replacement = serde_json::from_str(r#"{"qty":"4","trail":1.5}"#).unwrap();
    assert_eq!((change.qty, change.trail), (Some(dec("4")), Some(dec("1.5"))));
    for wrong in [
        body.replace("\"0.123456789\"", "\"NaN\""),
        body.replace("\"0.123456789\"", "\"\""),
        body.replace("\"0.123456789\"", "true"),
        body.replace("\"0.123456789\"", "1e400"),
        body.replace("\"0.123456789\"", "\"0.12345678901234567890123456789012\""),
        body.replace("\"simple\"", "\"mleg\""),
        body.replace("\"sell\"", "\"hold\""),
        body.replace("\"market\"", "\"iceberg\""),
    ] {
        assert!(serde_json::from_str::<NewOrder>(&wrong).is_err(), "{wrong}");
    }
}

/// The members that every order of the API has.
const MEMBERS: &[&str] = &[
    "id",
    "client_order_id",
    "created_at",
    "updated_at",
    "submitted_at",
    "filled_at",
    "expired_at",
    "canceled_at",
    "failed_at",
    "replaced_at",
    "replaced_by",
    "replaces",
    "asset_id",
    "symbol",
    "asset_class",
    "notional",
    "qty",
    "filled_qty",
    "filled_avg_price",
    "order_class",
    "order_type",
    "type",
    "side",
    "time_in_force",
    "limit_price",
    "stop_price",
    "status",
    "extended_hours",
    "legs",
    "trail_percent",
    "trail_price",
    "hwm",
    "subtag",
    "source",
    "expires_at",
    "position_intent",
];

#[test]
fn orders_have_every_member() {
    let mut sim = Sim::fixed();
    let order = sim.submit(limit(plimsoll_paper_exchange::order::Side::Buy, 10, "90.50")).unwrap();
    let json = serde_json::to_value(&order).unwrap();
    let mut members: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = MEMBERS.to_vec();
    members.sort_unstable();
    expected.sort_unstable();
    assert_eq!(members, expected, "group members only in groups");
    assert_eq!(
        (&json["qty"], &json["limit_price"], &json["filled_qty"], &json["filled_avg_price"]),
        (&json!("10"), &json!("90.5"), &json!("0"), &Value::Null)
    );
    assert_eq!(
        (&json["order_class"], &json["type"], &json["order_type"]),
        (&json!(""), &json!("limit"), &json!("limit"))
    );
    assert_eq!(
        (&json["status"], &json["legs"], &json["source"]),
        (&json!("pending_new"), &Value::Null, &Value::Null)
    );
    assert_eq!(serde_json::from_value::<Order>(json).unwrap(), order);
}

#[test]
fn stream_messages_have_the_documented_form() {
    let mut sim = Sim::fixed();
    sim.take(buy(10));
    let json: Vec<Value> = sim.events.iter().map(|event| serde_json::to_value(event).unwrap()).collect();
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((&json[0]["event"], &json[0]["execution_id"]), (&json!("pending_new"), &Value::Null));
    assert_eq!(members(&json[1]).len(), 4, "event, execution_id, order, timestamp");
    assert_eq!(json[2]["event"], "fill");
    assert_eq!(
        (&json[2]["price"], &json[2]["qty"], &json[2]["position_qty"]),
        (&json!("100"), &json!("10"), &json!("10"))
    );
    for (event, value) in sim.events.iter().zip(json) {
        assert_eq!(&serde_json::from_value::<TradeEvent>(value).unwrap(), event);
    }
}

#[test]
fn money_is_text_everywhere_but_in_history() {
    let mut sim = Sim::fixed();
    sim.hold(10);
    let account = serde_json::to_value(sim.exchange.account_view(sim.account).unwrap()).unwrap();
    for (name, value) in account.as_object().unwrap() {
        let number = ["options_approved_level", "options_trading_level"].contains(&name.as_str());
        assert_eq!(value.is_number(), number, "{name}");
    }
    let position = serde_json::to_value(&sim.exchange.positions(sim.account).unwrap()[0]).unwrap();
    assert!(position.as_object().unwrap().values().all(|value| !value.is_number()), "{position}");
    let asset = serde_json::to_value(sim.exchange.asset("AAPL").unwrap()).unwrap();
    assert_eq!(
        (&asset["maintenance_margin_requirement"], &asset["margin_requirement_long"]),
        (&json!(30), &json!("30"))
    );
    let history = sim.exchange.portfolio_history(sim.account, &Default::default()).unwrap();
    let history = serde_json::to_value(history).unwrap();
    assert!(history["equity"][0].is_number() && history["base_value"].is_number());
    assert_eq!(history["timeframe"], "1D");
}
