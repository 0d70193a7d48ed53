//! Who is who: sessions by header and by cookie, API tokens, administrators, proven factors, sockets.

use chrono::TimeDelta;
use plimsoll_api::proxies::TrustedProxies;
use plimsoll_auth::Role;
use plimsoll_auth::api_tokens::Scope;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::world::{PASSWORD, World};

/// SES-9, CSR-1: the cookie is out of reach of scripts and other sites, no body has the token, and what changes state
/// needs our own page.
#[tokio::test]
async fn a_session_in_a_cookie_changes_something_from_our_own_pages_only() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let body = json!({ "email": "ann@example.com", "password": PASSWORD, "transport": "cookie" });
    let login = world.client().post("/auth/login", &body).await;
    assert_eq!(login.status, StatusCode::OK, "{}", login.text);
    let line = login.set_cookie("__Host-plimsoll").unwrap().to_owned();
    let attributes: Vec<&str> = line.split(';').map(str::trim).collect();
    for wanted in ["Secure", "HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(attributes.contains(&wanted), "{line}");
    }
    assert!(!line.to_lowercase().contains("domain"), "{line}");
    let cookie = login.cookie("__Host-plimsoll").unwrap();
    let value = cookie.split_once('=').unwrap().1;
    assert!(login.body.get("token").is_none() && !login.text.contains(value), "{}", login.text);

    let page = world.client().header("cookie", &cookie);
    assert_eq!(page.get("/auth/me").await.body["email"], "ann@example.com");
    let csrf = ("x-plimsoll-csrf", "1");
    for headers in [
        vec![],
        vec![csrf],
        vec![("sec-fetch-site", "same-origin")],
        vec![csrf, ("sec-fetch-site", "same-site")],
        vec![csrf, ("sec-fetch-site", "cross-site"), ("origin", world.url.as_str())],
        vec![csrf, ("origin", "null")],
        vec![csrf, ("origin", "https://evil.example")],
    ] {
        let client = headers.iter().fold(page.clone(), |client, (name, value)| client.header(name, value));
        let refused = client.post("/auth/logout", &json!({})).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (403, "csrf_failed"), "{headers:?}");
    }
    assert_eq!(page.get("/auth/me").await.status, StatusCode::OK, "nothing was ended");
    let foreign = page.clone().header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.get("/auth/me").await.code(), "csrf_failed", "nothing is read for a foreign page");

    let old_browser = page.clone().header("x-plimsoll-csrf", "1").header("origin", &world.url);
    let logout = old_browser.post("/auth/logout", &json!({})).await;
    assert_eq!(logout.status, StatusCode::NO_CONTENT, "{}", logout.text);
    assert!(logout.headers.contains_key("clear-site-data"));
    assert!(logout.set_cookie("__Host-plimsoll").unwrap().contains("Max-Age=0"));
    assert_eq!(page.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
}

/// CSR-2: a foreign page signs nobody in, registers nobody and resets nothing.
#[tokio::test]
async fn foreign_pages_reach_no_open_route_either() {
    let app = "https://app.example.com";
    let world = World::with_settings(|settings| settings.cors_origins = vec![app.to_owned()]).await;
    world.user("ann@example.com", Role::User);
    let login = json!({ "email": "ann@example.com", "password": PASSWORD });
    let register = json!({ "email": "bob@example.com", "password": PASSWORD });
    for headers in [
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site"), ("origin", "https://evil.example.com")],
        vec![("origin", "null")],
        vec![("origin", "https://evil.example")],
    ] {
        let client = headers.iter().fold(world.client(), |client, (name, value)| client.header(name, value));
        for (path, body) in [
            ("/auth/login", &login),
            ("/auth/register", &register),
            ("/auth/resend-verification", &json!({ "email": "ann@example.com" })),
            ("/auth/request-reset", &json!({ "email": "ann@example.com" })),
        ] {
            assert_eq!(client.post(path, body).await.code(), "csrf_failed", "{path} {headers:?}");
        }
    }
    for table in ["sessions", "mail_outbox"] {
        assert!(world.rows(&format!("SELECT 1 AS one FROM {table}")).is_empty(), "{table}");
    }
    assert_eq!(world.rows("SELECT id FROM users").len(), 1);
    // A page of a listed origin signs in by header, and gets no cookie.
    let listed = world.client().header("origin", app).header("sec-fetch-site", "cross-site");
    assert_eq!(listed.post("/auth/login", &login).await.status, StatusCode::OK);
    let mut by_cookie = login.clone();
    by_cookie["transport"] = json!("cookie");
    assert_eq!(listed.post("/auth/login", &by_cookie).await.code(), "csrf_failed");
}

