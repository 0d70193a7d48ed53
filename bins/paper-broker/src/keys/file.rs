//! The file of key pairs: `paper-keys.json` in the data folder, mode 0600.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Login;

const NAME: &str = "paper-keys.json";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} is no file of key pairs: {source}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

#[derive(Default, Serialize, Deserialize)]
struct Text {
    accounts: Vec<Login>,
}

/// The key pairs of a data folder.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    logins: Vec<Login>,
}

impl KeyFile {
    /// Reads a folder's file; one that is not there is empty.
    pub(crate) fn open(folder: &Path) -> Result<Self, KeyFileError> {
        let path = folder.join(NAME);
        let text: Text = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| KeyFileError::Form { path: path.clone(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Text::default(),
            Err(source) => return Err(KeyFileError::Io { path, source }),
        };
        Ok(Self { path, logins: text.accounts })
    }

    pub(crate) fn logins(&self) -> &[Login] {
        &self.logins
    }

    /// Writes other key pairs in place of those before; after a crash the file holds one list or the other.
    pub(crate) fn replace(&mut self, logins: Vec<Login>) -> Result<(), KeyFileError> {
        let text = Text { accounts: logins };
        self.write(&text).map_err(|source| KeyFileError::Io { path: self.path.clone(), source })?;
        self.logins = text.accounts;
        Ok(())
    }

    /// Adds a key pair.
    pub(crate) fn add(&mut self, login: Login) -> Result<(), KeyFileError> {
        let mut logins = self.logins.clone();
        logins.push(login);
        self.replace(logins)
    }

    /// Removes a key pair.
    pub(crate) fn remove(&mut self, key_id: &str) -> Result<(), KeyFileError> {
        let logins = self.logins.iter().filter(|login| login.api_key != key_id).cloned().collect();
        self.replace(logins)
    }

    fn write(&self, text: &Text) -> io::Result<()> {
        let partial = self.path.with_extension("partial");
        // one that was left behind may have another mode
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(&serde_json::to_vec_pretty(text)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&partial, &self.path)?;
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use plimsoll_paper_exchange::AccountId;

    use super::*;

    fn login(number: u128) -> Login {
        Login {
            account_id: AccountId::from_u128(number),
            api_key: format!("PK{number}"),
            api_secret: "s".into(),
        }
    }

    #[test]
    fn key_pairs_are_kept_in_a_file_of_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = KeyFile::open(folder.path()).unwrap();
        assert!(file.logins().is_empty());
        file.add(login(1)).unwrap();
        file.add(login(2)).unwrap();
        assert_eq!(KeyFile::open(folder.path()).unwrap().logins(), [login(1), login(2)]);
        let mode = std::fs::metadata(folder.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), "[]").unwrap();
        let error = KeyFile::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains(NAME), "{error}");
    }
}
