//! One account's whole life over HTTP: every route of accounts, with what is right and what is wrong. It remembers every
//! secret that went through it, and every refusal.

use chrono::{SecondsFormat, TimeDelta};
use plimsoll_auth::setup::issue;
use plimsoll_auth::throttle::Limit;
use plimsoll_auth::totp::{TotpSecret, step_at};
use plimsoll_auth::{Act, UserId};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::SecretToken;
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::reset::run_reset_jobs;
use crate::world::{Client, Reply, World};

const BOSS: &str = "boss@example.com";
const ANN: &str = "ann@example.com";
const ANN_LATER: &str = "ann@elsewhere.example";
const BOSS_PASSWORD: &str = "canary-Curlew 85 harbour";
const FIRST: &str = "canary-Heron 41 brushwood";
const CHANGED: &str = "canary-Plover 52 millstone";
const RESET: &str = "canary-Bittern 63 gravel";
const WRONG: &str = "canary-Wrong 74 thicket";
const WRONG_TOKEN: &str = "canary-token-7465726e0123456789abcdefghijklm";

/// Fields of requests and answers that hold a secret.
const SECRET_FIELDS: &[&str] = &[
    "password",
    "current_password",
    "new_password",
    "token",
    "setup_token",
    "challenge",
    "code",
    "secret",
    "otpauth_uri",
    "backup_codes",
];

pub(crate) struct Story {
    pub(crate) world: World,
    pub(crate) ann: UserId,
    pub(crate) boss: UserId,
    /// Every secret that was sent or received.
    pub(crate) secrets: Vec<String>,
    /// Six digits each: so short that they are looked for with care.
    pub(crate) codes: Vec<String>,
    /// What was answered with a problem: the request and the answer's text.
    pub(crate) refused: Vec<(String, String)>,
}

impl Story {
    fn plant(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if SECRET_FIELDS.contains(&name.as_str()) {
                        self.plant_texts(value);
                    } else {
                        self.plant(value);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.plant(item)),
            _ => {}
        }
    }

    fn plant_texts(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.codes.push(text.clone());
            }
            Value::String(text) if text.len() >= 8 => self.secrets.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| self.plant_texts(item)),
            _ => {}
        }
    }

    async fn send(&mut self, client: &Client, method: Method, path: &str, body: Value) -> Reply {
        // mails and entries have times of their own, and so an order
        self.world.clock.advance(TimeDelta::seconds(1));
        self.plant(&body);
        let body = (!body.is_null()).then_some(body);
        let reply = client.send(method.clone(), path, body.as_ref()).await;
        if reply.status.is_success() && method == Method::POST {
            self.plant(&reply.body);
        }
        if !reply.status.is_success() {
            self.refused.push((format!("{method} {path}"), reply.text.clone()));
        }
        assert!(!reply.status.is_server_error(), "{method} {path}: {}", reply.text);
        reply
    }

    async fn post(&mut self, client: &Client, path: &str, body: Value) -> Reply {
        self.send(client, Method::POST, path, body).await
    }

    /// A post that must be answered with this status.
    #[track_caller]
    fn is(reply: &Reply, status: u16) {
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    }

    /// The client with the session that an answer gives it.
    #[track_caller]
    fn with(&self, reply: &Reply) -> Client {
        Self::is(reply, 200);
        self.world.client().bearer(reply.body["token"].as_str().expect("a token"))
    }

    /// The token of the newest mail to an address that leads to a page.
    async fn link(&mut self, to: &str, page: &str) -> String {
        let outbox = self.world.client().header("accept", "application/json").get("/dev/outbox").await;
        let mark = format!("/{page}#token=");
        let found = outbox.body["items"].as_array().unwrap().iter().find_map(|mail| {
            let text = mail["text"].as_str().unwrap();
            (mail["to"] == to).then(|| text.split_whitespace().find(|word| word.contains(&mark))).flatten()
        });
        let token = found.unwrap_or_else(|| panic!("no {page} link for {to}")).rsplit('=').next().unwrap();
        self.secrets.push(token.to_owned());
        token.to_owned()
    }

    /// The next code that was not used yet.
    fn code(&self, secret: &TotpSecret) -> String {
        self.world.clock.advance(TimeDelta::seconds(30));
        secret.code_of(step_at(self.world.now())).expose_text().expose_secret().to_owned()
    }

    async fn login(&mut self, email: &str, password: &str) -> Reply {
        let anybody = self.world.client();
        self.post(&anybody, "/auth/login", json!({ "email": email, "password": password })).await
    }

    /// What a right password of somebody with a second factor is answered with.
    async fn challenge(&mut self, password: &str) -> String {
        let reply = self.login(ANN, password).await;
        reply.body["challenge"].as_str().unwrap_or_else(|| panic!("{}", reply.text)).to_owned()
    }

    fn user_of(world: &World, email: &str) -> UserId {
        let rows = world.rows(&format!("SELECT id FROM users WHERE email = '{email}'"));
        UserId(rows[0]["id"].as_i64().unwrap())
    }
}

