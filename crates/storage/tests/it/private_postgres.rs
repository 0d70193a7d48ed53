//! The private server: its life, its ends, and what it refuses.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use plimsoll_storage::private_postgres::{APP, Options, PrivatePostgres, StartError};
use plimsoll_storage::testing::RawConnection;
use plimsoll_testkit::ChildGuard;
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn is_root() -> bool {
    fs::metadata("/proc/self").map(|own| own.uid()).unwrap_or(1) == 0
}

/// A data folder that any account may enter, in the system's temporary folder.
fn data_dir() -> TempDir {
    let folder = tempfile::Builder::new().prefix("plimsoll-data-").tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

fn options(data_dir: &Path) -> Options {
    let mut options = Options::new(data_dir);
    options.path_var = "/usr/bin:/bin".into();
    options
}

fn raw(url: &str) -> RawConnection {
    RawConnection::open(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// Processes whose working folder is the cluster's: every one of its server.
fn server_processes(cluster: &Path) -> Vec<u32> {
    let all =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == cluster))
        .collect()
}

fn gone_within(cluster: &Path, patience: Duration) {
    let start = Instant::now();
    while !server_processes(cluster).is_empty() {
        assert!(start.elapsed() < patience, "still there: {:?}", server_processes(cluster));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The example program, as a process that can be killed. `uid`: run as that account (only as root).
fn child(data_dir: &Path, uid: Option<u32>) -> (ChildGuard, Value) {
    let program = plimsoll_testkit::example("plimsoll-storage", "private_postgres", "private-postgres");
    let program = match uid {
        None => program,
        Some(_) => {
            // the target folder may lie where the other account cannot go; copied by a process of its own, since a
            // file that is open for writing in ours could not be executed while another test forks
            let copy = data_dir.join("program");
            assert!(Command::new("cp").arg(program).arg(&copy).status().unwrap().success());
            copy
        }
    };
    let mut command = Command::new(program);
    command.arg(data_dir).stdin(Stdio::piped());
    if let Some(uid) = uid {
        command.uid(uid).gid(uid).current_dir("/");
    }
    let mut child = ChildGuard::spawn(command);
    let line = child.line(PATIENCE);
    (child, serde_json::from_str(&line).unwrap())
}

fn folder_of(started: &Value) -> PathBuf {
    PathBuf::from(started["folder"].as_str().unwrap())
}

#[test]
fn data_is_kept_over_restarts_and_the_socket_is_private() {
    let data = data_dir();
    let mut server = PrivatePostgres::start(options(data.path())).unwrap();
    let socket = server.cluster().socket_folder().to_owned();
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(server.cluster().folder()).unwrap().mode() & 0o777, 0o700);
    server.ensure_database("plimsoll").unwrap();
    server.ensure_database("plimsoll").unwrap();
    let mut owner = raw(&server.url("plimsoll"));
    owner.execute("CREATE TABLE kept (x int); INSERT INTO kept VALUES (42)").unwrap();
    let settings = owner
        .rows("SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'listen_addresses') ORDER BY 1")
        .unwrap();
    let values: Vec<_> = settings.iter().map(|row| row["setting"].as_str().unwrap()).collect();
    assert_eq!(values, ["on", "", "on"]);
    // the application role reads and writes what the owner makes, and makes nothing itself
    let mut app = raw(&server.app_url("plimsoll"));
    assert_eq!(app.rows("SELECT x, current_user AS me FROM kept").unwrap()[0]["me"], APP);
    app.execute("UPDATE kept SET x = 43").unwrap();
    app.execute("CREATE TABLE mine (x int)").unwrap_err();

    assert!(server.stop(PATIENCE), "a clean stop, with clients still there");
    assert!(server.stop(PATIENCE), "again is no harm");
    assert!(server_processes(server.cluster().folder()).is_empty());
    drop(server);
    assert!(!socket.exists(), "the socket folder goes with the server");
    let log = fs::read_to_string(data.path().join("postgres.log")).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");

    let server = PrivatePostgres::start(options(data.path())).unwrap();
    assert_eq!(raw(&server.url("plimsoll")).rows("SELECT x FROM kept").unwrap()[0]["x"], 43);
    let log = fs::read_to_string(data.path().join("postgres.log")).unwrap();
    assert!(!log.contains("not properly shut down"), "{log}");
}

#[test]
fn a_killed_process_leaves_no_server_and_the_next_start_works() {
    let data = data_dir();
    let (mut first, started) = child(data.path(), None);
    let cluster = folder_of(&started);
    raw(started["url"].as_str().unwrap())
        .execute("CREATE TABLE kept (x int); INSERT INTO kept VALUES (1)")
        .unwrap();
    assert!(!server_processes(&cluster).is_empty());
    first.kill();
    gone_within(&cluster, Duration::from_secs(5));

    let (mut second, started) = child(data.path(), None);
    // this time the next one does not wait: it takes over from a server that is still stopping
    let mut conn = raw(started["url"].as_str().unwrap());
    assert_eq!(conn.rows("SELECT x FROM kept").unwrap().len(), 1);
    second.kill();
    let server = PrivatePostgres::start(options(data.path())).unwrap();
    assert_eq!(raw(&server.url("postgres")).rows("SELECT x FROM kept").unwrap().len(), 1);
}

#[test]
fn a_server_without_its_watcher_is_taken_over() {
    let data = data_dir();
    let (mut first, started) = child(data.path(), None);
    let cluster = folder_of(&started);
    let postmaster: u32 =
        fs::read_to_string(cluster.join("postmaster.pid")).unwrap().lines().next().unwrap().parse().unwrap();
    let stat = fs::read_to_string(format!("/proc/{postmaster}/stat")).unwrap();
    let shell: u32 = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    // both shells share a process group with the one that is the server's parent
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let mut fields = stat.rsplit(") ").next().unwrap().split(' ');
        let group: u32 = fields.nth(2).unwrap().parse().unwrap();
        if group == shell && pid != postmaster {
            Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        }
    }
    first.kill();
    std::thread::sleep(Duration::from_millis(500));
    assert!(!server_processes(&cluster).is_empty(), "an orphan is left");
    let server = PrivatePostgres::start(options(data.path())).unwrap();
    assert!(!server_processes(&cluster).contains(&postmaster));
    raw(&server.url("postgres")).execute("SELECT 1").unwrap();
}

#[test]
fn a_server_that_dies_is_started_again() {
    let data = data_dir();
    let server = PrivatePostgres::start(options(data.path())).unwrap();
    let pid_file = server.cluster().folder().join("postmaster.pid");
    let postmaster = fs::read_to_string(pid_file).unwrap().lines().next().unwrap().to_owned();
    Command::new("kill").args(["-9", &postmaster]).status().unwrap();
    let start = Instant::now();
    while server.restarts() == 0 || RawConnection::open(&server.url("postgres")).is_err() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_second_instance_is_refused_and_can_attach() {
    let data = data_dir();
    assert_eq!(PrivatePostgres::attach(&options(data.path())).unwrap(), None);
    let server = PrivatePostgres::start(options(data.path())).unwrap();
    match PrivatePostgres::start(options(data.path())).unwrap_err() {
        StartError::SecondInstance { pid, .. } => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other}"),
    }
    let attached = PrivatePostgres::attach(&options(data.path())).unwrap().expect("it runs");
    assert_eq!(&attached, server.cluster());
    drop(server);
    assert_eq!(PrivatePostgres::attach(&options(data.path())).unwrap(), None);
}

#[test]
fn what_cannot_be_used_is_said_in_one_line() {
    let one_line = |error: StartError| {
        let text = error.to_string();
        assert!(!text.contains('\n') && !text.is_empty(), "{text}");
        text
    };
    let data = data_dir();
    let mut missing = options(data.path());
    missing.bin = Some(data.path().join("nowhere"));
    let error = PrivatePostgres::start(missing).unwrap_err();
    assert!(matches!(error, StartError::NoServerPrograms { .. }), "{error}");
    one_line(error);

    let file = data.path().join("file");
    fs::write(&file, "").unwrap();
    let error = PrivatePostgres::start(options(&file)).unwrap_err();
    assert!(matches!(error, StartError::DataDirUnusable { .. }), "{error}");
    one_line(error);

    let other = data_dir();
    fs::create_dir(other.path().join("postgres")).unwrap();
    fs::write(other.path().join("postgres/thesis.txt"), "years of work").unwrap();
    let error = PrivatePostgres::start(options(other.path())).unwrap_err();
    assert!(one_line(error).contains("no PostgreSQL cluster"));
    assert!(other.path().join("postgres/thesis.txt").exists());

    fs::remove_file(other.path().join("postgres/thesis.txt")).unwrap();
    fs::write(other.path().join("postgres/PG_VERSION"), "11\n").unwrap();
    let error = PrivatePostgres::start(options(other.path())).unwrap_err();
    assert!(matches!(error, StartError::WrongMajor { needed: 11, .. }), "{error}");
    one_line(error);
}

#[test]
fn a_server_that_will_not_start_gives_its_own_reason() {
    let data = data_dir();
    let mut wrong = options(data.path());
    wrong.settings = vec![("max_connections".into(), "many".into())];
    match PrivatePostgres::start(wrong).unwrap_err() {
        StartError::ServerFailed { reason, .. } => assert!(reason.contains("max_connections"), "{reason}"),
        other => panic!("{other}"),
    }
    // and the cluster is none the worse
    PrivatePostgres::start(options(data.path())).unwrap();
}

#[test]
fn a_start_that_was_cut_off_is_begun_anew() {
    let data = data_dir();
    fs::create_dir(data.path().join("postgres.partial")).unwrap();
    fs::write(data.path().join("postgres.partial/PG_VERSION"), "15\n").unwrap();
    let server = PrivatePostgres::start(options(data.path())).unwrap();
    raw(&server.url("postgres")).execute("SELECT 1").unwrap();
    assert!(!data.path().join("postgres.partial").exists());
}

#[test]
fn a_throwaway_server_leaves_nothing() {
    let data = data_dir();
    let inside = data.path().join("deep");
    let mut quick = options(&inside);
    quick.throwaway = true;
    let server = PrivatePostgres::start(quick).unwrap();
    let row = &raw(&server.url("postgres")).rows("SELECT current_setting('fsync') AS fsync").unwrap()[0];
    assert_eq!(row["fsync"], "off");
    let socket = server.cluster().socket_folder().to_owned();
    drop(server);
    assert!(!inside.exists() && !socket.exists());
}

#[test]
fn as_root_a_closed_home_keeps_its_permissions_and_the_cluster_goes_elsewhere() {
    if !is_root() {
        // without another account to become, a data folder of one's own is always open to oneself
        let data = data_dir();
        fs::set_permissions(data.path(), Permissions::from_mode(0o700)).unwrap();
        let server = PrivatePostgres::start(options(data.path())).unwrap();
        assert!(server.cluster().folder().starts_with(data.path()));
        return;
    }
    let home = data_dir();
    fs::set_permissions(home.path(), Permissions::from_mode(0o700)).unwrap();
    let state = data_dir();
    let data = home.path().join("data");
    let with_state = || {
        let mut options = options(&data);
        options.state_dir = state.path().join("plimsoll");
        options
    };
    let server = PrivatePostgres::start(with_state()).unwrap();
    let cluster = server.cluster().folder().to_owned();
    assert!(cluster.starts_with(state.path()), "{cluster:?}");
    assert_eq!(fs::metadata(home.path()).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&cluster).unwrap().mode() & 0o777, 0o700);
    assert_ne!(fs::metadata(&cluster).unwrap().uid(), 0);
    let recorded = fs::read_to_string(data.join("postgres.location")).unwrap();
    assert_eq!(Path::new(recorded.trim_end()), cluster);
    raw(&server.url("postgres")).execute("CREATE TABLE kept (x int)").unwrap();
    drop(server);
    let server = PrivatePostgres::start(with_state()).unwrap();
    assert_eq!(server.cluster().folder(), cluster);
    raw(&server.url("postgres")).execute("SELECT x FROM kept").unwrap();
    drop(server);
    fs::remove_dir_all(&cluster).unwrap();
    let error = PrivatePostgres::start(with_state()).unwrap_err();
    assert!(error.to_string().contains("postgres.location"), "{error}");
}

