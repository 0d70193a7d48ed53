//! Servers that start together, that share their work, and that meet a schema they do not know.

use std::process::Stdio;
use std::time::Duration;

use plimsoll_testkit::TestDb;

use super::desk::market;
use super::instance::{Instance, pause};
use super::world::{Setup, real_time, until};

/// Row 8. Two servers start at once on an empty database: one brings it to the schema, both serve.
#[tokio::test(flavor = "multi_thread")]
async fn row_08_two_servers_start_at_once_on_an_empty_database() {
    for round in 0..if real_time() { 20 } else { 4 } {
        let mut world = Setup::default().empty().build().await;
        for name in ["one", "two"] {
            let at = world.instance(name);
            world.instances[at].spawn();
        }
        for instance in &mut world.instances {
            instance.ready().await;
        }
        let mut applied: Vec<u64> = world.instances.iter().map(migrations_applied).collect();
        applied.sort_unstable();
        let all = u64::try_from(world.database.count("__diesel_schema_migrations")).unwrap();
        assert_eq!(applied, [0, all], "round {round}");
        world.finish().await;
    }
}

/// How many migrations the server applied when it started.
fn migrations_applied(instance: &Instance) -> u64 {
    let log = instance.log();
    let line = log.lines().find(|line| line.contains("migrations applied")).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "migrations").expect("a line that says what was applied");
    words[at - 1].parse().unwrap()
}

/// Row 8. The same for the migration alone, twenty times.
#[tokio::test(flavor = "multi_thread")]
async fn row_08_two_migrations_at_once() {
    let mut world = Setup::default().build().await;
    let at = world.instance("one");
    for round in 0..20 {
        let database = TestDb::empty();
        let migrate = || {
            let mut command = world.instances[at].command();
            command.env("DATABASE_URL", database.url()).arg("migrate").stdout(Stdio::piped());
            command.stderr(Stdio::piped()).spawn().unwrap()
        };
        let both = [migrate(), migrate()];
        for child in both {
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "round {round}: {output:?}");
        }
    }
}

/// Row 9. Two servers share what is done by the clock, and the accounts: each slot is done once, each account is followed
/// and compared once.
#[tokio::test(flavor = "multi_thread")]
async fn row_09_what_is_due_is_done_once() {
    let (slots, pace) = (50, 0.005);
    let mut world = Setup::default().pace(pace).build().await;
    world.serve("one").await;
    world.serve("two").await;
    let done = "SELECT kind, count(*) AS slots FROM jobs WHERE queue = 'upkeep' AND state = 'done' GROUP BY kind \
                ORDER BY 2 DESC LIMIT 1";
    until("fifty slots are done", async || {
        let rows = world.database.rows(done);
        rows.first().is_some_and(|row| row["slots"].as_i64() >= Some(slots))
    })
    .await;
    let twice = world.database.rows(
        "SELECT kind, dedup_key, count(*) FROM jobs WHERE queue = 'upkeep' GROUP BY 1, 2 HAVING count(*) > 1",
    );
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(world.database.count("jobs WHERE queue = 'upkeep' AND state = 'dead'"), 0);
    world.finish().await;
}

/// Row 9, for accounts: whoever has one follows and compares it, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn row_09_an_account_is_followed_once() {
    let mut world = Setup::default().build().await;
    world.serve("one").await;
    world.serve("two").await;
    let ann = world.trader("ann").await;
    for at in [0, 1] {
        world.trades(&ann, at).await;
    }
    let answer = ann.insist(&[&world.url(0), &world.url(1)], "shared", &market("buy")).await;
    world.becomes(&answer.text_of("id"), &["filled"]).await;
    pause(world.time(Duration::from_secs(30))).await;
    let streams = world.broker.requests().await;
    let opened = streams.iter().filter(|row| row["path"] == "/stream").count();
    assert_eq!(opened, 1, "one connection to the account's stream, of one server");
    world.finish().await;
}

/// Row 10. The database has been brought to a later schema: this program refuses to touch it and says so.
#[tokio::test(flavor = "multi_thread")]
async fn row_10_an_older_program_meets_a_newer_schema() {
    let mut world = Setup::default().build().await;
    world.database.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000000')");
    let at = world.instance("old");
    world.instances[at].spawn();
    let status = world.instances[at].wait();
    let log = world.instances[at].log();
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("newer than this program") && log.contains("99991231000000"), "{log}");
    assert!(log.contains("start a newer version"), "{log}");
    world.database.execute("DELETE FROM __diesel_schema_migrations WHERE version = '99991231000000'");
    world.instances[at].restart().await;
    world.finish().await;
}
