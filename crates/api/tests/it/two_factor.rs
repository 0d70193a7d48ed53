//! The second factor: enrolment, sign-in, step-up, change, reset.

use chrono::TimeDelta;
use data_encoding::BASE64;
use plimsoll_auth::api_tokens::Scope;
use plimsoll_auth::challenges::NewChallenge;
use plimsoll_auth::throttle::Limit;
use plimsoll_auth::totp::{TotpSecret, step_at};
use plimsoll_auth::two_factor_reset::{self, NewReset, Requested};
use plimsoll_auth::{Act, Role, Transport, challenges};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::SecretToken;
use reqwest::StatusCode;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::registration::shape;
use crate::world::{Client, PASSWORD, Reply, World};

const EMAIL: &str = "ann@example.com";

/// A user with a second factor, signed in and stepped up.
struct Enrolled {
    user: UserId,
    client: Client,
    secret: TotpSecret,
    backup_codes: Vec<String>,
}

fn code_at(world: &World, secret: &TotpSecret, steps: i64) -> String {
    secret.code_of(step_at(world.now()) + steps).expose_text().expose_secret().to_owned()
}

/// The next code that was not used yet: time goes on by one step.
fn next_code(world: &World, secret: &TotpSecret) -> String {
    world.clock.advance(TimeDelta::seconds(30));
    code_at(world, secret, 0)
}

fn with_token(world: &World, reply: &Reply) -> Client {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    world.client().bearer(reply.body["token"].as_str().unwrap())
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status.as_u16(), reply.body["code"].as_str()), (status, Some(code)), "{}", reply.text);
}

/// Signed in before there is a second factor, with the password proven again.
async fn stepped_up(world: &World) -> (UserId, Client) {
    let user = world.user(EMAIL, Role::User);
    let client = world.login(EMAIL).await;
    let reply = client.post("/auth/step-up", &json!({ "password": PASSWORD })).await;
    (user, with_token(world, &reply))
}

async fn enrolled(world: &World) -> Enrolled {
    let (user, client) = stepped_up(world).await;
    let setup = client.post("/auth/2fa/setup", &json!({})).await;
    assert_eq!(setup.status, StatusCode::OK, "{}", setup.text);
    let secret = TotpSecret::parse(setup.body["secret"].as_str().unwrap()).unwrap();
    let backup_codes = texts(&setup.body["backup_codes"]);
    let reply = client.post("/auth/2fa/enable", &json!({ "code": code_at(world, &secret, 0) })).await;
    Enrolled { user, client: with_token(world, &reply), secret, backup_codes }
}

/// What a login with a right password hands out.
fn challenge(world: &World, user: UserId, transport: Transport) -> String {
    let (token, act) = (SecretToken::generate(&mut OsRandom), Act::without_request(world.now()));
    let policy = world.state.settings.policy.clone();
    let new =
        NewChallenge { id: world.state.ids.request_id(), token: &token, transport, after_failures: false };
    let begun = world.db.run_blocking(|tx| challenges::begin(tx, &policy, user, new, &act));
    begun.unwrap();
    token.expose_text().expose_secret().to_owned()
}

async fn answer(world: &World, challenge: &str, code: &str) -> Reply {
    world.client().post("/auth/2fa/verify", &json!({ "challenge": challenge, "code": code })).await
}

fn mails(world: &World) -> Vec<String> {
    let rows = world.rows("SELECT kind FROM mail_outbox ORDER BY created_at, id");
    rows.iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect()
}

