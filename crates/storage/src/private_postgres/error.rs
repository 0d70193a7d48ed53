//! Why a private server does not start. Each reason is one clear line.

use std::io;
use std::path::{Path, PathBuf};

/// Why [`PrivatePostgres::start`](super::PrivatePostgres::start) failed. All of these are for the operator to put
/// right, so a server ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No folder with both `initdb` and `postgres` was found.
    #[error("no PostgreSQL server programs found ({looked}); {install}")]
    NoServerPrograms {
        /// Where they were sought.
        looked: String,
        /// What to do about it on this system.
        install: String,
    },
    /// The data folder was written by another major version than any that is installed.
    #[error(
        "{} was made by PostgreSQL {needed}, and the installed server programs are {found}; install PostgreSQL {needed} or choose another data folder",
        cluster.display()
    )]
    WrongMajor {
        /// The cluster's folder.
        cluster: PathBuf,
        /// Its `PG_VERSION`.
        needed: u32,
        /// What is installed, such as `15, 17`.
        found: String,
    },
    /// Another process has the data folder.
    #[error("{} is in use by another running instance{}", data_dir.display(), pid.map_or(String::new(), |pid| format!(" (process {pid})")))]
    SecondInstance {
        /// The data folder.
        data_dir: PathBuf,
        /// Who holds it, where that could be read.
        pid: Option<u32>,
    },
    /// The data folder cannot be used.
    #[error("the data folder {} cannot be used: {reason}", path.display())]
    DataDirUnusable {
        /// The folder (or what stands in its place).
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Started as root on a system without an account that PostgreSQL could run as.
    #[error(
        "PostgreSQL refuses to run as root, and this system has neither a `postgres` nor a `nobody` account"
    )]
    NoAccount,
    /// The folder for the server's socket is not ours or cannot be made.
    #[error("the socket folder {} cannot be used: {reason}", path.display())]
    SocketFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A server that an earlier process left behind does not go.
    #[error("PostgreSQL process {pid} still holds {} and does not stop", cluster.display())]
    OldServerStays {
        /// The cluster's folder.
        cluster: PathBuf,
        /// The process.
        pid: u32,
    },
    /// `initdb` failed.
    #[error("initdb failed: {0}")]
    InitFailed(String),
    /// The server ended instead of starting, or did not answer in time.
    #[error("PostgreSQL did not start: {reason} (see {})", log.display())]
    ServerFailed {
        /// The last line of its log that says why.
        reason: String,
        /// The log.
        log: PathBuf,
    },
    /// A command could not be run or a file not be read.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What came of it.
        source: io::Error,
    },
}

/// `map_err(io("reading x"))`.
pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let what = what.into();
    move |source| StartError::Io { what, source }
}

pub(super) fn unusable(path: &Path, reason: impl ToString) -> StartError {
    StartError::DataDirUnusable { path: path.to_owned(), reason: reason.to_string() }
}

/// The install line for a system, from the text of its `/etc/os-release` (empty where there is none).
pub(super) fn install_line(os_release: &str) -> &'static str {
    let ids: Vec<&str> = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|ids| ids.trim_matches('"').split_whitespace())
        .collect();
    let is = |names: &[&str]| ids.iter().any(|id| names.contains(id));
    if is(&["debian", "ubuntu"]) {
        "install them with: sudo apt-get install --no-install-recommends postgresql"
    } else if is(&["fedora", "rhel", "centos"]) {
        "install them with: sudo dnf install postgresql-server"
    } else if is(&["alpine"]) {
        "install them with: sudo apk add postgresql"
    } else if is(&["arch"]) {
        "install them with: sudo pacman -S postgresql"
    } else if cfg!(target_os = "macos") {
        "install them with: brew install postgresql@17"
    } else {
        "install PostgreSQL 14 or newer, or name its bin folder in PG_BIN"
    }
}

#[cfg(test)]
mod tests {
    use super::install_line;

    #[test]
    fn each_system_gets_its_own_install_line() {
        for (os_release, word) in [
            ("NAME=\"Debian GNU/Linux\"\nID=debian\n", "apt-get"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "apt-get"),
            ("ID=fedora\n", "dnf"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf"),
            ("ID=alpine\n", "apk"),
        ] {
            assert!(install_line(os_release).contains(word), "{os_release}");
        }
        let unknown = install_line("ID=plan9\n");
        assert!(unknown.contains("PG_BIN") || unknown.contains("brew"), "{unknown}");
    }
}