/// CSR-4: with an Authorization header, cookies are not looked at.
#[tokio::test]
async fn the_bearer_wins_over_the_cookie() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    world.user("bob@example.com", Role::User);
    let ann = world.login("ann@example.com").await;
    let page = world.cookie_login("bob@example.com").await;
    let both = page.clone().bearer(ann.token());
    assert_eq!(both.get("/auth/me").await.body["email"], "ann@example.com");
    let wrong = page.clone().bearer("x");
    assert_eq!(wrong.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    let basic = page.clone().header("authorization", "Basic YTpi");
    assert_eq!(basic.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    // No page can make a browser send this header, so nothing else is asked of it.
    let foreign = both.header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.post("/auth/logout", &json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(page.get("/auth/me").await.status, StatusCode::OK, "the cookie's session lives");
}

/// SES-11: a token in an address opens nothing.
#[tokio::test]
async fn tokens_in_addresses_open_nothing() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let token = world.login("ann@example.com").await.token().to_owned();
    for name in ["token", "access_token", "auth"] {
        let reply = world.client().get(&format!("/auth/me?{name}={token}")).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        let mut socket = world.socket(&format!("/ws?{name}={token}"), &[]).await.unwrap();
        socket.send(r#"{"type":"ping"}"#).await;
        assert_eq!(socket.next().await["code"], "unauthenticated");
    }
}

/// SES-3, SES-4: what a client does by itself keeps no session alive, what the user does keeps it until its end.
#[tokio::test]
async fn polling_and_sockets_do_not_keep_a_session_alive() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let (idle, polling) = (world.login("ann@example.com").await, world.login("ann@example.com").await);
    let background = polling.clone().header("x-plimsoll-background", "1");
    let bearer = format!("Bearer {}", polling.token());
    let mut socket = world.socket("/ws", &[("authorization", &bearer)]).await.unwrap();
    assert_eq!(socket.next().await["type"], "hello");
    for _ in 0..2 {
        world.clock.advance(TimeDelta::minutes(14));
        assert_eq!(idle.get("/auth/me").await.status, StatusCode::OK);
        assert_eq!(background.get("/auth/me").await.status, StatusCode::OK);
        socket.send(r#"{"type":"ping"}"#).await;
        assert_eq!(socket.next().await["type"], "pong");
    }
    world.clock.advance(TimeDelta::minutes(2));
    assert_eq!(polling.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    for _ in 0..40 {
        assert_eq!(idle.get("/auth/me").await.status, StatusCode::OK);
        world.clock.advance(TimeDelta::minutes(17));
    }
    world.clock.advance(TimeDelta::minutes(12));
    assert_eq!(idle.get("/auth/me").await.status, StatusCode::UNAUTHORIZED, "twelve hours are the end");
}

/// TOK-2, TOK-3: a token reads with `read`, and changes neither the account nor anything it has no scope for.
#[tokio::test]
async fn api_tokens_do_what_their_scopes_say_and_never_change_the_account() {
    let world = World::start().await;
    let user = world.user("ann@example.com", Role::User);
    let admin = world.user("root@example.com", Role::Admin);
    let token = |scopes: &[Scope]| world.api_token(user, scopes);
    let all = token(&Scope::ALL);
    assert_eq!(token(&[Scope::Read]).get("/auth/me").await.body["id"], user.0);
    assert_eq!(token(&[Scope::TradePaper]).get("/auth/me").await.code(), "access_denied");
    for (method, path, body) in [
        (
            Method::POST,
            "/auth/api-tokens",
            json!({ "name": "x", "scopes": ["read"], "expires_at": "2026-07-01T00:00:00Z" }),
        ),
        (Method::POST, "/auth/2fa/setup", json!({})),
        (Method::POST, "/auth/step-up", json!({ "password": PASSWORD })),
        (Method::POST, "/auth/logout", json!({})),
        (Method::DELETE, "/auth/sessions", json!({})),
    ] {
        let refused = all.send(method, path, Some(&body)).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code()),
            (403, "access_denied"),
            "{path} {}",
            refused.text
        );
    }
    assert_eq!(world.rows("SELECT id FROM api_tokens").len(), 3);

    assert_eq!(all.get("/admin/users").await.code(), "access_denied", "its owner is no administrator");
    assert_eq!(world.api_token(admin, &[Scope::Admin]).get("/admin/users").await.status, StatusCode::OK);
    assert_eq!(world.api_token(admin, &[Scope::Read]).get("/admin/users").await.code(), "access_denied");

    world.clock.advance(TimeDelta::days(1));
    assert_eq!(all.get("/auth/me").await.status, StatusCode::UNAUTHORIZED, "it has ended");
    for bad in ["plm_", "plm_abc", "plm"] {
        assert_eq!(world.client().bearer(bad).get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    }
}

/// TOK-2: orders need the trade scope of the account's environment.
#[tokio::test]
async fn api_tokens_trade_where_their_scope_says() {
    let world = World::start().await;
    let user = world.user("ann@example.com", Role::User);
    world.test.execute(&format!(
        "INSERT INTO user_2fa (user_id, secret, enabled_at, updated_at) VALUES ({user}, '\\x00', now(), now())"
    ));
    let now = world.now();
    for environment in ["paper", "live"] {
        world.test.execute("DELETE FROM accounts");
        world
            .db
            .run_blocking(|tx| tx.insert_account(user, environment.parse().unwrap(), now).map(drop))
            .unwrap_or_else(|why: plimsoll_core_domain::StoreError| panic!("{why}"));
        for (scope, fits) in [
            (Scope::TradePaper, environment == "paper"),
            (Scope::TradeLive, environment == "live"),
            (Scope::Read, false),
            (Scope::Admin, false),
        ] {
            let client = world.api_token(user, &[scope]).header("idempotency-key", "k");
            let reply = client.delete("/orders").await;
            assert_eq!(reply.code() != "access_denied", fits, "{environment} {scope} {}", reply.text);
        }
    }
}

/// TFA-16, ADM-7: an administrator without the second factor that is demanded may only enable one.
#[tokio::test]
async fn an_administrator_without_a_second_factor_can_only_enable_one() {
    let world = World::with(|policy| policy.require_admin_2fa = true).await;
    let admin = world.user("root@example.com", Role::Admin);
    let client = world.login("root@example.com").await;
    for path in ["/auth/me", "/auth/2fa/status"] {
        assert_eq!(client.get(path).await.status, StatusCode::OK, "{path}");
    }
    for path in ["/admin/users", "/orders", "/auth/sessions", "/auth/api-tokens"] {
        let refused = client.get(path).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code()),
            (403, "two_factor_enrolment_required"),
            "{path}"
        );
    }
    let token = world.api_token(admin, &[Scope::Admin]);
    assert_eq!(token.get("/admin/users").await.code(), "two_factor_enrolment_required");
    let bearer = format!("Bearer {}", client.token());
    assert_eq!(world.socket("/ws", &[("authorization", &bearer)]).await.err(), Some(403));
    let step_up = client.post("/auth/step-up", &json!({ "password": PASSWORD })).await;
    assert_eq!(step_up.status, StatusCode::OK, "{}", step_up.text);
    let client = client.bearer(step_up.body["token"].as_str().unwrap());
    assert_eq!(client.post("/auth/2fa/setup", &json!({})).await.status, StatusCode::OK);
    world.test.execute(&format!(
        "UPDATE user_2fa SET secret = pending_secret, enabled_at = now() WHERE user_id = {admin}"
    ));
    assert_eq!(client.get("/admin/users").await.status, StatusCode::OK);
}

