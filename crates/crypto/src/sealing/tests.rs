use chacha20poly1305::KeyInit;
use data_encoding::HEXLOWER;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use secrecy::ExposeSecret;

use super::*;
use crate::OsRandom;
use crate::key_ring::tests::master;

const PLACE: Aad<'static> =
    Aad { table: "broker_credentials", column: "api_secret", row: "17", owner: Some(42) };

fn ring() -> KeyRing {
    KeyRing::new(&master(100))
}

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
#[test]
fn the_cipher_agrees_with_the_xchacha_draft() {
    let key: [u8; 32] = std::array::from_fn(|i| 0x80 + i as u8);
    let cipher = XChaCha20Poly1305::new_from_slice(&key).unwrap();
    let nonce = std::array::from_fn(|i| 0x40 + i as u8);
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let plaintext = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let mut sealed = plaintext.to_vec();
    let tag = encrypt(&cipher, &nonce, &aad, &mut sealed);
    sealed.extend_from_slice(&tag);
    assert_eq!(
        HEXLOWER.encode(&sealed),
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb\
         731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452\
         2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
         21f9664c97637da9768812f615c68b13b52e\
         c0875924c1c7987947deafd8780acf49"
    );
    assert_eq!(decrypt(&cipher, &nonce, &aad, &sealed).unwrap().expose_secret(), plaintext);
    assert_eq!(decrypt(&cipher, &nonce, &aad, &sealed[..15]).unwrap_err(), OpenError::Refused);
}

/// Made apart with libsodium and another HKDF: the stored form must open for ever.
const BY_ANOTHER_IMPLEMENTATION: &str = "021e15bb5a8d8c17a93ff5a8db743dda79addeaea33c2c4042350ab1d2bbbd3c1024215c7700c414a4\
     000102030405060708090a0b0c0d0e0f1011121314151617\
     c2bc317987b4cde7acd178a21eabea6992b68338a69736529e2dcdd194";

#[test]
fn a_value_sealed_by_another_implementation_opens() {
    let sealed = hex(BY_ANOTHER_IMPLEMENTATION);
    assert_eq!(open(&ring(), &PLACE, &sealed).unwrap().expose_secret(), b"sk-paper-0001");
    assert_eq!(sealed_with(&sealed), Ok(ring().active()));
}

/// As before, of version 1.
const BY_VERSION_1: &str = "011e15bb5a8d8c17a9000102030405060708090a0b0c0d0e0f1011121314151617\
     c2bc317987b4cde7acd178a21ec309d30a4fd1d8722be8accd1bee89e7";

#[test]
fn a_value_of_version_1_opens_in_its_place_and_is_resealed_with_the_next_key() {
    let sealed = hex(BY_VERSION_1);
    assert_eq!(open(&ring(), &PLACE, &sealed).unwrap().expose_secret(), b"sk-paper-0001");
    assert_eq!(sealed_with(&sealed), Ok(ring().active()));
    for place in
        [Aad { row: "18", ..PLACE }, Aad { owner: Some(43), ..PLACE }, Aad { column: "api_key", ..PLACE }]
    {
        assert_eq!(open(&ring(), &place, &sealed).unwrap_err(), OpenError::Refused, "{place:?}");
    }
    for length in 1..v1::OVERHEAD {
        assert_eq!(open(&ring(), &PLACE, &sealed[..length]).unwrap_err(), OpenError::Truncated(length));
    }
    for length in v1::OVERHEAD..sealed.len() {
        assert_eq!(open(&ring(), &PLACE, &sealed[..length]).unwrap_err(), OpenError::Refused);
    }
    let rotating = KeyRing::new(&master(101)).with_old(&master(100)).unwrap();
    let new = reseal(&rotating, &PLACE, &sealed, &mut OsRandom).unwrap().expect("another key");
    assert_eq!((new[0], sealed_with(&new)), (VERSION, Ok(rotating.active())));
    assert_eq!(open(&rotating, &PLACE, &new).unwrap().expose_secret(), b"sk-paper-0001");
}

