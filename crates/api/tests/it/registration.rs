//! Registration, verification links, resending, the first administrator, over HTTP.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use plimsoll_auth::ports::AccountStore;
use plimsoll_auth::setup::issue;
use plimsoll_auth::throttle::Limit;
use plimsoll_auth::{AccountPolicy, Act, NewUser, Role, UserId};
use plimsoll_core_domain::{Clock, StoreError};
use plimsoll_crypto::tokens::SecretToken;
use plimsoll_crypto::{Aad, OsRandom, open};
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::timing::{COST, PAIRS, ratio, within};
use crate::world::{PASSWORD, Reply, World};

fn account(email: &str) -> Value {
    json!({ "email": email, "password": PASSWORD, "display_name": "Ann" })
}

/// What is in the outbox, oldest first: `to` and `mail`.
fn mails(world: &World) -> Vec<Value> {
    let rows = world
        .rows("SELECT id, user_id, encode(sealed, 'hex') AS sealed FROM mail_outbox ORDER BY created_at, id");
    let opened = rows.iter().map(|row| {
        let id = row["id"].as_str().unwrap();
        let owner = row["user_id"].as_i64();
        let hex = row["sealed"].as_str().unwrap();
        let sealed: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let aad = Aad { table: "mail_outbox", column: "sealed", row: id, owner };
        let text = open(&world.keys.ring, &aad, &sealed).unwrap();
        serde_json::from_slice(text.expose_secret()).unwrap()
    });
    opened.collect()
}

/// The token of the newest link that was mailed.
fn link(world: &World) -> String {
    let mails = mails(world);
    let newest = mails.iter().rev().find(|mail| mail["mail"]["kind"] == "verify_email").unwrap();
    newest["mail"]["token"].as_str().unwrap().to_owned()
}

fn count(world: &World, from: &str) -> i64 {
    world.rows(&format!("SELECT count(*)::bigint AS n FROM {from}"))[0]["n"].as_i64().unwrap()
}

/// A user whose address waits for its confirmation.
fn unverified(world: &World, email: &str) -> UserId {
    let known = world.user(email, Role::User);
    world.test.execute(&format!("UPDATE users SET email_verified_at = NULL WHERE id = {}", known.0));
    known
}

async fn register(world: &World, email: &str) -> Reply {
    world.client().post("/auth/register", &account(email)).await
}

/// Everything of an answer that may not differ: the request's id and the registration's do.
pub(crate) fn shape(reply: &Reply) -> (StatusCode, BTreeSet<String>, Value) {
    let headers = reply.headers.iter().map(|(name, value)| match name.as_str() {
        "x-request-id" | "date" => name.to_string(),
        _ => format!("{name}: {}", value.to_str().unwrap()),
    });
    let mut body = reply.body.clone();
    for id in ["registration_id", "request_id"] {
        if let Some(value) = body.get_mut(id) {
            *value = Value::Null;
        }
    }
    (reply.status, headers.collect(), body)
}

#[tokio::test]
async fn an_account_is_registered_verified_and_signs_in() {
    let world = World::start().await;
    let client = world.client();
    let reply = register(&world, "Ann@Example.com").await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.body);
    assert_eq!(reply.body["status"], "verification_sent");
    let id = reply.body["registration_id"].as_str().unwrap();
    let path = format!("/auth/verification-status?registration_id={id}");
    let status = client.get(&path).await;
    assert_eq!(status.status, StatusCode::OK);
    assert_eq!(status.body, json!({"verified": false, "expires_at": "2026-06-03T14:00:00.000000Z"}));

    let token = link(&world);
    let verified = client.post("/auth/verify-email", &json!({ "token": token })).await;
    assert_eq!((verified.status, &verified.body), (StatusCode::OK, &json!({"status": "verified"})));
    assert_eq!(client.get(&path).await.body["verified"], true);
    let login = client.post("/auth/login", &json!({"email": "ann@example.com", "password": PASSWORD})).await;
    assert_eq!(login.status, StatusCode::OK, "{}", login.body);
    assert_eq!(login.body["user"]["display_name"], "Ann");
    assert_eq!(login.body["user"]["role"], "user");
    assert_eq!(count(&world, "mail_outbox WHERE kind = 'welcome'"), 1);

    // without a broker account trading has one clear answer, and lists are empty
    let ann = client.bearer(login.body["token"].as_str().unwrap());
    let order = json!({"symbol": "SPY", "side": "buy", "type": "market", "time_in_force": "day", "qty": "1"});
    let order = ann.clone().header("idempotency-key", "first").post("/orders", &order).await;
    assert_eq!(order.status, StatusCode::NOT_FOUND, "{}", order.body);
    assert_eq!(order.body["detail"], "no broker account is connected");
    assert_eq!(count(&world, "orders"), 0);
    for path in ["/orders", "/positions", "/fills", "/account", "/pnl"] {
        let reply = ann.get(path).await;
        let told = reply.body["detail"] == "no broker account is connected";
        assert!(reply.status.is_success() || told, "{path} {}", reply.body);
    }
}

