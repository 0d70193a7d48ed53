//! What is fuzzed: one plain function for each parser of bytes from outside. Each takes any bytes at all, says whether
//! it took them for what they should be, and panics when a promise does not hold. The targets in `fuzz_targets/` call them under cargo-fuzz; a test of the crate runs them over
//! `corpus/` and many variants of it on stable.

use std::io::{Read, Write};

use plimsoll_crypto::fernet::{FernetError, FernetKey};
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::sealing::{self, sealed_with};
use plimsoll_crypto::stream::{self, StreamError};
use plimsoll_crypto::tokens::{ApiToken, SecretToken};
use plimsoll_crypto::{
    Aad, DataKey, DeviceCookies, InstallationKey, KeyForm, KeyId, KeyPurpose, KeyRing, MasterKey,
    OpeningReader, SealingWriter, SecretKey, StreamKey, open,
};
use secrecy::ExposeSecret;

/// An entry point.
pub type EntryPoint = fn(&[u8]) -> bool;

/// Every entry point with the name of its target and of its folder in `corpus/`.
pub const ENTRY_POINTS: [(&str, EntryPoint); 9] = [
    ("data_key", data_key),
    ("device_cookie", device_cookie),
    ("fernet_key", fernet_key),
    ("fernet_token", fernet_token),
    ("master_key", master_key),
    ("password_hash", password_hash),
    ("sealed_stream", sealed_stream),
    ("sealed_value", sealed_value),
    ("token", token),
];

const PLACE: Aad<'static> =
    Aad { table: "broker_credentials", column: "api_secret", row: "17", owner: Some(42) };

/// The ring that sealed the corpus: its key is the bytes 101 to 132.
fn ring() -> KeyRing {
    let key = SecretKey::from_bytes(std::array::from_fn(|i| 101 + i as u8));
    KeyRing::new(&MasterKey::from_key(key).expect("a key like any other"))
}

/// The stored form of an installation's key for device cookies, sealed by that ring: the bytes 0 to 31.
const COOKIE_KEY: &[u8] = include_bytes!("../corpus/device_cookie.key");

/// A sealed value, as it stands in a row.
pub fn sealed_value(bytes: &[u8]) -> bool {
    let ring = ring();
    let Ok(plaintext) = open(&ring, &PLACE, bytes) else { return false };
    assert_eq!(sealed_with(bytes), Ok(ring.active()), "it opened, so the ring's key sealed it");
    assert!(bytes.len() - plaintext.expose_secret().len() <= sealing::OVERHEAD);
    for elsewhere in
        [Aad { row: "18", ..PLACE }, Aad { owner: None, ..PLACE }, Aad { column: "api_key", ..PLACE }]
    {
        assert!(open(&ring, &elsewhere, bytes).is_err(), "it opened in two places");
    }
    assert!(open(&ring, &PLACE, &[bytes, &[0]].concat()).is_err());
    true
}

/// A wrapped data key, as it stands in a row.
pub fn data_key(bytes: &[u8]) -> bool {
    let Ok(key) = DataKey::unwrap(&ring(), 42, bytes) else { return false };
    assert!(DataKey::unwrap(&ring(), 43, bytes).is_err(), "it is the key of two users");
    assert!(key.ring(&ring()).contains(key.id()));
    true
}

/// The text of a master key or pass phrase, from a setting or a file; also that of a key id.
pub fn master_key(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.to_string(), text);
    }
    let form = KeyForm::of(text);
    match &form {
        Ok(KeyForm::PassPhrase) => assert!(text.trim().chars().count() > 1),
        Ok(_) => assert!((43..=64).contains(&text.trim().len())),
        Err(error) => {
            let message = format!("{error} {error:?}");
            assert!(text.trim().len() < 20 || !message.contains(text.trim()), "the key is echoed");
        }
    }
    form.is_ok()
}

/// A session token or an API token, from a request.
pub fn token(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let session = SecretToken::parse(text).map(|token| token.expose_text());
    let api = ApiToken::parse(text).map(|token| token.expose_text());
    assert!(session.is_err() || api.is_err(), "it is both");
    let Ok(again) = session.or(api) else { return false };
    assert_eq!(again.expose_secret(), text, "a token has one spelling");
    true
}