#[test]
fn a_normal_user_runs_it_as_himself() {
    // as root, `nobody` plays the normal user
    let uid = is_root().then_some(65534);
    let data = data_dir();
    if let Some(uid) = uid {
        std::os::unix::fs::chown(data.path(), Some(uid), Some(uid)).unwrap();
    }
    let (mut first, started) = child(data.path(), uid);
    let cluster = folder_of(&started);
    assert_eq!(cluster, fs::canonicalize(data.path()).unwrap().join("postgres"));
    let owner = fs::metadata(&cluster).unwrap().uid();
    assert_eq!(owner, uid.unwrap_or_else(|| fs::metadata("/proc/self").unwrap().uid()));
    raw(started["url"].as_str().unwrap()).execute("CREATE TABLE kept (x int)").unwrap();
    first.kill();
    gone_within(&cluster, Duration::from_secs(5));
    // started again, and, as root, once more by root: the cluster keeps its owner
    let (mut second, started) = child(data.path(), uid);
    raw(started["url"].as_str().unwrap()).execute("SELECT x FROM kept").unwrap();
    second.kill();
    gone_within(&cluster, Duration::from_secs(5));
    let server = PrivatePostgres::start(options(data.path())).unwrap();
    assert_eq!(fs::metadata(server.cluster().folder()).unwrap().uid(), owner);
    raw(&server.url("postgres")).execute("SELECT x FROM kept").unwrap();
    drop(server);
}
