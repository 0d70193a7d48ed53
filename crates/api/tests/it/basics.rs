use plimsoll_auth::Role;
use reqwest::StatusCode;
use serde_json::json;

use plimsoll_crypto::tokens::SecretToken;

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

/// SES-1: a session's token has 256 random bits, and the database holds nothing but its SHA-256.
#[tokio::test]
async fn a_dump_of_the_database_opens_no_session() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let right = json!({ "email": "ann@example.com", "password": PASSWORD });
    let login = world.client().post("/auth/login", &right).await;
    let token = login.body["token"].as_str().unwrap();
    let digest = SecretToken::parse(token).unwrap().digest();
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let rows =
        world.rows("SELECT to_jsonb(s)::text AS row, encode(token_digest, 'hex') AS digest FROM sessions s");
    assert_eq!((rows.len(), rows[0]["digest"].as_str()), (1, Some(hex.as_str())));
    assert!(!rows[0]["row"].as_str().unwrap().contains(token));
    assert_eq!(world.client().bearer(&hex).get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
}
