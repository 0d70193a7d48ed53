//! One moment of a database into a file, and back into a copy that takes the database's place.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use plimsoll_core_domain::StoreErrorKind;
use plimsoll_core_domain::order::Side;
use plimsoll_crypto::OsRandom;
use plimsoll_reliability::backup::{
    BackupError, BackupFolder, BackupKind, BackupName, BackupRequest, Meter, Totals,
};
use plimsoll_storage::db::with_database;
use plimsoll_storage::migrate::{LOCK_KEY, MigrationSet, grant_application_role};
use plimsoll_storage::platform::backup::{
    HeldJobs, Released, Repaired, Scratch, Snapshot, check, database_bytes, drop_database, may_restore,
    other_databases, pre_name, put_to_rest, repair, scratch_name, swap,
};
use plimsoll_storage::testing::RawConnection;
use plimsoll_testkit::TestDb;
use serde_json::Value;

use super::world::{KEY, World, accept, at, market, ring};

struct Place {
    _root: tempfile::TempDir,
    folder: BackupFolder,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = BackupFolder::open(root.path()).unwrap();
        Self { _root: root, folder }
    }

    fn back_up(&self, url: &str) -> Result<BackupName, BackupError> {
        self.back_up_of(&mut Snapshot::open(url)?)
    }

    fn back_up_of(&self, snapshot: &mut Snapshot) -> Result<BackupName, BackupError> {
        let lock = self.folder.lock()?;
        let request = BackupRequest {
            kind: BackupKind::Manual,
            description: None,
            pinned: false,
            app_version: "0.1.0".to_owned(),
            now: at(0),
        };
        let item = self.folder.create(&lock, &request, &ring(KEY), snapshot, &mut OsRandom, &meter())?;
        Ok(item.name)
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path()).unwrap().count()
    }
}

fn meter() -> Meter {
    Meter::new(Instant::now(), None)
}

/// A copy that is dropped with the test, whatever comes of it.
struct Copy {
    scratch: Option<Scratch>,
}

impl Copy {
    fn of(source: &TestDb, place: &Place, backup: &BackupName) -> Result<(Self, Totals), BackupError> {
        let name = scratch_name(source.name(), 1);
        let copy = Self { scratch: Some(Scratch::create(source.url(), &name, "a test's")?) };
        let (_, totals) = copy.get().load(&place.folder, backup, &ring(KEY), &meter())?;
        Ok((copy, totals))
    }

    fn get(&self) -> &Scratch {
        self.scratch.as_ref().unwrap()
    }