/// LOG-5: a disabled password is no proof of anything: it neither turns the second factor off nor changes itself, and
/// whoever guesses does not learn from the answer whether the guess was right.
#[tokio::test]
async fn a_disabled_password_is_no_proof() {
    let world = World::start().await;
    let Enrolled { user, client, secret, .. } = enrolled(&world).await;
    world.test.execute(&format!("UPDATE users SET password_disabled_at = now() WHERE id = {user}"));
    let body = json!({ "password": PASSWORD, "code": next_code(&world, &secret) });
    problem(&client.post("/auth/2fa/disable", &body).await, 422, "invalid_code");
    assert_eq!(client.get("/auth/2fa/status").await.body["enabled"], true);

    let mut answers = Vec::new();
    for password in [PASSWORD, "not the password"] {
        let body = json!({ "current_password": password, "new_password": "lantern-Otter 92 quarry" });
        answers.push(shape(&client.post("/auth/change-password", &body).await));
    }
    assert_eq!(answers[0].0, StatusCode::UNAUTHORIZED);
    assert_eq!(answers[0], answers[1]);
    let denied = world.rows(
        "SELECT detail FROM audit_log WHERE action = 'password.change' AND outcome = 'denied' ORDER BY seq",
    );
    assert_eq!(denied.len(), 2, "each of them is on record: {denied:?}");
    let changed = "SELECT id FROM users WHERE password_disabled_at IS NULL";
    assert!(world.rows(changed).is_empty(), "only a reset by mail puts it in force again");
}