/// Lives through it all.
pub(crate) async fn lived() -> Story {
    let world = World::with(|policy| {
        policy.require_admin_2fa = false;
        policy.login.per_ip = Limit::new(1_000, TimeDelta::minutes(1), 1_000);
        policy.two_factor.per_hour = Limit::new(1_000, TimeDelta::hours(1), 1_000);
    })
    .await;
    let boss = UserId(0);
    let mut story =
        Story { world, ann: boss, boss, secrets: Vec::new(), codes: Vec::new(), refused: Vec::new() };
    begin(&mut story).await;
    let client = sessions_and_tokens(&mut story).await;
    let (client, secret) = second_factor(&mut story, client).await;
    administration(&mut story).await;
    let code = story.code(&secret);
    let wrong = json!({ "password": CHANGED, "code": "000000" });
    Story::is(&story.post(&client, "/auth/2fa/disable", wrong).await, 422);
    let off = json!({ "password": CHANGED, "code": code });
    let off = story.post(&client, "/auth/2fa/disable", off).await;
    let client = story.with(&off);
    address(&mut story, &client).await;
    resets(&mut story).await;
    trading(&mut story).await;
    Story::is(&story.post(&client, "/auth/logout", Value::Null).await, 401); // it has ended
    // every link that was mailed, clicked or not
    let outbox = story.world.client().header("accept", "application/json").get("/dev/outbox").await;
    for mail in outbox.body["items"].as_array().unwrap() {
        let text = mail["text"].as_str().unwrap();
        let links = text.split_whitespace().filter_map(|word| word.split_once("#token="));
        story.secrets.extend(links.map(|(_, token)| token.to_owned()));
    }
    story.secrets.sort();
    story.secrets.dedup();
    story
}

async fn begin(story: &mut Story) {
    let anybody = story.world.client();
    let token = SecretToken::generate(&mut OsRandom);
    let (policy, act) = (story.world.state.settings.policy.clone(), Act::without_request(story.world.now()));
    story.world.db.run_blocking(|tx| issue(tx, &policy, Uuid::now_v7(), &token, &act)).unwrap().unwrap();
    let text = token.expose_text().expose_secret().to_owned();
    let setup = |token: &str| json!({ "setup_token": token, "email": BOSS, "password": BOSS_PASSWORD });
    Story::is(&story.post(&anybody, "/auth/setup", setup(WRONG_TOKEN)).await, 400);
    Story::is(&story.post(&anybody, "/auth/setup", setup(&text)).await, 201);
    story.boss = Story::user_of(&story.world, BOSS);

    let register = |password: &str| json!({ "email": ANN, "password": password, "display_name": "Ann" });
    Story::is(&story.post(&anybody, "/auth/register", register("canary12")).await, 422);
    Story::is(&story.post(&anybody, "/auth/register", register(FIRST)).await, 202);
    Story::is(&story.login(ANN, FIRST).await, 403); // not verified
    story.world.clock.advance(TimeDelta::minutes(2));
    Story::is(&story.post(&anybody, "/auth/resend-verification", json!({ "email": ANN })).await, 202);
    let link = story.link(ANN, "verify").await;
    for (token, status) in [(WRONG_TOKEN, 400), (&link, 200), (&link, 400)] {
        Story::is(&story.post(&anybody, "/auth/verify-email", json!({ "token": token })).await, status);
    }
    story.ann = Story::user_of(&story.world, ANN);
    Story::is(&story.login("nobody@example.com", WRONG).await, 401);
    Story::is(&story.login(ANN, WRONG).await, 401);
}

