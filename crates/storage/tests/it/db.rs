//! `Db`: transactions, admission, lost connections, and what is sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_storage::testing::RawConnection;
use plimsoll_storage::{AfterCommit, CommitNote, Db, DbSettings, PoolKind, Tx};
use plimsoll_testkit::{TestDb, server_url};

/// An empty database with one table.
fn database() -> TestDb {
    let database = TestDb::empty();
    database.execute("CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL DEFAULT 0)");
    database
}

fn count(database: &TestDb) -> i64 {
    database.rows("SELECT count(*) AS n FROM item")[0]["n"].as_i64().unwrap()
}

fn insert(tx: &mut Tx<'_>, id: i32) -> Result<(), StoreError> {
    tx.execute_raw(&format!("INSERT INTO item (id) VALUES ({id})"))
}

fn small(kind: PoolKind, size: u32) -> DbSettings {
    let mut settings = DbSettings::new(kind, size);
    settings.wait = Duration::from_millis(400);
    settings.wait_when_full = Duration::from_millis(50);
    settings
}

/// The backends of a pool, apart from the asking connection's.
fn end_sessions(database: &TestDb) -> usize {
    let query = format!(
        "SELECT pg_terminate_backend(pid, 2000) AS ended FROM pg_stat_activity \
         WHERE datname = '{}' AND pid <> pg_backend_pid()",
        database.name()
    );
    RawConnection::open(server_url()).unwrap().rows(&query).unwrap().len()
}

#[derive(Default)]
struct Notes(Mutex<Vec<CommitNote>>);

impl AfterCommit for Notes {
    fn committed(&self, notes: Vec<CommitNote>) {
        self.0.lock().unwrap().extend(notes);
    }
}

#[tokio::test]
async fn ok_commits_and_err_rolls_back() {
    let database = database();
    let db = database.db();
    let value = db.run(|tx| insert(tx, 1).map(|()| "kept")).await.unwrap();
    assert_eq!(value, "kept");
    let error = db
        .run(|tx| {
            insert(tx, 2)?;
            Err::<(), _>(StoreError::new(StoreErrorKind::Other, "changed my mind"))
        })
        .await
        .unwrap_err();
    assert!(error.to_string().contains("changed my mind"));
    assert_eq!(count(&database), 1);
}

#[tokio::test]
async fn a_panic_rolls_back_comes_through_and_leaves_the_pool_usable() {
    let database = database();
    let db = database.db_with(small(PoolKind::Http, 1));
    let ours = db.clone();
    let panicked = tokio::spawn(async move {
        ours.run(|tx| -> Result<(), StoreError> {
            insert(tx, 1)?;
            panic!("on purpose");
        })
        .await
    })
    .await
    .unwrap_err();
    assert_eq!(*panicked.into_panic().downcast_ref::<&str>().unwrap(), "on purpose");
    db.run(|tx| insert(tx, 2)).await.unwrap();
    assert_eq!(count(&database), 1);
    assert_eq!(db.load().in_use, 0);
}