/// TFA-16, TOK-2: a token trades with real money only while its owner has a second factor.
#[tokio::test]
async fn a_token_trades_live_only_beside_a_second_factor() {
    let world = World::start().await;
    let Enrolled { user, client, backup_codes, .. } = enrolled(&world).await;
    let now = world.now();
    let account = world.db.run_blocking(|tx| tx.insert_account(user, Environment::Live, now).map(drop));
    account.unwrap_or_else(|why: StoreError| panic!("{why}"));
    let token = world.api_token(user, &[Scope::TradeLive]).header("idempotency-key", "k");
    let before = token.delete("/orders").await;
    assert_ne!(before.code(), "access_denied", "{}", before.text);
    let body = json!({ "password": PASSWORD, "code": backup_codes[0] });
    let reply = client.post("/auth/2fa/disable", &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    problem(&token.delete("/orders").await, 403, "access_denied");
}

/// TFA-1, TFA-2, TFA-4: the setup shows everything once; only a right code puts it in force.
#[actix_web::test]
async fn setup_shows_everything_once_and_a_code_confirms_it() {
    let world = World::start().await;
    let (_, client) = stepped_up(&world).await;
    let other = world.login(EMAIL).await;
    let none =
        json!({ "enabled": false, "enabled_at": null, "backup_codes_remaining": 0, "last_used_at": null });
    assert_eq!(client.get("/auth/2fa/status").await.body, none);
    problem(
        &client.post("/auth/2fa/enable", &json!({ "code": "123456" })).await,
        409,
        "two_factor_not_set_up",
    );

    let setup = client.post("/auth/2fa/setup", &json!({})).await;
    assert_eq!(setup.status, StatusCode::OK, "{}", setup.text);
    assert_eq!(setup.headers["cache-control"], "no-store");
    let fields = ["backup_codes", "expires_at", "otpauth_uri", "qr_code", "secret"];
    assert!(setup.body.as_object().unwrap().keys().map(String::as_str).eq(fields), "{}", setup.text);
    let text = setup.body["secret"].as_str().unwrap();
    assert_eq!(
        setup.body["otpauth_uri"],
        format!(
            "otpauth://totp/Plimsoll:ann%40example.com?secret={text}&issuer=Plimsoll&algorithm=SHA1&digits=6&period=30"
        )
    );
    let picture = setup.body["qr_code"].as_str().unwrap().strip_prefix("data:image/png;base64,").unwrap();
    assert!(BASE64.decode(picture.as_bytes()).unwrap().starts_with(b"\x89PNG"));
    let codes = texts(&setup.body["backup_codes"]);
    assert_eq!((codes.len(), codes.iter().all(|code| code.len() == 8)), (10, true), "{codes:?}");
    assert_eq!(client.get("/auth/2fa/status").await.body, none, "nothing is in force yet");

    let secret = TotpSecret::parse(text).unwrap();
    for wrong in ["000000", "1234567", "", &codes[0], "１２３４５６"] {
        problem(&client.post("/auth/2fa/enable", &json!({ "code": wrong })).await, 422, "invalid_code");
    }
    assert_eq!(client.get("/auth/2fa/status").await.body, none);
    let reply = client.post("/auth/2fa/enable", &json!({ "code": code_at(&world, &secret, 0) })).await;
    let rotated = with_token(&world, &reply);
    assert_eq!(reply.body["enabled"], true);
    assert_eq!(client.get("/auth/me").await.status, StatusCode::UNAUTHORIZED, "the old token is dead");
    assert_eq!(other.get("/auth/me").await.status, StatusCode::UNAUTHORIZED, "every other session has ended");
    let status = rotated.get("/auth/2fa/status").await.body;
    assert_eq!((&status["enabled"], &status["backup_codes_remaining"]), (&json!(true), &json!(10)));
    assert!(status["enabled_at"].is_string() && status["last_used_at"].is_string(), "{status}");
    assert!(mails(&world).contains(&"two_factor_enabled".to_owned()));

    // neither secret nor codes stand anywhere in the database
    let tables =
        ["user_2fa", "user_2fa_backup_codes", "user_2fa_attempts", "audit_log", "mail_outbox", "jobs"];
    let hex = data_encoding::HEXLOWER.encode(secret.expose_bytes());
    for table in tables {
        let dump = Value::from(world.rows(&format!("SELECT t::text AS row FROM {table} t"))).to_string();
        assert!(!dump.contains(text) && !dump.contains(&hex), "{table}");
        assert!(codes.iter().all(|code| !dump.contains(code)), "{table}");
    }
}

/// TFA-4, STP-1: a setup needs a factor proven a moment ago.
#[actix_web::test]
async fn a_setup_needs_a_fresh_factor() {
    let world = World::start().await;
    world.user(EMAIL, Role::User);
    let client = world.login(EMAIL).await;
    problem(&client.post("/auth/2fa/setup", &json!({})).await, 403, "step_up_required");
    assert_eq!(world.client().post("/auth/2fa/setup", &json!({})).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.rows("SELECT * FROM user_2fa").len(), 0);
    let reply = client.post("/auth/step-up", &json!({ "password": PASSWORD })).await;
    let client = with_token(&world, &reply);
    assert!(reply.body["step_up_until"].is_string(), "{}", reply.text);
    world.clock.advance(TimeDelta::seconds(301));
    problem(&client.post("/auth/2fa/setup", &json!({})).await, 403, "step_up_required");
}

/// LOG-4, LOG-10: new secrets cost hashes, which everybody's logins wait for; so they are counted.
#[actix_web::test]
async fn setups_are_limited() {
    let world =
        World::with(|policy| policy.login.hashes_per_user = Limit::new(3, TimeDelta::hours(1), 3)).await;
    let (_, client) = stepped_up(&world).await;
    for _ in 0..2 {
        assert_eq!(client.post("/auth/2fa/setup", &json!({})).await.status, StatusCode::OK);
    }
    let over = client.post("/auth/2fa/setup", &json!({})).await;
    problem(&over, 429, "rate_limited");
    assert!(over.headers.contains_key("retry-after"));
    problem(&client.post("/auth/step-up", &json!({ "password": PASSWORD })).await, 429, "rate_limited");
}

/// TFA-4: a pending secret is forgotten after its time.
#[actix_web::test]
async fn a_pending_secret_does_not_wait_for_ever() {
    let world = World::start().await;
    let (_, client) = stepped_up(&world).await;
    let setup = client.post("/auth/2fa/setup", &json!({})).await;
    let secret = TotpSecret::parse(setup.body["secret"].as_str().unwrap()).unwrap();
    world.clock.advance(TimeDelta::minutes(10));
    let late = client.post("/auth/2fa/enable", &json!({ "code": code_at(&world, &secret, 0) })).await;
    problem(&late, 409, "two_factor_not_set_up");
}

/// LOG-11, SES-2: a right code turns the challenge into a session, once.
#[actix_web::test]
async fn a_challenge_and_a_code_sign_in() {
    let world = World::start().await;
    let Enrolled { user, secret, backup_codes, .. } = enrolled(&world).await;
    let first = challenge(&world, user, Transport::Bearer);
    problem(&answer(&world, &first, &code_at(&world, &secret, 0)).await, 401, "authentication_failed"); // it confirmed the secret
    let code = next_code(&world, &secret);
    let reply = answer(&world, &first, &format!("{} {}", &code[..3], &code[3..])).await;
    let client = with_token(&world, &reply);
    assert_eq!((&reply.body["token_type"], &reply.body["user"]["email"]), (&json!("Bearer"), &json!(EMAIL)));
    assert_eq!(client.get("/auth/me").await.body["email"], EMAIL);
    assert_eq!(
        client.post("/auth/2fa/setup", &json!({})).await.status,
        StatusCode::OK,
        "it counts as a step-up"
    );
    problem(&answer(&world, &first, &next_code(&world, &secret)).await, 401, "challenge_expired");

    let second = challenge(&world, user, Transport::Bearer);
    let reply = answer(&world, &second, &backup_codes[0].to_lowercase()).await;
    with_token(&world, &reply);
    assert!(mails(&world).contains(&"backup_code_used".to_owned()));
    let third = challenge(&world, user, Transport::Bearer);
    problem(&answer(&world, &third, &backup_codes[0]).await, 401, "authentication_failed");
    world.clock.advance(TimeDelta::minutes(5));
    problem(&answer(&world, &third, &code_at(&world, &secret, 0)).await, 401, "challenge_expired");
    for odd in ["", "x", &"A".repeat(43)] {
        problem(&answer(&world, odd, "123456").await, 401, "challenge_expired");
    }
}

/// SES-9: with the transport `cookie` no body carries a token.
#[actix_web::test]
async fn the_transport_of_the_login_holds_through_the_challenge() {
    let world = World::start().await;
    let Enrolled { user, secret, .. } = enrolled(&world).await;
    let challenge = challenge(&world, user, Transport::Cookie);
    let reply = answer(&world, &challenge, &next_code(&world, &secret)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert!(reply.body.get("token").is_none() && reply.body["user"]["email"] == EMAIL, "{}", reply.text);
    let cookie = reply.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-plimsoll=") && cookie.contains("HttpOnly"), "{cookie}");
}

/// TFA-5: fifty posts of one right code at once give one session.
#[actix_web::test]
async fn of_fifty_at_once_one_gets_in() {
    let world = World::start().await;
    let Enrolled { user, secret, .. } = enrolled(&world).await;
    let before = world.rows("SELECT id FROM sessions").len();
    let (challenge, code) = (challenge(&world, user, Transport::Bearer), next_code(&world, &secret));
    let body = json!({ "challenge": challenge, "code": code });
    let client = world.client();
    let posts = (0..50).map(|_| client.post("/auth/2fa/verify", &body));
    let replies = futures_util::future::join_all(posts).await;
    let good = replies.iter().filter(|reply| reply.status == StatusCode::OK).count();
    assert_eq!(good, 1, "{replies:?}");
    for reply in &replies {
        assert!(matches!(reply.status.as_u16(), 200 | 401 | 429 | 503), "{}", reply.text);
    }
    assert_eq!(world.rows("SELECT id FROM sessions").len(), before + 1);
    let used =
        world.rows("SELECT id FROM user_2fa_attempts WHERE outcome = 'accepted' AND purpose = 'login'");
    assert_eq!(used.len(), 1);
}

/// TFA-12: fifty posts of one backup code at once, over challenges of their own, strike it once.
#[actix_web::test]
async fn of_fifty_at_once_one_strikes_a_backup_code() {
    let world = World::with(|policy| {
        policy.require_admin_2fa = false;
        policy.two_factor.per_hour.count = 1_000;
        policy.two_factor.per_day.count = 1_000;
    })
    .await;
    let Enrolled { user, backup_codes, .. } = enrolled(&world).await;
    let bodies: Vec<Value> = (0..50)
        .map(|_| json!({ "challenge": challenge(&world, user, Transport::Bearer), "code": backup_codes[3] }))
        .collect();
    let client = world.client();
    let posts = bodies.iter().map(|body| client.post("/auth/2fa/verify", body));
    let replies = futures_util::future::join_all(posts).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == StatusCode::OK).count(), 1, "{replies:?}");
    let used = world.rows("SELECT slot FROM user_2fa_backup_codes WHERE used_at IS NOT NULL");
    assert_eq!(used, [json!({ "slot": 3 })]);
}

