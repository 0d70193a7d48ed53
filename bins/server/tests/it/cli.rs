//! The program's commands, what they print and their exit codes; and starts that must fail.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use plimsoll_testkit::{ChildGuard, TestDb, free_port};
use serde_json::Value;
use tempfile::TempDir;

use crate::config::{plimsoll, stderr, stdout};

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that PostgreSQL's account can enter, so that the cluster lies in it and goes with it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    plimsoll(folder).args(arguments).output().unwrap()
}

/// One line on standard error with all of `words`, and exit code 2.
#[track_caller]
fn one_line(output: &Output, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for word in words {
        assert!(text.contains(word), "{text} lacks {word}");
    }
}

/// A server with quick hashes on a port of its own.
struct Running {
    child: ChildGuard,
    bind: String,
    data: PathBuf,
    folder: TempDir,
}

impl Running {
    fn command(folder: &Path, mode: &str, bind: &str, data: &Path) -> Command {
        let mut command = plimsoll(folder);
        command.args([mode, "--bind", bind, "--data-dir"]).arg(data);
        command.env("ARGON2_MEMORY_KIB", "12288").env("LOG_LEVEL", "warn");
        command
    }

    fn start(mode: &str) -> Self {
        let folder = folder();
        let data = folder.path().join("data");
        let bind = format!("127.0.0.1:{}", free_port());
        let child = ChildGuard::spawn(Self::command(folder.path(), mode, &bind, &data));
        let this = Self { child, bind, data, folder };
        this.wait();
        this
    }

    fn again(&mut self, mode: &str) {
        self.child = ChildGuard::spawn(Self::command(self.folder.path(), mode, &self.bind, &self.data));
        self.wait();
    }

    fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.ask("health").status.success() {
            assert!(Instant::now() < deadline, "the server does not become ready");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a command with this server's address and folder.
    fn ask(&self, words: &str) -> Output {
        let mut command = plimsoll(self.folder.path());
        command.args(words.split(' ')).args(["--bind", &self.bind, "--data-dir"]).arg(&self.data);
        command.output().unwrap()
    }

    /// Processes whose command line names this server's folder.
    fn processes(&self) -> usize {
        let needle = self.data.to_str().unwrap().as_bytes();
        let named = |entry: fs::DirEntry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.windows(needle.len()).any(|window| window == needle)
        };
        fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().join("cmdline").exists())
            .map(named)
            .filter(|it| *it)
            .count()
    }
}

#[test]
fn commands_without_a_server_print_what_they_should() {
    let folder = folder();
    let key = run(folder.path(), &["key", "generate"]);
    let other = run(folder.path(), &["key", "generate"]);
    assert_eq!(stdout(&key).trim().len(), 44);
    assert_ne!(stdout(&key), stdout(&other));

    let openapi = run(folder.path(), &["openapi"]);
    let document: Value = serde_json::from_slice(&openapi.stdout).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    assert!(document["paths"]["/orders"]["post"].is_object());

    let completions = run(folder.path(), &["completions", "bash"]);
    assert!(stdout(&completions).contains("_plimsoll"));
    assert!(stdout(&run(folder.path(), &["--version"])).starts_with("plimsoll "));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "such a command makes no files");
}