/// A device cookie, from a request.
pub fn device_cookie(bytes: &[u8]) -> bool {
    let key =
        InstallationKey::unwrap(&ring(), KeyPurpose::DeviceCookie, COOKIE_KEY).expect("sealed by the ring");
    let cookies = DeviceCookies::new(&key).expect("a key for cookies");
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some(device) = cookies.verify(b"ann", text) else { return false };
    assert_eq!(cookies.sign(b"ann", device), text, "a cookie has one spelling");
    assert_eq!(cookies.verify(b"bob", text), None, "it is the cookie of two accounts");
    true
}

/// A Fernet token, from a file that is imported.
pub fn fernet_token(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let key = FernetKey::parse("ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1-f4CBgoM=").expect("a key");
    let Ok(message) = key.open(text) else { return false };
    assert!(message.plaintext.expose_secret().len() < text.len());
    let other = FernetKey::parse("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=").expect("a key");
    assert_eq!(other.open(text).expect_err("another key"), FernetError::WrongKeyOrChanged);
    true
}

/// A Fernet key, from whoever imports.
pub fn fernet_key(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let parsed = FernetKey::parse(text).is_ok();
    assert!(!parsed || (43..=44).contains(&text.trim().len()));
    parsed
}

/// A stored password hash, as it stands in a row.
pub fn password_hash(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(hash) = PasswordHash::parse(text) else { return false };
    assert_eq!(hash.as_str(), text);
    assert!(text.starts_with("$argon2"));
    true
}

/// A sealed stream. The bytes say how long it is (3 bytes), how much of it is left (3), where it is changed (3) and into
/// what (1), and what follows it; a fuzzer would have to guess 64 KiB otherwise. Missing bytes are zero.
pub fn sealed_stream(bytes: &[u8]) -> bool {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let number =
        |at: usize| usize::from(byte(at)) << 16 | usize::from(byte(at + 1)) << 8 | usize::from(byte(at + 2));
    let ring = ring();
    let key = || StreamKey::derive(&ring, ring.active(), &[7; 32], "fuzz", b"").expect("the ring's own key");

    let data: Vec<u8> = (0..number(0) % (3 * stream::CHUNK)).map(|i| (i % 251) as u8).collect();
    let mut writer = SealingWriter::new(key(), Vec::new());
    for piece in data.chunks(1 + number(3) % 70_000) {
        writer.write_all(piece).expect("a vector takes all");
    }
    let mut sealed = writer.finish().expect("a vector takes all");
    assert_eq!(sealed.len() as u64, stream::sealed_len(data.len() as u64));

    let whole = sealed.len();
    let left = whole - number(3) % whole;
    let at = number(6) % whole;
    sealed[at] ^= byte(9);
    sealed.truncate(left);
    sealed.extend_from_slice(bytes.get(10..).unwrap_or_default());

    let mut out = Vec::new();
    let mut reader = OpeningReader::new(key(), &sealed[..]);
    let mut piece = vec![0; 1 + number(6) % 70_000];
    let error = loop {
        match reader.read(&mut piece) {
            Ok(0) => break None,
            Ok(read) => out.extend_from_slice(&piece[..read]),
            Err(error) => break Some(StreamError::of(&error).expect("reading memory does not fail")),
        }
    };
    assert!(data.starts_with(&out), "it gave out what was not sealed");
    let changed = byte(9) != 0 && at < left;
    let untouched = left == whole && !changed && bytes.len() <= 10;
    assert_eq!(error.is_none(), untouched, "{error:?}");
    assert!(error.is_some() || out == data);
    if left < whole && !changed && bytes.len() <= 10 {
        let chunk = (left / stream::SEALED_CHUNK) as u32;
        assert_eq!(error, Some(StreamError::Truncated { chunk }));
    }
    if left == whole && changed {
        let chunk = (at / stream::SEALED_CHUNK) as u32;
        assert_eq!(error, Some(StreamError::Corrupt { chunk }));
    }
    if left == whole && !changed && bytes.len() > 10 {
        assert_eq!(error, Some(StreamError::TrailingData));
    }
    error.is_none()
}
