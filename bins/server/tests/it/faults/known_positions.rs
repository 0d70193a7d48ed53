//! Failures of reconciliation that are known from elsewhere, about positions: each happens once, and does no harm.

use reqwest::Method;
use serde_json::{Value, json};

use super::desk::{Desk, market, resting};
use super::world::{Setup, World, until};

async fn bought(world: &World, desk: &Desk, at: usize, key: &str) {
    let id = desk.insist(&[&world.url(at)], key, &market("buy")).await.text_of("id");
    world.becomes(&id, &["filled"]).await;
}

fn held(world: &World, desk: &Desk) -> String {
    let query = format!(
        "SELECT coalesce(sum(qty), 0)::float8::text AS qty FROM positions WHERE user_id = {} AND symbol = 'SPY'",
        desk.user()
    );
    world.database.rows(&query)[0]["qty"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_position_survives_a_restart() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    bought(&world, &ann, 0, "buy").await;
    world.instances[0].kill();
    world.instances[0].restart().await;
    world.trades(&ann, 0).await;
    let compared = world.compare(&ann).await;
    assert_eq!((compared.status.as_str(), compared.found), ("ok", vec![]));
    assert_eq!(held(&world, &ann), "1");
    let id = ann.insist(&[&world.url(0)], "sell", &market("sell")).await.text_of("id");
    world.becomes(&id, &["filled"]).await;
    assert_eq!(held(&world, &ann), "0");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_older_than_every_window_is_taken_over_as_it_stands() {
    let mut world = Setup::default().build().await;
    let ann = world.trader("ann").await;
    world.broker.place_as(&ann, &market("buy")).await;
    until("it is filled", async || world.broker.fills().await.len() == 1).await;
    let clock = world.broker.sim(Method::GET, "clock", Value::Null).await;
    let now: chrono::DateTime<chrono::Utc> = clock["time"].as_str().unwrap().parse().unwrap();
    let later = json!({"time": now + chrono::TimeDelta::days(5), "session": "regular"});
    world.broker.sim(Method::PUT, "clock", later).await;
    world.serve("one").await;
    world.trades(&ann, 0).await;
    assert_eq!(held(&world, &ann), "1");
    assert_eq!(world.database.count("account_ledger WHERE kind = 'opening' AND qty = 1"), 1);
    let compared = world.compare(&ann).await;
    assert_eq!(compared.status, "ok", "{compared:?}");
    let id = ann.insist(&[&world.url(0)], "sell", &market("sell")).await.text_of("id");
    world.becomes(&id, &["filled"]).await;
    let compared = world.compare(&ann).await;
    assert_eq!((compared.status.as_str(), held(&world, &ann).as_str()), ("ok", "0"), "{compared:?}");
    assert!(world.instances[0].stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_are_not_told_are_not_flat() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    bought(&world, &ann, 0, "buy").await;
    let untold =
        json!({"id": "untold", "match": {"path": "/positions"}, "action": "status_before", "status": 500});
    world.broker.fault(untold).await;
    assert_eq!(world.compare(&ann).await.status, "partial");
    assert_eq!((held(&world, &ann).as_str(), world.open_discrepancies()), ("1", 0));
    // Who starts takes no order until they are told.
    world.instances[0].kill();
    world.instances[0].spawn();
    until("they are asked for", async || world.broker.hits("untold").await > 8).await;
    let url = world.url(0);
    let refused = ann.order(&url, "early", &market("buy")).await.unwrap();
    assert_eq!((refused.status, refused.text_of("code").as_str()), (503, "reconciling"), "{refused:?}");
    world.broker.heal().await;
    world.instances[0].ready().await;
    bought(&world, &ann, 0, "early").await;
    assert_eq!(held(&world, &ann), "2");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_with_one_symbol_are_two() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    let bob = world.trader("bob").await;
    world.trades(&bob, 0).await;
    for n in 0..2 {
        bought(&world, &ann, 0, &format!("ann-{n}")).await;
    }
    bought(&world, &bob, 0, "bob").await;
    for desk in [&ann, &bob] {
        let compared = world.compare(desk).await;
        assert_eq!((compared.status.as_str(), compared.found), ("ok", vec![]));
    }
    assert_eq!((held(&world, &ann), held(&world, &bob)), ("2".to_owned(), "1".to_owned()));
    world.finish().await;
}

/// The account moves to another server, and back: each begins with what is on record, not with what it once knew.
#[tokio::test(flavor = "multi_thread")]
async fn no_server_trades_on_what_it_once_knew() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    bought(&world, &ann, 0, "first").await;
    world.serve("two").await;
    for (n, (old, new)) in [(0, 1), (1, 0)].into_iter().enumerate() {
        world.instances[old].kill();
        let mut elsewhere = market("buy");
        elsewhere["client_order_id"] = format!("web-{n}").into();
        world.broker.place_as(&ann, &elsewhere).await;
        world.trades(&ann, new).await;
        bought(&world, &ann, new, &format!("moved-{n}")).await;
        let compared = world.compare(&ann).await;
        assert_eq!((compared.status.as_str(), compared.found), ("ok", vec![]));
        world.instances[old].restart().await;
    }
    assert_eq!(held(&world, &ann), "5");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mismatch_is_not_traded_on() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    bought(&world, &ann, 0, "buy").await;
    world.tamper("UPDATE positions SET qty = qty + 1");
    for _ in 0..2 {
        let compared = world.compare(&ann).await;
        assert!(compared.status == "attention" && compared.has("position_qty", "keep_ours"), "{compared:?}");
    }
    until("the user is told once", async || world.watchers[0].count("system_alert") == 1).await;
    let refused = ann.order(&url, "more", &market("buy")).await.unwrap();
    assert_eq!((refused.status, refused.text_of("code").as_str()), (422, "symbol_blocked"), "{refused:?}");
    assert_eq!(refused.text_of("rule"), "open_discrepancy");
    ann.insist(&[&url], "other", &resting()).await;
    let exit = ann.insist(&[&url], "exit", &market("sell")).await.text_of("id");
    world.becomes(&exit, &["filled"]).await;
    world.tamper("UPDATE positions SET qty = qty - 1");
    assert_eq!(world.compare(&ann).await.status, "ok");
    bought(&world, &ann, 0, "more").await;
    world.finish().await;
}

/// Before entries are taken again after a halt, the account is compared.
#[tokio::test(flavor = "multi_thread")]
async fn a_halt_that_is_lifted_makes_the_account_be_compared_first() {
    let (world, ann) = World::with_one(Setup::default()).await;
    for arguments in [vec!["halt", "--level", "block_entries", "--reason", "a test"], vec!["resume"]] {
        let output = world.instances[0]
            .command()
            .arg("risk")
            .args(arguments)
            .args(["--user", "ann@example.com"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    bought(&world, &ann, 0, "buy").await;
    assert_eq!(world.database.count("reconciliation_runs WHERE trigger = 'rearm' AND status = 'ok'"), 1);
    assert_eq!(world.database.count("accounts WHERE compare_after IS NOT NULL"), 0);
    world.finish().await;
}
