//! What a delivery costs, and hooks that are remembered for a moment: they are good for nothing that the stored ones are
//! not, and forgotten when they change.

use plimsoll_auth::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::signals::Desk;
use crate::world::World;

/// A desk whose server remembers hooks for a minute.
async fn desk() -> Desk {
    let world =
        World::with_settings(|settings| settings.session_cache = std::time::Duration::from_secs(60)).await;
    Desk::in_world(world, json!({})).await
}

fn buy(id: &str) -> Value {
    json!({ "action": "buy", "quantity": 1, "id": id })
}

/// A plain signal with its order is two statements in one transaction, the same again is one statement.
#[tokio::test]
async fn a_signal_is_four_round_trips_and_a_repeat_is_one() {
    let desk = desk().await;
    assert_eq!(
        desk.post(buy("warm-up")).await.status,
        202,
        "the hook and the instrument are known from now on"
    );
    let counter = desk.world.db.count_queries();
    let first = desk.post(buy("one")).await;
    assert_eq!(first.status, 202, "{}", first.body);
    let texts = counter.texts();
    assert_eq!((texts.len(), texts[0].as_str(), texts[3].as_str()), (4, "BEGIN", "COMMIT"), "{texts:#?}");
    drop(counter);

    let counter = desk.world.db.count_queries();
    let again = desk.post(buy("one")).await;
    assert_eq!((again.status, &again.body["order_id"]), (200, &first.body["order_id"]), "{}", again.body);
    assert_eq!(counter.sent(), 1, "{:#?}", counter.texts());
    drop(counter);

    assert_eq!(desk.orders().len(), 2);
    let log = desk.signals().await;
    let [repeat, kept, _] = log.as_slice() else { panic!("{log:?}") };
    assert_eq!((&kept["verdict"], &kept["order_id"]), (&json!("accepted"), &first.body["order_id"]));
    assert!(kept["latency_ms"].is_i64(), "it is decided: {kept}");
    assert_eq!((&repeat["verdict"], &repeat["reason"]), (&json!("duplicate"), &json!("duplicate")));
    assert_eq!(repeat["duplicate_of"], first.body["signal_id"]);
    assert_eq!(repeat["body"]["id"], "one");
}

/// A repeat of a repeat names the first one, and one of whose keys only a part is known is kept as any other.
#[tokio::test]
async fn repeats_name_the_first_one() {
    let desk = desk().await;
    let first = desk.post(buy("x")).await;
    for _ in 0..3 {
        let again = desk.post(buy("x")).await;
        assert_eq!((again.status, &again.body["signal_id"]), (200, &first.body["signal_id"]));
    }
    // the row of the key is gone, as after its time: the memory of it decides nothing
    desk.world.test.execute("DELETE FROM signal_keys");
    let anew = desk.post(buy("x")).await;
    assert_eq!(anew.status, 202, "{}", anew.body);
    assert_eq!(desk.orders().len(), 2);
}

/// A hook that is switched off, changed, given another secret or deleted is so with the next delivery, also while it is
/// remembered; and a secret that is new is good at once.
#[tokio::test]
async fn a_changed_hook_is_changed_at_once() {
    let mut desk = desk().await;
    assert_eq!(desk.post(buy("1")).await.status, 202);
    let change = async |desk: &Desk, wanted: Value| {
        let reply = desk.owner.send(Method::PATCH, &desk.path(), Some(&wanted)).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    };
    change(&desk, json!({ "enabled": false })).await;
    assert_eq!(desk.post(buy("2")).await.status, 401);
    change(&desk, json!({ "enabled": true })).await;
    assert_eq!(desk.post(buy("3")).await.status, 202);
    change(&desk, json!({ "symbols": ["QQQ"] })).await;
    assert_eq!(desk.post(buy("4")).await.status, 422);
    change(&desk, json!({ "symbols": [] })).await;

    let rotate = async |desk: &Desk| {
        let reply = desk.owner.send(Method::POST, &format!("{}/rotate", desk.path()), None).await;
        reply.body["secret"].as_str().unwrap().to_owned()
    };
    let first = desk.secret.clone();
    assert_eq!(desk.post(buy("5")).await.status, 202);
    desk.secret = rotate(&desk).await;
    assert_eq!(desk.post(buy("6")).await.status, 202);
    desk.secret = rotate(&desk).await;
    assert_eq!(desk.post(buy("7")).await.status, 202);
    let second = std::mem::replace(&mut desk.secret, first);
    assert_eq!(desk.post(buy("8")).await.status, 401, "the one before the one before");
    desk.secret = second;
    assert_eq!(desk.post(buy("9")).await.status, 202);

    assert_eq!(desk.owner.delete(&desk.path()).await.status, 204);
    assert_eq!(desk.post(buy("10")).await.status, 401);
    assert_eq!(desk.orders().len(), 6);
}

/// Another secret is held against the stored hook, as many statements as ever, whether or not the hook is remembered.
#[tokio::test]
async fn a_remembered_hook_makes_no_refusal_cheaper() {
    let mut desk = desk().await;
    let good = std::mem::replace(&mut desk.secret, "whsec_wrong".to_owned());
    let mut costs = Vec::new();
    for round in 0..2 {
        let counter = desk.world.db.count_queries();
        assert_eq!(desk.post(buy("x")).await.status, 401);
        costs.push(counter.texts());
        drop(counter);
        if round == 0 {
            let wrong = std::mem::replace(&mut desk.secret, good.clone());
            assert_eq!(desk.post(buy("y")).await.status, 202);
            desk.secret = wrong;
        }
    }
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0].len() >= 4, "{costs:#?}");
}

/// The owner who may not sign in any more trades no more.
#[tokio::test]
async fn a_disabled_owners_hook_is_closed_at_once() {
    let world = World::with_settings(|settings| {
        std::sync::Arc::make_mut(&mut settings.policy).require_admin_2fa = false;
        settings.session_cache = std::time::Duration::from_secs(60);
    })
    .await;
    let desk = Desk::in_world(world, json!({})).await;
    let admin = desk.world.user("root@example.com", Role::Admin);
    assert!(admin.0 > 0);
    let chief = desk.world.login("root@example.com").await;
    let proven = chief.post("/auth/step-up", &json!({ "password": crate::world::PASSWORD })).await;
    let chief = chief.bearer(proven.body["token"].as_str().unwrap());
    assert_eq!(desk.post(buy("1")).await.status, 202);
    let owner = desk.world.rows("SELECT id FROM users WHERE email LIKE 'ann%'")[0]["id"].as_i64().unwrap();
    let wanted = json!({ "state": "disabled" });
    let reply = chief.send(Method::PATCH, &format!("/admin/users/{owner}"), Some(&wanted)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(desk.post(buy("2")).await.status, 401);
}
