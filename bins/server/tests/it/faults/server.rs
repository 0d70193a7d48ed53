//! Faults of the server's process.

use super::desk::{market, resting};
use super::trap::{Deed, Moment, Wanted};
use super::world::{Setup, World};

/// The harness itself: without a fault, everything it looks at is in order.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_the_oracle_is_green() {
    let (mut world, ann) = World::with_one(Setup::default()).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    for (n, body) in [market("buy"), resting(), market("sell")].iter().enumerate() {
        let answer = ann.insist(&[&url], &format!("calm-{n}"), body).await;
        assert!(matches!(answer.status, 201 | 202), "{answer:?}");
    }
    let id = ann.insist(&[&url], "calm-1", &resting()).await.text_of("id");
    world.becomes(&id, &["new"]).await;
    let trap = world.instances[0].proxy.set(Wanted::text("COMMIT").of("http"), Moment::Answered, Deed::Cut);
    let answer = ann.insist(&[&url], "calm-3", &market("buy")).await;
    assert!(answer.status < 300 && trap.acted() == 1, "{answer:?}");
    world.finish().await;
}