/// REG-1: a known address, verified or not, is answered like an unknown one, and changes nothing of its account.
#[tokio::test]
async fn known_and_unknown_addresses_are_answered_alike() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    unverified(&world, "eve@example.com");
    let users = world.rows("SELECT * FROM users ORDER BY id");
    let known = register(&world, "ANN@example.com").await;
    let waiting = register(&world, "eve@example.com").await;
    assert_eq!(world.rows("SELECT * FROM users ORDER BY id"), users);
    let unknown = register(&world, "new@example.com").await;
    assert_eq!(shape(&known), shape(&unknown));
    assert_eq!(shape(&waiting), shape(&unknown));
    assert_eq!(known.status, StatusCode::ACCEPTED);

    let status = |reply: &Reply| {
        let id = reply.body["registration_id"].as_str().unwrap().to_owned();
        let client = world.client();
        async move { client.get(&format!("/auth/verification-status?registration_id={id}")).await }
    };
    assert_eq!(shape(&status(&known).await), shape(&status(&unknown).await));

    let sent: Vec<_> = mails(&world).iter().map(|mail| mail["mail"]["kind"].clone()).collect();
    assert_eq!(sent.iter().filter(|kind| **kind == "already_registered").count(), 1);
    assert_eq!(
        sent.iter().filter(|kind| **kind == "verify_email").count(),
        2,
        "to whom waits, and to whom is new"
    );
    register(&world, "ann@example.com").await;
    assert_eq!(mails(&world).len(), 3, "at most one in an hour");
    world.clock.advance(TimeDelta::hours(1));
    register(&world, "ann@example.com").await;
    assert_eq!(mails(&world).len(), 4);
}

/// REG-1, REG-8: an address belongs to whoever confirms it: the password of the registration whose link is used holds, and
/// whoever registered it before has nothing of it.
#[tokio::test]
async fn an_address_belongs_to_who_confirms_it() {
    let world = World::start().await;
    let registered = |password: &'static str| {
        let client = world.client();
        async move {
            let body = json!({ "email": "ann@example.com", "password": password });
            let reply = client.post("/auth/register", &body).await;
            assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.body);
            reply.body["registration_id"].as_str().unwrap().to_owned()
        }
    };
    let verified = |id: &str| {
        let (client, path) = (world.client(), format!("/auth/verification-status?registration_id={id}"));
        async move { client.get(&path).await.body["verified"].as_bool().unwrap() }
    };
    let login = |password: &'static str| {
        let client = world.client();
        let body = json!({ "email": "ann@example.com", "password": password });
        async move { client.post("/auth/login", &body).await.status }
    };
    let (eves, anns) = ("umbrella Otter 17 lantern", "quarry-Kestrel 92 pavement");
    let eve = registered(eves).await;
    let eves_link = link(&world);
    world.clock.advance(TimeDelta::minutes(2));
    let ann = registered(anns).await;
    let anns_link = link(&world);
    assert_ne!(eves_link, anns_link);
    let mail = mails(&world).pop().unwrap();
    assert_eq!(mail["mail"]["circumstances"]["ip"], "127.0.0.1", "{mail}");
    assert_eq!(login(anns).await, StatusCode::UNAUTHORIZED, "nothing holds before its confirmation");

    let used = world.client().post("/auth/verify-email", &json!({ "token": anns_link })).await;
    assert_eq!(used.status, StatusCode::OK, "{}", used.body);
    assert_eq!((verified(&eve).await, verified(&ann).await), (false, true));
    assert_eq!((login(eves).await, login(anns).await), (StatusCode::UNAUTHORIZED, StatusCode::OK));
    let late = world.client().post("/auth/verify-email", &json!({ "token": eves_link })).await;
    assert_eq!(late.body["code"], "invalid_token");
    let kept = "email_verification_tokens WHERE password_hash IS NOT NULL";
    assert_eq!(count(&world, kept), 0, "what the links carried is gone");
}

