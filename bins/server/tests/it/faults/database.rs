//! The platform's database: one of the test process's server, or a server of its own that can be stopped.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use plimsoll_storage::migrate::{MigrationSet, migrate};
use plimsoll_storage::private_postgres::{Options, PrivatePostgres};
use plimsoll_storage::testing::RawConnection;
use plimsoll_storage::{Db, DbSettings, PoolKind};
use plimsoll_testkit::TestDb;
use serde_json::Value;
use tempfile::TempDir;

const NAME: &str = "plimsoll";

pub(crate) enum Database {
    Shared(TestDb),
    Own(Box<Cluster>),
}

/// A server for one database, with data that outlives a stop.
pub(crate) struct Cluster {
    server: Mutex<Option<PrivatePostgres>>,
    options: Options,
    url: String,
    _folder: TempDir,
}

impl Cluster {
    #[expect(clippy::disallowed_methods, reason = "the environment is how a test run is configured")]
    fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("plm").tempdir().unwrap();
        // as root the server runs as another account, which must be able to enter
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let mut options = Options::new(folder.path().join("db"));
        options.path_var = std::env::var("PATH").unwrap_or_default();
        options.bin = std::env::var_os("PG_BIN").map(Into::into);
        let quick = [("max_connections", "200"), ("shared_buffers", "32MB"), ("autovacuum", "off")];
        options.settings =
            quick.iter().chain(settings).map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let server = PrivatePostgres::start(options.clone()).unwrap();
        server.ensure_database(NAME).unwrap();
        let url = server.url(NAME);
        migrate(&url, MigrationSet::Platform).unwrap();
        Self { server: Mutex::new(Some(server)), options, url, _folder: folder }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<PrivatePostgres>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the server as `pg_ctl stop -m immediate` does: it has to recover at its next start.
    pub(crate) fn crash(&self) {
        let mut server = self.lock().take().expect("a server that runs");
        server.stop(Duration::ZERO);
    }

    /// Starts it again.
    pub(crate) fn recover(&self) {
        *self.lock() = Some(PrivatePostgres::start(self.options.clone()).unwrap());
    }

    /// Keeps a copy of the data of a server that is stopped.
    pub(crate) fn keep_copy(&self) {
        copy(&self.options.data_dir, &self.kept());
    }

    /// The data is as it was when the copy was made; the server must be stopped.
    pub(crate) fn return_to_copy(&self) {
        std::fs::remove_dir_all(&self.options.data_dir).unwrap();
        copy(&self.kept(), &self.options.data_dir);
    }

    fn kept(&self) -> std::path::PathBuf {
        self.options.data_dir.with_extension("kept")
    }
}

impl Database {
    pub(super) fn shared() -> Self {
        Self::Shared(TestDb::platform())
    }

    /// Without a single table.
    pub(super) fn empty() -> Self {
        Self::Shared(TestDb::empty())
    }

    pub(super) fn own(settings: &[(&str, &str)]) -> Self {
        Self::Own(Box::new(Cluster::start(settings)))
    }

    /// Its server.
    ///
    /// # Panics
    /// Where it has none of its own.
    pub(crate) fn cluster(&self) -> &Cluster {
        match self {
            Self::Own(cluster) => cluster,
            Self::Shared(_) => panic!("this world's database shares a server"),
        }
    }

    /// Its connection string, past every proxy.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Shared(database) => database.url(),
            Self::Own(cluster) => &cluster.url,
        }
    }

    pub(super) fn pool(&self) -> Db {
        Db::open(self.url(), DbSettings::new(PoolKind::Http, 2)).unwrap()
    }

    /// A connection past every proxy.
    pub(crate) fn raw(&self) -> RawConnection {
        RawConnection::open(self.url()).unwrap()
    }

    pub(crate) fn execute(&self, sql: &str) {
        self.raw().execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// A query's rows as JSON objects.
    pub(crate) fn rows(&self, query: &str) -> Vec<Value> {
        self.raw().rows(query).unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// `SELECT count(*) FROM …`.
    pub(crate) fn count(&self, from: &str) -> i64 {
        self.rows(&format!("SELECT count(*)::bigint AS n FROM {from}"))[0]["n"].as_i64().unwrap()
    }
}

/// Copies a folder with owners and modes.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp -a {} {}", from.display(), to.display());
}
