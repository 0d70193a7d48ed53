use std::collections::HashSet;

use plimsoll_crypto::{InstallationKey, KeyPurpose, OsRandom};
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::testing::fixtures::at;

const USER: UserId = UserId(7);

fn pepper() -> Pepper {
    Pepper::new(&InstallationKey::generate(KeyPurpose::Pepper, &mut OsRandom)).unwrap()
}

fn cheap(pepper: Pepper) -> BackupCodes {
    BackupCodes::new(HashParams::MINIMUM, pepper, &mut OsRandom)
}

fn stored(hashes: &[PasswordHash]) -> Vec<StoredCode> {
    hashes
        .iter()
        .zip(0..)
        .map(|(hash, slot)| StoredCode { slot, hash: hash.clone(), used_at: None })
        .collect()
}

/// TFA-10: ten codes of eight characters from 32 symbols without look-alikes.
#[test]
fn ten_codes_of_eight_plain_symbols() {
    let new = cheap(pepper()).generate(USER, &mut OsRandom);
    assert_eq!((new.codes.len(), new.hashes.len()), (10, 10));
    let texts: HashSet<String> =
        new.codes.iter().map(|code| code.expose_text().expose_secret().to_owned()).collect();
    assert_eq!(texts.len(), 10);
    for text in texts {
        assert_eq!(text.len(), 8);
        assert!(text.bytes().all(|byte| ALPHABET.contains(&byte)), "{text}");
        assert!(!text.contains(['0', 'O', '1', 'I']), "{text}");
    }
    assert_eq!(ALPHABET.iter().collect::<HashSet<_>>().len(), 32);
}

#[test]
fn every_symbol_occurs() {
    let mut seen = HashSet::new();
    for _ in 0..200 {
        seen.extend(BackupCode::generate(&mut OsRandom).0);
    }
    assert_eq!(seen.len(), 32);
}

/// TFA-10: case and hyphens do not matter on entry.
#[test]
fn a_code_may_be_typed_in_many_ways() {
    let code = BackupCode::parse("ABCD2345").unwrap();
    for same in ["abcd2345", "ABCD-2345", "abcd-2345", " ab cd 23 45 ", "A-B-C-D-2-3-4-5"] {
        assert_eq!(BackupCode::parse(same), Some(code.clone()), "{same}");
    }
    for bad in [
        "",
        "ABCD234",
        "ABCD23456",
        "ABCD234O",
        "ABCD2340",
        "ABCD234I",
        "ABCD2341",
        "ABCD_2345",
        "ＡBCD2345",
        "ABCD234é",
    ] {
        assert_eq!(BackupCode::parse(bad), None, "{bad}");
    }
}

/// TFA-11: argon2id with a salt of its own over a digest that depends on pepper, user and code.
#[test]
fn what_is_stored_tells_nothing_without_the_pepper() {
    let pepper = pepper();
    let codes = cheap(pepper.clone());
    let new = codes.generate(USER, &mut OsRandom);
    let stored = stored(&new.hashes);
    for (code, slot) in new.codes.iter().zip(0..) {
        assert_eq!(codes.find(USER, code, &stored), Some(slot));
    }
    let first = &new.codes[0];
    assert_eq!(codes.find(UserId(8), first, &stored), None, "another user's");
    assert_eq!(cheap(self::pepper()).find(USER, first, &stored), None, "another installation's");
    assert_eq!(cheap(pepper).find(USER, first, &stored), Some(0), "after a restart");

    let salts: HashSet<&str> =
        new.hashes.iter().map(|hash| hash.as_str().split('$').nth(4).unwrap()).collect();
    assert_eq!(salts.len(), 10);
    for hash in &new.hashes {
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=12288,t=3,p=1$"), "{}", hash.as_str());
        assert_eq!(hash.as_str().split('$').nth(4).unwrap().len(), 22, "16 bytes");
    }
    let plain = Passwords::new(HashParams::MINIMUM, &mut OsRandom).unwrap();
    assert!(
        !plain.verify(&first.expose_text(), Some(&new.hashes[0])),
        "the code itself is not what was hashed"
    );
}

/// TFA-11: a used code is found like any other, so that it can be told apart, and fewer than ten are made up to ten.
#[test]
fn all_ten_are_computed_whatever_is_stored() {
    let codes = cheap(pepper());
    let new = codes.generate(USER, &mut OsRandom);
    let mut stored = stored(&new.hashes);
    stored[3].used_at = Some(at(0));
    assert_eq!(codes.find(USER, &new.codes[3], &stored), Some(3));
    assert_eq!(codes.find(USER, &new.codes[3], &stored[..3]), None);
    assert_eq!(codes.find(USER, &new.codes[3], &[]), None);
}

#[test]
fn the_cost_is_bounded_by_that_of_passwords() {
    let dear = BackupCodes::new(HashParams::default(), pepper(), &mut OsRandom);
    assert_eq!(dear.hasher.params(), HashParams { memory_kib: 19_456, iterations: 2, parallelism: 1 });
    assert_eq!(cheap(pepper()).hasher.params(), HashParams::MINIMUM);
}

#[test]
fn nothing_is_printed() {
    let codes = cheap(pepper());
    let new = codes.generate(USER, &mut OsRandom);
    let printed = format!("{codes:?} {new:?}");
    assert!(!printed.contains("argon2"), "{printed}");
    for code in &new.codes {
        assert!(!printed.contains(code.expose_text().expose_secret()));
    }
}

proptest! {
    #[test]
    fn no_text_panics(text: String) {
        let _ = BackupCode::parse(&text);
    }
}
