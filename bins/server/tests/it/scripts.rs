//! `./run`, `./test` and `scripts/setup.sh` on machines made of stand-in commands: what they install, what they
//! refuse, what they say, and how tests are counted.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder with a PATH of its own, and another that stands for `/`.
struct Machine {
    folder: TempDir,
}

/// What a script printed (both outputs) and its exit status.
struct Ran {
    status: i32,
    text: String,
}

impl Machine {
    /// A machine with a shell's usual tools and nothing else.
    fn bare() -> Self {
        let machine = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        fs::create_dir_all(machine.path("bin")).unwrap();
        fs::create_dir_all(machine.path("root")).unwrap();
        for tool in [
            "sh", "grep", "mkdir", "rmdir", "tee", "rm", "cat", "env", "cmp", "cp", "dirname", "mktemp",
            "mkfifo", "chmod", "awk", "sleep", "tr", "true",
        ] {
            let real = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool));
            let real = real.iter().find(|path| path.exists()).expect(tool);
            symlink(real, machine.path("bin").join(tool)).unwrap();
        }
        machine.stub("id", "echo 1000");
        machine
    }

    /// One with cargo and a C compiler, too.
    fn with_compilers() -> Self {
        let machine = Self::bare();
        machine.stub("cargo", "printf 'cargo:'; printf ' %s' \"$@\"; echo");
        machine.stub("cc", "exit 0");
        machine
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// A command of this machine's, as the body of a shell script.
    fn stub(&self, name: &str, body: &str) {
        self.program(&format!("bin/{name}"), body);
    }

    fn program(&self, relative: &str, body: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn file(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap_or_default()
    }

    fn libpq(&self) {
        self.file("root/usr/lib/x86_64-linux-gnu/libpq.so", "");
    }

    fn server(&self) {
        self.program("root/usr/lib/postgresql/15/bin/initdb", "exit 0");
        self.program("root/usr/lib/postgresql/15/bin/postgres", "exit 0");
    }

    /// An apt-get that notes its arguments and the cluster setting it finds, and installs what it is asked for;
    /// and an update-rc.d that notes its arguments.
    fn apt(&self) {
        let home = self.folder.path().display();
        self.stub("update-rc.d", &format!("echo \"$*\" >>{home}/service.log"));
        self.stub(
            "apt-get",
            &format!(
                r#"echo "$*" >>{home}/apt.log
case "$*" in *install*)
    cat {home}/root/etc/postgresql-common/createcluster.d/*.conf >>{home}/setting.log 2>/dev/null
    [ -z "$(cat </dev/stdin)" ] || exit 9
    for package in "$@"; do case "$package" in
        libpq-dev) mkdir -p {home}/root/usr/lib/x86_64-linux-gnu; echo >{home}/root/usr/lib/x86_64-linux-gnu/libpq.so ;;
        zbar-tools) cp {home}/bin/id {home}/bin/zbarimg ;;
        postgresql) mkdir -p {home}/root/usr/lib/postgresql/15/bin
            mkdir -p {home}/root/etc/init.d; echo >{home}/root/etc/init.d/postgresql
            for name in initdb postgres; do
                cp {home}/bin/id {home}/root/usr/lib/postgresql/15/bin/$name
            done ;;
    esac; done ;;
esac"#
            ),
        );
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("home"))
            .env("TMPDIR", "/tmp")
            .env("SETUP_ROOT", self.path("root"))
            .stdin(Stdio::null());
        command
    }

    /// Runs `line` in a shell that has read setup.sh.
    fn setup(&self, line: &str) -> Ran {
        let setup = repository().join("scripts/setup.sh");
        let mut shell = self.command(Path::new("/bin/sh"));
        shell.args(["-c", &format!("set -eu; . \"$0\"; {line}")]).arg(setup);
        ran(shell)
    }

    /// A copy of the repository's scripts, to run them as a person does.
    fn checkout(&self) {
        fs::create_dir_all(self.path("checkout/scripts")).unwrap();
        for name in ["run", "test", "scripts/setup.sh", "scripts/python-requirements.txt"] {
            fs::copy(repository().join(name), self.path("checkout").join(name)).unwrap();
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository's folder")
}

fn ran(mut command: Command) -> Ran {
    let output = command.output().expect("the script starts");
    let text = [output.stdout, output.stderr].concat();
    Ran {
        status: output.status.code().expect("the script ends by itself"),
        text: String::from_utf8_lossy(&text).into_owned(),
    }
}

const INSTALL: &str = "apt-get update && apt-get install -y --no-install-recommends libpq-dev postgresql";

#[test]
fn a_machine_with_everything_is_left_alone() {
    let machine = Machine::bare();
    machine.libpq();
    machine.server();
    machine.apt();
    let ran = machine.setup("setup_postgres");
    assert_eq!((ran.status, ran.text.as_str()), (0, ""));
    assert_eq!(machine.read("apt.log"), "");
}

#[test]
fn root_installs_what_is_missing_and_says_so() {
    let machine = Machine::bare();
    machine.stub("id", "echo 0");
    machine.apt();
    let ran = machine.setup("setup_postgres");
    assert_eq!(ran.status, 0, "{}", ran.text);
    assert!(ran.text.contains("installing libpq-dev postgresql as root"), "{}", ran.text);
    let log = machine.read("apt.log");
    let calls: Vec<&str> = log.lines().collect();
    assert_eq!(calls.len(), 2, "{log}");
    assert!(calls[0].ends_with("update"), "{log}");
    assert!(calls[1].ends_with("install --no-install-recommends libpq-dev postgresql"), "{log}");
    assert_eq!(machine.read("setting.log"), "create_main_cluster = false\n");
    assert!(
        !machine.path("root/etc/postgresql-common/createcluster.d").exists(),
        "our setting stayed behind"
    );
    assert_eq!(machine.read("service.log"), "postgresql disable\n");
}

#[test]
fn a_service_that_was_there_stays_as_it_was() {
    let machine = Machine::bare();
    machine.stub("id", "echo 0");
    machine.apt();
    machine.file("root/etc/init.d/postgresql", "");
    assert_eq!(machine.setup("setup_postgres").status, 0);
    assert_eq!(machine.read("service.log"), "");
}

#[test]
fn only_what_is_missing_is_installed() {
    let machine = Machine::bare();
    machine.stub("id", "echo 0");
    machine.server();
    machine.apt();
    assert_eq!(machine.setup("setup_postgres").status, 0);
    let log = machine.read("apt.log");
    assert!(log.trim_end().ends_with("--no-install-recommends libpq-dev"), "{log}");
    assert!(!machine.path("root/etc").exists(), "a library needs no cluster setting");
}

#[test]
fn the_owners_cluster_setting_stays() {
    let setting = "create_main_cluster = true\n";
    let places = ["createcluster.conf", "createcluster.d/site.conf"]
        .map(|p| format!("root/etc/postgresql-common/{p}"));
    for place in places {
        let machine = Machine::bare();
        machine.stub("id", "echo 0");
        machine.apt();
        machine.file(&place, setting);
        assert_eq!(machine.setup("setup_postgres").status, 0);
        assert_eq!(machine.read(&place), setting);
        assert!(!machine.read("setting.log").contains("false"), "{}", machine.read("setting.log"));
    }
}

#[test]
fn a_passwordless_sudo_is_used() {
    let machine = Machine::bare();
    machine.stub("sudo", "[ \"$1\" = -n ] || exit 1; shift; exec \"$@\"");
    machine.apt();
    let ran = machine.setup("setup_postgres");
    assert_eq!(ran.status, 0, "{}", ran.text);
    assert!(ran.text.contains("installing libpq-dev postgresql with sudo"), "{}", ran.text);
}

#[test]
fn without_the_right_to_install_one_line_says_what_to_run() {
    let machine = Machine::bare();
    machine.apt();
    let ran = machine.setup("setup_postgres");
    assert_eq!(ran.status, 2);
    assert_eq!(ran.text.lines().count(), 1, "{}", ran.text);
    assert!(ran.text.contains(&format!("Run: su -c '{INSTALL}'")), "{}", ran.text);

    machine.stub("sudo", "exit 1"); // it would ask for a password
    let ran = machine.setup("setup_postgres");
    assert_eq!(ran.status, 2);
    assert!(ran.text.contains(&format!("Run: sudo sh -c '{INSTALL}'")), "{}", ran.text);
    assert_eq!(machine.read("apt.log"), "", "apt-get was called all the same");
}

#[test]
fn a_failed_installation_stops_with_the_line() {
    let machine = Machine::bare();
    machine.stub("id", "echo 0");
    machine.stub("apt-get", "exit 100");
    let ran = machine.setup("setup_postgres");
    assert_eq!(ran.status, 2);
    assert!(ran.text.contains(&format!("Run: {INSTALL}")), "{}", ran.text);
    assert!(
        !machine.path("root/etc/postgresql-common/createcluster.d").exists(),
        "our setting stayed behind"
    );
}

#[test]
fn other_systems_get_their_own_line() {
    for (tool, line) in [
        ("brew", "brew install libpq postgresql@17"),
        ("dnf", "sudo dnf install -y libpq-devel postgresql-server"),
    ] {
        let machine = Machine::bare();
        machine.stub(tool, "exit 1");
        let ran = machine.setup("setup_postgres");
        assert_eq!(ran.status, 2);
        assert!(ran.text.contains(line), "{}", ran.text);
    }
    let ran = Machine::bare().setup("setup_postgres");
    assert_eq!(ran.status, 2);
    assert!(ran.text.contains("PG_BIN") && ran.text.contains("PQ_LIB_DIR"), "{}", ran.text);
}

#[test]
fn homebrews_folders_are_found_and_told_to_the_build() {
    let machine = Machine::bare();
    machine.file("root/opt/homebrew/opt/libpq/lib/libpq.dylib", "");
    for name in ["initdb", "postgres"] {
        machine.program(&format!("root/opt/homebrew/opt/postgresql@17/bin/{name}"), "exit 0");
    }
    let ran = machine.setup("setup_postgres; env | grep ^PQ_LIB_DIR=");
    assert_eq!(ran.status, 0, "{}", ran.text);
    assert!(ran.text.trim_end().ends_with("/opt/homebrew/opt/libpq/lib"), "{}", ran.text);
}

#[test]
fn a_folder_named_by_hand_must_hold_the_programs() {
    let machine = Machine::bare();
    machine.libpq();
    machine.server();
    let ran = machine.setup("PG_BIN=/nowhere; setup_postgres");
    assert_eq!(ran.status, 2);
    assert!(ran.text.contains("PG_BIN is /nowhere"), "{}", ran.text);
    let ran = machine.setup("PQ_LIB_DIR=/nowhere; setup_postgres");
    assert_eq!(ran.status, 2);
    assert!(ran.text.contains("PQ_LIB_DIR is /nowhere"), "{}", ran.text);
}

#[test]
fn the_reader_of_qr_codes_is_installed_or_named() {
    let machine = Machine::bare();
    machine.stub("id", "echo 0");
    machine.apt();
    let ran = machine.setup("setup_zbar");
    assert_eq!(ran.status, 0, "{}", ran.text);
    assert!(ran.text.contains("installing zbar-tools as root"), "{}", ran.text);
    let log = machine.read("apt.log");
    assert!(log.trim_end().ends_with("install --no-install-recommends zbar-tools"), "{log}");
    assert!(!machine.path("root/etc").exists(), "it needs no cluster setting");
    let again = machine.setup("setup_zbar");
    assert_eq!((again.status, again.text.as_str()), (0, ""));

    let machine = Machine::bare();
    machine.apt();
    let ran = machine.setup("setup_zbar || echo skipped");
    assert_eq!(ran.status, 0, "{}", ran.text);
    assert!(ran.text.contains("the check of QR codes will be skipped"), "{}", ran.text);
    assert!(
        ran.text
            .contains("run: su -c 'apt-get update && apt-get install -y --no-install-recommends zbar-tools'")
    );
    assert!(ran.text.starts_with("skipped\n"), "{}", ran.text);
    assert_eq!(machine.read("apt.log"), "", "apt-get was called all the same");
}

#[test]
fn missing_compilers_are_named() {
    let machine = Machine::bare();
    let ran = machine.setup("setup_compilers");
    assert_eq!(ran.status, 2);
    assert!(ran.text.contains("cargo is missing"), "{}", ran.text);

    machine.stub("cargo", "exit 0");
    machine.apt();
    let ran = machine.setup("setup_compilers");
    assert_eq!(ran.status, 2);
    assert!(ran.text.contains("a C compiler is missing. Run: su -c"), "{}", ran.text);

    machine.stub("cc", "exit 0");
    assert_eq!(machine.setup("setup_compilers").status, 0);
}

#[test]
fn run_hands_its_arguments_to_the_demo() {
    let machine = Machine::with_compilers();
    machine.libpq();
    machine.server();
    machine.checkout();
    let mut run = machine.command(&machine.path("checkout/run"));
    run.args(["--help", "two words"]);
    let ran = ran(run);
    assert_eq!(ran.status, 0, "{}", ran.text);
    assert!(
        ran.text.contains(
            "cargo: run --locked --package plimsoll-server --bin plimsoll -- demo --help two words"
        ),
        "{}",
        ran.text
    );
}

/// Runs `./test` with a cargo that does `body`, and gives what it said beside the last line of it.
fn counted(body: &str, ci: bool) -> (Ran, String) {
    let machine = Machine::with_compilers();
    machine.libpq();
    machine.server();
    machine.checkout();
    machine.stub("python3", "exit 1");
    machine.stub("cargo", body);
    let mut test = machine.command(&machine.path("checkout/test"));
    if ci {
        test.env("CI", "true");
    }
    let ran = ran(test);
    let closing = ran.text.lines().rfind(|line| line.contains(" passed, ")).unwrap_or_default().to_owned();
    (ran, closing)
}

const OUTPUT: &str = r#"cat <<'TEXT'
running 3 tests
test a ... ok

successes:

---- a stdout ----
chatter
SKIPPED: no browser here

successes:
    a

test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

running 4 tests
test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
TEXT
"#;

#[test]
fn test_counts_over_all_programs() {
    let (ran, closing) = counted(OUTPUT, false);
    assert_eq!(closing, "6 passed, 0 failed, 2 skipped");
    assert_eq!(ran.status, 0, "{}", ran.text);
    assert!(ran.text.contains("SKIPPED: no browser here"), "{}", ran.text);
    assert!(!ran.text.contains("chatter"), "{}", ran.text);

    let (ran, closing) = counted(OUTPUT, true);
    assert_eq!(closing, "6 passed, 0 failed, 2 skipped");
    assert_eq!(ran.status, 1, "skipped tests passed in CI");
}

#[test]
fn test_fails_with_its_tests() {
    let failing = "echo 'test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured'; exit 101";
    let (ran, closing) = counted(failing, false);
    assert_eq!((ran.status, closing.as_str()), (1, "3 passed, 2 failed, 0 skipped"));

    let (ran, closing) = counted("echo 'error: could not compile'; exit 101", false);
    assert_eq!((ran.status, closing.as_str()), (1, "0 passed, 0 failed, 0 skipped"));
    assert!(ran.text.contains("something did not build"), "{}", ran.text);

    let (ran, _) = counted("exit 0", false);
    assert_eq!(ran.status, 1, "a run of no test passed");
}

#[test]
fn test_leaves_no_process_and_no_folder() {
    let body = "sleep 600 & echo \"folder: $TMPDIR\"; echo \"sleeper: $!\"; echo 'test result: ok. 1 passed; 0 failed;'";
    let (ran, closing) = counted(body, false);
    assert_eq!((ran.status, closing.as_str()), (1, "1 passed, 0 failed, 0 skipped"));
    assert!(ran.text.contains("left running after the tests: "), "{}", ran.text);
    let after = |name: &str| ran.text.split(name).nth(1).unwrap().lines().next().unwrap().to_owned();
    assert!(!Path::new(&after("folder: ")).exists());
    let stat = fs::read_to_string(format!("/proc/{}/stat", after("sleeper: "))).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "the sleeper lives: {stat}");
}
