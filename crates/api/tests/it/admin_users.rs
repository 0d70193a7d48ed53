//! The administration of users over HTTP.

use chrono::TimeDelta;
use plimsoll_auth::Role;
use plimsoll_auth::throttle::Limit;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::api_tokens::stepped_up;
use crate::world::{Client, Reply, World};

const BOSS: &str = "boss@example.com";

async fn patch(client: &Client, id: i64, body: Value) -> Reply {
    client.send(Method::PATCH, &format!("/admin/users/{id}"), Some(&body)).await
}

/// ADM-5, ADM-7: only administrators, for changes only with a fresh factor; a password can be neither set nor seen.
#[tokio::test]
async fn only_administrators_with_a_fresh_factor_change_users() {
    let world = World::start().await;
    world.user(BOSS, Role::Admin);
    let ann = world.user("ann@example.com", Role::User).0;
    let user = stepped_up(&world, "ann@example.com").await;
    let admin = world.login(BOSS).await;
    let disable = || json!({ "state": "disabled" });

    for path in ["/admin/users".to_owned(), format!("/admin/users/{ann}")] {
        assert_eq!(world.client().get(&path).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(user.get(&path).await.body["code"], "access_denied");
        let seen = admin.get(&path).await;
        assert_eq!(seen.status, StatusCode::OK);
        assert!(!seen.text.contains("argon2") && !seen.text.contains("password_hash"), "{}", seen.text);
    }
    for act in ["logout", "reset-2fa"] {
        let path = format!("/admin/users/{ann}/{act}");
        assert_eq!(user.post(&path, &json!({})).await.body["code"], "access_denied");
        assert_eq!(admin.post(&path, &json!({})).await.body["code"], "step_up_required");
    }
    assert_eq!(patch(&user, ann, disable()).await.body["code"], "access_denied");
    assert_eq!(patch(&admin, ann, disable()).await.body["code"], "step_up_required");
    let admin = stepped_up(&world, BOSS).await;
    for body in [
        json!({ "password": "a new password" }),
        json!({ "email": "x@example.com" }),
        json!({ "role": "root" }),
    ] {
        assert_eq!(patch(&admin, ann, body).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(world.rows("SELECT id FROM users WHERE state = 'active'").len(), 2);
}

/// ADM-3, ADM-6: disabling ends the user's sessions at once, and can be taken back.
#[tokio::test]
async fn a_disabled_user_is_out_at_once() {
    let world = World::start().await;
    world.user(BOSS, Role::Admin);
    let ann = world.user("ann@example.com", Role::User).0;
    let user = world.login("ann@example.com").await;
    let admin = stepped_up(&world, BOSS).await;
    let done = patch(&admin, ann, json!({ "state": "disabled" })).await;
    assert_eq!((done.status, &done.body["state"]), (StatusCode::OK, &json!("disabled")));
    assert_eq!(user.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    let back = patch(&admin, ann, json!({ "state": "active" })).await;
    assert_eq!(back.body["state"], "active");
    assert_eq!(user.get("/auth/me").await.status, StatusCode::UNAUTHORIZED, "the old session stays dead");
    world.login("ann@example.com").await;
    let actions = world.rows(&format!(
        "SELECT action, actor_id FROM audit_log WHERE chain = {ann} AND action LIKE 'user.%' ORDER BY seq"
    ));
    assert_eq!(actions[0]["action"], "user.disable");
    assert_eq!(actions[1]["action"], "user.enable");
}

/// ADM-3: a demoted administrator administrates nothing with what was opened before.
#[tokio::test]
async fn a_demotion_acts_at_once() {
    let world = World::start().await;
    world.user(BOSS, Role::Admin);
    let other = world.user("other@example.com", Role::Admin).0;
    let demoted = stepped_up(&world, "other@example.com").await;
    let admin = stepped_up(&world, BOSS).await;
    assert_eq!(patch(&admin, other, json!({ "role": "user" })).await.status, StatusCode::OK);
    assert_eq!(demoted.get("/admin/users").await.status, StatusCode::UNAUTHORIZED);
    let again = world.login("other@example.com").await;
    assert_eq!(again.get("/admin/users").await.status, StatusCode::FORBIDDEN);
}

/// ADM-4: 409 for the last active administrator, also from two who demote each other at the same moment.
#[tokio::test]
async fn the_last_administrator_stays() {
    let world = World::start().await;
    let boss = world.user(BOSS, Role::Admin).0;
    let admin = stepped_up(&world, BOSS).await;
    for body in [json!({ "role": "user" }), json!({ "state": "disabled" })] {
        let reply = patch(&admin, boss, body).await;
        assert_eq!((reply.status, &reply.body["code"]), (StatusCode::CONFLICT, &json!("last_admin")));
    }
    assert_eq!(admin.get("/auth/me").await.status, StatusCode::OK);

    let other = world.user("other@example.com", Role::Admin).0;
    let second = stepped_up(&world, "other@example.com").await;
    let demote = || json!({ "role": "user" });
    let (one, two) = tokio::join!(patch(&admin, other, demote()), patch(&second, boss, demote()));
    let worked = [one.status, two.status].iter().filter(|status| **status == StatusCode::OK).count();
    assert_eq!(worked, 1, "{one:?} {two:?}");
    let left = world.rows("SELECT id FROM users WHERE role = 'admin' AND state = 'active'");
    assert_eq!(left.len(), 1);
}

/// ADM-2: a user who never was, and text that is no id, are one and the same 404 in every act.
#[tokio::test]
async fn unknown_users_are_not_found() {
    let world = World::start().await;
    world.user(BOSS, Role::Admin);
    let admin = stepped_up(&world, BOSS).await;
    for id in ["999", "x", "-1", "1e3"] {
        for (method, path) in [
            (Method::GET, format!("/admin/users/{id}")),
            (Method::PATCH, format!("/admin/users/{id}")),
            (Method::POST, format!("/admin/users/{id}/logout")),
            (Method::POST, format!("/admin/users/{id}/reset-2fa")),
        ] {
            let body = json!({});
            let body = (method != Method::GET).then_some(&body);
            let reply = admin.send(method, &path, body).await;
            assert_eq!(
                (reply.status, &reply.body["detail"]),
                (StatusCode::NOT_FOUND, &json!("there is no such user"))
            );
        }
    }
}

/// AUD-7: every look of an administrator at users is in the log, without the address that was searched for.
#[tokio::test]
async fn looks_are_recorded() {
    let world = World::start().await;
    let boss = world.user(BOSS, Role::Admin).0;
    let ann = world.user("ann@example.com", Role::User).0;
    let admin = world.login(BOSS).await;
    let found = admin.get("/admin/users?search=ANN%40example&role=user&state=active").await;
    assert_eq!(found.body["items"][0]["id"], ann);
    assert_eq!(found.body["items"].as_array().unwrap().len(), 1);
    admin.get(&format!("/admin/users/{ann}")).await;
    let looks = world.rows(
        "SELECT chain, actor_id, action, detail FROM audit_log WHERE action LIKE 'admin.%' ORDER BY at, action DESC",
    );
    assert_eq!(looks.len(), 2);
    let list = looks.iter().find(|look| look["action"] == "admin.users_list").unwrap();
    assert_eq!((&list["chain"], &list["actor_id"]), (&json!(boss), &json!(boss)));
    assert!(!list["detail"].as_str().unwrap().to_lowercase().contains("ann"), "{list}");
    let read = looks.iter().find(|look| look["action"] == "admin.user_read").unwrap();
    assert_eq!((&read["chain"], &read["actor_id"]), (&json!(ann), &json!(boss)));
    for bad in ["state=gone", "role=root", "limit=0", "nothing=1"] {
        let reply = admin.get(&format!("/admin/users?{bad}")).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let first = admin.get("/admin/users?limit=1").await;
    let cursor = first.body["next_cursor"].as_str().unwrap();
    let second = admin.get(&format!("/admin/users?limit=1&cursor={cursor}")).await;
    assert_eq!((&first.body["items"][0]["id"], &second.body["items"][0]["id"]), (&json!(ann), &json!(boss)));
    assert_eq!(second.body["next_cursor"], Value::Null);
}

/// ADM-7: administration has networks and a limit of its own; nothing else is touched by them.
#[tokio::test]
async fn administration_has_a_door_of_its_own() {
    let world = World::with(|policy| {
        policy.require_admin_2fa = false;
        policy.admin.per_user = Limit::new(3, TimeDelta::hours(1), 3);
    })
    .await;
    let boss = world.user(BOSS, Role::Admin).0;
    let admin = stepped_up(&world, BOSS).await;
    for _ in 0..3 {
        assert_eq!(admin.get("/admin/users").await.status, StatusCode::OK);
    }
    let reply = admin.get("/admin/users").await;
    assert_eq!((reply.status, &reply.body["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limited")));
    assert!(reply.headers.contains_key("retry-after"));
    let reply = patch(&admin, boss, json!({ "state": "active" })).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(admin.get("/auth/me").await.status, StatusCode::OK);

    let world = World::with(|policy| {
        policy.require_admin_2fa = false;
        policy.admin.allowed_ips = vec!["192.0.2.0/24".parse().unwrap()];
    })
    .await;
    world.user(BOSS, Role::Admin);
    let admin = stepped_up(&world, BOSS).await;
    assert_eq!(admin.get("/admin/users").await.body["code"], "access_denied");
    let denied = world.rows("SELECT seq FROM audit_log WHERE action = 'admin.enter' AND outcome = 'denied'");
    assert_eq!(denied.len(), 1);
    assert_eq!(admin.get("/auth/me").await.status, StatusCode::OK);
}

/// SES-8: an administrator ends a user's sessions.
#[tokio::test]
async fn an_administrator_signs_a_user_out() {
    let world = World::start().await;
    world.user(BOSS, Role::Admin);
    let ann = world.user("ann@example.com", Role::User).0;
    let (first, second) = (world.login("ann@example.com").await, world.login("ann@example.com").await);
    let admin = stepped_up(&world, BOSS).await;
    let reply = admin.post(&format!("/admin/users/{ann}/logout"), &json!({})).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    for client in [first, second] {
        assert_eq!(client.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    }
    // Everybody at once: only who asks stays.
    world.user("bea@example.com", Role::User);
    let others = [world.login("ann@example.com").await, world.login("bea@example.com").await];
    let reply = admin.post("/admin/users/logout", &json!({})).await;
    assert_eq!((reply.status, &reply.body), (StatusCode::OK, &json!({ "users": 2, "sessions": 2 })));
    for client in others {
        assert_eq!(client.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(admin.get("/auth/me").await.status, StatusCode::OK);
    assert_eq!(world.rows("SELECT seq FROM audit_log WHERE action = 'user.logout'").len(), 3);
    let without = admin.post(&format!("/admin/users/{ann}/reset-2fa"), &json!({})).await;
    assert_eq!(without.body["code"], "business_rule", "there is no second factor to reset");
}

/// ADM-4: whoever cannot sign in is no administrator, so the only one who can stays.
#[tokio::test]
async fn an_unconfirmed_user_is_not_promoted() {
    let world = World::start().await;
    let boss = world.user(BOSS, Role::Admin).0;
    let ann = world.user("ann@example.com", Role::User).0;
    world.test.execute(&format!("UPDATE users SET email_verified_at = NULL WHERE id = {ann}"));
    let admin = stepped_up(&world, BOSS).await;
    let reply = patch(&admin, ann, json!({ "role": "admin" })).await;
    assert_eq!(
        (reply.status, &reply.body["code"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("business_rule"))
    );
    // one that became it in another way does not count either
    world.test.execute(&format!("UPDATE users SET role = 'admin' WHERE id = {ann}"));
    let reply = patch(&admin, boss, json!({ "role": "user" })).await;
    assert_eq!((reply.status, &reply.body["code"]), (StatusCode::CONFLICT, &json!("last_admin")));
}