async fn sessions_and_tokens(story: &mut Story) -> Client {
    let signed_in = story.login(ANN, FIRST).await;
    let client = story.with(&signed_in);
    let other = story.login(ANN, FIRST).await;
    let third = story.login(ANN, FIRST).await;
    let (other, _third) = (story.with(&other), story.with(&third));
    Story::is(&story.post(&client, "/auth/step-up", json!({ "password": WRONG })).await, 401);
    let proven = story.post(&client, "/auth/step-up", json!({ "password": FIRST })).await;
    let client = story.with(&proven);
    let sessions = client.get("/auth/sessions").await;
    let others: Vec<&str> = sessions.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|session| session["current"] == false)
        .map(|session| session["id"].as_str().unwrap())
        .collect();
    let one = format!("/auth/sessions/{}", others[0]);
    Story::is(&story.send(&client, Method::DELETE, &one, Value::Null).await, 204);
    Story::is(&story.send(&client, Method::DELETE, "/auth/sessions", Value::Null).await, 204);
    Story::is(&story.post(&other, "/auth/logout", Value::Null).await, 401);

    let end = (story.world.now() + TimeDelta::days(30)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let wish = |scope: &str| json!({ "name": "robot", "scopes": [scope], "expires_at": end });
    Story::is(&story.post(&client, "/auth/api-tokens", wish("admin")).await, 403);
    let made = story.post(&client, "/auth/api-tokens", wish("read")).await;
    Story::is(&made, 201);
    let robot = story.world.client().bearer(made.body["token"].as_str().unwrap());
    Story::is(&story.send(&robot, Method::GET, "/auth/me", Value::Null).await, 200);
    Story::is(&story.post(&robot, "/auth/logout", Value::Null).await, 403);
    let path = format!("/auth/api-tokens/{}", made.body["id"].as_str().unwrap());
    Story::is(&story.send(&client, Method::DELETE, &path, Value::Null).await, 204);
    Story::is(&story.send(&robot, Method::GET, "/auth/me", Value::Null).await, 401);

    let change = |current: &str, new: &str| json!({ "current_password": current, "new_password": new });
    Story::is(&story.post(&client, "/auth/change-password", change(WRONG, CHANGED)).await, 401);
    Story::is(&story.post(&client, "/auth/change-password", change(FIRST, "canary34")).await, 422);
    let changed = story.post(&client, "/auth/change-password", change(FIRST, CHANGED)).await;
    story.with(&changed)
}