/// REG-6: strangers who register a waiting address keep its owner from no link, and a link that is asked for carries what
/// was registered last.
#[tokio::test]
async fn registering_again_uses_up_no_right_to_a_link() {
    let world = World::with(|policy| {
        policy.registration.per_ip = Limit::new(1_000, TimeDelta::hours(1), 1_000);
    })
    .await;
    for _ in 0..9 {
        register(&world, "ann@example.com").await;
        world.clock.advance(TimeDelta::minutes(1));
    }
    let body = json!({ "email": "ann@example.com", "password": "quarry-Kestrel 92 pavement" });
    world.client().post("/auth/register", &body).await;
    world.clock.advance(TimeDelta::hours(1));
    let before = mails(&world).len();
    let asked =
        world.client().post("/auth/resend-verification", &json!({ "email": "ann@example.com" })).await;
    assert_eq!((asked.status, mails(&world).len()), (StatusCode::ACCEPTED, before + 1));
    let used = world.client().post("/auth/verify-email", &json!({ "token": link(&world) })).await;
    assert_eq!(used.status, StatusCode::OK, "{}", used.body);
    assert_eq!(world.client().post("/auth/login", &body).await.status, StatusCode::OK);
}

/// REG-2: the answer waits for no mail: it is a row of the outbox and a job, written with the user.
#[tokio::test]
async fn mails_go_through_the_outbox_in_the_transaction_of_the_user() {
    let world = World::start().await;
    register(&world, "ann@example.com").await;
    let rows = world.rows(
        "SELECT o.xmin::text = u.xmin::text AS together, o.sent_at FROM mail_outbox o JOIN users u ON u.id = o.user_id",
    );
    assert_eq!(rows, [json!({"together": true, "sent_at": null})]);
    assert_eq!(count(&world, "jobs WHERE queue = 'mail'"), 1);
    // no outbox, no user
    world.test.execute("ALTER TABLE mail_outbox ADD CHECK (kind <> 'verify_email') NOT VALID");
    let refused = register(&world, "bob@example.com").await;
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(count(&world, "users WHERE email_folded = 'bob@example.com'"), 0);
    assert_eq!(count(&world, "registrations"), 1);
}

/// REG-3: the database holds only the digest of a link's token, and no answer or audit entry has the token.
#[tokio::test]
async fn a_token_is_nowhere_but_in_the_mail() {
    let world = World::start().await;
    let mut answers = register(&world, "ann@example.com").await.text;
    let token = link(&world);
    answers += &world.client().post("/auth/verify-email", &json!({ "token": token })).await.text;
    answers += &world.client().post("/auth/verify-email", &json!({ "token": token })).await.text;
    answers += &world.client().post("/auth/verify-email", &json!({ "token": token, "x": 1 })).await.text;
    assert!(!answers.contains(&token), "{answers}");
    let tables = ["users", "registrations", "email_verification_tokens", "audit_log", "jobs", "mail_outbox"];
    for table in tables {
        let rows = json!(world.rows(&format!("SELECT to_jsonb(t) AS row FROM {table} t"))).to_string();
        assert!(!rows.contains(&token), "{table}");
    }
    let digest = SecretToken::parse(&token).unwrap().digest();
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let found = format!("email_verification_tokens WHERE encode(token_digest, 'hex') = '{hex}'");
    assert_eq!(count(&world, &found), 1);
}

