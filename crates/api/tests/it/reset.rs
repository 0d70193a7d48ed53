//! Reset and change of password, change of address, cancel links and their pages, over HTTP.

use chrono::TimeDelta;
use plimsoll_auth::Role;
use plimsoll_auth::api_tokens::Scope;
use plimsoll_auth::login::LoginKeys;
use plimsoll_auth::reset::{NewReset, request};
use plimsoll_core_domain::StoreError;
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::SecretToken;
use plimsoll_storage::platform::auth::ResetRequest;
use reqwest::StatusCode;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{Client, PASSWORD, World};

const NEW_PASSWORD: &str = "lantern-Otter 92 quarry";

/// Does what the server's job does with each request that waits.
pub(crate) fn run_reset_jobs(world: &World) -> usize {
    let waiting = world.rows(
        "SELECT id::int, payload::text FROM jobs WHERE kind = 'request_password_reset' AND state = 'ready' ORDER BY id",
    );
    for row in &waiting {
        let asked: ResetRequest = serde_json::from_str(row["payload"].as_str().unwrap()).unwrap();
        let new = NewReset {
            id: Uuid::new_v4(),
            token: SecretToken::generate(&mut OsRandom),
            cancel_id: Uuid::new_v4(),
            cancel: SecretToken::generate(&mut OsRandom),
            mail: Uuid::new_v4(),
        };
        let keys = LoginKeys { pepper: &world.keys.pepper, devices: &world.keys.device_cookies };
        let (act, policy) = (asked.act(), world.state.settings.policy.clone());
        world
            .db
            .run_blocking(|tx| request(tx, &policy, keys, &asked.email().unwrap(), &new, &act))
            .unwrap_or_else(|why: StoreError| panic!("{why}"));
    }
    world
        .test
        .execute("UPDATE jobs SET state = 'done', finished_at = now() WHERE kind = 'request_password_reset'");
    waiting.len()
}

/// The newest mail to an address, from the outbox.
async fn mail(world: &World, to: &str, subject: &str) -> Value {
    let outbox = world.client().header("accept", "application/json").get("/dev/outbox").await;
    let items = outbox.body["items"].as_array().unwrap().clone();
    let found =
        items.iter().find(|mail| mail["to"] == to && mail["subject"].as_str().unwrap().starts_with(subject));
    found.unwrap_or_else(|| panic!("no mail `{subject}` among {items:?}")).clone()
}

fn token(mail: &Value, page: &str) -> String {
    let text = mail["text"].as_str().unwrap();
    let link = text.split_whitespace().find(|word| word.contains(&format!("/{page}#token="))).unwrap();
    link.rsplit('=').next().unwrap().to_owned()
}

async fn sign_in(world: &World, email: &str, password: &str) -> crate::world::Reply {
    world.client().post("/auth/login", &json!({ "email": email, "password": password })).await
}

async fn ask(world: &World, email: &str) -> String {
    let asked = world.client().post("/auth/request-reset", &json!({ "email": email })).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.body);
    run_reset_jobs(world);
    token(&mail(world, email, "Reset your password").await, "reset")
}

async fn step_up(world: &World, client: &Client) -> Client {
    let done = client.post("/auth/step-up", &json!({ "password": PASSWORD })).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    world.client().bearer(done.body["token"].as_str().unwrap())
}

