//! A PostgreSQL server of one's own, run as a child process: no port, no password, no installation beyond the server
//! programs. See [`PrivatePostgres`].

mod account;
mod cluster;
mod error;
mod lock;
mod place;
mod predecessor;
mod process;
mod programs;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plimsoll_core_domain::StoreError;

pub use self::cluster::{APP, Cluster, OWNER};
pub use self::error::StartError;

use self::account::Account;
use self::error::{io, unusable};
use self::lock::DataDirLock;
use self::process::{Launch, Supervisor};
use self::programs::Programs;

/// How long [`Drop`] gives the server.
const DROP_DEADLINE: Duration = Duration::from_secs(10);

/// Where and how a private server runs. What would come from the environment is passed in.
#[derive(Clone, Debug)]
pub struct Options {
    /// Made if missing, otherwise used as found; the cluster goes into its `postgres` folder where possible.
    pub data_dir: PathBuf,
    /// The folder of the server programs (the value of PG_BIN); `None`: they are sought.
    pub bin: Option<PathBuf>,
    /// The value of PATH.
    pub path_var: String,
    /// The value of XDG_RUNTIME_DIR: a good place for the socket.
    pub runtime_dir: Option<PathBuf>,
    /// The system's folder for temporary files, the next best place for the socket.
    pub temp_dir: PathBuf,
    /// Takes the cluster when the account that PostgreSQL runs as cannot enter `data_dir` (only as root).
    pub state_dir: PathBuf,
    /// For tests: nothing is flushed to disk, and `data_dir` is removed when the server ends.
    pub throwaway: bool,
    /// Further server settings, such as `("max_connections", "200")`; they win over ours.
    pub settings: Vec<(String, String)>,
    /// How long the server may take to answer; recovery after a crash counts too.
    pub start_timeout: Duration,
}

impl Options {
    /// A cluster that keeps its data, with the defaults for everything else and an empty PATH.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin: None,
            path_var: String::new(),
            runtime_dir: None,
            temp_dir: std::env::temp_dir(),
            state_dir: PathBuf::from("/var/lib/plimsoll"),
            throwaway: false,
            settings: Vec::new(),
            start_timeout: Duration::from_secs(120),
        }
    }
}

/// A running private server. It lives as long as this value: dropping it stops the server, and so does the end of
/// this process, however it comes.
///
/// - Its socket lies in a folder that only the server's account (and root) may enter; there is no TCP port.
/// - As root everything runs as the cluster's owner, else `postgres`, else `nobody`.
/// - When the server dies it is started again, after a pause that grows from 0.25 s to 10 s.
/// - A server that a killed process left behind is stopped first.
#[derive(Debug)]
pub struct PrivatePostgres {
    supervisor: Supervisor,
    cluster: Cluster,
    major: u32,
    account: String,
    trash: Option<PathBuf>,
    _lock: DataDirLock,
}