/// REG-4: of 50 posts of one link at once exactly one succeeds.
#[tokio::test]
async fn of_fifty_posts_of_a_link_one_succeeds() {
    let world = World::start().await;
    register(&world, "ann@example.com").await;
    let body = json!({ "token": link(&world) });
    let client = world.client();
    let posts = (0..50).map(|_| client.post("/auth/verify-email", &body));
    let statuses: Vec<_> = futures_util::future::join_all(posts).await.iter().map(|it| it.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == StatusCode::OK).count(), 1, "{statuses:?}");
    // On a busy machine some are told that there is no room for them.
    let refused = [StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE];
    assert_eq!(statuses.iter().filter(|status| refused.contains(status)).count(), 49, "{statuses:?}");
    assert_eq!(count(&world, "mail_outbox WHERE kind = 'welcome'"), 1);
}

/// REG-5: an expired, a used, an unknown and a malformed token have one answer.
#[tokio::test]
async fn all_links_that_do_not_work_are_answered_alike() {
    let world = World::start().await;
    let client = world.client();
    let verify = |token: String| {
        let client = client.clone();
        async move { client.post("/auth/verify-email", &json!({ "token": token })).await }
    };
    register(&world, "used@example.com").await;
    let used = link(&world);
    world.clock.advance(TimeDelta::seconds(1));
    register(&world, "late@example.com").await;
    let late = link(&world);
    world.clock.advance(TimeDelta::hours(48) - TimeDelta::seconds(2));
    assert_eq!(verify(used.clone()).await.status, StatusCode::OK, "a second before its end");
    world.clock.advance(TimeDelta::seconds(2));
    let unknown = SecretToken::generate(&mut OsRandom).expose_text();
    let expired = shape(&verify(late).await);
    assert_eq!((expired.0, &expired.2["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_token")));
    for token in [used, unknown.expose_secret().to_owned(), "malformed".to_owned(), String::new()] {
        assert_eq!(shape(&verify(token).await), expired);
    }
    assert_eq!(count(&world, "users WHERE email_verified_at IS NULL"), 1);
}

/// REG-6: a new link voids the older one; unknown, verified and waiting addresses are answered alike.
#[tokio::test]
async fn a_link_is_mailed_again_within_its_limits() {
    let world = World::start().await;
    let client = world.client();
    let resend = |email: &'static str| {
        let client = client.clone();
        async move { client.post("/auth/resend-verification", &json!({ "email": email })).await }
    };
    world.user("bob@example.com", Role::User);
    register(&world, "ann@example.com").await;
    let first = link(&world);
    let early = resend("ann@example.com").await;
    assert_eq!(early.status, StatusCode::ACCEPTED);
    assert_eq!(mails(&world).len(), 1, "within 60 seconds");
    world.clock.advance(TimeDelta::seconds(60));
    let again = resend("ANN@example.com").await;
    assert_eq!(mails(&world).len(), 2);
    let second = link(&world);
    for email in ["nobody@example.com", "bob@example.com"] {
        assert_eq!(shape(&resend(email).await), shape(&again), "{email}");
    }
    assert_eq!(shape(&early), shape(&again));
    assert_eq!(mails(&world).len(), 2);
    let old = client.post("/auth/verify-email", &json!({ "token": first })).await;
    assert_eq!(old.status, StatusCode::BAD_REQUEST);
    let new = client.post("/auth/verify-email", &json!({ "token": second })).await;
    assert_eq!(new.status, StatusCode::OK);

    for _ in 0..6 {
        assert_eq!(resend("nobody@example.com").await.status, StatusCode::ACCEPTED);
    }
    let over = resend("nobody@example.com").await;
    assert_eq!((over.status, &over.body["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limited")));
    assert_eq!(over.headers["retry-after"], "300", "one in six minutes, the first of ten was a minute ago");
    let bad = resend("no address").await;
    assert_eq!(
        (bad.status, &bad.body["errors"][0]["pointer"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("/email"))
    );
}