/// STP-1, STP-2: sensitive acts need a factor proven a moment ago from the same address, and say so by their own code.
#[tokio::test]
async fn a_proven_factor_opens_sensitive_acts_for_a_while_and_from_one_address() {
    let world = World::with_settings(|settings| {
        settings.trusted_proxies = TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
    })
    .await;
    world.user("ann@example.com", Role::User);
    let here = world.login("ann@example.com").await.header("x-forwarded-for", "203.0.113.9");
    let refused = here.delete("/auth/sessions").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "step_up_required"));
    assert_eq!(refused.body["methods"], json!(["password"]));
    let proven = here.post("/auth/step-up", &json!({ "password": PASSWORD })).await;
    assert_eq!(proven.status, StatusCode::OK, "{}", proven.text);
    assert_eq!(here.get("/auth/me").await.status, StatusCode::UNAUTHORIZED, "the old token is dead");
    let token = proven.body["token"].as_str().unwrap();
    let here = here.bearer(token);
    assert_eq!(here.delete("/auth/sessions").await.status, StatusCode::NO_CONTENT);
    let elsewhere = world.client().bearer(token).header("x-forwarded-for", "203.0.113.10");
    assert_eq!(elsewhere.delete("/auth/sessions").await.code(), "step_up_required");
    world.clock.advance(TimeDelta::minutes(5));
    assert_eq!(here.delete("/auth/sessions").await.code(), "step_up_required", "five minutes are over");
}