#[tokio::test]
async fn an_error_that_was_swallowed_cannot_be_committed_over() {
    let database = database();
    let db = database.db();
    let error = db
        .run(|tx| {
            insert(tx, 1)?;
            let _ = insert(tx, 1); // fails, and with it the transaction
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Other);
    assert_eq!(count(&database), 0);
    db.run(|tx| insert(tx, 1)).await.unwrap();
}

#[tokio::test]
async fn the_servers_refusals_have_their_kinds() {
    let database = database();
    let mut settings = DbSettings::new(PoolKind::Http, 2);
    settings.statement_timeout = Duration::from_millis(300);
    settings.lock_timeout = Duration::from_millis(100);
    let db = database.db_with(settings);
    db.run(|tx| insert(tx, 1)).await.unwrap();

    let duplicate = db.run(|tx| insert(tx, 1)).await.unwrap_err();
    assert_eq!(duplicate.kind(), StoreErrorKind::Duplicate);
    assert!(duplicate.to_string().contains("item_pkey"), "{duplicate}");

    let slow = db.run(|tx| tx.execute_raw("SELECT pg_sleep(5)")).await.unwrap_err();
    assert_eq!(slow.kind(), StoreErrorKind::Unavailable, "{slow}");

    let mut other = database.raw();
    other.execute("BEGIN; UPDATE item SET n = 1 WHERE id = 1").unwrap();
    let locked = db.run(|tx| tx.execute_raw("UPDATE item SET n = 2 WHERE id = 1")).await.unwrap_err();
    assert_eq!(locked.kind(), StoreErrorKind::Contention, "{locked}");
    let not_waiting =
        db.run(|tx| tx.execute_raw("SELECT 1 FROM item WHERE id = 1 FOR UPDATE NOWAIT")).await.unwrap_err();
    assert_eq!(not_waiting.kind(), StoreErrorKind::Contention, "{not_waiting}");

    let written = db.read_snapshot(|tx| insert(tx, 3)).await.unwrap_err();
    assert_eq!(written.kind(), StoreErrorKind::Unavailable, "read only: {written}");
}

#[test]
fn limits_reach_the_server_without_a_statement() {
    let database = TestDb::empty();
    for (kind, name, statement) in [
        (PoolKind::Http, "plimsoll-http", "5s"),
        (PoolKind::Jobs, "plimsoll-jobs", "30s"),
        (PoolKind::Control, "plimsoll-control", "5s"),
    ] {
        let db = database.db_with(DbSettings::new(kind, 1));
        let rows = db
            .read_blocking(|tx| {
                tx.rows_raw(
                    "SELECT current_setting('statement_timeout') AS statement, current_setting('lock_timeout') AS lock, \
                     current_setting('idle_in_transaction_session_timeout') AS idle, \
                     current_setting('client_connection_check_interval') AS check, \
                     current_setting('application_name') AS name",
                )
            })
            .unwrap_or_else(|error: StoreError| panic!("{error}"));
        assert_eq!(
            rows[0],
            serde_json::json!({
                "statement": statement, "lock": "2s", "idle": "30s", "check": "1s", "name": name
            })
        );
    }
}

#[tokio::test]
async fn a_transaction_is_begin_work_commit_and_a_read_is_one_round_trip() {
    let database = database();
    let db = database.db_with(DbSettings::new(PoolKind::Http, 1));
    let counter = db.count_queries();
    db.run(|tx| insert(tx, 1)).await.unwrap();
    assert_eq!(counter.texts(), ["BEGIN", "INSERT INTO item (id) VALUES (1)", "COMMIT"]);
    assert_eq!((counter.sent(), counter.prepared()), (3, 0));
    drop(counter);

    let counter = db.count_queries();
    db.ping().await.unwrap();
    assert_eq!(counter.sent(), 1, "{:?}", counter.texts());
    drop(counter);

    let counter = db.count_queries();
    db.run(|tx| insert(tx, 1)).await.unwrap_err();
    assert_eq!(counter.texts().last().unwrap(), "ROLLBACK");
    drop(counter);

    let counter = db.count_queries();
    db.read_snapshot(|tx| tx.rows_raw("SELECT 1 AS one")).await.unwrap();
    assert_eq!(counter.texts()[0], "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    assert_eq!(counter.sent(), 3);
}

#[tokio::test]
async fn a_snapshot_does_not_see_what_is_committed_meanwhile() {
    let database = database();
    let db = database.db();
    let mut other = database.raw();
    let counts = db
        .read_snapshot(move |tx| {
            let before = tx.rows_raw("SELECT count(*) AS n FROM item")?;
            other.execute("INSERT INTO item (id) VALUES (1)")?;
            Ok::<_, StoreError>((before, tx.rows_raw("SELECT count(*) AS n FROM item")?))
        })
        .await
        .unwrap();
    assert_eq!(counts.0, counts.1);
    assert_eq!(count(&database), 1);
}

#[tokio::test]
async fn notes_are_passed_on_after_the_commit_and_only_then() {
    let database = database();
    let notes = Arc::new(Notes::default());
    let db = database.db().with_after_commit(Arc::clone(&notes) as Arc<dyn AfterCommit>);
    let seen = Arc::clone(&notes);
    db.run(move |tx| {
        tx.wake("jobs");
        assert!(seen.0.lock().unwrap().is_empty(), "not before the commit");
        insert(tx, 1)
    })
    .await
    .unwrap();
    assert_eq!(*notes.0.lock().unwrap(), [CommitNote::Wake("jobs".into())]);

    db.run(|tx| {
        tx.wake("never");
        insert(tx, 1)
    })
    .await
    .unwrap_err();
    assert_eq!(notes.0.lock().unwrap().len(), 1, "not on a rollback");
    db.run(|tx| {
        tx.wake("never");
        let _ = insert(tx, 1);
        Ok::<_, StoreError>(())
    })
    .await
    .unwrap_err();
    assert_eq!(notes.0.lock().unwrap().len(), 1, "not when the commit is refused");

    db.read(|tx| {
        tx.execute_raw("UPDATE item SET n = 1")?;
        tx.wake("single");
        Ok::<_, StoreError>(())
    })
    .await
    .unwrap();
    assert_eq!(notes.0.lock().unwrap().len(), 2, "a single statement has committed by itself");
}

struct Faulty;
impl AfterCommit for Faulty {
    fn committed(&self, _: Vec<CommitNote>) {
        panic!("a faulty listener");
    }
}

#[tokio::test]
async fn a_faulty_listener_does_not_make_a_commit_look_failed() {
    let database = database();
    let db = database.db().with_after_commit(Arc::new(Faulty));
    db.run(|tx| {
        tx.wake("jobs");
        insert(tx, 1)
    })
    .await
    .unwrap();
    assert_eq!(count(&database), 1);
}

#[tokio::test]
async fn dead_connections_are_replaced_unseen() {
    let database = database();
    let mut settings = DbSettings::new(PoolKind::Http, 3);
    // a slow machine is no database that is away
    settings.connect_timeout = Duration::from_secs(60);
    let db = database.db_with(settings);
    // fill the pool
    let barrier = Arc::new(Barrier::new(3));
    let all = (0..3).map(|_| {
        let (db, barrier) = (db.clone(), Arc::clone(&barrier));
        tokio::spawn(async move {
            db.run(move |_| {
                barrier.wait();
                Ok::<_, StoreError>(())
            })
            .await
        })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    for id in 0..4 {
        assert!(end_sessions(&database) >= 1);
        db.run(move |tx| insert(tx, id)).await.unwrap();
        end_sessions(&database);
        let rows = db.read(|tx| tx.rows_raw("SELECT count(*) AS n FROM item")).await;
        assert_eq!(rows.unwrap_or_else(|error: StoreError| panic!("{error}"))[0]["n"], id + 1);
    }
}

#[tokio::test]
async fn a_connection_lost_during_the_work_is_unavailable_and_repeatable() {
    let database = database();
    let db = database.db();
    let lost = db
        .run(|tx| {
            insert(tx, 1)?;
            tx.execute_raw("SELECT pg_terminate_backend(pg_backend_pid())")
        })
        .await
        .unwrap_err();
    assert_eq!(lost.kind(), StoreErrorKind::Unavailable, "{lost}");
    assert_eq!(count(&database), 0);

    let mut first = true;
    db.run_retrying(1, move |tx| {
        insert(tx, 1)?;
        if std::mem::take(&mut first) {
            tx.execute_raw("SELECT pg_terminate_backend(pg_backend_pid())")
        } else {
            Ok(())
        }
    })
    .await
    .unwrap();
    assert_eq!(count(&database), 1);
}

#[tokio::test]
async fn a_connection_lost_in_commit_is_reported_as_not_known() {
    let database = database();
    // a deferred trigger runs inside COMMIT and takes the connection away there
    database.execute(
        "CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER vanish AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION vanish()",
    );
    let db = database.db();
    let error = db.run(|tx| insert(tx, 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::CommitUnknown, "{error}");
    // and it is not repeated behind the caller's back
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let error = db
        .run_retrying(1, move |tx| {
            counted.fetch_add(1, Ordering::Relaxed);
            insert(tx, 2)
        })
        .await
        .unwrap_err();
    assert_eq!((error.kind(), runs.load(Ordering::Relaxed)), (StoreErrorKind::CommitUnknown, 1));
    db.ping().await.unwrap();
}

#[tokio::test]
async fn a_refusal_at_commit_is_no_doubt() {
    let database = database();
    database.execute(
        "CREATE TABLE part (item int REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED); INSERT INTO item VALUES (1)",
    );
    let db = database.db();
    let error = db.run(|tx| tx.execute_raw("INSERT INTO part VALUES (9)")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Other, "{error}");
    assert!(database.rows("SELECT * FROM part").is_empty());
}

/// Two transactions that take two rows in opposite order; one of them is chosen as the deadlock's victim.
#[test]
fn deadlocks_are_retried() {
    let database = database();
    database.execute("INSERT INTO item VALUES (1), (2)");
    let db = database.db();
    let (barrier, runs) = (Barrier::new(2), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let cross = |first: i32, second: i32| {
            let (db, barrier, runs) = (db.clone(), &barrier, &runs);
            move || {
                let mut met = false;
                db.run_retrying_blocking(u64::try_from(first).unwrap(), |tx| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    tx.execute_raw(&format!("UPDATE item SET n = n + 1 WHERE id = {first}"))?;
                    if !std::mem::replace(&mut met, true) {
                        barrier.wait();
                    }
                    tx.execute_raw(&format!("UPDATE item SET n = n + 1 WHERE id = {second}"))
                })
            }
        };
        let one = scope.spawn(cross(1, 2));
        let two = scope.spawn(cross(2, 1));
        one.join().unwrap().unwrap();
        two.join().unwrap().unwrap();
    });
    assert_eq!(runs.load(Ordering::Relaxed), 3, "one of them ran twice");
    assert_eq!(database.rows("SELECT n FROM item WHERE n = 2").len(), 2);
}

#[test]
fn a_conflict_that_stays_is_given_up() {
    let database = database();
    let db = database.db();
    let mut runs = 0;
    let error = db
        .run_retrying_blocking(7, |tx| {
            runs += 1;
            tx.execute_raw("DO $$ BEGIN RAISE EXCEPTION 'no luck' USING ERRCODE = '40001'; END $$")
        })
        .unwrap_err();
    assert_eq!((error.kind(), runs), (StoreErrorKind::Contention, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_queue_callers_are_told_to_come_back() {
    let database = database();
    let db = database.db_with(small(PoolKind::Http, 1));
    let slow = |db: Db| tokio::spawn(async move { db.read(|tx| tx.execute_raw("SELECT pg_sleep(1)")).await });
    let held = slow(db.clone());
    while db.load().in_use == 0 {
        tokio::task::yield_now().await;
    }
    let waiting: Vec<_> = (0..4).map(|_| slow(db.clone())).collect();
    while db.load().waiting < 4 {
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    let refused = db.ping().await.unwrap_err();
    assert!(start.elapsed() < Duration::from_millis(350), "{:?}", start.elapsed());
    assert_eq!(
        (refused.kind(), refused.retry_after()),
        (StoreErrorKind::Unavailable, Some(Duration::from_secs(1)))
    );
    for waiter in waiting {
        let late = waiter.await.unwrap().unwrap_err();
        assert!(late.retry_after().is_some());
    }
    held.await.unwrap().unwrap();
    db.ping().await.unwrap();
}

#[tokio::test]
async fn a_caller_that_hangs_up_frees_no_slot_and_stops_no_work() {
    let database = database();
    let db = database.db_with(small(PoolKind::Http, 1));
    let abandoned = tokio::time::timeout(
        Duration::from_millis(50),
        db.run(|tx| {
            tx.execute_raw("SELECT pg_sleep(0.2)")?;
            insert(tx, 1)
        }),
    )
    .await;
    assert!(abandoned.is_err());
    assert_eq!(db.load().in_use, 1);
    db.run(|tx| insert(tx, 2)).await.unwrap();
    assert_eq!(count(&database), 2);
}

#[test]
fn threads_and_tasks_share_the_permits() {
    let database = database();
    let db = database.db_with(small(PoolKind::Jobs, 2));
    std::thread::scope(|scope| {
        for id in 0..8 {
            let db = db.clone();
            scope.spawn(move || db.run_blocking(|tx| insert(tx, id)).unwrap());
        }
    });
    assert_eq!(count(&database), 8);
    assert!(db.load().open <= 2);
}

#[test]
fn a_server_that_is_away_is_unavailable_with_a_cause() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("postgresql:///x?host={}", folder.path().display());
    let error = Db::open(&url, DbSettings::new(PoolKind::Control, 1)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("No such file"), "{error:?}");
}

/// A request does not wait for the time that a connection may take, here an hour, and the first one after the database is
/// back is served.
#[tokio::test]
async fn while_the_database_is_away_requests_are_told_so_at_once() {
    let database = database();
    let mut settings = small(PoolKind::Http, 4);
    settings.connect_timeout = Duration::from_secs(3600);
    let db = database.db_with(settings);
    let mut server = RawConnection::open(server_url()).unwrap();
    let mut admit = |yes: bool| {
        server.execute(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS {yes}", database.name())).unwrap();
    };
    admit(false);
    end_sessions(&database);
    let calls: Vec<_> = (0..40)
        .map(|id| {
            let db = db.clone();
            tokio::spawn(async move { db.run(move |tx| insert(tx, id)).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
    assert_eq!((db.load().in_use, db.load().waiting, db.load().open), (0, 0, 0));
    admit(true);
    let mut id = 100;
    while let Err(error) = db.run(move |tx| insert(tx, id)).await {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        id += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(count(&database), 1);
}
