use plimsoll_auth::Role;
use reqwest::StatusCode;
use serde_json::json;

use crate::world::{PASSWORD, World};

#[tokio::test]
async fn a_user_signs_in_and_out() {
    let world = World::start().await;
    let user = world.user("ann@example.com", Role::User);
    let client = world.client();
    let wrong = json!({ "email": "ann@example.com", "password": "not this one at all" });
    assert_eq!(client.post("/auth/login", &wrong).await.status, StatusCode::UNAUTHORIZED);
    let right = json!({ "email": "ann@example.com", "password": PASSWORD });
    let login = client.post("/auth/login", &right).await;
    assert_eq!(login.status, StatusCode::OK, "{}", login.body);
    let client = client.bearer(login.body["token"].as_str().unwrap());
    assert_eq!(client.get("/auth/me").await.body["id"], user.0);
    assert_eq!(client.post("/auth/logout", &json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(client.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
}
