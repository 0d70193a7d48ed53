//! The data folder and the files that only its owner may read.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::StartError;

/// Makes the folder where it is missing and gives its full path. One that is there stays as it is.
///
/// A new one is for its owner only (0700). Root's lets others pass, not look (0711): PostgreSQL, which refuses to run as
/// root, keeps its files in it.
///
/// # Errors
/// It is no folder, or cannot be made.
pub fn prepare(folder: &Path) -> Result<PathBuf, StartError> {
    let mode = if nix::unistd::geteuid().is_root() { 0o711 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(folder).map_err(StartError::file(folder))?;
    fs::canonicalize(folder).map_err(StartError::file(folder))
}

/// Whether another process holds the folder's lock.
#[must_use]
pub fn is_locked(folder: &Path) -> bool {
    // the name is the private server's
    let Ok(file) = File::open(folder.join("plimsoll.lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Writes a file (0600) as a whole or not at all: under another name first, flushed, then renamed.
///
/// # Errors
/// It cannot be written.
pub fn write_private(path: &Path, text: &str) -> Result<(), StartError> {
    let new = path.with_extension("new");
    let write = || {
        // one that a killed process left may have other permissions
        if new.exists() {
            fs::remove_file(&new)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(StartError::file(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn private_files_are_private_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.json");
        write_private(&path, "one").unwrap();
        fs::write(folder.path().join("secret.new"), "left behind").unwrap();
        write_private(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!folder.path().join("secret.new").exists());
    }

    #[test]
    fn a_file_is_no_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        assert_eq!(prepare(&path).unwrap_err().exit_code(), 2);
        let made = prepare(&folder.path().join("a/b")).unwrap();
        assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o766, 0o700);
    }

    #[test]
    fn a_held_lock_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_locked(folder.path()));
        let file = File::create(folder.path().join("plimsoll.lock")).unwrap();
        assert!(!is_locked(folder.path()));
        file.lock().unwrap();
        assert!(is_locked(folder.path()));
    }
}