    fn execute(&self, sql: &str) {
        RawConnection::open(self.get().url())
            .unwrap()
            .execute(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn rows(&self, query: &str) -> Vec<Value> {
        RawConnection::open(self.get().url()).unwrap().rows(query).unwrap()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Some(scratch) = self.scratch.take() {
            let _ = scratch.drop_it();
        }
    }
}

/// A platform in which something has happened.
fn busy_world() -> World {
    let world = World::new();
    for n in 0..20 {
        let terms = market("AAPL", if n % 2 == 0 { Side::Buy } else { Side::Sell }, n + 1);
        world.accept(&accept(world.user, &format!("key-{n}"), terms)).unwrap();
    }
    world.test.execute(
        "INSERT INTO sessions (user_id, id, token_digest, created_at, last_seen_at, idle_expires_at, expires_at, ip) \
         SELECT id, gen_random_uuid(), sha256('x'), now(), now(), now() + interval '1 h', now() + interval '1 h', '::1' \
         FROM users; \
         INSERT INTO fills (account_id, order_id, cum_qty, id, user_id, symbol, side, qty, price, realized_pl, source, \
         executed_at, created_at) SELECT account_id, id, 0.123456789, id, user_id, symbol, side, 0.123456789, 99999999.5, \
         -0.0000000000001, 'rest', now(), now() FROM orders ORDER BY id LIMIT 1; \
         UPDATE orders SET filled_qty = 0.123456789 WHERE id IN (SELECT order_id FROM fills); \
         UPDATE users SET display_name = E'tab\\t new\\nline \\\\ \u{fffd} \u{1f6a2}'; \
         INSERT INTO encryption_stretching (salt, iterations) VALUES (sha256('salt'), 600000)",
    );
    world
}

/// `pg_dump` of a database, its lines sorted: rows and definitions come in any order. `None`: there is no such program.
fn dump(url: &str) -> Vec<String> {
    let output = Command::new(pg_dump()).args(["--dbname", url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<String> = text
        .lines()
        // newer versions protect a dump by a random word
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        // the bookkeeping says when each migration ran
        .filter(|line| !(line.starts_with("20261124") && line.contains('\t')))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

/// The one that belongs to the server of the tests.
fn pg_dump() -> PathBuf {
    let server = RawConnection::open(plimsoll_testkit::server_url())
        .unwrap()
        .rows("SELECT split_part(current_setting('server_version'), '.', 1) AS major");
    let major = server.unwrap()[0]["major"].as_str().unwrap().to_owned();
    let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin/pg_dump"));
    if debian.exists() { debian } else { PathBuf::from("pg_dump") }
}

#[test]
fn a_dump_of_the_copy_is_a_dump_of_the_source() {
    let world = busy_world();
    let place = Place::new();
    let before = dump(world.test.url());
    let backup = place.back_up(world.test.url()).unwrap();
    let (copy, totals) = Copy::of(&world.test, &place, &backup).unwrap();
    let after = dump(copy.get().url());
    for (one, other) in before.iter().zip(&after) {
        assert_eq!(one, other);
    }
    assert_eq!(before.len(), after.len());
    assert!(totals.rows() > 100 && before.len() > 500, "something was compared");
    let item = place.folder.item(&backup, &ring(KEY)).unwrap();
    let facts = &item.header.snapshot;
    assert!(facts.foreign_objects.is_empty(), "{:?}", facts.foreign_objects);
    assert!(!copy.get().differs_from(facts).unwrap());
    assert_eq!((facts.database.as_str(), facts.timeline), (world.test.name(), 1));
    assert!(facts.lsn.contains('/') && !facts.system_identifier.is_empty() && facts.stretching.is_some());
    check(copy.get().url(), &totals, &ring(KEY), &mut OsRandom).unwrap();
    copy.get().migrate().unwrap();
    // the sequences go on behind the rows
    copy.execute("INSERT INTO jobs (queue, kind, max_attempts, payload) VALUES ('x', 'x', 1, '{}')");
    let newest = copy.rows("SELECT kind FROM jobs ORDER BY id DESC LIMIT 1");
    assert_eq!(newest[0]["kind"], "x");
}

#[test]
fn what_happens_during_a_backup_is_not_in_it() {
    let world = busy_world();
    let place = Place::new();
    let mut snapshot = Snapshot::open(world.test.url()).unwrap();
    let orders = world.count("orders");
    world.accept(&accept(world.user, "late", market("MSFT", Side::Buy, 1))).unwrap();
    let mut other = world.test.raw();
    other.execute("SET lock_timeout = '100ms'").unwrap();
    for change in ["TRUNCATE job_slots", "ALTER TABLE orders ADD COLUMN x int", "DROP TABLE job_slots"] {
        let error = other.execute(change).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Contention, "{change}: {error}");
    }
    let migrating = other.rows(&format!("SELECT pg_try_advisory_lock({LOCK_KEY}) AS taken")).unwrap();
    assert_eq!(migrating[0]["taken"], false, "and no migration begins");
    let backup = place.back_up_of(&mut snapshot).unwrap();
    drop(snapshot);
    other.execute("TRUNCATE job_slots").unwrap();
    let (copy, _) = Copy::of(&world.test, &place, &backup).unwrap();
    assert_eq!(copy.rows("SELECT count(*) AS n FROM orders")[0]["n"], orders);
    assert_eq!(world.count("orders"), orders + 1);
}

#[test]
fn a_backup_does_not_queue_behind_changes_of_the_schema() {
    let world = busy_world();
    let mut other = world.test.raw();
    other.execute(&format!("SELECT pg_advisory_lock({LOCK_KEY})")).unwrap();
    let refused = |error: BackupError| match error {
        BackupError::Store(error) => assert_eq!(error.kind(), StoreErrorKind::Contention, "{error}"),
        error => panic!("{error}"),
    };
    refused(Snapshot::open(world.test.url()).unwrap_err());
    other.execute(&format!("SELECT pg_advisory_unlock({LOCK_KEY})")).unwrap();
    other.execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").unwrap();
    refused(Snapshot::open(world.test.url()).unwrap_err());
    other.execute("ROLLBACK").unwrap();
    assert!(Snapshot::open(world.test.url()).is_ok());
    match Snapshot::open(TestDb::empty().url()).unwrap_err() {
        BackupError::Refused(_) => {}
        error => panic!("{error}"),
    }
}

#[test]
fn a_connection_that_is_lost_leaves_no_file() {
    let world = busy_world();
    let place = Place::new();
    let mut snapshot = Snapshot::open(world.test.url()).unwrap();
    world.test.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'plimsoll-backup' \
         AND datname = current_database()",
    );
    place.back_up_of(&mut snapshot).unwrap_err();
    assert_eq!(place.files(), 1, "the lock alone");
}

#[test]
fn a_schema_that_is_newer_or_not_ours_is_refused() {
    let world = busy_world();
    let place = Place::new();
    world.test.execute("CREATE TABLE theirs (x int); CREATE INDEX orders_theirs ON orders (symbol)");
    let backup = place.back_up(world.test.url()).unwrap();
    let facts = place.folder.item(&backup, &ring(KEY)).unwrap().header.snapshot;
    assert_eq!(facts.foreign_objects, ["table theirs"]);
    let error = Copy::of(&world.test, &place, &backup).map(|_| ()).unwrap_err();
    assert!(matches!(&error, BackupError::Unsound(why) if why.contains("theirs")), "{error}");

    world.test.execute("DROP TABLE theirs");
    let backup = place.back_up(world.test.url()).unwrap();
    let (copy, _) = Copy::of(&world.test, &place, &backup).unwrap();
    let facts = place.folder.item(&backup, &ring(KEY)).unwrap().header.snapshot;
    assert!(copy.get().differs_from(&facts).unwrap(), "an index of the operator's own");
    drop(copy);

    world.test.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('29991231235959')");
    let backup = place.back_up(world.test.url()).unwrap();
    let error = Copy::of(&world.test, &place, &backup).map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, BackupError::NewerSchema { unknown } if unknown[..] == ["29991231235959"]),
        "{error}"
    );
}

#[test]
fn an_older_backup_loads_and_is_migrated() {
    let world = busy_world();
    let place = Place::new();
    let mut conn = world.test.raw();
    // as before the newest migration: its table is gone, and it counts as not applied
    conn.execute(
        "DROP TABLE job_slots; DELETE FROM __diesel_schema_migrations WHERE version = '20261124006100'",
    )
    .unwrap();
    let backup = place.back_up(world.test.url()).unwrap();
    let (copy, totals) = Copy::of(&world.test, &place, &backup).unwrap();
    assert!(copy.rows("SELECT 1 AS x FROM pg_tables WHERE tablename = 'job_slots'").is_empty());
    check(copy.get().url(), &totals, &ring(KEY), &mut OsRandom).unwrap();
    copy.get().migrate().unwrap();
    assert!(!copy.rows("SELECT 1 AS x FROM pg_tables WHERE tablename = 'job_slots'").is_empty());
}

#[test]
fn an_unsound_copy_is_told() {
    let world = busy_world();
    let place = Place::new();
    let backup = place.back_up(world.test.url()).unwrap();
    let (copy, totals) = Copy::of(&world.test, &place, &backup).unwrap();
    let sound = || check(copy.get().url(), &totals, &ring(KEY), &mut OsRandom);
    sound().unwrap();
    for (harm, mend, named) in [
        ("DELETE FROM sessions", None, "sessions has 0 rows"),
        (
            "INSERT INTO sessions (user_id, id, token_digest, created_at, last_seen_at, idle_expires_at, expires_at) \
             SELECT id, gen_random_uuid(), sha256('x'), now(), now(), now(), now() FROM users; \
             UPDATE orders SET filled_qty = 0.5 WHERE filled_qty > 0",
            Some("UPDATE orders SET filled_qty = 0.123456789 WHERE filled_qty > 0"),
            "sum of its fills",
        ),
        (
            "UPDATE stream_event SET off = off + 1000 WHERE off = (SELECT max(off) FROM stream_event)",
            Some("UPDATE stream_event SET off = off - 1000 WHERE off = (SELECT max(off) FROM stream_event)"),
            "dense",
        ),
        (
            "SET session_replication_role = replica; UPDATE audit_log SET action = 'test' \
             WHERE chain > 0 AND seq = 1",
            None,
            "audit log does not verify",
        ),
    ] {
        copy.execute(harm);
        match sound().unwrap_err() {
            BackupError::Unsound(why) => assert!(why.contains(named), "{why}"),
            error => panic!("{error}"),
        }
        if let Some(mend) = mend {
            copy.execute(mend);
            sound().unwrap();
        }
    }
}

#[test]
fn nothing_in_a_copy_acts_by_itself() {
    let world = busy_world();
    world.test.execute(
        "INSERT INTO leases (name, owner, expires_at) VALUES ('account:1', gen_random_uuid(), now() + interval '1 h'); \
         INSERT INTO lease_fences (name, token) VALUES ('account:1', 5); \
         INSERT INTO jobs (queue, kind, state, max_attempts, payload) VALUES ('upkeep', 'sweep', 'ready', 1, '{}'), \
         ('broker', 'sync_order', 'leased', 1, '{}'), ('reconcile', 'reconcile', 'ready', 1, '{}'), ('mail', 'send_mail', 'leased', 1, '{}'), \
         ('mail', 'send_mail', 'done', 1, '{}'); \
         INSERT INTO jobs (queue, kind, max_attempts, payload, created_at) \
         VALUES ('mail', 'send_mail', 1, '{}', now() - interval '2 h')",
    );
    world.test.execute("UPDATE accounts SET reconciled_at = now(), compare_after = NULL, compare_for = NULL");
    let place = Place::new();
    let backup = place.back_up(world.test.url()).unwrap();
    let (copy, _) = Copy::of(&world.test, &place, &backup).unwrap();
    let epochs = world.test.rows("SELECT epoch FROM stream_head");
    put_to_rest(copy.get().url(), &["upkeep"]).unwrap();
    let jobs = copy.rows("SELECT kind, state, count(*) AS n FROM jobs GROUP BY 1, 2 ORDER BY 1, 2");
    let jobs: Vec<String> = jobs
        .iter()
        .map(|row| {
            format!("{} {} {}", row["kind"].as_str().unwrap(), row["state"].as_str().unwrap(), row["n"])
        })
        .collect();
    assert_eq!(
        jobs,
        [
            "reconcile ready 1",
            "send_mail done 1",
            "send_mail held 2",
            "submit_order held 20",
            "sweep cancelled 1",
            "sync_order ready 1"
        ]
    );
    for row in copy.rows("SELECT compare_for, compare_after > reconciled_at AS waits FROM accounts") {
        assert_eq!((&row["compare_for"], &row["waits"]), (&"restore".into(), &true.into()));
    }
    assert!(copy.rows("SELECT 1 AS x FROM leases").is_empty());
    assert_eq!(copy.rows("SELECT token FROM lease_fences")[0]["token"], 1_000_005);
    assert!(copy.rows("SELECT 1 AS x FROM sessions WHERE revoked_at IS NULL").is_empty());
    for row in copy.rows("SELECT epoch FROM stream_head") {
        assert!(!epochs.contains(&row), "a new epoch");
    }
    let db = plimsoll_storage::Db::open(
        copy.get().url(),
        plimsoll_storage::DbSettings::new(plimsoll_storage::PoolKind::Jobs, 1),
    )
    .unwrap();
    let held = |kind: &str, jobs| HeldJobs { kind: kind.to_owned(), jobs };
    let all = db.read_blocking(|tx| tx.held_jobs()).unwrap();
    assert_eq!(all, [held("send_mail", 2), held("submit_order", 20)]);
    let now = plimsoll_core_domain::Clock::now(&plimsoll_core_domain::SystemClock);
    let released = db.run_blocking(|tx| tx.release_held_jobs(&["send_mail".to_owned()], now)).unwrap();
    assert_eq!(released, Released { released: 1, dropped: 1 });
    let all = db.read_blocking(|tx| tx.held_jobs()).unwrap();
    assert_eq!(all, [held("submit_order", 20)]);
}

/// What stands beside a test's database and goes with it.
struct Beside(String);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = drop_database(plimsoll_testkit::server_url(), &self.0);
    }
}

