//! The keys that a server was given are saved once; what their owner does with them afterwards outlives every start.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::demo::{Client, Demo};

async fn fingerprints(trader: &Client) -> Vec<String> {
    let (status, list) = trader.get("/broker/credentials").await;
    assert_eq!(status, StatusCode::OK, "{list}");
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["fingerprint"].as_str().unwrap().to_owned()).collect()
}

async fn again(demo: &mut Demo) -> Client {
    assert!(demo.child.terminate(Duration::from_secs(60)).success());
    demo.restart().await;
    demo.stepped_up("trader").await
}

#[tokio::test]
async fn what_an_owner_decides_about_given_keys_stays() {
    let mut demo = Demo::start(&[("PAPER_FIXED_PRICE", "100")]).await;
    demo.login("trader").await;
    let trader = demo.stepped_up("trader").await;
    let given = fingerprints(&trader).await;
    assert_eq!(given.len(), 1);

    let path = "/broker/credentials/alpaca";
    assert_eq!(trader.send(Method::DELETE, path, None, None).await.unwrap().0, StatusCode::NO_CONTENT);
    let trader = again(&mut demo).await;
    assert!(fingerprints(&trader).await.is_empty(), "a deletion stays");

    let url = demo.logins["paper_broker"]["url"].as_str().unwrap();
    let made = demo.http.post(format!("{url}/_sim/accounts")).json(&json!({})).send().await.unwrap();
    let made: Value = made.json().await.unwrap();
    let keys = json!({"api_key": made["api_key"], "api_secret": made["api_secret"], "environment": "paper"});
    let (status, saved, _) = trader.send(Method::PUT, path, None, Some(keys.to_string())).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{saved}");
    let own = fingerprints(&trader).await;
    assert_ne!(own, given);
    let trader = again(&mut demo).await;
    assert_eq!(fingerprints(&trader).await, own, "and so does another key");
}
