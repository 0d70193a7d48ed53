//! Signals from outside: every delivery is answered as documented, has its row, and makes at most one order.

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::{BASE64, HEXLOWER};
use plimsoll_auth::Role;
use plimsoll_core_domain::UserId;
use plimsoll_crypto::WebhookSecret;
use plimsoll_crypto::tokens::TokenDigest;
use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::world::{Client, Reply, World};

/// A user with a hook.
pub(crate) struct Desk {
    pub(crate) world: World,
    user: UserId,
    pub(crate) owner: Client,
    id: String,
    pub(crate) secret: String,
}

/// What is answered to a delivery.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Desk {
    pub(crate) async fn new(settings: Value) -> Self {
        Self::in_world(World::start().await, settings).await
    }

    pub(crate) async fn in_world(world: World, settings: Value) -> Self {
        let user = world.user("ann@example.com", Role::User);
        world.connect(user);
        let owner = world.login("ann@example.com").await;
        let mut wanted = json!({ "name": "momentum", "broker": "alpaca", "environment": "paper" });
        for (name, value) in settings.as_object().unwrap() {
            wanted[name] = value.clone();
        }
        let made = owner.post("/webhooks/inbound", &wanted).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let text = |name: &str| made.body[name].as_str().unwrap().to_owned();
        let (id, secret) = (text("id"), text("secret"));
        assert!(text("url").ends_with(&format!("/hooks/{id}")));
        Self { world, user, owner, id, secret }
    }

    pub(crate) fn path(&self) -> String {
        format!("/webhooks/inbound/{}", self.id)
    }

    /// A signal with the secret in it.
    fn signal(&self, fields: Value) -> Value {
        let mut signal = json!({ "secret": self.secret, "ticker": "SPY" });
        for (name, value) in fields.as_object().unwrap() {
            signal[name] = value.clone();
        }
        signal
    }

    pub(crate) async fn post(&self, fields: Value) -> Answered {
        self.post_raw(self.signal(fields).to_string().into_bytes(), &[]).await
    }

    pub(crate) async fn post_raw(&self, body: Vec<u8>, headers: &[(&str, &str)]) -> Answered {
        post(&format!("{}/hooks/{}", self.world.url, self.id), body, headers).await
    }

    pub(crate) async fn signals(&self) -> Vec<Value> {
        let reply = self.owner.get(&format!("{}/signals", self.path())).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.body["items"].as_array().unwrap().clone()
    }

    pub(crate) fn orders(&self) -> Vec<Value> {
        self.world.rows("SELECT id::text, side, qty::text, source_kind, source_id, client_order_id FROM orders ORDER BY id")
    }

    pub(crate) fn hold(&self, units: &str) {
        self.world.test.execute(&format!(
            "INSERT INTO positions (account_id, symbol, user_id, qty, cost_basis, realized_pl, updated_at) \
             SELECT id, 'SPY', user_id, {units}, {units} * 100, 0, now() FROM accounts WHERE user_id = {} \
             ON CONFLICT (account_id, symbol) DO UPDATE SET qty = excluded.qty",
            self.user
        ));
    }

    pub(crate) fn close_orders(&self) {
        self.world.test.execute("UPDATE orders SET status = 'filled', filled_qty = qty, closed_at = now()");
    }
}