#[test]
fn wrong_use_is_exit_code_2() {
    let folder = folder();
    for arguments in
        [&["fly"] as &[&str], &["serve", "--nothing"], &["demo", "--json"], &["health", "--live", "--ready"]]
    {
        assert_eq!(run(folder.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_probe_without_a_server_fails() {
    let folder = folder();
    let bind = format!("127.0.0.1:{}", free_port());
    let output = run(folder.path(), &["health", "--bind", &bind]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no answer"), "{}", stderr(&output));
}

#[test]
fn logins_of_a_demonstration_that_never_ran_are_not_made_up() {
    let folder = folder();
    let output = run(folder.path(), &["demo", "--show-logins", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("plimsoll demo"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
}

#[test]
fn a_busy_port_is_one_line() {
    let folder = folder();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    one_line(&run(folder.path(), &["serve", "--bind", &bind]), &[&bind, "in use", "BIND_ADDR"]);
    assert!(!folder.path().join("data/postgres").exists(), "a database was made for nothing");
}

#[test]
fn a_wrong_data_folder_is_one_line() {
    let folder = folder();
    fs::write(folder.path().join("data"), "a file").unwrap();
    let bind = format!("127.0.0.1:{}", free_port());
    one_line(&run(folder.path(), &["serve", "--bind", &bind]), &["data"]);
}

#[test]
fn missing_server_programs_are_one_line() {
    let folder = folder();
    let bind = format!("127.0.0.1:{}", free_port());
    let mut serve = plimsoll(folder.path());
    serve.args(["serve", "--bind", &bind]).env("PG_BIN", folder.path());
    one_line(&serve.output().unwrap(), &["PostgreSQL", folder.path().to_str().unwrap()]);
}

#[test]
fn a_database_that_cannot_be_reached_needs_attention() {
    let folder = folder();
    let url = format!("postgresql://nobody@127.0.0.1:{}/x", free_port());
    let mut plan = plimsoll(folder.path());
    plan.args(["migrate", "--plan"]).env("DATABASE_URL", url).env("PROFILE", "development");
    let output = plan.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("refused"), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}

#[test]
fn migrations_are_planned_then_applied() {
    let (folder, database) = (folder(), TestDb::empty());
    let migrate = |arguments: &[&str]| {
        let mut command = plimsoll(folder.path());
        command.args(arguments).env("DATABASE_URL", database.url()).env("PROFILE", "development");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let planned = migrate(&["migrate", "--plan"]);
    assert!(
        planned.lines().count() > 5 && planned.lines().all(|line| line.starts_with("would apply ")),
        "{planned}"
    );
    assert_eq!(migrate(&["migrate"]), planned.replace("would apply", "applied"));
    assert_eq!(migrate(&["migrate"]), "nothing to apply: the schema is current\n");
    database.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')");
    let mut newer = plimsoll(folder.path());
    newer.args(["migrate"]).env("DATABASE_URL", database.url()).env("PROFILE", "development");
    assert_eq!(newer.output().unwrap().status.code(), Some(2), "a newer schema is for the operator to mend");
}

#[test]
fn the_paper_brokers_database_beside_a_given_one_must_be_there() {
    let (folder, database) = (folder(), TestDb::platform());
    let bind = format!("127.0.0.1:{}", free_port());
    let mut serve = plimsoll(folder.path());
    serve.args(["serve", "--bind", &bind, "--log-level", "error"]);
    serve.env("DATABASE_URL", database.url()).env("PROFILE", "development");
    let missing = format!("{}_paper", database.name());
    one_line(&serve.output().unwrap(), &["PAPER_DATABASE_URL", &missing, "CREATE DATABASE"]);
}

#[test]
fn a_server_keeps_its_folder_makes_admins_beside_it_and_leaves_nothing_running() {
    let mut server = Running::start("serve");
    for name in ["encryption.key", "plimsoll.lock"] {
        let mode = fs::metadata(server.data.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }

    // a second one, on the same port and on another
    one_line(&server.ask("serve"), &["in use by another running instance"]);
    let elsewhere = format!("127.0.0.1:{}", free_port());
    let mut second = Running::command(server.folder.path(), "serve", &elsewhere, &server.data);
    one_line(&second.output().unwrap(), &["in use by another running instance"]);

    let password = server.folder.path().join("password");
    fs::write(&password, "correct horse battery\n").unwrap();
    let create = format!("user create-admin boss@example.com --password-file {}", password.display());
    let made = server.ask(&create);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    assert!(stdout(&made).contains("boss@example.com"));
    let twice = server.ask(&create);
    assert_eq!(twice.status.code(), Some(1));
    assert!(stderr(&twice).contains("already"), "{}", stderr(&twice));
    let users: Vec<Value> = serde_json::from_slice(&server.ask("user list --json").stdout).unwrap();
    assert_eq!(users.len(), 1);
    assert_eq!(users[0]["email"], "boss@example.com");
    assert_eq!((&users[0]["role"], &users[0]["state"]), (&Value::from("admin"), &Value::from("active")));
    fs::write(&password, "short").unwrap();
    let short = server.ask(&create.replace("boss", "other"));
    assert!(stderr(&short).contains("at least 12"), "{}", stderr(&short));
    // from standard input, which is empty here
    assert!(stderr(&server.ask("user create-admin third@example.com")).contains("empty"));

    assert!(server.ask("health --live").status.success());
    assert_eq!(server.child.terminate(PATIENCE).code(), Some(0));
    assert_eq!(server.processes(), 0, "a process outlived the server");
    assert!(!server.ask("health").status.success());

    // another key than the one that the database was set up with
    let mut wrong = Running::command(server.folder.path(), "serve", &server.bind, &server.data);
    let key = stdout(&server.ask("key generate"));
    // a pool that is still opening connections may warn of the server that goes
    let output = wrong.env("ENCRYPTION_KEY", key.trim()).env("LOG_LEVEL", "error").output().unwrap();
    one_line(&output, &["ENCRYPTION_KEY is not the key"]);
    assert_eq!(server.processes(), 0, "a failed start left a process");
}

#[test]
fn a_demonstration_shows_its_logins_and_keeps_them() {
    let mut demo = Running::start("demo");
    let shown: Value = serde_json::from_slice(&demo.ask("demo --show-logins --json").stdout).unwrap();
    assert_eq!(shown["url"], format!("http://{}", demo.bind));
    assert_eq!(shown["users"][0]["role"], "trader");
    assert_eq!(shown["users"][1]["role"], "admin");
    assert!(shown["paper_broker"]["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert!(shown["database"]["psql"].as_str().unwrap().starts_with("psql "));
    let mode = fs::metadata(demo.data.join("demo-logins.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut lines = Vec::new();
    while !lines.iter().any(|line: &String| line.contains("Stop: Ctrl-C")) {
        lines.push(demo.child.line(PATIENCE));
    }
    let password = shown["users"][0]["password"].as_str().unwrap();
    assert!(lines.iter().any(|line| line.contains(password)), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains(" ms  PostgreSQL")), "{lines:?}");

    demo.child.signal(Signal::SIGINT);
    assert_eq!(demo.child.wait(PATIENCE).code(), Some(0));
    assert_eq!(demo.processes(), 0, "a process outlived the demonstration");
    demo.again("demo");
    let again: Value = serde_json::from_slice(&demo.ask("demo --show-logins --json").stdout).unwrap();
    assert_eq!(again["users"], shown["users"]);
    assert_eq!(again["paper_broker"]["api_key"], shown["paper_broker"]["api_key"]);
    assert_eq!(demo.child.terminate(PATIENCE).code(), Some(0));
}
