//! The database goes away and comes back; it has no room for more connections.

use std::time::{Duration, Instant};

use plimsoll_storage::testing::RawConnection;

use super::desk::{market, resting};
use super::instance::pause;
use super::world::{Setup, World, real_time, until};

/// Row 13. The database server is stopped at once and recovers: the server says that it is not ready, stays alive, and
/// serves again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn row_13_the_database_crashes_and_recovers() {
    let (mut world, ann) = World::with_one(Setup::default().own_server(&[])).await;
    let two = world.serve("two").await;
    world.trades(&ann, two).await;
    world.watch(&ann, &[two]).await;
    let url = world.url(0);
    for round in 0..2 {
        ann.insist(&[&url], &format!("before-{round}"), &market("buy")).await;
        world.database.cluster().crash();
        let began = Instant::now();
        for instance in &world.instances {
            until("the server says that it is not ready", async || {
                instance.probe("ready").await == Some(503)
            })
            .await;
            assert_eq!(instance.probe("live").await, Some(200));
        }
        println!("not ready after {:?}", began.elapsed());
        let answer = ann.order(&url, &format!("while-{round}"), &market("buy")).await.unwrap();
        assert_eq!((answer.status, answer.retry_after.is_some()), (503, true), "{answer:?}");
        world.database.cluster().recover();
        for instance in &world.instances {
            let took = until("the server is ready again", async || instance.is_ready().await).await;
            println!("ready {took:?} after the database");
        }
        for key in ["while", "after"] {
            ann.insist(&[&url], &format!("{key}-{round}"), &market("buy")).await;
        }
    }
    assert_eq!(world.database.count("orders"), 6);
    world.finish().await;
}

/// Row 14. The database is away for minutes: no process ends, memory and log stay small, and everything goes on.
#[tokio::test(flavor = "multi_thread")]
async fn row_14_the_database_is_away_for_long() {
    // At its real pace: what is repeated is repeated as often as in production.
    let (mut world, ann) = World::with_one(Setup::default().own_server(&[]).pace(1.0)).await;
    world.watch(&ann, &[0]).await;
    let url = world.url(0);
    ann.insist(&[&url], "before", &resting()).await;
    let away = Duration::from_secs(if real_time() { 300 } else { 30 });
    let (memory, before) =
        (world.instances[0].figures().resident_kib, world.instances[0].log().lines().count());
    world.database.cluster().crash();
    let (mut lines, mut tries, began) = (0, 0, Instant::now());
    while began.elapsed() < away {
        pause(Duration::from_millis(500)).await;
        tries += 1;
        assert_eq!(world.instances[0].probe("live").await, Some(200));
        let answer = ann.order(&url, "while", &market("buy")).await.unwrap();
        assert_eq!(answer.status, 503, "{answer:?}");
        lines = world.instances[0].log().lines().count() - before;
    }
    let grown = world.instances[0].figures().resident_kib.saturating_sub(memory);
    println!("{lines} lines and {grown} KiB in {away:?}");
    assert!(grown < 32 * 1024, "{grown} KiB");
    // a refusal is a line; all else is a few lines a minute for each part of the server
    assert!(
        lines <= tries + 150 + 60 * away.as_secs() as usize / 60,
        "{lines} lines:\n{}",
        world.instances[0].log()
    );
    world.database.cluster().recover();
    until("the server is ready again", async || world.instances[0].is_ready().await).await;
    ann.insist(&[&url], "while", &market("buy")).await;
    world.finish().await;
}

/// Row 18. The database has no connection left: who runs keeps theirs, who starts waits and says why.
#[tokio::test(flavor = "multi_thread")]
async fn row_18_the_database_has_no_connection_left() {
    let settings = [("max_connections", "40"), ("superuser_reserved_connections", "0")];
    let (mut world, ann) = World::with_one(Setup::default().own_server(&settings)).await;
    let url = world.url(0);
    ann.insist(&[&url], "before", &market("buy")).await;
    let mut taken: Vec<RawConnection> = Vec::new();
    while let Ok(connection) = RawConnection::open(world.database.url()) {
        taken.push(connection);
    }
    let answer = ann.insist(&[&url], "full", &market("buy")).await;
    assert!(answer.status < 300, "{answer:?}");
    let two = world.instance("two");
    world.instances[two].spawn();
    until("the second server says what is missing", async || {
        let log = world.instances[two].log();
        log.contains("The database does not answer; trying again.") && log.contains("too many clients")
    })
    .await;
    assert_eq!(world.instances[0].probe("ready").await, Some(200));
    taken.clear();
    world.instances[two].ready().await;
    world.trades(&ann, two).await;
    ann.insist(&[&world.url(two)], "after", &market("buy")).await;
    world.finish().await;
}