#[test]
fn a_value_opens_only_in_its_own_place() {
    let sealed = seal(&ring(), &PLACE, b"secret", &mut OsRandom);
    let elsewhere = [
        (Aad { table: "webhooks", ..PLACE }, OpenError::Refused),
        (Aad { column: "api_key", ..PLACE }, OpenError::Refused),
        (Aad { row: "18", ..PLACE }, OpenError::Misplaced),
        (Aad { row: "1", ..PLACE }, OpenError::Misplaced),
        (Aad { owner: Some(43), ..PLACE }, OpenError::Misplaced),
        (Aad { owner: None, ..PLACE }, OpenError::Misplaced),
        // The label of the subkey is the same for these; the place is not.
        (Aad { table: "broker_credentials.api", column: "secret", ..PLACE }, OpenError::Refused),
    ];
    for (place, error) in elsewhere {
        assert_eq!(open(&ring(), &place, &sealed).unwrap_err(), error, "{place:?}");
    }
    let dotted = Aad { table: "a.b", column: "c", ..PLACE };
    let sealed = seal(&ring(), &dotted, b"secret", &mut OsRandom);
    let other_dot = Aad { table: "a", column: "b.c", ..PLACE };
    assert_eq!(open(&ring(), &other_dot, &sealed).unwrap_err(), OpenError::Misplaced);
}

#[test]
fn each_failure_has_its_own_error() {
    let sealed = seal(&ring(), &PLACE, b"", &mut OsRandom);
    assert_eq!(sealed.len(), OVERHEAD);
    let later = [&[3][..], &sealed[1..]].concat();
    assert_eq!(open(&ring(), &PLACE, &later).unwrap_err(), OpenError::UnsupportedVersion(3));
    let other = KeyRing::new(&master(101));
    assert_eq!(open(&other, &PLACE, &sealed).unwrap_err(), OpenError::UnknownKey(ring().active()));
    let another_owner = Aad { owner: Some(43), ..PLACE };
    assert_eq!(open(&ring(), &another_owner, &sealed).unwrap_err(), OpenError::Misplaced);
}

#[test]
fn a_cut_value_is_never_opened() {
    let sealed = seal(&ring(), &PLACE, b"secret", &mut OsRandom);
    for length in 0..sealed.len() {
        let error = if length < OVERHEAD { OpenError::Truncated(length) } else { OpenError::Refused };
        assert_eq!(open(&ring(), &PLACE, &sealed[..length]).unwrap_err(), error, "{length}");
    }
    for more in [&b"\0"[..], b"more", &sealed[..]] {
        let longer = [&sealed[..], more].concat();
        assert_eq!(open(&ring(), &PLACE, &longer).unwrap_err(), OpenError::Refused);
    }
}