pub(crate) async fn post(url: &str, body: Vec<u8>, headers: &[(&str, &str)]) -> Answered {
    // One for each test, which has a thread of its own: a client is slow to make, and its connections are the runtime's.
    thread_local! {
        static CLIENT: reqwest::Client = reqwest::Client::new();
    }
    let mut request = CLIENT.with(reqwest::Client::clone).post(url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    Answered { status, body: serde_json::from_str(&text).unwrap_or_default() }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// A signal is stored with its order before it is answered, in whatever content type it comes; the log tells all of it.
#[tokio::test]
async fn a_signal_becomes_an_order() {
    let desk = Desk::new(json!({})).await;
    let answer = desk.post(json!({ "action": "buy", "quantity": "10", "id": "one" })).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(answer.body["verdict"], "accepted");
    let orders = desk.orders();
    assert_eq!(orders.len(), 1);
    assert_eq!(answer.body["order_id"], orders[0]["id"]);
    assert_eq!((&orders[0]["source_kind"], &orders[0]["source_id"]), (&json!("webhook"), &json!(desk.id)));

    for (kind, quantity) in [("text/plain", json!(2)), ("application/json", json!("3"))] {
        let body = desk.signal(json!({ "action": "buy", "quantity": quantity })).to_string();
        let answer = desk.post_raw(body.into_bytes(), &[("content-type", kind)]).await;
        assert_eq!(answer.status, 202, "{kind} {}", answer.body);
    }
    assert_eq!(desk.orders().len(), 3);
    let log = desk.signals().await;
    let first = &log[2];
    assert_eq!((&first["verdict"], &first["reason"]), (&json!("accepted"), &Value::Null));
    assert_eq!((&first["symbol"], &first["action"]), (&json!("SPY"), &json!("buy")));
    assert_eq!(first["order_id"], orders[0]["id"]);
    assert_eq!(first["id"], answer.body["signal_id"]);
    assert_eq!(first["body"]["quantity"], "10");
    assert!(first["body"].get("secret").is_none() && first["latency_ms"].is_i64(), "{first}");
    let order = desk.owner.get(&format!("/orders/{}", first["order_id"].as_str().unwrap())).await;
    assert_eq!(order.body["source"], json!({ "kind": "webhook", "id": desk.id }));
}

/// The same signal is acted on once: by its id for ever, by its content, or by its bytes for a minute; also when two come
/// at once.
#[tokio::test]
async fn a_duplicate_is_answered_with_the_first_one() {
    let mut desk = Desk::new(json!({ "max_age_s": null })).await;
    let first = desk.post(json!({ "action": "buy", "quantity": 1, "id": "x" })).await;
    let again = desk.post(json!({ "action": "buy", "quantity": 1, "id": "x" })).await;
    assert_eq!((again.status, &again.body["verdict"]), (200, &json!("duplicate")));
    assert_eq!(again.body["signal_id"], first.body["signal_id"]);
    assert_eq!(again.body["order_id"], first.body["order_id"]);
    desk.world.clock.advance(TimeDelta::days(400));
    let late = desk.post(json!({ "action": "buy", "quantity": 1, "signal_id": "x" })).await;
    assert_eq!(late.status, 200, "for ever");

    let sent = time(desk.world.now());
    for (quantity, expected) in [(json!(1), 202), (json!("1"), 200), (json!(2), 202)] {
        let fields = json!({ "action": "buy", "quantity": quantity, "sent_at": sent });
        assert_eq!(desk.post(fields).await.status, expected, "by content: {quantity}");
    }
    for expected in [202, 200] {
        assert_eq!(desk.post(json!({ "action": "buy", "quantity": 5 })).await.status, expected, "by bytes");
    }
    desk.world.clock.advance(TimeDelta::seconds(61));
    assert_eq!(desk.post(json!({ "action": "buy", "quantity": 5 })).await.status, 202, "another one by now");

    // what was refused is no more placed by being sent again
    let refused = desk.post(json!({ "action": "exit", "quantity": 1, "id": "r", "ticker": "NOSUCH" })).await;
    let repeated = desk.post(json!({ "action": "exit", "quantity": 1, "id": "r", "ticker": "NOSUCH" })).await;
    assert_eq!((refused.status, repeated.status), (422, 200), "{} {}", refused.body, repeated.body);
    assert_eq!(repeated.body["verdict"], "duplicate");
    assert!(repeated.body["reason"] == refused.body["reason"] && refused.body["reason"].is_string());

    let before = desk.orders().len();
    let twins = futures_util::future::join_all(
        (0..20).map(|_| desk.post(json!({ "action": "buy", "quantity": 7, "id": "storm" }))),
    )
    .await;
    let accepted = twins.iter().filter(|answer| answer.status == 202).count();
    assert_eq!(accepted, 1, "{:?}", twins.iter().map(|answer| answer.status).collect::<Vec<_>>());
    assert!(twins.iter().all(|answer| matches!(answer.status, 200 | 202 | 503)));
    assert_eq!(desk.orders().len(), before + 1);
    desk.owner = desk.world.login("ann@example.com").await;
    let log = desk.signals().await;
    let duplicate = log.iter().find(|row| row["verdict"] == "duplicate").unwrap();
    assert_eq!((&duplicate["reason"], duplicate["duplicate_of"].is_string()), (&json!("duplicate"), true));
}

/// Whatever is wrong with a signal has a documented answer, a row with a reason code, and no order.
#[tokio::test]
async fn bad_signals_are_refused_with_a_reason_and_no_order() {
    let desk = Desk::new(json!({ "symbols": ["SPY", "NOSUCH"], "actions": ["buy", "exit"] })).await;
    let now = desk.world.now();
    let (stale, future) = (time(now - TimeDelta::seconds(61)), time(now + TimeDelta::minutes(10)));
    let cases = [
        (json!({ "action": "buy", "quantity": 0 }), "invalid_size"),
        (json!({ "action": "buy", "quantity": -3 }), "invalid_size"),
        (json!({ "action": "buy", "quantity": "NaN" }), "invalid_number"),
        (json!({ "action": "buy", "quantity": "1e30" }), "invalid_number"),
        (json!({ "action": "buy", "quantity": 1e30 }), "invalid_number"),
        (json!({ "action": "buy", "quantity": "999999999999999999" }), "invalid_size"),
        (json!({ "action": "buy" }), "missing_field"),
        (json!({ "quantity": 1 }), "missing_field"),
        (json!({ "action": "hold", "quantity": 1 }), "unknown_action"),
        (json!({ "action": "{{strategy.order.action}}" }), "unfilled_placeholder"),
        (json!({ "action": "buy", "quantity": 1, "sent_at": stale }), "stale"),
        (json!({ "action": "buy", "quantity": 1, "sent_at": future }), "from_the_future"),
        (json!({ "action": "buy", "quantity": 1, "ticker": "AAPL" }), "symbol_not_allowed"),
        (json!({ "action": "buy", "quantity": 1, "ticker": "ES1!" }), "unknown_symbol"),
        (json!({ "action": "buy", "quantity": 1, "ticker": "NOSUCH" }), "unknown_symbol"),
        (json!({ "action": "sell", "quantity": 1 }), "action_not_allowed"),
        (
            json!({ "action": "buy", "quantity": 1, "orderType": "limit", "limitPrice": "1.001" }),
            "invalid_order",
        ),
    ];
    for (fields, reason) in &cases {
        let answer = desk.post(fields.clone()).await;
        assert_eq!(answer.status, 422, "{fields} {}", answer.body);
        assert_eq!(
            (&answer.body["verdict"], &answer.body["reason"]),
            (&json!("refused"), &json!(reason)),
            "{fields}"
        );
        assert_eq!(answer.body["code"], "signal_refused");
        let log = desk.signals().await;
        assert_eq!(
            (&log[0]["id"], &log[0]["reason"]),
            (&answer.body["signal_id"], &json!(reason)),
            "{fields}"
        );
        assert_eq!((&log[0]["verdict"], &log[0]["order_id"]), (&json!("refused"), &Value::Null));
    }
    assert_eq!(desk.signals().await.len(), cases.len());
    assert!(desk.orders().is_empty());
}

/// What cannot be read is answered before any look-up, and its row knows size and hash alone.
#[tokio::test]
async fn unreadable_signals_leave_size_and_hash() {
    let desk = Desk::new(json!({})).await;
    let secret = desk.secret.clone();
    let bodies: [(Vec<u8>, u16, &str); 7] = [
        (Vec::new(), 400, "empty"),
        (b"AAPL crossing up 150.25 on NASDAQ, price = 150.31".to_vec(), 400, "malformed"),
        (vec![0xff, 0xfe, 0x00, 0x01], 400, "malformed"),
        (format!("{{\"secret\":\"{secret}\",\"price\":NaN}}").into_bytes(), 400, "malformed"),
        (format!("{{\"secret\":\"{secret}\",\"comment\":\"above \"R1\"\"}}").into_bytes(), 400, "malformed"),
        (format!("{{\"secret\":\"{secret}\",\"secret\":\"{secret}\"}}").into_bytes(), 400, "malformed"),
        (
            format!("{{\"secret\":\"{secret}\",\"x\":\"{}\"}}", "x".repeat(70_000)).into_bytes(),
            413,
            "too_large",
        ),
    ];
    for (body, status, reason) in bodies {
        let size = body.len();
        let cut = body[..size.min(64 * 1024)].to_vec();
        let answer = desk.post_raw(body, &[("content-type", "application/json")]).await;
        assert_eq!(answer.status, status, "{reason} {}", answer.body);
        let row = &desk.signals().await[0];
        assert_eq!(row["reason"], reason);
        assert_eq!(row["size_bytes"], size);
        assert_eq!(row["sha256"], HEXLOWER.encode(&TokenDigest::of(&cut).0));
        assert_eq!((&row["body"], &row["detail"]), (&Value::Null, &Value::Null));
    }
    let nowhere = post(&format!("{}/hooks/not-an-id", desk.world.url), b"nonsense".to_vec(), &[]).await;
    assert_eq!(nowhere.status, 400, "alike for a hook that is not there");
    assert!(desk.orders().is_empty());
}

/// WHK-3: unknown hooks, disabled hooks, wrong secrets, wrong signatures and wrong addresses have one answer, and the same
/// statements behind it. The row of a hook that is there knows size and hash alone.
#[tokio::test]
async fn whatever_proves_nothing_has_one_answer() {
    let desk = Desk::new(json!({})).await;
    let wrong =
        json!({ "secret": "whsec_wrong", "ticker": "SPY", "action": "buy", "quantity": 1 }).to_string();
    let nobody = format!("{}/hooks/0196a6b0-1111-7222-8333-444455556666", desk.world.url);
    let elsewhere = format!("{}/hooks/nonsense", desk.world.url);
    let builtin = format!("{}/webhook", desk.world.url);
    let there = format!("{}/hooks/{}", desk.world.url, desk.id);
    let plain = |answer: Answered| {
        let mut body = answer.body;
        body["request_id"] = Value::Null;
        (answer.status, body)
    };
    let expected = plain(post(&there, wrong.clone().into_bytes(), &[]).await);
    assert_eq!(expected.0, 401);
    for url in [&nobody, &elsewhere, &builtin] {
        assert_eq!(plain(post(url, wrong.clone().into_bytes(), &[]).await), expected, "{url}");
    }
    let now = desk.world.now().timestamp().to_string();
    let signed =
        [("webhook-id", "m1"), ("webhook-timestamp", now.as_str()), ("webhook-signature", "v1,AAAA")];
    for url in [&nobody, &there] {
        assert_eq!(plain(post(url, wrong.clone().into_bytes(), &signed).await), expected);
    }
    let right = desk.signal(json!({ "action": "buy", "quantity": 1 })).to_string();
    desk.owner.send(Method::PATCH, &desk.path(), Some(&json!({ "enabled": false }))).await;
    assert_eq!(plain(post(&there, right.clone().into_bytes(), &[]).await), expected);
    let far = json!({ "enabled": true, "allowed_ips": ["52.89.214.238", "10.1.0.0/16"] });
    desk.owner.send(Method::PATCH, &desk.path(), Some(&far)).await;
    assert_eq!(plain(post(&there, right.clone().into_bytes(), &[]).await), expected);
    let reasons: Vec<Value> = desk.signals().await.iter().map(|row| row["reason"].clone()).collect();
    assert_eq!(reasons, ["address_not_allowed", "hook_disabled", "wrong_secret", "wrong_secret"]);
    assert!(desk.signals().await.iter().all(|row| row["body"].is_null()));
    assert!(desk.orders().is_empty());
    let strays = desk.world.rows("SELECT count(*) AS n FROM stray_signals");
    assert!(strays[0]["n"].as_i64().unwrap() >= 1, "what found no hook is noted too");

    let near = json!({ "allowed_ips": ["127.0.0.0/8"] });
    desk.owner.send(Method::PATCH, &desk.path(), Some(&near)).await;
    assert_eq!(post(&there, right.into_bytes(), &[]).await.status, 202);
    assert_eq!(desk.owner.delete(&desk.path()).await.status, 204);
    let gone = desk.signal(json!({ "action": "buy", "quantity": 2 })).to_string();
    assert_eq!(
        plain(post(&there, gone.into_bytes(), &[]).await),
        expected,
        "a deleted hook is an unknown one"
    );
    assert_eq!(desk.owner.get(&desk.path()).await.status, 404);
}

/// WHK-3: a refusal at a hook that is there has the statements of one at a hook that is not.
#[tokio::test]
async fn refusals_cost_the_same() {
    let desk = Desk::new(json!({})).await;
    let wrong =
        json!({ "secret": "whsec_wrong", "ticker": "SPY", "action": "buy", "quantity": 1 }).to_string();
    let urls = [
        format!("{}/hooks/0196a6b0-1111-7222-8333-444455556666", desk.world.url),
        format!("{}/hooks/{}", desk.world.url, desk.id),
        format!("{}/hooks/nonsense", desk.world.url),
    ];
    let mut texts = Vec::new();
    for url in &urls {
        for body in [wrong.clone().into_bytes(), b"nonsense".to_vec()] {
            let counter = desk.world.db.count_queries();
            assert!(matches!(post(url, body, &[]).await.status, 400 | 401));
            texts.push(counter.texts());
        }
    }
    for other in texts.chunks(2).skip(1) {
        assert_eq!(&texts[..2], other);
    }
    assert!(texts[0].len() >= 4 && texts[1].len() >= 3, "{texts:?}");
}

/// WHK-1: a signature over id, timestamp and the raw body, at most 300 s old or early; its id is good once.
#[tokio::test]
async fn a_signature_proves_the_sender() {
    let desk = Desk::new(json!({ "auth": "hmac" })).await;
    let key = WebhookSecret::parse(&desk.secret).unwrap();
    let body = json!({ "ticker": "SPY", "action": "buy", "quantity": 1 }).to_string();
    let send = |id: &'static str, offset: i64, body: String, sign: String| {
        let at = (desk.world.now().timestamp() + offset).to_string();
        let signature = key.sign(id, &at, sign.as_bytes());
        let desk = &desk;
        async move {
            let headers = [
                ("webhook-id", id),
                ("webhook-timestamp", at.as_str()),
                ("webhook-signature", signature.as_str()),
            ];
            desk.post_raw(body.into_bytes(), &headers).await.status
        }
    };
    assert_eq!(send("m1", 0, body.clone(), body.clone()).await, 202);
    assert_eq!(
        send("m1", 5, body.replace('1', "2"), body.replace('1', "2")).await,
        200,
        "an id is good once"
    );
    assert_eq!(send("m2", -300, body.replace('1', "3"), body.replace('1', "3")).await, 202);
    for (id, offset) in [("m3", -301), ("m4", 301)] {
        assert_eq!(send(id, offset, body.clone(), body.clone()).await, 401, "{offset}");
    }
    assert_eq!(send("m5", 0, format!("{body} "), body.clone()).await, 401, "another byte");
    assert_eq!(desk.signals().await[0]["reason"], "wrong_secret");
    assert_eq!(desk.signals().await[1]["reason"], "signature_time");
    let in_body = desk.post(json!({ "action": "buy", "quantity": 4 })).await;
    assert_eq!(in_body.status, 401, "a hook for signatures takes no secret in the body");
    assert_eq!(desk.orders().len(), 2);

    let other = desk.owner.send(Method::PATCH, &desk.path(), Some(&json!({ "auth": "body_secret" }))).await;
    assert_eq!(other.status, 200, "{}", other.text);
    assert_eq!(send("m6", 0, body.clone(), body).await, 401, "and the other way round");
    assert_eq!(desk.post(json!({ "action": "buy", "quantity": 4 })).await.status, 202);
}

/// WHK-2, WHK-4: the secret has 32 random bytes, is shown once and stored sealed; after a rotation two are good for a day.
#[tokio::test]
async fn two_secrets_are_good_for_a_day() {
    let mut desk = Desk::new(json!({})).await;
    let bytes = BASE64.decode(desk.secret.strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
    assert_eq!(bytes.len(), 32);
    for path in ["/webhooks/inbound".to_owned(), desk.path()] {
        assert!(!desk.owner.get(&path).await.text.contains("whsec_"));
    }
    let (old, mut n) = (desk.secret.clone(), 0);
    let rotated = desk.owner.send(Method::POST, &format!("{}/rotate", desk.path()), None).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    let new = rotated.body["secret"].as_str().unwrap().to_owned();
    assert_ne!(new, old);
    let mut good = async |desk: &mut Desk, secret: &str| {
        n += 1;
        secret.clone_into(&mut desk.secret);
        desk.post(json!({ "action": "buy", "quantity": 1, "id": n.to_string() })).await.status
    };
    assert_eq!((good(&mut desk, &old).await, good(&mut desk, &new).await), (202, 202));
    desk.world.clock.advance(TimeDelta::hours(24) - TimeDelta::seconds(1));
    assert_eq!(good(&mut desk, &old).await, 202);
    desk.world.clock.advance(TimeDelta::seconds(2));
    assert_eq!((good(&mut desk, &old).await, good(&mut desk, &new).await), (401, 202));
    let owner = desk.world.login("ann@example.com").await;
    let third = owner.send(Method::POST, &format!("{}/rotate", desk.path()), None).await;
    let third = third.body["secret"].as_str().unwrap().to_owned();
    owner.send(Method::POST, &format!("{}/rotate", desk.path()), None).await;
    assert_eq!((good(&mut desk, &new).await, good(&mut desk, &third).await), (401, 202), "two at most");
    let text = desk.world.rows("SELECT h::text AS row FROM inbound_hooks h");
    for secret in [&old, &new, &third] {
        let bytes = BASE64.decode(secret.strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
        let row = text[0]["row"].as_str().unwrap();
        assert!(!row.contains(secret.as_str()) && !row.contains(&HEXLOWER.encode(&bytes)), "sealed");
    }
    let acts = desk.world.rows("SELECT action FROM audit_log WHERE action LIKE 'hook.%' ORDER BY seq");
    assert_eq!(acts[0]["action"], "hook.create");
    assert_eq!(acts.iter().filter(|row| row["action"] == "hook.rotate_secret").count(), 3);
}

/// WHK-5: a hook takes 60 signals a minute; what is over is answered 429 and noted. Another hook is not concerned.
#[tokio::test]
async fn a_thousand_alerts_in_a_minute() {
    let desk = Desk::new(json!({})).await;
    let other = desk.owner.post("/webhooks/inbound", &json!({ "name": "other" })).await;
    let mut seen = std::collections::BTreeMap::new();
    // One client for all: what is measured is not how connections are made.
    let (http, url) = (reqwest::Client::new(), format!("{}/hooks/{}", desk.world.url, desk.id));
    for chunk in 0..100 {
        let posts = (0..10).map(|n| {
            let id = format!("{chunk}-{n}");
            let body = desk.signal(json!({ "action": "buy", "quantity": 1, "id": id })).to_string();
            http.post(&url).body(body).send()
        });
        for answer in futures_util::future::join_all(posts).await {
            *seen.entry(answer.unwrap().status().as_u16()).or_insert(0) += 1;
        }
    }
    // one comes free every second; where the database is busy the sender is asked to come again
    let (accepted, over) = (seen[&202], seen[&429]);
    assert!(accepted >= 60 && over > 0, "{seen:?}");
    assert_eq!(accepted + over + seen.get(&503).copied().unwrap_or(0), 1_000, "{seen:?}");
    assert_eq!(desk.orders().len(), accepted);
    let noted =
        desk.world.rows("SELECT count(*) AS n FROM signals WHERE reason = 'rate_limited' AND body IS NULL");
    assert!(noted[0]["n"].as_u64().unwrap() > 0);
    let url = format!("{}/hooks/{}", desk.world.url, other.body["id"].as_str().unwrap());
    let body = json!({ "secret": other.body["secret"], "ticker": "SPY", "action": "buy", "quantity": 1 });
    assert_eq!(post(&url, body.to_string().into_bytes(), &[]).await.status, 202);
}

/// A stated position is a target: what is missing is ordered, nothing twice, and no order goes through flat.
#[tokio::test]
async fn a_target_is_reached_from_what_is_held() {
    let desk = Desk::new(json!({ "max_age_s": null })).await;
    let long =
        |size: u32| json!({ "action": "buy", "quantity": size, "position": "long", "position_size": size });
    let flat =
        json!({ "action": "sell", "quantity": 10, "position": "flat", "position_size": "0", "id": "flat-1" });
    let nothing = desk.post(flat).await;
    assert_eq!(
        (nothing.status, &nothing.body["reason"]),
        (202, &json!("nothing_to_do")),
        "nothing is opened"
    );
    desk.hold("4");
    assert_eq!(desk.post(long(10)).await.status, 202);
    let orders = desk.orders();
    assert_eq!((&orders[0]["side"], &orders[0]["qty"]), (&json!("buy"), &json!("6.000000000")));

    // While that order is under way the next target waits for it.
    let waits = desk.post(long(12)).await;
    assert_eq!((waits.status, desk.orders().len()), (202, 1));
    assert_eq!(desk.signals().await[0]["pending"], true);
    let jobs = desk.world.rows("SELECT payload FROM jobs WHERE kind = 'act_on_signal' AND state = 'ready'");
    assert_eq!(jobs[0]["payload"]["signal_id"], waits.body["signal_id"]);

    // A reversal closes first; the rest is the job's.
    desk.close_orders();
    desk.hold("10");
    let short = json!({ "action": "sell", "quantity": 20, "position": "short", "position_size": 10, "previous": "long",
        "previous_size": 10, "sent_at": "2026-06-01T14:00:00Z" });
    assert_eq!(desk.post(short).await.status, 202);
    let orders = desk.orders();
    assert_eq!((&orders[1]["side"], &orders[1]["qty"]), (&json!("sell"), &json!("10.000000000")));
    let log = desk.signals().await;
    assert_eq!((&log[0]["target"], &log[0]["pending"]), (&json!("-10"), &json!(true)));
    assert_eq!(
        (&log[1]["verdict"], &log[1]["reason"]),
        (&json!("refused"), &json!("superseded")),
        "the one that waited"
    );

    // Its first half, told of late, is passed over.
    let exit = json!({ "action": "sell", "quantity": 10, "position": "long", "position_size": 10, "previous": "flat",
        "previous_size": 0, "sent_at": "2026-06-01T13:59:59Z" });
    let late = desk.post(exit).await;
    assert_eq!((late.status, &late.body["reason"]), (422, &json!("superseded")));
    assert_eq!(desk.orders().len(), 2);
}

/// Sizes follow from the hook's rule, not from the signal's wish.
#[tokio::test]
async fn sizes_follow_the_rule() {
    let desk = Desk::new(json!({ "sizing": { "mode": "fixed_qty", "value": "2" } })).await;
    desk.post(json!({ "action": "buy", "quantity": 500, "id": "a" })).await;
    assert_eq!(desk.orders()[0]["qty"], "2.000000000");
    let sizing = json!({ "sizing": { "mode": "percent_equity", "value": 3 } });
    desk.owner.send(Method::PATCH, &desk.path(), Some(&sizing)).await;
    // Three per cent of the account's 10,000 at the broker's 101 each: whole units are sold short.
    let short = json!({ "ticker": "DIA", "action": "sell", "quantity": 500, "price": "1.00", "id": "b" });
    assert_eq!(desk.post(short).await.status, 202);
    assert_eq!(
        (&desk.orders()[1]["side"], &desk.orders()[1]["qty"]),
        (&json!("sell"), &json!("2.000000000"))
    );
    // Where none is known the broker is asked before anything is ordered, whatever the sender says.
    let blind = desk.post(json!({ "action": "sell", "quantity": 1, "price": "1.00", "id": "c" })).await;
    assert_eq!((blind.status, &blind.body["order_id"]), (202, &Value::Null), "{}", blind.body);
    assert_eq!(desk.orders().len(), 2);
    for (sizing, pointer) in [
        (json!({ "mode": "fixed_qty" }), "/sizing/value"),
        (json!({ "mode": "everything", "value": 1 }), "/sizing/mode"),
        (json!({ "mode": "percent_equity", "value": "101" }), "/sizing/value"),
        (json!({ "mode": "from_signal", "value": "1" }), "/sizing/value"),
    ] {
        let reply = desk.owner.post("/webhooks/inbound", &json!({ "name": "x", "sizing": sizing })).await;
        assert_eq!((reply.status.as_u16(), &reply.body["errors"][0]["pointer"]), (422, &json!(pointer)));
    }
}

/// A trial says what would be made of a signal and leaves nothing behind.
#[tokio::test]
async fn a_trial_leaves_nothing() {
    let desk = Desk::new(json!({ "symbols": ["SPY"] })).await;
    desk.hold("10");
    let path = format!("{}/test", desk.path());
    let trial = desk.owner.post(&path, &json!({ "ticker": "SPY", "action": "sell", "quantity": 15 })).await;
    assert_eq!(trial.status, 200, "{}", trial.text);
    assert_eq!((&trial.body["verdict"], &trial.body["more"]), (&json!("accepted"), &json!(true)));
    assert_eq!((&trial.body["order"]["side"], &trial.body["order"]["qty"]), (&json!("sell"), &json!("10")));
    assert_eq!(trial.body["target"], "-5");
    let refused = desk.owner.post(&path, &json!({ "ticker": "AAPL", "action": "buy", "quantity": 1 })).await;
    assert_eq!(
        (&refused.body["verdict"], &refused.body["reason"]),
        (&json!("refused"), &json!("symbol_not_allowed"))
    );
    let broken = desk.owner.request(Method::POST, &path, Some(("{".to_owned(), "application/json"))).await;
    assert_eq!(broken.status, 400);
    assert!(desk.orders().is_empty() && desk.signals().await.is_empty());
    assert_eq!(desk.world.rows("SELECT id FROM jobs WHERE kind <> 'send_mail'").len(), 0);
}

/// A signal that cannot be decided on now is on disk with its job before it is answered; while it cannot be stored, the
/// sender is asked to come again.
#[tokio::test]
async fn a_signal_is_on_disk_before_it_is_answered() {
    let desk = Desk::new(json!({})).await;
    // Nothing is known of this instrument, and the broker cannot be asked.
    let answer = desk.post(json!({ "ticker": "MSFT", "action": "buy", "quantity": 1, "id": "m" })).await;
    assert_eq!((answer.status, &answer.body["verdict"]), (202, &json!("accepted")));
    assert!(answer.body.get("order_id").is_none() && desk.orders().is_empty());
    let row = &desk.signals().await[0];
    assert_eq!((&row["pending"], &row["latency_ms"]), (&json!(true), &Value::Null));
    let jobs = desk.world.rows("SELECT queue, payload FROM jobs WHERE kind = 'act_on_signal'");
    assert_eq!((&jobs[0]["queue"], &jobs[0]["payload"]["signal_id"]), (&json!("signals"), &row["id"]));

    desk.world.test.execute("ALTER TABLE signal_keys RENAME TO signal_keys_away");
    let away = desk.post(json!({ "action": "buy", "quantity": 1, "id": "n" })).await;
    assert!(matches!(away.status, 500 | 503), "{}", away.body);
    desk.world.test.execute("ALTER TABLE signal_keys_away RENAME TO signal_keys");
    assert_eq!(desk.post(json!({ "action": "buy", "quantity": 1, "id": "n" })).await.status, 202);
    assert_eq!(desk.orders().len(), 1);
}

/// WHK-5: a hook trades for its owner alone, in its environment, within limits and halts.
#[tokio::test]
async fn a_hook_acts_within_its_scope() {
    let desk = Desk::new(json!({})).await;
    let live = json!({ "name": "live", "environment": "live" });
    let unproven = desk.owner.post("/webhooks/inbound", &live).await;
    assert_eq!((unproven.status.as_u16(), unproven.code()), (403, "step_up_required"));
    desk.world.test.execute("UPDATE inbound_hooks SET environment = 'live'");
    let other = desk.post(json!({ "action": "buy", "quantity": 1, "id": "a" })).await;
    assert_eq!((other.status, &other.body["reason"]), (422, &json!("wrong_environment")));
    desk.world.test.execute("UPDATE inbound_hooks SET environment = 'paper'");
    let halt = json!({ "scope": "user", "level": "block_entries", "reason": "a test" });
    let halted = desk.owner.post("/risk/halt", &halt).await;
    assert!(halted.status.is_success(), "{}", halted.text);
    let refused = desk.post(json!({ "action": "buy", "quantity": 1, "id": "b" })).await;
    assert_eq!((refused.status, &refused.body["reason"]), (422, &json!("trading_halted")));
    assert!(desk.orders().is_empty());

    let bob = desk.world.user("bob@example.com", Role::User);
    let bobs = desk.world.login("bob@example.com").await;
    assert_ne!(bob, desk.user);
    let strange = |reply: Reply| (reply.status.as_u16(), reply.code().to_owned());
    for reply in [
        bobs.get(&desk.path()).await,
        bobs.get(&format!("{}/signals", desk.path())).await,
        bobs.delete(&desk.path()).await,
        bobs.send(Method::POST, &format!("{}/rotate", desk.path()), None).await,
        bobs.send(Method::PATCH, &desk.path(), Some(&json!({ "enabled": false }))).await,
    ] {
        assert_eq!(strange(reply), (404, "not_found".to_owned()));
    }
    assert_eq!(bobs.get("/webhooks/inbound").await.body["items"], json!([]));
}

/// `POST /webhook` takes the server's own secret, for the user whom the settings name.
#[tokio::test]
async fn the_servers_own_secret_is_for_one_user() {
    let world = World::with_settings(|settings| {
        settings.signals.builtin = Some(plimsoll_api::signals::BuiltinHook {
            secret: SecretString::from("a-secret-of-the-server"),
            user: "ann@example.com".to_owned(),
        });
    })
    .await;
    let url = format!("{}/webhook", world.url);
    let body = |secret: &str, n: u32| {
        json!({ "secret": secret, "symbol": "SPY", "action": "BUY", "quantity": n }).to_string().into_bytes()
    };
    assert_eq!(
        post(&url, body("a-secret-of-the-server", 1), &[]).await.status,
        401,
        "nobody has that address yet"
    );
    let ann = world.user("ann@example.com", Role::User);
    world.connect(ann);
    let answer = post(&url, body("a-secret-of-the-server", 1), &[]).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(post(&url, body("another-secret-of-it", 2), &[]).await.status, 401);
    let owner = world.login("ann@example.com").await;
    let hooks = owner.get("/webhooks/inbound").await.body["items"].clone();
    assert_eq!((&hooks[0]["builtin"], hooks.as_array().unwrap().len()), (&json!(true), 1));
    let path = format!("/webhooks/inbound/{}", hooks[0]["id"].as_str().unwrap());
    let log = owner.get(&format!("{path}/signals")).await;
    assert_eq!(log.body["items"].as_array().unwrap().len(), 2);
    for reply in [owner.delete(&path).await, owner.send(Method::POST, &format!("{path}/rotate"), None).await]
    {
        assert_eq!(reply.status, 422, "{}", reply.text);
    }
    let orders = world.rows("SELECT user_id FROM orders");
    assert_eq!((orders.len(), orders[0]["user_id"].as_i64()), (1, Some(ann.0)));
}

/// What a sender says of the price is no price that limits go by.
#[tokio::test]
async fn limits_do_not_go_by_a_signals_own_price() {
    let desk = Desk::new(json!({})).await;
    let limits = json!({ "max_order_notional": "1000" });
    let set = desk.owner.send(Method::PUT, "/risk/limits", Some(&limits)).await;
    assert_eq!(set.status, 200, "{}", set.text);
    let answer = desk.post(json!({ "action": "buy", "quantity": "900", "price": "1.00" })).await;
    assert_eq!((answer.status, &answer.body["reason"]), (422, &json!("risk_limit")), "{}", answer.body);
    assert!(desk.orders().is_empty());
}