/// ADM-3: a role that is taken away is gone with the next request, on every credential.
#[tokio::test]
async fn a_demoted_administrator_is_none_at_once() {
    let world = World::with_settings(|settings| {
        std::sync::Arc::make_mut(&mut settings.policy).require_admin_2fa = false;
        settings.session_cache = std::time::Duration::from_secs(60);
    })
    .await;
    world.user("other@example.com", Role::Admin);
    let admin = world.user("root@example.com", Role::Admin);
    let session = world.login("root@example.com").await;
    let token = world.api_token(admin, &[Scope::Admin]);
    for client in [&session, &token] {
        assert_eq!(client.get("/admin/users").await.status, StatusCode::OK);
    }
    let bearer = format!("Bearer {}", session.token());
    let mut socket = world.socket("/ws/1", &[("authorization", &bearer)]).await.unwrap();
    assert_eq!(socket.next().await["type"], "hello");
    // AUD-7: whose stream an administrator hears is on record with them
    let heard = "SELECT subject_id FROM audit_log WHERE action = 'admin.stream_open' AND chain = subject_id";
    assert_eq!(world.rows(heard)[0]["subject_id"], 1);
    let chief = world.login("other@example.com").await;
    let proven = chief.post("/auth/step-up", &json!({ "password": PASSWORD })).await;
    let chief = chief.bearer(proven.body["token"].as_str().unwrap());
    let demoted =
        chief.send(Method::PATCH, &format!("/admin/users/{admin}"), Some(&json!({ "role": "user" }))).await;
    assert_eq!(demoted.status, StatusCode::OK, "{}", demoted.text);
    for client in [&session, &token] {
        let reply = client.get("/admin/users").await;
        assert!(matches!(reply.status.as_u16(), 401 | 403), "{}", reply.text);
    }
    assert!(matches!(socket.closed().await, 4401 | 4403));
}