/// TFA-8, LOG-9, LOG-11: five wrong codes end a challenge, ten the account's hour; Retry-After says when to come back.
#[actix_web::test]
async fn wrong_codes_run_out() {
    let world = World::start().await;
    let Enrolled { user, client, secret, .. } = enrolled(&world).await;
    for _ in 0..2 {
        let challenge = challenge(&world, user, Transport::Bearer);
        for _ in 0..5 {
            problem(&answer(&world, &challenge, "000000").await, 401, "authentication_failed");
        }
        let right = next_code(&world, &secret);
        problem(&answer(&world, &challenge, &right).await, 401, "challenge_expired");
    }
    let fresh = challenge(&world, user, Transport::Bearer);
    let right = next_code(&world, &secret);
    for reply in [
        answer(&world, &fresh, &right).await,
        client.post("/auth/step-up", &json!({ "code": right })).await,
        client.post("/auth/2fa/disable", &json!({ "password": PASSWORD, "code": right })).await,
        client.post("/auth/2fa/regenerate-codes", &json!({ "code": right })).await,
    ] {
        problem(&reply, 429, "rate_limited");
        let seconds: i64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((3_400..=3_600).contains(&seconds), "{seconds}");
    }
    world.clock.advance(TimeDelta::hours(1));
    with_token(&world, &{
        let fresh = challenge(&world, user, Transport::Bearer);
        answer(&world, &fresh, &code_at(&world, &secret, 0)).await
    });
}

