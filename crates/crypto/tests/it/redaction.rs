//! ENC-11: no secret type shows its secret when it is formatted.

use std::fmt::Debug;
use std::io::{Read, Write};

use data_encoding::{BASE32_NOPAD, BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use plimsoll_crypto::passwords::{HashParams, PasswordHash};
use plimsoll_crypto::tokens::{ApiToken, SecretToken};
use plimsoll_crypto::{
    Aad, ClientOrderIdKey, DataKey, DeviceCookies, FernetKey, InstallationKey, KeyPurpose, KeyRing, MacChain,
    MasterKey, OpeningReader, OsRandom, Pepper, SealingWriter, SecretKey, StreamKey, Stretching, open, seal,
};
use secrecy::ExposeSecret;

const CANARY: [u8; 32] = *b"canary: nobody may ever see this";

/// The canary in every form in which some formatting could show it, whole or in part.
fn forms(secret: &[u8]) -> Vec<String> {
    let list = format!("{secret:?}");
    let base64 = BASE64_NOPAD.encode(secret);
    vec![
        String::from_utf8_lossy(secret).into_owned(),
        String::from_utf8_lossy(&secret[..8]).into_owned(),
        HEXLOWER.encode(&secret[..8]),
        HEXLOWER.encode(&secret[..8]).to_uppercase(),
        base64[..10].to_owned(),
        BASE64URL_NOPAD.encode(secret)[..10].to_owned(),
        BASE32_NOPAD.encode(secret)[..10].to_owned(),
        BASE32_NOPAD.encode(secret)[..10].to_lowercase(),
        list[1..25].to_owned(),
    ]
}

#[track_caller]
fn shows_nothing(value: &dyn Debug, secret: &[u8]) {
    let printed = format!("{value:?} {value:#?}");
    let one_line = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for form in forms(secret) {
        assert!(!printed.contains(&form) && !one_line.contains(&form), "{form} is in {printed}");
    }
}

#[test]
fn the_search_would_find_a_secret_in_each_form() {
    for shown in [
        format!("{CANARY:?}"),
        format!("{CANARY:#?}"),
        String::from_utf8_lossy(&CANARY).into_owned(),
        HEXLOWER.encode(&CANARY),
        BASE64.encode(&CANARY),
        BASE32_NOPAD.encode(&CANARY),
    ] {
        let one_line = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(forms(&CANARY).iter().any(|form| shown.contains(form) || one_line.contains(form)), "{shown}");
    }
}

#[test]
fn no_key_shows_itself() {
    let key = SecretKey::from_bytes(CANARY);
    let master = MasterKey::from_key(key.clone()).unwrap();
    let ring = KeyRing::new(&master);
    shows_nothing(&key, &CANARY);
    shows_nothing(&Some(vec![key]), &CANARY);
    shows_nothing(&master, &CANARY);
    shows_nothing(&ring, &CANARY);
    let fernet = FernetKey::parse(&BASE64.encode(&CANARY).replace('+', "-").replace('/', "_")).unwrap();
    shows_nothing(&fernet, &CANARY);

    // Keys that cannot be made from given bytes are read back from what sealed those.
    let place = |table, column, row, owner| Aad { table, column, row, owner };
    let wrapped = seal(&ring, &place("user_keys", "wrapped", "42", Some(42)), &CANARY, &mut OsRandom);
    let data_key = DataKey::unwrap(&ring, 42, &wrapped).unwrap();
    shows_nothing(&data_key, &CANARY);
    shows_nothing(&data_key.ring(&ring), &CANARY);
    for purpose in KeyPurpose::ALL {
        let place = place("installation_keys", "sealed", purpose.name(), None);
        let key =
            InstallationKey::unwrap(&ring, purpose, &seal(&ring, &place, &CANARY, &mut OsRandom)).unwrap();
        shows_nothing(&key, &CANARY);
        match purpose {
            KeyPurpose::OrderId => shows_nothing(&ClientOrderIdKey::new(&key).unwrap(), &CANARY),
            KeyPurpose::AuditMac => shows_nothing(&MacChain::new(&key).unwrap(), &CANARY),
            KeyPurpose::Pepper => shows_nothing(&Pepper::new(&key).unwrap(), &CANARY),
            KeyPurpose::DeviceCookie => shows_nothing(&DeviceCookies::new(&key).unwrap(), &CANARY),
        }
    }
}

#[test]
fn no_token_shows_itself() {
    let session = SecretToken::parse(&BASE64URL_NOPAD.encode(&CANARY)).unwrap();
    shows_nothing(&session, &CANARY);
    shows_nothing(&session.expose_text(), &CANARY);
    shows_nothing(&session.expose_text(), BASE64URL_NOPAD.encode(&CANARY).as_bytes());
    let api = ApiToken::generate(&mut OsRandom);
    let text = api.expose_text().expose_secret().to_owned();
    let bytes = BASE32_NOPAD.decode(text[4..56].to_uppercase().as_bytes()).unwrap();
    for shown in [&api as &dyn Debug, &api.expose_text()] {
        shows_nothing(shown, &bytes);
        shows_nothing(shown, text.as_bytes());
    }
    shows_nothing(&(session.digest(), api.digest()), &CANARY);
}

#[test]
fn no_plaintext_shows_itself() {
    let ring = KeyRing::new(&MasterKey::from_key(SecretKey::generate(&mut OsRandom)).unwrap());
    let place = Aad { table: "t", column: "c", row: "1", owner: None };
    let sealed = seal(&ring, &place, &CANARY, &mut OsRandom);
    shows_nothing(&open(&ring, &place, &sealed), &CANARY);
    shows_nothing(&sealed, &CANARY);

    let key = || StreamKey::derive(&ring, ring.active(), &[7; 32], "test", b"").unwrap();
    shows_nothing(&key(), &CANARY);
    let mut writer = SealingWriter::new(key(), Vec::new());
    writer.write_all(&CANARY).unwrap();
    shows_nothing(&writer, &CANARY);
    let sealed = writer.finish().unwrap();
    let mut reader = OpeningReader::new(key(), &sealed[..]);
    assert_eq!(reader.read(&mut [0; 3]).unwrap(), 3);
    shows_nothing(&reader, &CANARY);
}

#[test]
fn no_error_repeats_what_was_read() {
    let text = "canary: nobody may ever see this";
    let base64 = BASE64.encode(&CANARY);
    let stretching = Stretching::generate(&mut OsRandom);
    for key in [&base64[1..], &format!("\"{base64}\""), &HEXLOWER.encode(&CANARY)[2..], "canary"] {
        let error = MasterKey::parse(key, &stretching).unwrap_err();
        shows_nothing(&(error.to_string(), &error), &CANARY);
        assert!(!format!("{error} {error:?}").contains(key), "{error}");
    }
    shows_nothing(&FernetKey::parse(text), &CANARY);
    let key = FernetKey::parse(&base64).unwrap();
    shows_nothing(&key.open(text), &CANARY);
    shows_nothing(&key.open(&base64), &CANARY);
    shows_nothing(&SecretToken::parse(text), &CANARY);
    shows_nothing(&ApiToken::parse(text), &CANARY);
    shows_nothing(&PasswordHash::parse(text), &CANARY);
    let ring = KeyRing::new(&MasterKey::from_key(SecretKey::generate(&mut OsRandom)).unwrap());
    let place = Aad { table: "t", column: "c", row: "1", owner: None };
    let stored = [&[2], &ring.active().as_bytes()[..], &CANARY, &CANARY, &CANARY].concat();
    shows_nothing(&open(&ring, &place, &stored), &CANARY);
    shows_nothing(&open(&ring, &place, &CANARY), &CANARY);
    shows_nothing(&HashParams::default(), &CANARY);
}