async fn second_factor(story: &mut Story, client: Client) -> (Client, TotpSecret) {
    let proven = story.post(&client, "/auth/step-up", json!({ "password": CHANGED })).await;
    let client = story.with(&proven);
    let setup = story.post(&client, "/auth/2fa/setup", json!({})).await;
    Story::is(&setup, 200);
    let secret = TotpSecret::parse(setup.body["secret"].as_str().unwrap()).unwrap();
    let backup = setup.body["backup_codes"][0].as_str().unwrap().to_owned();
    Story::is(&story.post(&client, "/auth/2fa/enable", json!({ "code": "000000" })).await, 422);
    let code = story.code(&secret);
    let enabled = story.post(&client, "/auth/2fa/enable", json!({ "code": code })).await;
    let client = story.with(&enabled);
    Story::is(&story.post(&client, "/auth/logout", Value::Null).await, 204);

    let challenge = story.challenge(CHANGED).await;
    let anybody = story.world.client();
    let answer = |code: &str| json!({ "challenge": challenge, "code": code });
    Story::is(&story.post(&anybody, "/auth/2fa/verify", answer("000000")).await, 401);
    Story::is(&story.post(&anybody, "/auth/2fa/verify", answer("ZZZZ9999")).await, 401);
    let verified = story.post(&anybody, "/auth/2fa/verify", answer(&backup)).await;
    let client = story.with(&verified);
    let dead = json!({ "challenge": WRONG_TOKEN, "code": "000000" });
    Story::is(&story.post(&anybody, "/auth/2fa/verify", dead).await, 401);
    let code = story.code(&secret);
    let codes = story.post(&client, "/auth/2fa/regenerate-codes", json!({ "code": code })).await;
    Story::is(&codes, 200);
    let code = story.code(&secret);
    let proven = story.post(&client, "/auth/step-up", json!({ "code": code })).await;
    (story.with(&proven), secret)
}

/// A change of the address, confirmed and taken back: the password is disabled until the reset that follows.
async fn address(story: &mut Story, client: &Client) {
    let anybody = story.world.client();
    let proven = story.post(client, "/auth/step-up", json!({ "password": CHANGED })).await;
    let client = story.with(&proven);
    let wish = json!({ "new_email": ANN_LATER });
    Story::is(&story.post(&client, "/auth/change-email", wish).await, 202);
    let confirm = story.link(ANN_LATER, "confirm-email").await;
    let stop = story.link(ANN, "cancel").await;
    Story::is(&story.post(&anybody, "/auth/confirm-email", json!({ "token": WRONG_TOKEN })).await, 400);
    Story::is(&story.post(&anybody, "/auth/confirm-email", json!({ "token": confirm })).await, 200);
    Story::is(&story.post(&anybody, "/auth/cancel", json!({ "token": WRONG_TOKEN })).await, 400);
    Story::is(&story.post(&anybody, "/auth/cancel", json!({ "token": stop })).await, 200);
    Story::is(&story.login(ANN, CHANGED).await, 401);
}

async fn administration(story: &mut Story) {
    let signed_in = story.login(BOSS, BOSS_PASSWORD).await;
    let boss = story.with(&signed_in);
    let ann = story.ann.0;
    let user = format!("/admin/users/{ann}");
    Story::is(&story.send(&boss, Method::PATCH, &user, json!({ "state": "disabled" })).await, 403);
    let proven = story.post(&boss, "/auth/step-up", json!({ "password": BOSS_PASSWORD })).await;
    let boss = story.with(&proven);
    for path in ["/admin/users", &user, "/admin/audit", "/admin/audit/verify", "/auth/me"] {
        Story::is(&story.send(&boss, Method::GET, path, Value::Null).await, 200);
    }
    Story::is(&story.post(&boss, &format!("{user}/reset-2fa"), json!({})).await, 202);
    let stop = story.link(ANN, "cancel").await;
    let anybody = story.world.client();
    Story::is(&story.post(&anybody, "/auth/cancel", json!({ "token": stop })).await, 200);
    // to another account, so that Ann stays signed in
    let register = json!({ "email": "eve@example.com", "password": FIRST });
    Story::is(&story.post(&anybody, "/auth/register", register).await, 202);
    let link = story.link("eve@example.com", "verify").await;
    Story::is(&story.post(&anybody, "/auth/verify-email", json!({ "token": link })).await, 200);
    let eve = Story::user_of(&story.world, "eve@example.com").0;
    let signed_in = story.login("eve@example.com", FIRST).await;
    let refused = story.with(&signed_in);
    Story::is(&story.send(&refused, Method::GET, "/admin/users", Value::Null).await, 403);
    let user = format!("/admin/users/{eve}");
    for change in [
        json!({ "role": "admin" }),
        json!({ "role": "user" }),
        json!({ "state": "disabled" }),
        json!({ "state": "active" }),
    ] {
        Story::is(&story.send(&boss, Method::PATCH, &user, change).await, 200);
    }
    Story::is(&story.post(&boss, &format!("{user}/logout"), json!({})).await, 204);
    Story::is(&story.post(&boss, "/auth/logout", Value::Null).await, 204);
}

