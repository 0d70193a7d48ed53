//! The databases: found or started, brought to the schema of this build, and the pools on them.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_storage::db::{database_of, with_database};
use plimsoll_storage::migrate::{self, MigrateError, MigrationSet, Report};
use plimsoll_storage::platform::backup::{self, Repaired};
use plimsoll_storage::private_postgres::{APP, Cluster, Options, PrivatePostgres};
use plimsoll_storage::{Db, DbSettings, PoolKind};
use secrecy::ExposeSecret;

use super::StartError;
use crate::config::{Environment, Settings};

/// The platform's database in a private server.
const DATABASE: &str = "plimsoll";
/// Follows the platform's name in that of the paper broker's database.
const PAPER_SUFFIX: &str = "_paper";
/// How long a database that is given, and away, is waited for at the start.
const START_PATIENCE: Duration = Duration::from_secs(20);
const START_PAUSE: Duration = Duration::from_secs(1);

/// Where the databases are.
#[derive(Debug)]
pub struct Databases {
    /// For migrations.
    pub owner: String,
    /// For the pools.
    pub app: String,
    /// The paper broker's, for its owner.
    pub paper: String,
    /// A line for a shell that opens the platform's database.
    pub psql: String,
    /// Where a private server keeps its files, when it is not below the data folder.
    pub elsewhere: Option<PathBuf>,
    cluster: Option<Cluster>,
    /// `None`: the databases are given, or another process runs the private server.
    postgres: Option<PrivatePostgres>,
}

impl Databases {
    /// The databases of the settings: given, or those of a private server that is started now.
    ///
    /// # Errors
    /// The private server does not start.
    pub fn open(settings: &Settings, environment: &Environment) -> Result<Self, StartError> {
        if let Some(given) = Self::given(settings) {
            return Ok(given);
        }
        let postgres = PrivatePostgres::start(options(settings, environment))?;
        reopen(&postgres.cluster().url(DATABASE));
        postgres.ensure_database(DATABASE)?;
        let cluster = postgres.cluster().clone();
        let mut this = Self::private(settings, cluster);
        this.postgres = Some(postgres);
        Ok(this)
    }

    /// As [`Databases::open`], but where a server of ours runs on the data folder already, its databases.
    ///
    /// # Errors
    /// As [`Databases::open`].
    pub fn open_beside(settings: &Settings, environment: &Environment) -> Result<Self, StartError> {
        if let Some(given) = Self::given(settings) {
            return Ok(given);
        }
        match PrivatePostgres::attach(&options(settings, environment))? {
            Some(cluster) => Ok(Self::private(settings, cluster)),
            None => Self::open(settings, environment),
        }
    }

    fn given(settings: &Settings) -> Option<Self> {
        let app = settings.database.url.as_ref()?.expose_secret().to_owned();
        let owner = settings.database.migration_url.as_ref().map_or(&*app, |url| url.expose_secret());
        let paper = match &settings.database.paper_url {
            Some(url) => url.expose_secret().to_owned(),
            None => {
                let name = database_of(owner).unwrap_or_else(|| DATABASE.to_owned());
                with_database(owner, &format!("{name}{PAPER_SUFFIX}"))
            }
        };
        Some(Self {
            psql: format!("psql '{app}'"),
            owner: owner.to_owned(),
            app,
            paper,
            elsewhere: None,
            cluster: None,
            postgres: None,
        })
    }