/// SES-5, WSS-2, WSS-4: sockets open by header, cookie with an allowed origin, and first message; each ends with its login,
/// also while answers about it are kept in memory.
#[tokio::test]
async fn sockets_live_and_die_with_their_login() {
    let world =
        World::with_settings(|settings| settings.session_cache = std::time::Duration::from_secs(60)).await;
    let user = world.user("ann@example.com", Role::User);
    let session = world.login("ann@example.com").await;
    let page = world.cookie_login("ann@example.com").await;
    let token = world.api_token(user, &[Scope::Read]);
    let cookie = page_cookie(&page);
    let bearer = format!("Bearer {}", session.token());

    let mut by_header = world.socket("/ws", &[("authorization", &bearer)]).await.unwrap();
    assert_eq!(by_header.next().await["type"], "hello");
    let mut by_cookie = world.socket("/ws", &[("cookie", &cookie), ("origin", &world.url)]).await.unwrap();
    assert_eq!(by_cookie.next().await["type"], "hello");
    let mut by_message = world.socket("/ws", &[]).await.unwrap();
    by_message.send(&json!({ "type": "auth", "token": token.token() }).to_string()).await;
    assert_eq!(by_message.next().await["type"], "hello");

    let refused = world.socket("/ws", &[("cookie", &cookie), ("origin", "https://evil.example")]).await;
    assert_eq!(refused.err(), Some(403));
    let mut unknown = world.socket("/ws", &[("cookie", &cookie)]).await.unwrap();
    unknown.send(r#"{"type":"ping"}"#).await;
    assert_eq!(unknown.next().await["code"], "unauthenticated", "a cookie counts with an origin only");
    let mut without_scope = world.socket("/ws", &[]).await.unwrap();
    let trader = world.api_token(user, &[Scope::TradePaper]);
    without_scope.send(&json!({ "type": "auth", "token": trader.token() }).to_string()).await;
    assert_eq!(without_scope.closed().await, 4403);

    assert_eq!(session.post("/auth/logout", &json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(by_header.closed().await, 4401);
    assert_eq!(session.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(page.clone().own_page().post("/auth/logout", &json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(by_cookie.closed().await, 4401);

    // Ended by somebody else, without a word to this process's own sockets but the commit's.
    let now = world.now();
    assert_eq!(token.get("/auth/me").await.status, StatusCode::OK);
    world
        .db
        .run_blocking(|tx| {
            use plimsoll_auth::ports::SessionStore;
            tx.close_doors(user, None, true, now)
        })
        .unwrap_or_else(|why: plimsoll_core_domain::StoreError| panic!("{why}"));
    assert_eq!(by_message.closed().await, 4401);
    assert_eq!(token.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
}

fn page_cookie(page: &crate::world::Client) -> String {
    page.sent("cookie").expect("a client with a cookie").to_owned()
}

/// ADM-7, AUD-7: administrators hear others' streams from where administration is open to them, and from nowhere else.
#[tokio::test]
async fn others_streams_are_behind_the_door_of_administration() {
    let world = World::with(|policy| {
        policy.require_admin_2fa = false;
        policy.admin.allowed_ips = vec!["192.0.2.0/24".parse().unwrap()];
    })
    .await;
    let ann = world.user("ann@example.com", Role::User);
    let admin = world.user("root@example.com", Role::Admin);
    let session = world.login("root@example.com").await;
    let bearer = format!("Bearer {}", session.token());
    assert!(world.socket(&format!("/ws/{}", ann.0), &[("authorization", &bearer)]).await.is_err());
    let mut own = world.socket(&format!("/ws/{}", admin.0), &[("authorization", &bearer)]).await.unwrap();
    assert_eq!(own.next().await["type"], "hello");
    let entries =
        world.rows("SELECT action FROM audit_log WHERE action IN ('admin.enter', 'admin.stream_open')");
    assert_eq!(entries, [json!({ "action": "admin.enter" })]);
}