#[test]
fn every_flipped_bit_is_found_and_told_from_a_moved_value() {
    for plaintext in [&b""[..], b"secret"] {
        let sealed = seal(&ring(), &PLACE, plaintext, &mut OsRandom);
        for (at, bit) in (0..sealed.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << bit;
            let right = match open(&ring(), &PLACE, &changed).unwrap_err() {
                OpenError::UnsupportedVersion(_) => at == 0,
                OpenError::UnknownKey(_) => KEY_ID.contains(&at),
                OpenError::Refused => at >= PLACE_DIGEST.start,
                OpenError::Truncated(_) | OpenError::Misplaced => false,
            };
            assert!(right, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn parts_of_two_values_do_not_go_together() {
    let (a, b) =
        (seal(&ring(), &PLACE, b"secret", &mut OsRandom), seal(&ring(), &PLACE, b"secret", &mut OsRandom));
    let swap = |part: &std::ops::Range<usize>| [&a[..part.start], &b[part.clone()], &a[part.end..]].concat();
    let end = a.len();
    for part in [NONCE, NONCE.end..end - TAG_BYTES, end - TAG_BYTES..end, NONCE.end..end] {
        assert_eq!(open(&ring(), &PLACE, &swap(&part)).unwrap_err(), OpenError::Refused, "{part:?}");
    }
    let moved = Aad { row: "18", ..PLACE };
    let other = seal(&ring(), &moved, b"secret", &mut OsRandom);
    let relabelled = [&a[..PLACE_DIGEST.start], &other[PLACE_DIGEST], &a[PLACE_DIGEST.end..]].concat();
    for place in [&PLACE, &moved] {
        assert_eq!(open(&ring(), place, &relabelled).unwrap_err(), OpenError::Refused);
    }
    assert_eq!(open(&ring(), &PLACE, &[0; OVERHEAD]).unwrap_err(), OpenError::UnsupportedVersion(0));
    let zeros = [&a[..PLACE_DIGEST.start], &[0; OVERHEAD][..]].concat();
    assert_eq!(open(&ring(), &PLACE, &zeros).unwrap_err(), OpenError::Refused);
}

#[test]
fn the_key_id_in_the_value_cannot_be_exchanged() {
    let both = KeyRing::new(&master(100)).with_old(&master(101)).unwrap();
    let mut sealed = seal(&both, &PLACE, b"secret", &mut OsRandom);
    sealed[KEY_ID].copy_from_slice(KeyRing::new(&master(101)).active().as_bytes());
    assert_eq!(open(&both, &PLACE, &sealed).unwrap_err(), OpenError::Refused);
}

#[test]
fn rotation_moves_a_value_to_the_active_key_once() {
    let old = seal(&ring(), &PLACE, b"secret", &mut OsRandom);
    let rotating = KeyRing::new(&master(101)).with_old(&master(100)).unwrap();
    assert_eq!(open(&rotating, &PLACE, &old).unwrap().expose_secret(), b"secret");
    let new = reseal(&rotating, &PLACE, &old, &mut OsRandom).unwrap().expect("another key");
    assert_eq!(sealed_with(&new), Ok(rotating.active()));
    assert_eq!(reseal(&rotating, &PLACE, &new, &mut OsRandom), Ok(None));
    assert_eq!(open(&KeyRing::new(&master(101)), &PLACE, &new).unwrap().expose_secret(), b"secret");
    let moved = Aad { row: "18", ..PLACE };
    assert_eq!(reseal(&rotating, &moved, &old, &mut OsRandom), Err(OpenError::Misplaced));
}

#[test]
fn a_hundred_thousand_nonces_do_not_repeat() {
    let mut seen = std::collections::HashSet::new();
    let ring = ring();
    for _ in 0..100_000 {
        let sealed = seal(&ring, &PLACE, b"", &mut OsRandom);
        assert!(seen.insert(<[u8; 24]>::try_from(&sealed[NONCE]).unwrap()));
    }
}

#[test]
fn an_opened_value_is_not_printed() {
    let sealed = seal(&ring(), &PLACE, b"canary", &mut OsRandom);
    let printed = format!("{:?}", open(&ring(), &PLACE, &sealed).unwrap());
    assert!(printed.contains("REDACTED") && !printed.contains("99"), "{printed}");
}

proptest! {
    #[test]
    fn what_is_sealed_opens(plaintext: Vec<u8>, row: String, owner: Option<i64>, seed: u64) {
        let place = Aad { table: "t", column: "c", row: &row, owner };
        let sealed = seal(&ring(), &place, &plaintext, &mut StdRng::seed_from_u64(seed));
        prop_assert_eq!(sealed.len(), plaintext.len() + OVERHEAD);
        let opened = open(&ring(), &place, &sealed).unwrap();
        prop_assert_eq!(opened.expose_secret(), &plaintext[..]);
    }

    #[test]
    fn what_is_resealed_opens_with_the_new_key_alone(plaintext: Vec<u8>, row: String, owner: Option<i64>, times in 1..4u8) {
        let place = Aad { table: "t", column: "c", row: &row, owner };
        let mut sealed = seal(&KeyRing::new(&master(1)), &place, &plaintext, &mut OsRandom);
        for n in 1..=times {
            let rotating = KeyRing::new(&master(n + 1)).with_old(&master(n)).unwrap();
            sealed = reseal(&rotating, &place, &sealed, &mut OsRandom).unwrap().expect("another key");
        }
        let opened = open(&KeyRing::new(&master(times + 1)), &place, &sealed).unwrap();
        prop_assert_eq!(opened.expose_secret(), &plaintext[..]);
        let gone = open(&KeyRing::new(&master(times)), &place, &sealed).unwrap_err();
        prop_assert_eq!(gone, OpenError::UnknownKey(sealed_with(&sealed).unwrap()));
    }

    #[test]
    fn any_bytes_at_all_are_refused_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(open(&ring(), &PLACE, &bytes).is_err());
    }
}
