//! The key ring: from the settings, or from a file of the data folder; the salt of pass phrases from the database.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use plimsoll_crypto::{
    CryptoRng, DEFAULT_STRETCHING_ITERATIONS, KeyForm, KeyRing, MasterKey, MasterKeyError, SecretKey,
    Stretching,
};
use plimsoll_storage::Db;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{StartError, write_private};
use crate::config::KeySettings;

/// Holds the development profile's master key.
const KEY_FILE: &str = "encryption.key";
/// Held salt and iterations of pass phrases before the database did.
const STRETCHING_FILE: &str = "encryption.stretching.json";

#[derive(Deserialize)]
struct StoredStretching {
    salt: String,
    iterations: u32,
}

/// What a command may do where it is not settled yet how a pass phrase becomes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// Settle it for good.
    Now,
    /// Leave the database as it is.
    Never,
}

/// The ring of the settings' keys. Without `ENCRYPTION_KEY` the key is that of the data folder, made now where there is
/// none yet. The salt of pass phrases is the database's, so that all instances over it derive the same key; one that an
/// earlier release kept in the data folder is taken over.
///
/// # Errors
/// A key is refused, a file of the data folder cannot be used, or the database.
pub fn key_ring<R>(
    settings: &KeySettings,
    data_dir: &Path,
    db: &Db,
    settle: Settle,
    rng: &mut R,
) -> Result<KeyRing, StartError>
where
    R: CryptoRng + ?Sized,
{
    ring_of(settings, data_dir, rng, |rng| {
        if let Some(settled) = db.read_blocking(|tx| tx.stretching())? {
            return Ok(settled);
        }
        let proposed = earlier_stretching(data_dir)?.unwrap_or_else(|| fresh_stretching(rng));
        match settle {
            Settle::Now => Ok(db.run_blocking(|tx| tx.settle_stretching(&proposed))?),
            Settle::Never => Ok(proposed),
        }
    })
}

/// As [`key_ring`], without a database: how a pass phrase becomes the key, a backup says.
///
/// # Errors
/// A key is refused, or a pass phrase is one without `stretching`.
pub fn key_ring_of_backup<R>(
    settings: &KeySettings,
    data_dir: &Path,
    stretching: Option<Stretching>,
    rng: &mut R,
) -> Result<KeyRing, StartError>
where
    R: CryptoRng + ?Sized,
{
    ring_of(settings, data_dir, rng, |_| {
        stretching.ok_or_else(|| {
            let why = "ENCRYPTION_KEY is a pass phrase, and no backup here says how it becomes the key";
            StartError::Refused(why.to_owned())
        })
    })
}

fn ring_of<R>(
    settings: &KeySettings,
    data_dir: &Path,
    rng: &mut R,
    stretching: impl FnOnce(&mut R) -> Result<Stretching, StartError>,
) -> Result<KeyRing, StartError>
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
    // an encoded key is not stretched, so nothing is settled for it
    let stretching = match forms.contains(&KeyForm::PassPhrase) {
        true => stretching(rng)?,
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

fn fresh_stretching<R: CryptoRng + ?Sized>(rng: &mut R) -> Stretching {
    let mut salt = [0; 32];
    rng.fill_bytes(&mut salt);
    Stretching::new(salt, DEFAULT_STRETCHING_ITERATIONS).expect("32 bytes and the default are in bounds")
}

/// What an earlier release kept in the data folder.
fn earlier_stretching(data_dir: &Path) -> Result<Option<Stretching>, StartError> {
    let path = data_dir.join(STRETCHING_FILE);
    let wrong = |what: String| StartError::Content { path: path.clone(), what };
    let stored: StoredStretching = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|_| wrong("does not hold the parameters of a pass phrase".to_owned()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StartError::file(&path)(error)),
    };
    let salt = data_encoding::HEXLOWER
        .decode(stored.salt.as_bytes())
        .map_err(|_| wrong("holds no hexadecimal salt".to_owned()))?;
    Stretching::new(salt, stored.iterations).map(Some).map_err(|why| wrong(why.to_string()))
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

    fn no_phrase(_: &mut OsRandom) -> Result<Stretching, StartError> {
        panic!("an encoded key is not stretched")
    }

    #[test]
    fn the_own_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let settings = KeySettings::default();
        let first = ring_of(&settings, folder.path(), &mut OsRandom, no_phrase).unwrap();
        let second = ring_of(&settings, folder.path(), &mut OsRandom, no_phrase).unwrap();
        assert_eq!(first.active(), second.active());
        let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        fs::write(folder.path().join(KEY_FILE), "short").unwrap();
        let error = ring_of(&settings, folder.path(), &mut OsRandom, no_phrase).unwrap_err();
        assert!(matches!(error, StartError::Setting { setting: "ENCRYPTION_KEY", .. }));
    }

    #[test]
    fn a_pass_phrase_gives_the_same_key_with_the_same_salt_only() {
        let folder = tempfile::tempdir().unwrap();
        let settings = KeySettings {
            encryption_key: Some("a long phrase only this test knows".to_owned().into()),
            old: vec![generate_key(&mut OsRandom)],
            webhook_secret: None,
            webhook_user: None,
        };
        let settled = Stretching::new([3; 32], 600_000).unwrap();
        let ring = |stretching: &Stretching| {
            ring_of(&settings, folder.path(), &mut OsRandom, |_| Ok(stretching.clone())).unwrap()
        };
        assert_eq!(ring(&settled).active(), ring(&settled).active());
        assert_eq!(ring(&settled).ids().count(), 2);
        assert_ne!(ring(&settled).active(), ring(&Stretching::new([4; 32], 600_000).unwrap()).active());
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "no file is made");
    }

    #[test]
    fn what_an_earlier_release_kept_is_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(earlier_stretching(folder.path()).unwrap(), None);
        let path = folder.path().join(STRETCHING_FILE);
        let salt = "07".repeat(32);
        fs::write(&path, format!("{{\"salt\":\"{salt}\",\"iterations\":1000000}}")).unwrap();
        let kept = Stretching::new([7; 32], 1_000_000).unwrap();
        assert_eq!(earlier_stretching(folder.path()).unwrap(), Some(kept));
        for text in
            ["{}", "{\"salt\":\"07\",\"iterations\":1000000}", "{\"salt\":\"zz\",\"iterations\":1000000}"]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(earlier_stretching(folder.path()).unwrap_err().exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn a_new_installation_stretches_a_million_times() {
        let fresh = fresh_stretching(&mut OsRandom);
        assert_eq!((fresh.iterations(), fresh.salt().len()), (1_000_000, 32));
        assert_ne!(fresh, fresh_stretching(&mut OsRandom));
    }
}
