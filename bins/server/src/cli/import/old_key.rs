//! The key of the earlier platform.

use std::fs;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use plimsoll_crypto::FernetKey;
use plimsoll_crypto::fernet::DEFAULT_PASSWORD_ITERATIONS;
use secrecy::{ExposeSecret, SecretString};

use super::super::ImportArgs;
use crate::bootstrap::StartError;

/// What the key's file holds, and how it becomes a key.
pub(in super::super) struct OldKey<'a> {
    text: SecretString,
    arguments: &'a ImportArgs,
}

impl<'a> OldKey<'a> {
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(arguments: &'a ImportArgs) -> Result<Self, StartError> {
        let path = &arguments.old_key_file;
        let text = fs::read_to_string(path).map_err(StartError::file(path))?;
        // a line's end is no part of a password, a space may be one
        let text = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
        Ok(Self { text: text.to_owned().into(), arguments })
    }

    /// A Fernet key as it stands, or, with a salt, the key of a password.
    ///
    /// # Errors
    /// It is neither, or the salt cannot be read.
    pub(super) fn key(&self) -> Result<FernetKey, StartError> {
        let refused = |what: String| StartError::Content { path: self.arguments.old_key_file.clone(), what };
        let text = self.text.expose_secret();
        let Some(salt) = &self.arguments.old_key_salt else {
            return FernetKey::parse(text).map_err(|why| {
                refused(format!("holds no Fernet key ({why}); for a password give --old-key-salt too"))
            });
        };
        let salt = salt_bytes(salt).ok_or_else(|| StartError::Setting {
            setting: "--old-key-salt",
            message: "cannot be decoded".to_owned(),
        })?;
        let iterations = self.arguments.old_key_iterations.unwrap_or(DEFAULT_PASSWORD_ITERATIONS);
        FernetKey::from_password(text, &salt, iterations).map_err(|why| refused(why.to_string()))
    }
}

/// `hex:…`, `base64:…`, or the text itself.
fn salt_bytes(text: &str) -> Option<Vec<u8>> {
    match text.split_once(':') {
        Some(("hex", digits)) => HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok(),
        Some(("base64", letters)) => BASE64.decode(letters.as_bytes()).ok(),
        _ => Some(text.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salt_is_text_or_encoded() {
        assert_eq!(salt_bytes("pepper"), Some(b"pepper".to_vec()));
        assert_eq!(salt_bytes("hex:00fF"), Some(vec![0, 255]));
        assert_eq!(salt_bytes("base64:AP8="), Some(vec![0, 255]));
        assert_eq!(salt_bytes("a:b"), Some(b"a:b".to_vec()));
        assert_eq!((salt_bytes("hex:0"), salt_bytes("base64:?")), (None, None));
    }
}