/// REG-7: mail scanners open links with GET, and that uses nothing up.
#[tokio::test]
async fn only_a_post_uses_a_link() {
    let world = World::start().await;
    register(&world, "ann@example.com").await;
    let token = link(&world);
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT] {
        for path in ["/auth/verify-email", "/verify"] {
            let path = format!("{path}?token={token}");
            let reply = world.client().send(method.clone(), &path, None).await;
            assert!(!reply.text.contains("verified\"}"), "{method} {path}");
        }
    }
    assert_eq!(count(&world, "users WHERE email_verified_at IS NOT NULL"), 0);
    let verified = world.client().post("/auth/verify-email", &json!({ "token": token })).await;
    assert_eq!(verified.status, StatusCode::OK);
}

/// REG-8: before its address is confirmed an account gets no session by any way; only a right password is told why.
#[tokio::test]
async fn an_unverified_account_gets_nothing() {
    let world = World::start().await;
    register(&world, "ann@example.com").await;
    let login = |password: &'static str, email: &'static str| {
        let client = world.client();
        async move { client.post("/auth/login", &json!({ "email": email, "password": password })).await }
    };
    let right = login(PASSWORD, "ann@example.com").await;
    assert_eq!((right.status, &right.body["code"]), (StatusCode::FORBIDDEN, &json!("email_unverified")));
    assert!(right.body.get("token").is_none() && right.headers.get("set-cookie").is_none());
    let wrong = login("some other password", "ann@example.com").await;
    let nobody = login("some other password", "nobody@example.com").await;
    assert_eq!((shape(&wrong).0, shape(&wrong).2), (shape(&nobody).0, shape(&nobody).2));
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    for table in ["sessions", "api_tokens", "accounts", "login_challenges"] {
        assert_eq!(count(&world, table), 0, "{table}");
    }
    // even a session that somehow is there opens nothing
    let bob = world.user("bob@example.com", Role::User);
    let bobs = world.login("bob@example.com").await;
    assert_eq!(bobs.get("/auth/me").await.status, StatusCode::OK);
    world.test.execute(&format!("UPDATE users SET email_verified_at = NULL WHERE id = {}", bob.0));
    for path in ["/auth/me", "/orders", "/account"] {
        assert_eq!(bobs.get(path).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

/// REG-9: what a request says of its host has no effect on mails.
#[tokio::test]
async fn hosts_of_requests_do_not_reach_mails() {
    let world = World::start().await;
    let client = world
        .client()
        .header("x-forwarded-host", "evil.example")
        .header("forwarded", "host=evil.example")
        .header("origin", &world.url);
    let reply = client.post("/auth/register", &account("ann@example.com")).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.body);
    assert!(!json!(mails(&world)).to_string().contains("evil"));
}

/// REG-10: addresses that could smuggle are refused, and addresses that differ in case are one.
#[tokio::test]
async fn addresses_are_strict_and_unique_in_their_folded_form() {
    let world =
        World::with(|policy| policy.registration.per_ip = Limit::new(100, TimeDelta::hours(1), 100)).await;
    for email in ["a@b\r\nBcc: c@d", "Ann <ann@example.com>", "ann\0@example.com", "ann", &"x".repeat(300)] {
        let reply = register(&world, email).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{email:?}");
        assert_eq!(reply.body["errors"][0]["pointer"], "/email", "{}", reply.body);
    }
    assert_eq!(count(&world, "users"), 0);
    for email in ["ann@example.com", "ANN@EXAMPLE.COM", "Ann@Example.com"] {
        assert_eq!(register(&world, email).await.status, StatusCode::ACCEPTED);
    }
    assert_eq!(count(&world, "users"), 1);
    // at once as well: the loser of the race is answered like everybody else
    let replies = futures_util::future::join_all((0..8).map(|_| register(&world, "bob@example.com"))).await;
    assert!(replies.iter().all(|reply| reply.status == StatusCode::ACCEPTED));
    assert_eq!(count(&world, "users WHERE email_folded = 'bob@example.com'"), 1);
    assert_eq!(count(&world, "registrations WHERE user_id IS NULL"), 2 + 7);
}

/// REG-11: a weak password is refused with its reason, and nothing is stored or counted.
#[tokio::test]
async fn weak_passwords_are_refused_with_their_reason() {
    let world = World::start().await;
    for (password, code) in [
        ("tk4!vq", "too_short"),
        ("Password2024", "common_password"),
        ("abcdefghijklmnop", "password_pattern"),
        ("ann.lovelace99", "password_of_context"),
        ("plimsoll2026", "password_of_context"),
        (&"long words ".repeat(100), "too_long"),
    ] {
        let body = json!({ "email": "ann.lovelace@example.com", "password": password });
        let reply = world.client().post("/auth/register", &body).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{password}");
        let error = &reply.body["errors"][0];
        assert_eq!((&error["pointer"], &error["code"]), (&json!("/password"), &json!(code)), "{password}");
        assert!(!reply.text.contains(password), "the password is not repeated");
    }
    for table in ["users", "registrations", "mail_outbox", "throttles"] {
        assert_eq!(count(&world, table), 0, "{table}");
    }
}

/// REG-13: fields that are nobody's to choose are refused.
#[tokio::test]
async fn unknown_fields_are_refused() {
    let world = World::start().await;
    for (field, value) in [
        ("role", json!("admin")),
        ("is_admin", json!(true)),
        ("email_verified", json!(true)),
        ("id", json!(1)),
    ] {
        let mut body = account("ann@example.com");
        body[field] = value;
        let reply = world.client().post("/auth/register", &body).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}");
        assert_eq!(reply.body["errors"][0]["code"], "unknown_field", "{}", reply.body);
    }
    assert_eq!(count(&world, "users"), 0);
}

/// REG-14: registration can be closed; five an hour from one network.
#[tokio::test]
async fn registration_is_limited_and_can_be_closed() {
    let world = World::start().await;
    for n in 0..5 {
        assert_eq!(register(&world, &format!("user{n}@example.com")).await.status, StatusCode::ACCEPTED);
    }
    let over = register(&world, "one.more@example.com").await;
    assert_eq!((over.status, &over.body["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limited")));
    assert_eq!(over.headers["retry-after"], "720");
    assert_eq!(count(&world, "users"), 5);
    for n in 0..40 {
        assert_eq!(
            register(&world, &format!("n{n}@example.com")).await.status,
            StatusCode::TOO_MANY_REQUESTS
        );
        let again = json!({ "email": "n@example.com" });
        world.client().post("/auth/resend-verification", &again).await;
    }
    let denied = count(&world, "audit_log WHERE outcome = 'denied'");
    assert!((1..=11).contains(&denied), "{denied}: a few a minute, whatever somebody sends");

    let closed = World::with(|policy| policy.registration.open = false).await;
    let reply = register(&closed, "ann@example.com").await;
    assert_eq!((reply.status, &reply.body["code"]), (StatusCode::FORBIDDEN, &json!("access_denied")));
    for table in ["users", "registrations", "mail_outbox", "throttles"] {
        assert_eq!(count(&closed, table), 0, "{table}");
    }
}

#[tokio::test]
async fn a_registration_that_never_was_is_not_found() {
    let world = World::start().await;
    let client = world.client();
    let path = format!("/auth/verification-status?registration_id={}", Uuid::now_v7());
    assert_eq!(client.get(&path).await.status, StatusCode::NOT_FOUND);
    for path in ["/auth/verification-status", "/auth/verification-status?registration_id=x"] {
        assert_eq!(client.get(path).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
    }
}

fn setup_token(world: &World) -> Option<String> {
    let token = SecretToken::generate(&mut OsRandom);
    let (policy, act) = (AccountPolicy::default(), Act::without_request(world.now()));
    let issued = world.db.run_blocking(|tx| issue(tx, &policy, Uuid::now_v7(), &token, &act));
    issued.unwrap().map(|_| token.expose_text().expose_secret().to_owned())
}

/// ADM-1: a one-time setup token makes the first administrator; afterwards the route is not there, for ever.
#[tokio::test]
async fn a_setup_token_makes_the_first_administrator_once() {
    let world = World::start().await;
    let setup = |token: &str, email: &str, password: &str| {
        let body = json!({ "setup_token": token, "email": email, "password": password });
        let client = world.client();
        async move { client.post("/auth/setup", &body).await }
    };
    world.user("ann@example.com", Role::User);
    for bad in ["", "x", SecretToken::generate(&mut OsRandom).expose_text().expose_secret()] {
        let reply = setup(bad, "root@example.com", PASSWORD).await;
        assert_eq!((reply.status, &reply.body["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_token")));
    }
    let late = setup_token(&world).unwrap();
    world.clock.advance(TimeDelta::minutes(10));
    assert_eq!(setup(&late, "root@example.com", PASSWORD).await.status, StatusCode::BAD_REQUEST);
    let token = setup_token(&world).unwrap();
    let weak = setup(&token, "root@example.com", "password1234").await;
    assert_eq!(weak.status, StatusCode::UNPROCESSABLE_ENTITY);
    let taken = setup(&token, "ann@example.com", PASSWORD).await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
    assert_eq!(count(&world, "users WHERE role = 'admin'"), 0);
    assert_eq!(count(&world, "setup_tokens WHERE used_at IS NOT NULL"), 0);

    let made = setup(&token, "root@example.com", PASSWORD).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert_eq!((&made.body["email"], &made.body["role"]), (&json!("root@example.com"), &json!("admin")));
    assert!(made.body.get("token").is_none());
    world.login("root@example.com").await;
    for token in [token.as_str(), "x"] {
        let reply = setup(token, "second@example.com", PASSWORD).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(setup_token(&world), None);
    assert_eq!(count(&world, "users"), 2);
    assert_eq!(count(&world, "audit_log WHERE action = 'user.create' AND detail LIKE '%setup_token%'"), 1);
    let entries = json!(world.rows("SELECT detail FROM audit_log")).to_string();
    assert!(!entries.contains(&token));
}

fn accepted(reply: Reply) -> Reply {
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.body);
    reply
}

async fn timed_world() -> World {
    let unlimited = Limit::new(1_000_000, TimeDelta::hours(1), 1_000_000);
    World::with_cost(COST, |policy| {
        policy.registration.per_ip = unlimited;
        policy.registration.resend_per_ip = unlimited;
    })
    .await
}

/// TIM-1: registering a known and an unknown address takes the same time.
#[tokio::test(flavor = "current_thread")]
async fn registering_takes_the_same_time_for_known_and_unknown_addresses() {
    let world = timed_world().await;
    world.user("ann@example.com", Role::User);
    let client = world.client();
    within(|round| {
        let client = &client;
        ratio(move |n, known| {
            let email =
                if known { "ann@example.com".to_owned() } else { format!("new{round}-{n}@example.com") };
            async move { accepted(client.post("/auth/register", &account(&email)).await) }
        })
    })
    .await;
}

/// TIM-1: asking for a link again takes the same time for an address that gets one and for one that does not.
#[tokio::test(flavor = "current_thread")]
async fn resending_takes_the_same_time_for_known_and_unknown_addresses() {
    let world = timed_world().await;
    let known = world.user("ann@example.com", Role::User);
    let hash =
        world.rows(&format!("SELECT password_hash FROM users WHERE id = {}", known.0))[0]["password_hash"]
            .as_str()
            .unwrap()
            .to_owned();
    let now = world.clock.now();
    let waiting = |round: usize, n: usize| format!("waiting{round}-{n}@example.com");
    for (round, n) in (0..3).flat_map(|round| (0..PAIRS).map(move |n| (round, n))) {
        let new = NewUser {
            email: waiting(round, n).parse().unwrap(),
            display_name: None,
            role: Role::User,
            password_hash: plimsoll_crypto::passwords::PasswordHash::parse(hash.clone()).unwrap(),
            email_verified_at: None,
            created_at: now,
        };
        world.db.run_blocking(|tx| tx.insert_user(&new)).unwrap_or_else(|why: StoreError| panic!("{why}"));
    }
    let client = world.client();
    within(|round| {
        let client = &client;
        ratio(move |n, known| {
            let email = if known { waiting(round, n) } else { format!("nobody{round}-{n}@example.com") };
            async move { accepted(client.post("/auth/resend-verification", &json!({ "email": email })).await) }
        })
    })
    .await;
    assert!(mails(&world).len() >= PAIRS, "each of them was mailed a link");
}
