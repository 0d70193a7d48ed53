//! Who may use which route: every documented one stands in the table, and is tried by everybody.

use plimsoll_auth::Role;
use plimsoll_auth::api_tokens::Scope;
use plimsoll_core_domain::order::Environment;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Client, PASSWORD, Reply, World};

/// Whom a route serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serves {
    /// Everybody.
    All,
    /// Whoever is signed in; an API token with `read`.
    Readers,
    /// Whoever is signed in; an API token with the trade scope of the account's environment.
    Traders,
    /// Whoever is signed in; an API token with `trade_paper`.
    Publishers,
    /// Sessions.
    Sessions,
    /// Sessions with a factor proven a moment ago.
    Proven,
    /// Administrators; an API token with `admin`.
    Admins,
    /// Administrators' sessions with a factor proven a moment ago.
    ProvenAdmins,
}
use Serves::*;

/// Method, path, whom it serves, and a body that is read without complaint.
const ROUTES: &[(&str, &str, Serves, &str)] = &[
    ("post", "/auth/login", All, r#"{"email":"nobody@example.com","password":"x"}"#),
    ("post", "/auth/register", All, r#"{"email":"new@example.com","password":"a long enough phrase 12"}"#),
    ("post", "/auth/resend-verification", All, r#"{"email":"nobody@example.com"}"#),
    ("post", "/auth/verify-email", All, r#"{"token":"x"}"#),
    ("get", "/auth/verification-status", All, ""),
    (
        "post",
        "/auth/setup",
        All,
        r#"{"setup_token":"x","email":"a@example.com","password":"a long enough phrase 12"}"#,
    ),
    ("post", "/auth/2fa/verify", All, r#"{"challenge":"x","code":"000000"}"#),
    ("post", "/auth/request-reset", All, r#"{"email":"nobody@example.com"}"#),
    ("get", "/auth/validate-reset-token", All, ""),
    ("post", "/auth/validate-reset-token", All, r#"{"token":"x"}"#),
    ("post", "/auth/reset-password", All, r#"{"token":"x","new_password":"a long enough phrase 12"}"#),
    ("post", "/auth/confirm-email", All, r#"{"token":"x"}"#),
    ("post", "/auth/cancel", All, r#"{"token":"x"}"#),
    ("get", "/verify", All, ""),
    ("get", "/reset", All, ""),
    ("get", "/confirm-email", All, ""),
    ("get", "/cancel", All, ""),
    ("get", "/pages/page.js", All, ""),
    ("get", "/pages/page.css", All, ""),
    ("get", "/dev/outbox", All, ""),
    ("get", "/health", All, ""),
    ("get", "/health/live", All, ""),
    ("get", "/health/ready", All, ""),
    ("get", "/health/quick", All, ""),
    ("get", "/problems/{code}", All, ""),
    // Who connects is asked after the handshake, which is none here.
    ("get", "/ws", All, ""),
    ("get", "/ws/{user_id}", All, ""),
    ("get", "/auth/me", Readers, ""),
    ("get", "/auth/2fa/status", Readers, ""),
    ("get", "/audit", Readers, ""),
    ("get", "/orders", Readers, ""),
    ("get", "/orders/{id}", Readers, ""),
    ("get", "/fills", Readers, ""),
    ("get", "/positions", Readers, ""),
    ("get", "/positions/{symbol}", Readers, ""),
    ("get", "/account", Readers, ""),
    ("get", "/pnl", Readers, ""),
    ("get", "/portfolio/history", Readers, ""),
    ("get", "/risk/limits", Readers, ""),
    ("get", "/risk/halt", Readers, ""),
    // Those of other users are for administrators.
    ("get", "/reconciliation/status", Readers, ""),
    ("get", "/reconciliation/stale-orders", Readers, ""),
    ("get", "/reconciliation/runs", Readers, ""),
    ("get", "/reconciliation/runs/{id}", Readers, ""),
    (
        "post",
        "/orders",
        Traders,
        r#"{"symbol":"SPY","side":"buy","type":"market","time_in_force":"day","qty":"1"}"#,
    ),
    ("patch", "/orders/{id}", Traders, r#"{"qty":"2"}"#),
    ("delete", "/orders/{id}", Traders, ""),
    ("delete", "/orders", Traders, ""),
    ("delete", "/positions/{symbol}", Traders, ""),
    ("post", "/orders/{id}/claim", Traders, ""),
    ("post", "/positions/{symbol}/claim", Traders, ""),
    ("post", "/reconciliation/run", Traders, ""),
    (
        "post",
        "/reconciliation/discrepancies/{id}/resolve",
        Traders,
        r#"{"action":"keep_local","note":"a test"}"#,
    ),
    // What loosens a limit needs a proven factor besides, and a halt for everybody an administrator.
    ("put", "/risk/limits", Traders, "{}"),
    ("post", "/risk/halt", Traders, r#"{"scope":"user","level":"block_entries","reason":"a test"}"#),
    ("get", "/auth/sessions", Sessions, ""),
    ("get", "/auth/api-tokens", Sessions, ""),
    ("delete", "/auth/api-tokens/{id}", Sessions, ""),
    ("post", "/auth/step-up", Sessions, r#"{"code":"x"}"#),
    ("post", "/auth/2fa/enable", Sessions, r#"{"code":"000000"}"#),
    ("post", "/auth/2fa/disable", Sessions, r#"{"password":"x","code":"000000"}"#),
    ("post", "/auth/2fa/regenerate-codes", Sessions, r#"{"code":"000000"}"#),
    ("post", "/auth/change-password", Sessions, r#"{"current_password":"x","new_password":"short"}"#),
    ("post", "/auth/logout", Sessions, ""),
    ("get", "/broker/credentials", Sessions, ""),
    ("post", "/broker/credentials/{broker}/test", Sessions, ""),
    (
        "put",
        "/broker/credentials/{broker}",
        Proven,
        r#"{"api_key":"","api_secret":"","environment":"paper"}"#,
    ),
    ("delete", "/broker/credentials/{broker}", Proven, ""),
    ("put", "/account/live", Proven, r#"{"enabled":false}"#),
    ("post", "/risk/resume", Proven, r#"{"scope":"user"}"#),
    ("delete", "/auth/sessions/{id}", Proven, ""),
    ("delete", "/auth/sessions", Proven, ""),
    ("post", "/auth/2fa/setup", Proven, "{}"),
    ("post", "/auth/change-email", Proven, r#"{"new_email":"x"}"#),
    (
        "post",
        "/auth/api-tokens",
        Proven,
        r#"{"name":"","scopes":["read"],"expires_at":"2026-07-01T00:00:00Z"}"#,
    ),
    ("post", "/hooks/{hook_id}", All, "{}"),
    ("post", "/webhook", All, "{}"),
    ("get", "/webhooks/inbound", Readers, ""),
    ("get", "/webhooks/inbound/{id}", Readers, ""),
    ("get", "/webhooks/inbound/{id}/signals", Readers, ""),
    ("post", "/webhooks/inbound", Sessions, r#"{"name":""}"#),
    ("patch", "/webhooks/inbound/{id}", Sessions, r#"{"enabled":true}"#),
    ("delete", "/webhooks/inbound/{id}", Sessions, ""),
    ("post", "/webhooks/inbound/{id}/rotate", Sessions, ""),
    ("post", "/webhooks/inbound/{id}/test", Sessions, "{}"),
    ("get", "/webhooks/outbound", Readers, ""),
    ("get", "/webhooks/outbound/{id}", Readers, ""),
    ("get", "/webhooks/outbound/{id}/deliveries", Readers, ""),
    ("post", "/webhooks/outbound", Sessions, r#"{"url":"ftp://example.com/"}"#),
    ("patch", "/webhooks/outbound/{id}", Sessions, r#"{"description":"x"}"#),
    ("delete", "/webhooks/outbound/{id}", Sessions, ""),
    ("post", "/webhooks/outbound/{id}/rotate", Sessions, ""),
    ("post", "/webhooks/outbound/{id}/test", Sessions, ""),
    ("post", "/ws/ticket", Sessions, ""),
    ("post", "/events/optimization-progress", Publishers, r#"{"strategy":"breakout","trial":1,"total":10}"#),
    (
        "post",
        "/events/ab-test-update",
        Publishers,
        r#"{"test":"exits","status":"running","arms":[{"name":"a","trades":1,"pnl":"2"}]}"#,
    ),
    ("post", "/admin/alerts", Admins, r#"{"message":"a test","severity":"info"}"#),
    ("get", "/admin/users", Admins, ""),
    ("get", "/admin/users/{id}", Admins, ""),
    ("get", "/admin/audit", Admins, ""),
    ("get", "/admin/audit/verify", Admins, ""),
    ("get", "/admin/jobs", Admins, ""),
    ("get", "/admin/jobs/counts", Admins, ""),
    ("get", "/admin/dead-letters", Admins, ""),
    ("get", "/admin/dead-letters/{id}", Admins, ""),
    ("post", "/admin/dead-letters/replay", ProvenAdmins, "{}"),
    ("post", "/admin/dead-letters/{id}/replay", ProvenAdmins, ""),
    ("delete", "/admin/dead-letters/{id}", ProvenAdmins, ""),
    ("patch", "/admin/users/{id}", ProvenAdmins, r#"{"role":"user"}"#),
    ("post", "/admin/users/{id}/logout", ProvenAdmins, "{}"),
    ("post", "/admin/users/logout", ProvenAdmins, "{}"),
    ("post", "/admin/users/{id}/reset-2fa", ProvenAdmins, "{}"),
    ("get", "/backup/list", ProvenAdmins, ""),
    ("get", "/backup/jobs/{id}", ProvenAdmins, ""),
    ("post", "/backup/create", ProvenAdmins, "{}"),
    ("post", "/backup/verify/{name}", ProvenAdmins, "{}"),
    ("post", "/backup/restore/{name}", ProvenAdmins, r#"{"confirm":"x"}"#),
    ("post", "/backup/restore-to", ProvenAdmins, r#"{"time":"2026-01-01T00:00:00Z","confirm":"x"}"#),
    ("post", "/backup/undo", ProvenAdmins, r#"{"confirm":"x"}"#),
    ("post", "/backup/release", ProvenAdmins, r#"{"kinds":[]}"#),
    ("post", "/backup/cleanup", ProvenAdmins, ""),
    ("patch", "/backup/{name}", ProvenAdmins, r#"{"pinned":true}"#),
];

/// Who calls.
#[derive(Clone, Copy, Debug)]
enum Who {
    Anonymous,
    User { admin: bool, proven: bool },
    Token { scope: Scope, admin: bool },
}

impl Who {
    fn may(self, serves: Serves) -> bool {
        match (self, serves) {
            (_, All) => true,
            (Self::Anonymous, _) => false,
            (Self::User { .. }, Readers | Traders | Publishers | Sessions) => true,
            (Self::User { proven, .. }, Proven) => proven,
            (Self::User { admin, .. }, Admins) => admin,
            (Self::User { admin, proven }, ProvenAdmins) => admin && proven,
            (Self::Token { scope, .. }, Readers) => scope == Scope::Read,
            (Self::Token { scope, .. }, Traders | Publishers) => scope == Scope::TradePaper,
            (Self::Token { scope, admin }, Admins) => admin && scope == Scope::Admin,
            (Self::Token { .. }, Sessions | Proven | ProvenAdmins) => false,
        }
    }
}

/// Whether an answer says that the caller is not one whom the route serves. Wrong passwords and codes are no such answer:
/// where one is part of the body, the problem is told apart by the route being open to everybody or by its detail.
fn turned_away(reply: &Reply) -> bool {
    matches!(
        reply.code(),
        "access_denied" | "step_up_required" | "two_factor_enrolment_required" | "csrf_failed"
    ) || (reply.status == 401 && reply.body["detail"] == "authentication failed")
}

/// Nothing with these ids is there.
fn path_of(pattern: &str) -> String {
    pattern
        .replace("/admin/users/{id}", "/admin/users/999999")
        .replace("/admin/dead-letters/{id}", "/admin/dead-letters/999999")
        .replace("{id}", "0196a6b0-1111-7222-8333-444455556666")
        .replace("{symbol}", "SPY")
        .replace("{broker}", "alpaca")
        .replace("{code}", "internal")
        .replace("{user_id}", "999999")
}

async fn ask(client: &Client, method: &str, path: &str, body: &str) -> Reply {
    let method: Method = method.to_uppercase().parse().unwrap();
    let client = client.clone().header("idempotency-key", "0196a6b0-1111-7222-8333-444455556666");
    let body = (!body.is_empty()).then(|| (body.to_owned(), "application/json"));
    client.request(method, &path_of(path), body).await
}

/// The routes of the OpenAPI document.
fn documented() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&plimsoll_api::openapi_document()).unwrap();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            routes.push((method.clone(), path.clone()));
        }
    }
    routes
}

/// A client for one request: some routes end the session that they are asked with.
async fn client(world: &World, who: Who) -> Client {
    let email = |admin| if admin { "root@example.com" } else { "ann@example.com" };
    let id = |admin| {
        let rows = world.rows(&format!("SELECT id FROM users WHERE email = '{}'", email(admin)));
        plimsoll_core_domain::UserId(rows[0]["id"].as_i64().unwrap())
    };
    match who {
        Who::Anonymous => world.client(),
        Who::Token { scope, admin } => world.api_token(id(admin), &[scope]),
        Who::User { admin, proven } => {
            let client = world.login(email(admin)).await;
            if proven {
                let (user, now) = (id(admin).0, world.now());
                world.test.execute(&format!(
                    "UPDATE sessions SET step_up_until = '{now}'::timestamptz + interval '5 minutes', \
                     step_up_ip = '127.0.0.1' WHERE user_id = {user}"
                ));
            }
            client
        }
    }
}

/// ADM-8: every documented route, tried as everybody, serves exactly those whom the table names. A route without a line
/// fails the test.
#[tokio::test]
async fn every_route_serves_whom_the_table_says() {
    let world = World::with_settings(|settings| {
        let policy = std::sync::Arc::make_mut(&mut settings.policy);
        policy.require_admin_2fa = false;
        policy.login.per_ip =
            plimsoll_auth::throttle::Limit::new(100_000, chrono::TimeDelta::minutes(1), 100_000);
        policy.login.spray_pairs = 100_000;
    })
    .await;
    let ann = world.user("ann@example.com", Role::User);
    let root = world.user("root@example.com", Role::Admin);
    let now = world.now();
    for user in [ann, root] {
        world
            .db
            .run_blocking(|tx| tx.insert_account(user, Environment::Paper, now).map(drop))
            .unwrap_or_else(|why: plimsoll_core_domain::StoreError| panic!("{why}"));
    }
    let mut everybody = vec![Who::Anonymous];
    for admin in [false, true] {
        everybody.extend([false, true].map(|proven| Who::User { admin, proven }));
        everybody.extend(Scope::ALL.map(|scope| Who::Token { scope, admin }));
    }
    let mut wrong = Vec::new();
    for (method, path) in documented() {
        let Some((_, _, serves, body)) =
            ROUTES.iter().find(|(known, pattern, ..)| *known == method && *pattern == path)
        else {
            wrong.push(format!("{method} {path}: no line in the table"));
            continue;
        };
        // An open route is not asked who calls: one stranger stands for everybody.
        let callers = if *serves == All { &everybody[..1] } else { &everybody[..] };
        for who in callers {
            let reply = ask(&client(&world, *who).await, &method, &path, body).await;
            if turned_away(&reply) == who.may(*serves) {
                wrong.push(format!("{method} {path} as {who:?}: {} {}", reply.status, reply.text));
            }
            if reply.status.as_u16() == 500 {
                wrong.push(format!("{method} {path} as {who:?}: {}", reply.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// ADM-2: what belongs to another user is not there: the answer is the one for ids that nobody has.
#[tokio::test]
async fn what_is_of_another_user_is_not_there() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    world.user("bob@example.com", Role::User);
    world.login("ann@example.com").await;
    world.api_token(ann, &[Scope::Read]);
    let bob = world.login("bob@example.com").await;
    let proven = bob.post("/auth/step-up", &json!({ "password": PASSWORD })).await;
    let bob = bob.bearer(proven.body["token"].as_str().unwrap());
    let id_in = |table: &str| {
        let rows = world.rows(&format!("SELECT id FROM {table} WHERE user_id = {ann}"));
        rows[0]["id"].as_str().unwrap().to_owned()
    };
    let strange = |reply: &Reply| (reply.status, reply.code().to_owned(), reply.body["detail"].clone());
    for (prefix, table) in [("/auth/sessions", "sessions"), ("/auth/api-tokens", "api_tokens")] {
        let theirs = bob.delete(&format!("{prefix}/{}", id_in(table))).await;
        let nobodys = bob.delete(&format!("{prefix}/0196a6b0-1111-7222-8333-444455556666")).await;
        assert_eq!(theirs.status, 404, "{prefix} {}", theirs.text);
        assert_eq!(strange(&theirs), strange(&nobodys), "{prefix}");
        let alive =
            world.rows(&format!("SELECT id FROM {table} WHERE user_id = {ann} AND revoked_at IS NULL"));
        assert_eq!(alive.len(), 1, "{table}");
    }
    assert!(matches!(bob.get(&format!("/admin/users/{ann}")).await.status.as_u16(), 403));
}
