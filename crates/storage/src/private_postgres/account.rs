//! Which account the server runs as. PostgreSQL refuses root, so as root everything runs under another account.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Uid, User, geteuid};

use super::error::StartError;

/// Who runs the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether this process has to become that account first.
    pub(super) switch: bool,
}

impl Account {
    /// This process's own account; as root the owner of an existing `cluster`, else `postgres`, else `nobody`.
    pub(super) fn choose(cluster: Option<&Path>) -> Result<Self, StartError> {
        let own = geteuid();
        if !own.is_root() {
            return Ok(Self { uid: own.as_raw(), gid: nix::unistd::getegid().as_raw(), switch: false });
        }
        if let Some(owner) =
            cluster.and_then(|cluster| cluster.metadata().ok()).filter(|owner| owner.uid() != 0)
        {
            return Ok(Self { uid: owner.uid(), gid: owner.gid(), switch: true });
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), switch: true })
            .ok_or(StartError::NoAccount)
    }

    /// Its name, or its number where it has none.
    pub(super) fn name(self) -> String {
        let user = User::from_uid(Uid::from_raw(self.uid)).ok().flatten();
        user.map_or_else(|| self.uid.to_string(), |user| user.name)
    }

    /// A command run as this account in a bare English environment, without input.
    pub(super) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if self.switch {
            command.gid(self.gid).uid(self.uid); // std drops the supplementary groups too
        }
        command
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// Whether this account can go into `folder`: asked of the system, since groups, ACLs and parents all count.
    pub(super) fn can_enter(self, folder: &Path) -> io::Result<bool> {
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", "cd -- \"$1\"", "sh"]).arg(folder).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.status()?.success())
    }

    /// Gives `path` to this account, where that is needed.
    pub(super) fn own(self, path: &Path) -> io::Result<()> {
        if self.switch { std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }
}
