use std::time::Instant;

use super::*;
use crate::OsRandom;

fn passwords() -> Passwords {
    Passwords::new(HashParams::MINIMUM, &mut OsRandom).unwrap()
}

fn secret(text: &str) -> SecretString {
    text.to_owned().into()
}

#[test]
fn a_password_verifies_against_its_own_hash_only() {
    let passwords = passwords();
    let hash = passwords.hash(&secret(" Grüße, 世界! "), &mut OsRandom).unwrap();
    assert!(hash.as_str().starts_with("$argon2id$v=19$m=12288,t=3,p=1$"), "{}", hash.as_str());
    assert!(passwords.verify(&secret(" Grüße, 世界! "), Some(&hash)));
    for wrong in ["Grüße, 世界!", " grüße, 世界! ", " Grüße, 世界!", ""] {
        assert!(!passwords.verify(&secret(wrong), Some(&hash)), "{wrong:?}");
    }
    assert_ne!(
        hash,
        passwords.hash(&secret(" Grüße, 世界! "), &mut OsRandom).unwrap(),
        "each hash has its own salt"
    );
}

#[test]
fn composed_and_decomposed_spellings_are_one_password_but_compatible_ones_are_not() {
    let passwords = passwords();
    let hash = passwords.hash(&secret("caf\u{e9} \u{fb01}n"), &mut OsRandom).unwrap();
    assert!(passwords.verify(&secret("cafe\u{301} \u{fb01}n"), Some(&hash)));
    assert!(!passwords.verify(&secret("caf\u{e9} fin"), Some(&hash)));
}

#[test]
fn the_default_cost_works_and_old_hashes_are_upgraded() {
    let current = Passwords::new(HashParams::default(), &mut OsRandom).unwrap();
    assert_eq!(current.params(), HashParams { memory_kib: 65_536, iterations: 3, parallelism: 1 });
    let old = passwords().hash(&secret("a password"), &mut OsRandom).unwrap();
    assert!(current.verify(&secret("a password"), Some(&old)), "with the parameters of the hash itself");
    assert!(current.needs_upgrade(&old));
    let new = current.hash(&secret("a password"), &mut OsRandom).unwrap();
    assert!(!current.needs_upgrade(&new));
    assert!(!passwords().needs_upgrade(&new), "a dearer hash is kept");
}

/// Made apart with the reference implementation of argon2.
#[test]
fn a_hash_of_the_reference_implementation_verifies() {
    let stored = PasswordHash::parse(
        "$argon2id$v=19$m=19456,t=2,p=1$HodxEm0FTXV4sVVDqpaPsQ$Kv/TYkd0zvVcsR/1PhrfnMGiyt+uU3PChaDP4Ed24xk",
    )
    .unwrap();
    assert!(passwords().verify(&secret("correct horse battery staple"), Some(&stored)));
    assert!(!passwords().verify(&secret("correct horse battery stapler"), Some(&stored)));
}

#[test]
fn other_variants_of_argon2_need_an_upgrade() {
    let hash = passwords().hash(&secret("a password"), &mut OsRandom).unwrap();
    for other in [hash.as_str().replace("argon2id", "argon2i"), hash.as_str().replace("v=19", "v=16")] {
        assert!(passwords().needs_upgrade(&PasswordHash::parse(other).unwrap()));
    }
}

#[test]
fn an_unknown_user_is_refused_at_the_cost_of_a_real_hash() {
    let passwords = passwords();
    let hash = passwords.hash(&secret("a password"), &mut OsRandom).unwrap();
    let least = |stored: Option<&PasswordHash>| {
        let once = || {
            let start = Instant::now();
            assert!(!passwords.verify(&secret("another password"), stored));
            start.elapsed()
        };
        (0..5).map(|_| once()).min().unwrap()
    };
    let (known, unknown) = (least(Some(&hash)), least(None));
    assert!(unknown * 4 > known, "a shortcut: {unknown:?} against {known:?}");
    assert_eq!(passwords.dummy.as_str()[..31], hash.as_str()[..31], "the same algorithm and cost");
}

#[test]
fn overlong_passwords_are_refused_for_storing() {
    let passwords = passwords();
    assert!(passwords.hash(&secret(&"é".repeat(512)), &mut OsRandom).is_ok());
    assert_eq!(passwords.hash(&secret(&"x".repeat(1025)), &mut OsRandom), Err(PasswordError::TooLong));
}

#[test]
fn weak_and_absurd_costs_are_refused() {
    let params = |memory_kib, iterations, parallelism| HashParams { memory_kib, iterations, parallelism };
    for good in [params(12_288, 3, 1), params(19_456, 2, 1), params(47_104, 1, 1), HashParams::default()] {
        assert!(good.check().is_ok(), "{good:?}");
    }
    let bad = [
        params(12_287, 3, 1),
        params(12_288, 2, 1),
        params(19_455, 2, 1),
        params(47_103, 1, 1),
        params(65_536, 0, 1),
        params(65_536, 3, 0),
        params(65_536, 3, 17),
        params(65_536, 101, 1),
        params(4_194_305, 3, 1),
    ];
    for bad in bad {
        assert_eq!(Passwords::new(bad, &mut OsRandom).unwrap_err(), HashParamsError(bad));
    }
}

#[test]
fn unreadable_stored_hashes_are_refused() {
    let good = passwords().hash(&secret("a password"), &mut OsRandom).unwrap();
    let bad = [
        "",
        "plain",
        "$argon2id$v=19$m=12288,t=3,p=1",
        "$pbkdf2-sha256$i=600000$c2FsdHNhbHQ$aGFzaGhhc2g",
        "$argon2id$v=19$m=1,t=3,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo",
        &good.as_str()[..60],
    ];
    for bad in bad {
        assert_eq!(PasswordHash::parse(bad), Err(PasswordError::MalformedHash), "{bad}");
    }
    assert_eq!(PasswordHash::parse(good.as_str()), Ok(good));
}

#[test]
fn debug_shows_no_hash() {
    let hash = passwords().hash(&secret("a password"), &mut OsRandom).unwrap();
    let printed = format!("{hash:?} {:?}", passwords());
    assert!(
        printed.starts_with("PasswordHash(redacted) Passwords { params: HashParams {")
            && !printed.contains('$')
    );
}

/// Memory that is kept changes no hash, grows for a dearer one, and is given back.
#[test]
fn kept_memory_gives_the_same_hashes_as_fresh_memory() {
    let fresh = passwords();
    let keeping = fresh.keeping_memory();
    let held = |passwords: &Passwords| passwords.kept.as_ref().map(|kept| kept.lock().unwrap().bytes());
    assert_eq!((held(&fresh), held(&keeping)), (None, Some(0)));
    let dearer = HashParams { memory_kib: 19_456, iterations: 2, parallelism: 1 };
    let dearer = Passwords::new(dearer, &mut OsRandom).unwrap();
    for maker in [&fresh, &keeping, &dearer, &fresh] {
        let hash = maker.hash(&secret("a password"), &mut OsRandom).unwrap();
        for verifier in [&fresh, &keeping] {
            assert!(verifier.verify(&secret("a password"), Some(&hash)));
            assert!(!verifier.verify(&secret("another one"), Some(&hash)));
            assert!(!verifier.verify(&secret("a password"), None));
        }
    }
    assert_eq!(held(&keeping), Some(19_456 * 1024), "as much as the dearest needed");
    keeping.release_memory();
    assert_eq!(held(&keeping), Some(0));
    assert_eq!(held(&keeping.clone()), None);
}
