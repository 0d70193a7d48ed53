//! The key ring: from the settings, or from a file of the data folder.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use plimsoll_crypto::{
    CryptoRng, DEFAULT_STRETCHING_ITERATIONS, KeyForm, KeyRing, MasterKey, MasterKeyError, SecretKey,
    Stretching,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{StartError, write_private};
use crate::config::KeySettings;

/// Holds the development profile's master key.
const KEY_FILE: &str = "encryption.key";
/// Holds salt and iterations of pass phrases. Not secret, but a pass phrase is worth nothing without it.
const STRETCHING_FILE: &str = "encryption.stretching.json";

#[derive(Serialize, Deserialize)]
struct StoredStretching {
    salt: String,
    iterations: u32,
}

/// The ring of the settings' keys. Without `ENCRYPTION_KEY` the key is that of the data folder, made now where there is
/// none yet.
///
/// # Errors
/// A key is refused, or a file of the data folder cannot be used.
pub fn key_ring<R>(settings: &KeySettings, data_dir: &Path, rng: &mut R) -> Result<KeyRing, StartError>
where
    R: CryptoRng + ?Sized,
{
    let mut texts: Vec<(&'static str, SecretString)> = Vec::new();
    match &settings.encryption_key {
        Some(key) => texts.push(("ENCRYPTION_KEY", key.clone())),
        None => texts.push(("ENCRYPTION_KEY", own_key(data_dir, rng)?)),
    }
    texts.extend(settings.old.iter().map(|key| ("ENCRYPTION_KEYS_OLD", key.clone())));

    let forms: Vec<KeyForm> = texts
        .iter()
        .map(|(setting, text)| KeyForm::of(text.expose_secret()).map_err(refused(setting)))
        .collect::<Result<_, _>>()?;
    // an encoded key is not stretched, so no file is made for it
    let stretching = match forms.contains(&KeyForm::PassPhrase) {
        true => own_stretching(data_dir, rng)?,
        false => unused_stretching(),
    };
    let keys: Vec<MasterKey> = texts
        .iter()
        .map(|(setting, text)| MasterKey::parse(text.expose_secret(), &stretching).map_err(refused(setting)))
        .collect::<Result<_, _>>()?;
    let (active, old) = keys.split_first().expect("there is an active key");
    let mut ring = KeyRing::new(active);
    for key in old {
        ring = ring.with_old(key).map_err(|why| StartError::Setting {
            setting: "ENCRYPTION_KEYS_OLD",
            message: why.to_string(),
        })?;
    }
    Ok(ring)
}

fn refused(setting: &'static str) -> impl FnOnce(MasterKeyError) -> StartError {
    move |why| StartError::Setting { setting, message: why.to_string() }
}

/// Parameters for keys that are not stretched.
fn unused_stretching() -> Stretching {
    Stretching::new([0; 16], DEFAULT_STRETCHING_ITERATIONS).expect("16 bytes and the default are in bounds")
}

fn own_key<R: CryptoRng + ?Sized>(data_dir: &Path, rng: &mut R) -> Result<SecretString, StartError> {
    let path = data_dir.join(KEY_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => return Ok(text.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(StartError::file(path)(error)),
    }
    let text = generate_key(rng);
    write_private(&path, text.expose_secret())?;
    Ok(text)
}

fn own_stretching<R: CryptoRng + ?Sized>(data_dir: &Path, rng: &mut R) -> Result<Stretching, StartError> {
    let path = data_dir.join(STRETCHING_FILE);
    let wrong = |what: String| StartError::Content { path: path.clone(), what };
    let stored = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|_| wrong("does not hold the parameters of a pass phrase".to_owned()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut salt = [0; 32];
            rng.fill_bytes(&mut salt);
            let stored = StoredStretching {
                salt: data_encoding::HEXLOWER.encode(&salt),
                iterations: DEFAULT_STRETCHING_ITERATIONS,
            };
            write_private(&path, &serde_json::to_string(&stored).expect("a text and a number serialise"))?;
            stored
        }
        Err(error) => return Err(StartError::file(&path)(error)),
    };
    let salt = data_encoding::HEXLOWER
        .decode(stored.salt.as_bytes())
        .map_err(|_| wrong("holds no hexadecimal salt".to_owned()))?;
    Stretching::new(salt, stored.iterations).map_err(|why| wrong(why.to_string()))
}

/// A new master key as text: base64, as `ENCRYPTION_KEY` takes it.
pub fn generate_key<R: CryptoRng + ?Sized>(rng: &mut R) -> SecretString {
    data_encoding::BASE64.encode(SecretKey::generate(rng).expose()).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use plimsoll_crypto::OsRandom;

    use super::*;

    #[test]
    fn the_own_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let settings = KeySettings::default();
        let first = key_ring(&settings, folder.path(), &mut OsRandom).unwrap();
        let second = key_ring(&settings, folder.path(), &mut OsRandom).unwrap();
        assert_eq!(first.active(), second.active());
        let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!folder.path().join(STRETCHING_FILE).exists());

        fs::write(folder.path().join(KEY_FILE), "short").unwrap();
        let error = key_ring(&settings, folder.path(), &mut OsRandom).unwrap_err();
        assert!(matches!(error, StartError::Setting { setting: "ENCRYPTION_KEY", .. }));
    }

    #[test]
    fn a_pass_phrase_gives_the_same_key_again() {
        let folder = tempfile::tempdir().unwrap();
        let settings = KeySettings {
            encryption_key: Some("a long phrase only this test knows".to_owned().into()),
            old: vec![generate_key(&mut OsRandom)],
            webhook_secret: None,
        };
        let first = key_ring(&settings, folder.path(), &mut OsRandom).unwrap();
        let second = key_ring(&settings, folder.path(), &mut OsRandom).unwrap();
        assert_eq!(first.active(), second.active());
        assert_eq!(first.ids().count(), 2);
        assert!(!folder.path().join(KEY_FILE).exists());

        fs::write(folder.path().join(STRETCHING_FILE), "{}").unwrap();
        assert_eq!(key_ring(&settings, folder.path(), &mut OsRandom).unwrap_err().exit_code(), 2);
    }
}