    fn private(settings: &Settings, cluster: Cluster) -> Self {
        let data_dir =
            std::fs::canonicalize(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
        let paper = match &settings.database.paper_url {
            Some(url) => url.expose_secret().to_owned(),
            None => cluster.url(&format!("{DATABASE}{PAPER_SUFFIX}")),
        };
        Self {
            owner: cluster.url(DATABASE),
            app: cluster.app_url(DATABASE),
            paper,
            psql: cluster.psql_command(DATABASE),
            elsewhere: (!cluster.folder().starts_with(&data_dir)).then(|| cluster.folder().to_owned()),
            cluster: Some(cluster),
            postgres: None,
        }
    }

    /// The folder of the private server's files, where it is on this machine.
    #[must_use]
    pub fn files(&self) -> Option<&std::path::Path> {
        self.cluster.as_ref().map(Cluster::folder)
    }

    /// Major version and account of the private server that this process runs.
    #[must_use]
    pub fn private_server(&self) -> Option<(u32, &str)> {
        self.postgres.as_ref().map(|server| (server.major_version(), server.account()))
    }

    /// Brings the platform's database to this build's schema, and lets the application's role use it. A given database
    /// that is away is waited for.
    ///
    /// # Errors
    /// The database stays away, is of a newer schema, or a migration fails.
    pub fn migrate(&self) -> Result<Report, StartError> {
        let began = Instant::now();
        let mut closed = true;
        let report = loop {
            match migrate::migrate(&self.owner, MigrationSet::Platform) {
                Err(MigrateError::Store(error))
                    if error.kind() == StoreErrorKind::Unavailable && std::mem::take(&mut closed) =>
                {
                    reopen(&self.owner);
                }
                Err(MigrateError::Store(error))
                    if self.is_away(&error) && began.elapsed() < START_PATIENCE =>
                {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "The database does not answer; trying again.");
                    thread::sleep(START_PAUSE);
                }
                other => break other?,
            }
        };
        if self.cluster.is_some() {
            migrate::grant_application_role(&self.owner, MigrationSet::Platform, APP)?;
        }
        Ok(report)
    }

    /// What [`Databases::migrate`] would apply.
    ///
    /// # Errors
    /// As there, without waiting.
    pub fn plan(&self) -> Result<Report, StartError> {
        Ok(migrate::plan(&self.owner, MigrationSet::Platform)?)
    }

    /// Makes the paper broker's database where it is missing and this process may.
    ///
    /// # Errors
    /// The private server refuses.
    pub fn ensure_paper(&self) -> Result<(), StartError> {
        match (&self.cluster, database_of(&self.paper)) {
            (Some(cluster), Some(name)) if cluster.url(&name) == self.paper => {
                Ok(cluster.ensure_database(&name)?)
            }
            _ => Ok(()),
        }
    }

    /// A pool with the rights of the application.
    ///
    /// # Errors
    /// No connection can be made.
    pub fn pool(&self, kind: PoolKind, size: u32) -> Result<Db, StoreError> {
        Db::open(&self.app, DbSettings::new(kind, size))
    }

    /// Stops the private server, if this process runs one. Last of all: nobody needs the database any more.
    pub fn stop(mut self, deadline: Duration) -> bool {
        self.postgres.take().is_none_or(|mut server| server.stop(deadline))
    }

    fn is_away(&self, error: &StoreError) -> bool {
        self.cluster.is_none() && error.kind() == StoreErrorKind::Unavailable
    }
}

/// Opens a database that a restore closed and did not live to swap. Anything else is found out by whoever connects.
fn reopen(owner: &str) {
    if matches!(backup::repair(owner), Ok(Repaired::Opened)) {
        tracing::warn!("A restore was cut short before its swap: the database takes connections again.");
    }
}

fn options(settings: &Settings, environment: &Environment) -> Options {
    let mut options = Options::new(&settings.data_dir);
    options.bin.clone_from(&settings.database.pg_bin);
    options.path_var = environment.get("PATH").unwrap_or_default().to_owned();
    options.runtime_dir = environment.get("XDG_RUNTIME_DIR").map(PathBuf::from);
    options.temp_dir = environment.temp_dir();
    // the pools, the listener, the notifier, the paper broker and room for psql
    let connections = settings.database.pools.iter().sum::<u32>() + 30;
    options.settings.push(("max_connections".to_owned(), connections.max(100).to_string()));
    options
}