/// RST-2, RST-9, SES-6: a weak password leaves the link as it is; a good one sets it, ends sessions and tokens, signs nobody in.
#[tokio::test]
async fn a_reset_by_mail() {
    let world = World::start().await;
    let ann = world.user("ann@example.com", Role::User);
    let robot = world.api_token(ann, &[Scope::Read]);
    let session = world.login("ann@example.com").await;
    let link = ask(&world, "ann@example.com").await;
    let check = |token: String| {
        let client = world.client();
        async move {
            let posted = client.post("/auth/validate-reset-token", &json!({ "token": token })).await;
            let asked = client.get(&format!("/auth/validate-reset-token?token={token}")).await;
            assert_eq!(posted.body, asked.body);
            posted.body["valid"].as_bool().unwrap()
        }
    };
    assert!(check(link.clone()).await && check(link.clone()).await, "looking does not use it up");
    assert!(!check("x".to_owned()).await);
    for weak in ["short", "password1234", "ann@example.com", "plimsollplimsoll"] {
        let body = json!({ "token": link, "new_password": weak });
        let refused = world.client().post("/auth/reset-password", &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{weak}: {}", refused.body);
    }
    assert!(check(link.clone()).await);
    assert_eq!(sign_in(&world, "ann@example.com", PASSWORD).await.status, StatusCode::OK);
    let done = world
        .client()
        .post("/auth/reset-password", &json!({ "token": link, "new_password": NEW_PASSWORD }))
        .await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert!(done.body.get("token").is_none() && !done.headers.contains_key("set-cookie"));
    assert_eq!(robot.get("/auth/me").await.status, StatusCode::UNAUTHORIZED, "TOK-4: tokens end, too");
    assert_eq!(session.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(sign_in(&world, "ann@example.com", PASSWORD).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(sign_in(&world, "ann@example.com", NEW_PASSWORD).await.status, StatusCode::OK);
    let again = json!({ "token": link, "new_password": "kestrel pavement 17 umbrella" });
    let again = world.client().post("/auth/reset-password", &again).await;
    assert_eq!((again.status, &again.body["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_token")));
    let told = mail(&world, "ann@example.com", "Your password was changed").await;
    assert!(told["text"].as_str().unwrap().contains("Requested from"));
}

/// RST-2: fifty posts at once use a link up exactly once.
#[tokio::test]
async fn a_link_is_used_once_by_parallel_posts() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let link = ask(&world, "ann@example.com").await;
    let posts = (0..50).map(|n| {
        let client = world.client();
        let body = json!({ "token": link, "new_password": format!("lantern-Otter 92 quarry {n}") });
        async move {
            loop {
                let reply = client.post("/auth/reset-password", &body).await;
                if reply.status != StatusCode::SERVICE_UNAVAILABLE {
                    return reply.status;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    });
    let statuses = futures_util::future::join_all(posts).await;
    assert_eq!(statuses.iter().filter(|status| **status == StatusCode::OK).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| *status == StatusCode::OK || *status == StatusCode::BAD_REQUEST));
    assert_eq!(world.rows("SELECT 1 AS n FROM audit_log WHERE action = 'password.reset'").len(), 1);
}

/// RST-1, RST-7: the answer is the same for every address; a network is stopped after ten requests; nobody is locked out.
#[tokio::test]
async fn requests_look_alike_and_are_limited() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let mut answers = Vec::new();
    for email in ["ann@example.com", "nobody@example.com"] {
        let reply = world.client().post("/auth/request-reset", &json!({ "email": email })).await;
        let mut names: Vec<String> = reply.headers.keys().map(ToString::to_string).collect();
        names.sort();
        answers.push((reply.status, reply.text, names));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(run_reset_jobs(&world), 2);
    for _ in 0..8 {
        let reply = world.client().post("/auth/request-reset", &json!({ "email": "ann@example.com" })).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED);
    }
    let over = world.client().post("/auth/request-reset", &json!({ "email": "bob@example.com" })).await;
    assert_eq!(over.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(over.headers.contains_key("retry-after"));
    run_reset_jobs(&world);
    assert_eq!(
        world.rows("SELECT 1 AS n FROM password_reset_tokens").len(),
        3,
        "three an hour for one address"
    );
    assert_eq!(sign_in(&world, "ann@example.com", PASSWORD).await.status, StatusCode::OK);
}

/// TIM-1, RST-1: a request takes as long for a known address as for an unknown one.
#[tokio::test]
async fn requests_take_as_long_for_every_address() {
    let world = World::with(|policy| {
        let open = plimsoll_auth::throttle::Limit::new(1_000_000, TimeDelta::hours(1), 1_000_000);
        (policy.reset.per_ip, policy.reset.per_address) = (open, open);
    })
    .await;
    for n in 0..crate::timing::PAIRS {
        world.user(&format!("known{n}@example.com"), Role::User);
    }
    let (world, client) = (&world, &world.client());
    crate::timing::within(|_| async move {
        crate::timing::ratio(|pair, is_known| {
            let _ = world;
            let name = if is_known { "known" } else { "other" };
            let body = json!({ "email": format!("{name}{pair}@example.com") });
            async move { client.post("/auth/request-reset", &body).await }
        })
        .await
    })
    .await;
}

/// RST-4: the link "this was not me" voids the reset; reading its page does not.
#[tokio::test]
async fn a_reset_can_be_cancelled_from_the_mail() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let link = ask(&world, "ann@example.com").await;
    let stop = token(&mail(&world, "ann@example.com", "Reset your password").await, "cancel");
    assert_eq!(world.client().get("/cancel").await.status, StatusCode::OK);
    let stopped = world.client().post("/auth/cancel", &json!({ "token": stop })).await;
    assert_eq!((stopped.status, &stopped.body["purpose"]), (StatusCode::OK, &json!("password_reset")));
    let body = json!({ "token": link, "new_password": NEW_PASSWORD });
    assert_eq!(world.client().post("/auth/reset-password", &body).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        world.client().post("/auth/cancel", &json!({ "token": stop })).await.status,
        StatusCode::BAD_REQUEST
    );
}

/// RST-10, SES-2: a change needs the current password, rotates this session and ends the others.
#[tokio::test]
async fn a_password_is_changed_by_who_knows_it() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let (mine, other) = (world.login("ann@example.com").await, world.login("ann@example.com").await);
    let body = |current: &str| json!({ "current_password": current, "new_password": NEW_PASSWORD });
    let wrong = mine.post("/auth/change-password", &body("not the password")).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let weak = json!({ "current_password": PASSWORD, "new_password": "123456789012" });
    assert_eq!(mine.post("/auth/change-password", &weak).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let done = mine.post("/auth/change-password", &body(PASSWORD)).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert_eq!(mine.get("/auth/me").await.status, StatusCode::UNAUTHORIZED, "the old token is dead");
    assert_eq!(other.get("/auth/me").await.status, StatusCode::UNAUTHORIZED);
    let renewed = world.client().bearer(done.body["token"].as_str().unwrap());
    assert_eq!(renewed.get("/auth/me").await.status, StatusCode::OK);
    assert_eq!(
        world.client().post("/auth/change-password", &body(PASSWORD)).await.status,
        StatusCode::UNAUTHORIZED
    );
    let mut last = StatusCode::OK;
    for _ in 0..6 {
        last = renewed.post("/auth/change-password", &body("wrong again and again")).await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
}

/// RST-11, STP-1: an address changes with step-up and confirmation; the old one stays valid until then and can take it back.
#[tokio::test]
async fn an_address_is_changed_and_taken_back() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let client = world.login("ann@example.com").await;
    let body = json!({ "new_email": "ann@elsewhere.example" });
    let refused = client.post("/auth/change-email", &body).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::FORBIDDEN, &json!("step_up_required")));
    let client = step_up(&world, &client).await;
    assert_eq!(client.post("/auth/change-email", &body).await.status, StatusCode::ACCEPTED);
    assert_eq!(sign_in(&world, "ann@example.com", PASSWORD).await.status, StatusCode::OK);
    let confirm =
        token(&mail(&world, "ann@elsewhere.example", "Confirm your new e-mail").await, "confirm-email");
    let stop = token(&mail(&world, "ann@example.com", "A change of your e-mail").await, "cancel");
    let done = client.post("/auth/confirm-email", &json!({ "token": confirm })).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert_eq!(client.get("/auth/me").await.status, StatusCode::UNAUTHORIZED, "the token was rotated");
    let renewed = world.client().bearer(done.body["token"].as_str().unwrap());
    assert_eq!(renewed.get("/auth/me").await.body["email"], "ann@elsewhere.example");
    assert_eq!(sign_in(&world, "ann@example.com", PASSWORD).await.status, StatusCode::UNAUTHORIZED);
    mail(&world, "ann@example.com", "Your e-mail address was changed").await;
    world.clock.advance(TimeDelta::hours(71));
    assert_eq!(world.client().post("/auth/cancel", &json!({ "token": stop })).await.status, StatusCode::OK);
    // Whoever had the new address could have set the password: it takes a reset from the old one.
    assert_eq!(sign_in(&world, "ann@example.com", PASSWORD).await.status, StatusCode::UNAUTHORIZED);
    let link = ask(&world, "ann@example.com").await;
    let body = json!({ "token": link, "new_password": NEW_PASSWORD });
    assert_eq!(world.client().post("/auth/reset-password", &body).await.status, StatusCode::OK);
    assert_eq!(sign_in(&world, "ann@example.com", NEW_PASSWORD).await.status, StatusCode::OK);
}

/// REG-7, RST-8: pages load nothing from elsewhere, run only their own script, and change nothing by being read.
#[tokio::test]
async fn pages_of_links_are_harmless_to_read() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let link = ask(&world, "ann@example.com").await;
    let before = world.rows("SELECT count(*)::int AS n FROM audit_log");
    for path in ["/verify", "/reset", "/confirm-email", "/cancel"] {
        let page = world.client().get(&format!("{path}?token={link}")).await;
        assert_eq!(page.status, StatusCode::OK);
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(page.headers["referrer-policy"], "no-referrer");
        assert!(!page.text.contains("://") && !page.text.contains(&link) && !page.text.contains("{{"));
        assert!(!page.text.contains("onclick") && !page.text.contains("<style"));
    }
    for (path, kind) in [("/pages/page.js", "text/javascript"), ("/pages/page.css", "text/css")] {
        let file = world.client().get(path).await;
        assert!(file.headers["content-type"].to_str().unwrap().starts_with(kind));
        assert!(!file.text.contains("://"));
    }
    assert_eq!(world.rows("SELECT count(*)::int AS n FROM audit_log"), before);
    let valid = world.client().post("/auth/validate-reset-token", &json!({ "token": link })).await;
    assert_eq!(valid.body["valid"], true);
}

/// RST-12: no route and no field asks for hints or answers to questions.
#[tokio::test]
async fn there_are_no_hints_and_no_questions() {
    let document = plimsoll_api::openapi_document().to_lowercase();
    for word in ["\"hint\"", "security_question", "secret_question", "password_hint"] {
        assert!(!document.contains(word), "{word}");
    }
}

/// SES-12: there are no refresh tokens whose reuse would have to be noticed.
#[tokio::test]
async fn there_are_no_refresh_tokens() {
    assert!(!plimsoll_api::openapi_document().to_lowercase().contains("refresh"));
}

/// The token reaches no mail in another form than its link, and no row in the clear.
#[tokio::test]
async fn tokens_are_stored_as_digests() {
    let world = World::start().await;
    world.user("ann@example.com", Role::User);
    let link = ask(&world, "ann@example.com").await;
    let digest = SecretToken::parse(&link).unwrap().digest();
    let rows = world.rows("SELECT encode(token_digest, 'hex') AS d FROM password_reset_tokens");
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(rows[0]["d"], hex.as_str());
    assert_eq!(SecretToken::parse(&link).unwrap().expose_text().expose_secret(), link);
}