async fn resets(story: &mut Story) {
    let anybody = story.world.client();
    let ask = json!({ "email": ANN });
    Story::is(&story.post(&anybody, "/auth/request-reset", ask.clone()).await, 202);
    run_reset_jobs(&story.world);
    let stop = story.link(ANN, "cancel").await;
    Story::is(&story.post(&anybody, "/auth/cancel", json!({ "token": stop })).await, 200);
    Story::is(&story.post(&anybody, "/auth/request-reset", ask).await, 202);
    run_reset_jobs(&story.world);
    let link = story.link(ANN, "reset").await;
    let valid = format!("/auth/validate-reset-token?token={link}");
    Story::is(&story.send(&anybody, Method::GET, &valid, Value::Null).await, 200);
    let reset = |token: &str, new: &str| json!({ "token": token, "new_password": new });
    Story::is(&story.post(&anybody, "/auth/reset-password", reset(WRONG_TOKEN, RESET)).await, 400);
    Story::is(&story.post(&anybody, "/auth/reset-password", reset(&link, "canary56")).await, 422);
    Story::is(&story.post(&anybody, "/auth/reset-password", reset(&link, RESET)).await, 200);
    Story::is(&story.post(&anybody, "/auth/reset-password", reset(&link, RESET)).await, 400);
    // a network that asks too often
    let mut last = StatusCode::ACCEPTED;
    for n in 0..12 {
        let other = json!({ "email": format!("nobody{n}@example.com") });
        last = story.post(&anybody, "/auth/request-reset", other).await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
}

async fn trading(story: &mut Story) {
    let signed_in = story.login(ANN, RESET).await;
    let client = story.with(&signed_in);
    story.world.connect(story.ann);
    let keyed = |key: &str| client.clone().header("idempotency-key", key);
    let order = json!({
        "symbol": "SPY", "side": "buy", "type": "limit", "time_in_force": "day", "qty": "2", "limit_price": "10",
    });
    let mut ids = Vec::new();
    for key in ["one", "two", "three"] {
        let placed = story.post(&keyed(key), "/orders?wait_ms=0", order.clone()).await;
        Story::is(&placed, 202);
        ids.push(placed.body["id"].as_str().unwrap().to_owned());
    }
    // as if the broker had taken the second
    story.world.test.execute(&format!(
        "UPDATE orders SET status = 'new', broker_order_id = 'b-2', submit_attempts = 1 WHERE id = '{}'",
        ids[1]
    ));
    let cancel = format!("/orders/{}", ids[0]);
    Story::is(&story.send(&keyed("c1"), Method::DELETE, &cancel, Value::Null).await, 200);
    let change = format!("/orders/{}?wait_ms=0", ids[1]);
    let changed = story.send(&keyed("c2"), Method::PATCH, &change, json!({ "limit_price": "11" })).await;
    Story::is(&changed, 202);
    Story::is(&story.send(&keyed("c3"), Method::DELETE, "/orders", Value::Null).await, 207);
    story.world.test.execute(
        "INSERT INTO positions (account_id, symbol, user_id, qty, cost_basis, realized_pl, updated_at) \
         SELECT id, 'SPY', user_id, 3, 30, 0, now() FROM accounts",
    );
    let close = "/positions/SPY?wait_ms=0";
    Story::is(&story.send(&keyed("c4"), Method::DELETE, close, Value::Null).await, 202);
}