/// TFA-6, STP-1, STP-2: step-up wants the code once the second factor is on; a used code opens nothing.
#[actix_web::test]
async fn step_up_wants_the_code_and_rotates() {
    let world = World::start().await;
    let Enrolled { user, client, secret, .. } = enrolled(&world).await;
    let by_password = client.post("/auth/step-up", &json!({ "password": PASSWORD })).await;
    problem(&by_password, 422, "validation_failed");
    assert_eq!(by_password.body["methods"], json!(["totp", "backup_code"]));
    assert_eq!(by_password.body["errors"][0]["pointer"], "/code");
    problem(&client.post("/auth/step-up", &json!({ "code": "000000" })).await, 401, "authentication_failed");
    let used = code_at(&world, &secret, 0);
    problem(&client.post("/auth/step-up", &json!({ "code": used })).await, 401, "authentication_failed");
    let code = next_code(&world, &secret);
    let reply = client.post("/auth/2fa/verify", &json!({ "code": code })).await;
    let rotated = with_token(&world, &reply);
    assert!(reply.body["step_up_until"].is_string() && reply.body.get("user").is_none(), "{}", reply.text);
    assert_eq!(client.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(rotated.get("/auth/me").await.status, StatusCode::OK);
    problem(&rotated.post("/auth/step-up", &json!({ "code": code })).await, 401, "authentication_failed");
    let reply = world.client().post("/auth/2fa/verify", &json!({ "code": next_code(&world, &secret) })).await;
    problem(&reply, 401, "authentication_failed");
    let rows = world.rows(&format!(
        "SELECT outcome, purpose, method, ip::text, user_agent FROM user_2fa_attempts WHERE user_id = {user} ORDER BY id"
    ));
    let outcomes: Vec<&str> = rows.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["accepted", "accepted", "wrong", "replayed", "accepted", "replayed"]);
    assert_eq!(
        (&rows[0]["method"], &rows[1]["purpose"], &rows[2]["purpose"]),
        (&json!("password"), &json!("enable"), &json!("step_up"))
    );
    assert!(rows.iter().all(|row| row["ip"] == "127.0.0.1/32"), "{rows:?}");
}

