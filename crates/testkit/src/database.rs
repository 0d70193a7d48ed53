//! A database per test, cloned from a migrated template.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use plimsoll_storage::db::with_database;
use plimsoll_storage::migrate::{MigrationSet, migrate};
use plimsoll_storage::testing::RawConnection;
use plimsoll_storage::{Db, DbSettings, PoolKind};
use serde_json::Value;

use crate::server::server_url;

/// Serialises the making of templates between processes.
const TEMPLATE_LOCK: i64 = 7140;

/// A database of one test. Dropping it drops the database, and with it every session that is still there.
#[derive(Debug)]
pub struct TestDb {
    name: String,
    url: String,
}

impl TestDb {
    /// One with the platform's schema.
    pub fn platform() -> Self {
        Self::migrated(MigrationSet::Platform)
    }

    /// One with the schema of the paper broker's books.
    pub fn paper() -> Self {
        Self::migrated(MigrationSet::Paper)
    }

    /// An empty one.
    pub fn empty() -> Self {
        Self::create("template0", &mut admin())
    }

    fn migrated(set: MigrationSet) -> Self {
        let mut admin = admin();
        let template = template(set, &mut admin);
        Self::create(&template, &mut admin)
    }

    fn create(template: &str, admin: &mut RawConnection) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // 15 and later can copy the template's files, which is twice as fast
        let version =
            first(admin, "SELECT current_setting('server_version_num')::int / 10000 AS major", "major");
        let strategy = if version.as_i64() >= Some(15) { "STRATEGY FILE_COPY" } else { "" };
        // a run that was killed may have left one of this name
        admin
            .execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .expect("dropping an old database");
        admin
            .execute(&format!("CREATE DATABASE {name} TEMPLATE {template} {strategy}"))
            .unwrap_or_else(|error| panic!("cloning {template}: {error}"));
        Self { url: with_database(server_url(), &name), name }
    }

    /// The database's name on its server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its connection string.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A pool of four connections on it.
    pub fn db(&self) -> Db {
        self.db_with(DbSettings::new(PoolKind::Http, 4))
    }

    /// A pool with settings of the test's own.
    pub fn db_with(&self, settings: DbSettings) -> Db {
        Db::open(&self.url, settings).expect("a pool on the test's database")
    }

    /// A direct connection to it.
    pub fn raw(&self) -> RawConnection {
        RawConnection::open(&self.url).expect("a connection to the test's database")
    }

    /// Runs statements on a connection of their own.
    pub fn execute(&self, sql: &str) {
        self.raw().execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// A query's rows as JSON objects.
    pub fn rows(&self, query: &str) -> Vec<Value> {
        self.raw().rows(query).unwrap_or_else(|error| panic!("{query}: {error}"))
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        // a server that the test itself has stopped has no databases to drop
        if let Ok(mut admin) = RawConnection::open(server_url()) {
            let _ = admin.execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

fn admin() -> RawConnection {
    RawConnection::open(server_url()).unwrap_or_else(|error| panic!("the server for tests: {error}"))
}

fn first(conn: &mut RawConnection, query: &str, column: &str) -> Value {
    let rows = conn.rows(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    rows[0][column].clone()
}

/// The name of a migrated database that is never used itself; its name changes with the migrations.
fn template(set: MigrationSet, admin: &mut RawConnection) -> String {
    let name = format!("tmpl_{}", set.fingerprint());
    admin.execute(&format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).expect("the lock on templates");
    let there = format!("SELECT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') AS there");
    if first(admin, &there, "there") == Value::Bool(false) {
        let new = format!("{name}_new");
        admin
            .execute(&format!("DROP DATABASE IF EXISTS {new} WITH (FORCE)"))
            .expect("dropping an old template");
        admin.execute(&format!("CREATE DATABASE {new} TEMPLATE template0")).expect("making a template");
        migrate(&with_database(server_url(), &new), set)
            .unwrap_or_else(|error| panic!("migrating {new}: {error}"));
        let rename = format!("ALTER DATABASE {new} RENAME TO {name}");
        // the migration's own session may still be leaving
        let renamed = (0..500).any(|_| {
            let done = admin.execute(&rename).is_ok();
            if !done {
                thread::sleep(Duration::from_millis(10));
            }
            done
        });
        assert!(renamed, "{new} stays in use");
    }
    admin.execute(&format!("SELECT pg_advisory_unlock({TEMPLATE_LOCK})")).expect("the lock on templates");
    name
}