impl PrivatePostgres {
    /// Starts the server, making the cluster and its two roles the first time, and waits until it answers.
    ///
    /// # Errors
    /// See [`StartError`]: each is one line for the operator.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let data_dir = place::data_dir(&options.data_dir)?;
        let lock = DataDirLock::take(&data_dir)?;
        let existing = place::existing(&data_dir)?;
        let known = match &existing {
            Some(cluster) => Some((cluster.as_path(), place::major_of(cluster)?)),
            None => None,
        };
        let programs = programs::find(options.bin.as_deref(), &options.path_var, known)?;
        let account = Account::choose(existing.as_deref())?;
        let data = match existing {
            Some(cluster) => cluster,
            None => {
                if options.throwaway {
                    account.own(&data_dir).map_err(|error| unusable(&data_dir, error))?;
                }
                let cluster = place::new_cluster(&data_dir, account, &options.state_dir)?;
                initialise(&cluster, &programs, account, options.throwaway)?;
                place::record_location(&data_dir, &cluster)?;
                cluster
            }
        };
        let data = fs::canonicalize(&data).map_err(|error| unusable(&data, error))?;
        let socket =
            place::socket_folder(&data_dir, account, options.runtime_dir.as_deref(), &options.temp_dir)?;
        let cluster = Cluster { socket, data };
        let mut settings = server_settings(options.throwaway);
        settings.extend(options.settings);
        let supervisor = Supervisor::start(
            Launch {
                account,
                cluster: cluster.clone(),
                settings,
                log: data_dir.join("postgres.log"),
                trash: options.throwaway.then(|| data_dir.clone()),
                programs: programs.clone(),
            },
            options.start_timeout,
        )?;
        let server = Self {
            trash: options.throwaway.then(|| data_dir.clone()),
            supervisor,
            cluster,
            major: programs.major,
            account: account.name(),
            _lock: lock,
        };
        server.cluster.ensure_roles().map_err(|error| StartError::ServerFailed {
            reason: error.to_string(),
            log: data_dir.join("postgres.log"),
        })?;
        Ok(server)
    }

    /// The cluster of a server that another process runs on this data folder, if one answers there: for commands that
    /// work beside a running server.
    ///
    /// # Errors
    /// `DataDirUnusable` when the data folder cannot be read.
    pub fn attach(options: &Options) -> Result<Option<Cluster>, StartError> {
        let Ok(data_dir) = fs::canonicalize(&options.data_dir) else { return Ok(None) };
        let Some(data) = place::existing(&data_dir)? else { return Ok(None) };
        let account = Account::choose(Some(&data))?;
        let socket =
            place::socket_folder(&data_dir, account, options.runtime_dir.as_deref(), &options.temp_dir)?;
        let cluster = Cluster { socket, data };
        Ok(cluster.connect("postgres").is_ok().then_some(cluster))
    }

    /// Where the server listens; can be kept and cloned.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The owner's connection string for `database`.
    pub fn url(&self, database: &str) -> String {
        self.cluster.url(database)
    }

    /// The application role's connection string for `database`.
    pub fn app_url(&self, database: &str) -> String {
        self.cluster.app_url(database)
    }

    /// Makes the database if it is missing; see [`Cluster::ensure_database`].
    ///
    /// # Errors
    /// `Unavailable` when the server is away; `Other` when it refuses.
    pub fn ensure_database(&self, name: &str) -> Result<(), StoreError> {
        self.cluster.ensure_database(name)
    }

    /// A line for a shell that opens `database` in psql.
    pub fn psql_command(&self, database: &str) -> String {
        self.cluster.psql_command(database)
    }

    /// The server's major version.
    pub fn major_version(&self) -> u32 {
        self.major
    }

    /// The account that the server runs as.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// How often the server died and was started again.
    pub fn restarts(&self) -> u64 {
        self.supervisor.restarts()
    }

    /// Stops the server: cleanly within `deadline`, else at once (its next start then recovers). Says whether it ended
    /// cleanly. Stop it last, when nobody needs the database any more. May be called again.
    pub fn stop(&mut self, deadline: Duration) -> bool {
        let clean = self.supervisor.stop(deadline);
        if let Some(trash) = self.trash.take() {
            // the watcher has emptied it; the folder itself may lie where only we may remove it
            let _ = fs::remove_dir_all(trash);
        }
        clean
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.stop(DROP_DEADLINE);
    }
}

/// Makes the cluster beside its final place and renames it when it is complete, so that a start that was cut off
/// leaves nothing that looks like a cluster.
fn initialise(
    cluster: &Path,
    programs: &Programs,
    account: Account,
    throwaway: bool,
) -> Result<(), StartError> {
    let partial = cluster.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(|error| unusable(&partial, error))?;
    }
    DirBuilder::new().mode(0o700).create(&partial).map_err(|error| unusable(&partial, error))?;
    account.own(&partial).map_err(|error| unusable(&partial, error))?;
    let mut command = account.command(&programs.bin.join("initdb"));
    command.arg("-D").arg(&partial).args(["-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale=C"]);
    command.arg("--no-instructions").arg(if throwaway { "--no-sync" } else { "--data-checksums" });
    let output = command.output().map_err(io("running initdb"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.contains("error")).or(text.lines().last());
        return Err(StartError::InitFailed(line.unwrap_or("no reason given").trim().to_owned()));
    }
    if cluster.exists() {
        fs::remove_dir(cluster).map_err(|error| unusable(cluster, error))?; // empty, or this fails
    }
    fs::rename(&partial, cluster).map_err(|error| unusable(cluster, error))?;
    if let Some(parent) = cluster.parent() {
        place::sync_folder(parent).map_err(|error| unusable(parent, error))?;
    }
    Ok(())
}

fn server_settings(throwaway: bool) -> Vec<(String, String)> {
    let common = [
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("log_destination", "stderr"),
        ("logging_collector", "off"),
        ("lc_messages", "C"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("jit", "off"),
    ];
    let kept = [("max_connections", "120"), ("cluster_name", "plimsoll")];
    let quick = [
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("autovacuum", "off"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("max_connections", "300"),
        ("shared_buffers", "32MB"),
    ];
    let rest: &[(&str, &str)] = if throwaway { &quick } else { &kept };
    common.iter().chain(rest).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