#[test]
fn a_copy_takes_the_place_of_the_database_and_gives_it_back() {
    let world = busy_world();
    let (url, name) = (world.test.url(), world.test.name());
    let role = format!("app_{name}");
    world.test.execute(&format!(
        "CREATE ROLE {role} LOGIN; ALTER DATABASE {name} SET work_mem = '7MB'; \
         ALTER DATABASE {name} SET search_path TO \"$user\", public; \
         ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {role}"
    ));
    grant_application_role(url, MigrationSet::Platform, &role).unwrap();
    let place = Place::new();
    let backup = place.back_up(url).unwrap();
    let (mut copy, _) = Copy::of(&world.test, &place, &backup).unwrap();
    let scratch = Beside(copy.scratch.take().unwrap().name().to_owned());
    let pre = Beside(pre_name(name, at(0)));
    may_restore(url).unwrap();
    assert!(database_bytes(url).unwrap() > 1_000_000);
    world.test.execute("UPDATE users SET display_name = 'after the backup'");
    let mut session = world.test.raw();

    swap(url, &scratch.0, &pre.0, "before the restore").unwrap();
    assert!(session.execute("SELECT 1").is_err(), "sessions were ended");
    let shown =
        |url: &str| RawConnection::open(url).unwrap().rows("SELECT display_name AS d FROM users").unwrap();
    assert!(shown(url)[0]["d"].as_str().unwrap().starts_with("tab"));
    let mut live = RawConnection::open(url).unwrap();
    let settings =
        live.rows("SELECT current_setting('work_mem') AS m, current_setting('search_path') AS p").unwrap();
    assert_eq!(
        (&settings[0]["m"], &settings[0]["p"]),
        (&Value::from("7MB"), &Value::from("\"$user\", public"))
    );
    let may = live
        .rows(&format!(
            "SELECT has_table_privilege('{role}', 'orders', 'INSERT') AS yes, \
             has_table_privilege('{role}', 'audit_log', 'DELETE') AS no, \
             (SELECT count(*) FROM pg_default_acl) AS defaults"
        ))
        .unwrap();
    assert_eq!(
        (&may[0]["yes"], &may[0]["no"], &may[0]["defaults"]),
        (&true.into(), &false.into(), &1.into())
    );
    drop(live);
    assert!(RawConnection::open(&with_database(url, &pre.0)).is_err(), "what was live takes no connections");
    let beside = other_databases(url).unwrap();
    let found = beside.iter().find(|one| one.name == pre.0).unwrap();
    assert_eq!(found.comment, "before the restore");

    swap(url, &pre.0, &scratch.0, "undone").unwrap();
    assert_eq!(shown(url)[0]["d"], "after the backup");
    drop((scratch, pre));
    world.test.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_swap_that_was_cut_short_or_refused_leaves_the_database_open() {
    let world = busy_world();
    let (url, name) = (world.test.url(), world.test.name());
    assert_eq!(repair(url).unwrap(), Repaired::Nothing);
    let mut admin = RawConnection::open(plimsoll_testkit::server_url()).unwrap();
    admin.execute(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")).unwrap();
    assert!(RawConnection::open(url).is_err());
    assert_eq!(repair(url).unwrap(), Repaired::Opened);
    assert!(RawConnection::open(url).is_ok());

    let scratch = Beside(scratch_name(name, 2));
    Scratch::create(url, &scratch.0, "a test's").unwrap();
    // its name is taken: the transaction fails after the database was closed
    let taken = TestDb::empty();
    swap(url, &scratch.0, taken.name(), "before").unwrap_err();
    assert_eq!(repair(url).unwrap(), Repaired::Nothing, "opened again by the one who closed it");
    let rows = RawConnection::open(url).unwrap().rows("SELECT count(*) AS n FROM orders").unwrap();
    assert_eq!(rows[0]["n"], 20);
    swap(url, "no_such_database", "x", "before").unwrap_err();
    assert_eq!(repair(url).unwrap(), Repaired::Nothing);
}

#[test]
fn a_role_that_may_not_is_told_the_missing_right() {
    let world = World::new();
    let role = format!("small_{}", world.test.name());
    world.test.execute(&format!("CREATE ROLE {role} LOGIN"));
    let url = world.test.url().replace("user=plimsoll_owner", &format!("user={role}"));
    assert_ne!(url, world.test.url());
    let error = may_restore(&url).unwrap_err().to_string();
    world.test.execute(&format!("ALTER ROLE {role} CREATEDB"));
    let second = may_restore(&url).unwrap_err().to_string();
    world.test.execute(&format!("DROP ROLE {role}"));
    assert!(error.contains(&format!("ALTER ROLE {role} CREATEDB")), "{error}");
    assert!(second.contains("OWNER TO"), "{second}");
}
