//! What a refused login looks like.

use plimsoll_auth::Role;
use reqwest::StatusCode;
use serde_json::json;

use crate::registration::shape;
use crate::world::{PASSWORD, World};

/// LOG-1: whatever is wrong with a login, the answer is the same: status, body and every header.
#[tokio::test]
async fn every_refused_login_is_answered_alike() {
    let world = World::start().await;
    for (name, change) in [
        ("ann", "state = 'active'"),
        ("disabled", "state = 'disabled'"),
        ("locked", "password_disabled_at = now()"),
        ("waiting", "email_verified_at = NULL"),
    ] {
        let user = world.user(&format!("{name}@example.com"), Role::User);
        world.test.execute(&format!("UPDATE users SET {change} WHERE id = {user}"));
    }
    let wrong = "not the right password";
    let mut answers = Vec::new();
    for (name, password) in [
        ("nobody", PASSWORD),
        ("nobody", wrong),
        ("ann", wrong),
        ("disabled", PASSWORD),
        ("disabled", wrong),
        ("locked", PASSWORD),
        ("locked", wrong),
        ("waiting", wrong),
    ] {
        let body = json!({ "email": format!("{name}@example.com"), "password": password });
        let reply = world.client().post("/auth/login", &body).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{name}: {}", reply.text);
        answers.push(((name, password), shape(&reply)));
    }
    let no_address = json!({ "email": "no address", "password": wrong });
    answers.push((("no address", wrong), shape(&world.client().post("/auth/login", &no_address).await)));
    for (who, answer) in &answers {
        assert_eq!(answer, &answers[0].1, "{who:?}");
    }
    // each of them is on record for what it was
    let reasons = world.rows("SELECT DISTINCT outcome FROM login_attempts ORDER BY 1");
    let reasons: Vec<_> = reasons.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["disabled", "password_disabled", "unknown_user", "wrong_password"]);
}
