use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest name in characters, without the extension.
pub const LONGEST_BACKUP_NAME: usize = 100;

/// Every backup file ends so.
const EXTENSION: &str = "plmb";

/// The name of a backup: lower-case ASCII letters, digits, `-` and `_`, beginning with a letter or digit, at most
/// [`LONGEST_BACKUP_NAME`] characters. It has no dot, no separator and no escape, so it is a file name and nothing else
/// (OWASP ASVS 5.0, 5.3.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupName(String);

/// Why a text names no backup, or a name no file.
#[derive(Debug, thiserror::Error)]
pub enum BackupNameError {
    /// The text is of another form. It is not repeated: it may be anything.
    #[error(
        "a backup's name has 1 to {LONGEST_BACKUP_NAME} of a-z, 0-9, - and _, and begins with a letter or digit"
    )]
    Malformed,
    /// There is something under the name that is not a plain file in the backup folder, such as a symbolic link.
    #[error("the backup is not a plain file")]
    NotAFile,
    /// The folder or the file cannot be looked at.
    #[error("the backup cannot be looked at")]
    Io(#[from] io::Error),
}

impl BackupName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`BackupNameError::Malformed`]. Percent-encoded text is not decoded, so `%2e%2e` and `%252e` are refused too.
    pub fn parse(text: &str) -> Result<Self, BackupNameError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && text.len() <= LONGEST_BACKUP_NAME && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(BackupNameError::Malformed)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The file's name.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.{EXTENSION}", self.0)
    }

    /// The file in `folder`, where it exists. Neither it nor anything on the way is followed out of the folder: a
    /// symbolic link under the name is refused.
    ///
    /// # Errors
    /// No plain file is there, or the folder cannot be read.
    pub fn existing_file(&self, folder: &Path) -> Result<PathBuf, BackupNameError> {
        let path = fs::canonicalize(folder)?.join(self.file_name());
        if !fs::symlink_metadata(&path)?.is_file() {
            return Err(BackupNameError::NotAFile);
        }
        Ok(path)
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BackupName {
    type Err = BackupNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// FIL-1: separators, dots, links and encoded forms are refused.
    #[test]
    fn a_backup_name_leads_nowhere_else() {
        for good in ["daily-20260601", "0", "a_b-c", &"x".repeat(100)] {
            assert_eq!(BackupName::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "a.b",
            "a/b",
            "a\\b",
            "/etc/passwd",
            "../a",
            "%2e%2e",
            "%252e%252e",
            "a%2fb",
            "A",
            "a b",
            "a\0",
            "a\n",
            "-a",
            "_a",
            "\u{ff0e}",
            "caf\u{e9}",
            &"x".repeat(101),
        ] {
            assert!(matches!(BackupName::parse(bad), Err(BackupNameError::Malformed)), "{bad:?}");
        }
    }

    /// FIL-1: only a plain file in the folder is opened.
    #[test]
    #[cfg(unix)]
    fn a_link_under_a_backup_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let name = BackupName::parse("nightly").unwrap();
        assert!(matches!(name.existing_file(folder.path()), Err(BackupNameError::Io(_))));
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, "x").unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.path().join(name.file_name())).unwrap();
        assert!(matches!(name.existing_file(folder.path()), Err(BackupNameError::NotAFile)));
        fs::remove_file(folder.path().join(name.file_name())).unwrap();
        fs::create_dir(folder.path().join(name.file_name())).unwrap();
        assert!(matches!(name.existing_file(folder.path()), Err(BackupNameError::NotAFile)));
        fs::remove_dir(folder.path().join(name.file_name())).unwrap();
        fs::write(folder.path().join(name.file_name()), "x").unwrap();
        let found = name.existing_file(folder.path()).unwrap();
        assert_eq!(found, folder.path().canonicalize().unwrap().join("nightly.plmb"));
    }

    proptest! {
        #[test]
        fn whatever_parses_is_one_component(text in "\\PC{0,40}") {
            if let Ok(name) = BackupName::parse(&text) {
                prop_assert_eq!(Path::new(&name.file_name()).components().count(), 1);
                prop_assert!(!text.contains('.'));
            }
        }
    }
}