/// TFA-14, SES-6: turning off needs both; then every other session is dead and the owner is told.
#[actix_web::test]
async fn turning_off_needs_password_and_code() {
    let world = World::start().await;
    let Enrolled { user, client, secret, backup_codes } = enrolled(&world).await;
    let pending = challenge(&world, user, Transport::Bearer);
    let other = {
        let challenge = challenge(&world, user, Transport::Bearer);
        with_token(&world, &answer(&world, &challenge, &next_code(&world, &secret)).await)
    };
    let code = next_code(&world, &secret);
    for (password, code) in [("wrong password", code.as_str()), (PASSWORD, "000000"), ("", "")] {
        let reply = client.post("/auth/2fa/disable", &json!({ "password": password, "code": code })).await;
        problem(&reply, 422, "invalid_code");
    }
    problem(&client.post("/auth/2fa/disable", &json!({ "code": code })).await, 422, "validation_failed");
    assert_eq!(client.get("/auth/2fa/status").await.body["enabled"], true);
    assert_eq!(other.get("/auth/me").await.status, StatusCode::OK);

    let body = json!({ "password": PASSWORD, "code": backup_codes[9] });
    let reply = client.post("/auth/2fa/disable", &body).await;
    let rotated = with_token(&world, &reply);
    assert_eq!(reply.body["enabled"], false);
    assert_eq!(other.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(client.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    problem(&answer(&world, &pending, &next_code(&world, &secret)).await, 401, "challenge_expired");
    assert_eq!(rotated.get("/auth/2fa/status").await.body["enabled"], false);
    assert!(mails(&world).contains(&"two_factor_disabled".to_owned()));
    problem(&rotated.post("/auth/2fa/disable", &body).await, 409, "two_factor_not_enabled");
    problem(
        &rotated.post("/auth/2fa/regenerate-codes", &json!({ "code": code })).await,
        409,
        "two_factor_not_enabled",
    );
}

/// TFA-12: new codes replace all old ones.
#[actix_web::test]
async fn new_backup_codes_replace_all_old_ones() {
    let world = World::start().await;
    let Enrolled { user, client, secret, backup_codes } = enrolled(&world).await;
    problem(
        &client.post("/auth/2fa/regenerate-codes", &json!({ "code": "000000" })).await,
        422,
        "invalid_code",
    );
    let code = next_code(&world, &secret);
    let reply = client.post("/auth/2fa/regenerate-codes", &json!({ "code": code })).await;
    assert_eq!(
        (reply.status, &reply.headers["cache-control"]),
        (StatusCode::OK, &"no-store".parse().unwrap())
    );
    let new = texts(&reply.body["backup_codes"]);
    assert!(new.len() == 10 && new.iter().all(|code| !backup_codes.contains(code)));
    let challenge = challenge(&world, user, Transport::Bearer);
    problem(&answer(&world, &challenge, &backup_codes[0]).await, 401, "authentication_failed");
    with_token(&world, &answer(&world, &challenge, &new[0]).await);
    assert!(mails(&world).contains(&"new_backup_codes".to_owned()));
    assert_eq!(client.get("/auth/2fa/status").await.body["backup_codes_remaining"], 9);
}

/// TFA-15: an administrator's reset waits, can be stopped, and then takes the second factor and every session away.
#[actix_web::test]
async fn a_reset_waits_for_its_day() {
    let world = World::start().await;
    let Enrolled { user, client, secret, .. } = enrolled(&world).await;
    let policy = world.state.settings.policy.clone();
    let begin = |id: u128| {
        let new = NewReset { id: Uuid::from_u128(id), cancel: SecretToken::generate(&mut OsRandom) };
        let act = Act::without_request(world.now());
        let begun = world.db.run_blocking(|tx| {
            two_factor_reset::request(tx, &policy, None, user, &new, &act, &mut || {
                world.state.ids.request_id()
            })
        });
        assert!(matches!(begun, Ok(Requested::Begun { .. })), "{begun:?}");
    };
    let sweep = || -> Vec<UserId> {
        let now = world.now();
        world
            .db
            .run_blocking(|tx| two_factor_reset::complete_due(tx, now, &mut || world.state.ids.request_id()))
            .unwrap()
    };
    begin(1);
    let act = Act::without_request(world.now());
    let cancelled = world.db.run_blocking(|tx| two_factor_reset::cancel(tx, user, Uuid::from_u128(1), &act));
    assert!(cancelled.unwrap());
    begin(2);
    world.clock.advance(TimeDelta::hours(24) - TimeDelta::seconds(1));
    assert!(sweep().is_empty());
    let challenge = challenge(&world, user, Transport::Bearer);
    let fresh = with_token(&world, &answer(&world, &challenge, &code_at(&world, &secret, 0)).await);
    world.clock.advance(TimeDelta::seconds(1));
    assert_eq!(sweep(), [user]);
    assert!(sweep().is_empty());
    for client in [client, fresh] {
        assert_eq!(client.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    }
    let enabled = world.db.run_blocking(|tx| plimsoll_auth::two_factor::is_enabled(tx, user));
    assert!(!enabled.unwrap_or_else(|why: StoreError| panic!("{why}")));
    let told = mails(&world);
    assert_eq!(told.iter().filter(|kind| *kind == "two_factor_reset_begun").count(), 2);
    assert!(told.contains(&"two_factor_disabled".to_owned()));
}

/// TFA-8: a stored secret that does not open refuses with 503 and is recorded.
#[actix_web::test]
async fn a_secret_that_does_not_open_is_503() {
    let world = World::start().await;
    let Enrolled { user, client, secret, .. } = enrolled(&world).await;
    world.test.execute("UPDATE user_2fa SET secret = set_byte(secret, 40, get_byte(secret, 40) # 1)");
    let challenge = challenge(&world, user, Transport::Bearer);
    let code = next_code(&world, &secret);
    problem(&answer(&world, &challenge, &code).await, 503, "credential_unavailable");
    problem(&client.post("/auth/step-up", &json!({ "code": code })).await, 503, "credential_unavailable");
    let rows =
        world.rows("SELECT action FROM audit_log WHERE action = 'secret.unreadable' AND outcome = 'failure'");
    assert_eq!(rows.len(), 2);
}

/// ERR-3, CSR-3: bodies are read strictly.
#[actix_web::test]
async fn bodies_are_read_strictly() {
    let world = World::start().await;
    let Enrolled { client, .. } = enrolled(&world).await;
    for (path, body) in [
        ("/auth/2fa/enable", json!({ "code": "123456", "extra": 1 })),
        ("/auth/2fa/enable", json!({})),
        ("/auth/2fa/verify", json!({ "challenge": "x" })),
        ("/auth/2fa/disable", json!({ "password": PASSWORD, "code": 123456 })),
        ("/auth/2fa/regenerate-codes", json!([])),
        ("/auth/step-up", json!({ "token": "x" })),
        ("/auth/step-up", json!({})),
    ] {
        problem(&client.post(path, &body).await, 422, "validation_failed");
    }
}
