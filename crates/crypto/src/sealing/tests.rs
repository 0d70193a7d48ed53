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
    let key = SecretKey::from_bytes(std::array::from_fn(|i| 0x80 + i as u8));
    let nonce = std::array::from_fn(|i| 0x40 + i as u8);
    let plaintext = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let sealed = encrypt(&key, &nonce, &hex("50515253c0c1c2c3c4c5c6c7"), plaintext);
    assert_eq!(
        HEXLOWER.encode(&sealed),
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb\
         731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452\
         2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
         21f9664c97637da9768812f615c68b13b52e\
         c0875924c1c7987947deafd8780acf49"
    );
}

/// Made apart with libsodium and another HKDF: the stored form must open for ever.
#[test]
fn a_value_sealed_by_another_implementation_opens() {
    let sealed = hex(
        "011e15bb5a8d8c17a9000102030405060708090a0b0c0d0e0f1011121314151617c2bc317987b4cde7acd178a21ec309d30a4fd1d8722be8accd1bee89e7",
    );
    assert_eq!(open(&ring(), &PLACE, &sealed).unwrap().expose_secret(), b"sk-paper-0001");
    assert_eq!(sealed_with(&sealed), Ok(ring().active()));
}

#[test]
fn a_value_opens_only_in_its_own_place() {
    let sealed = seal(&ring(), &PLACE, b"secret", &mut OsRandom);
    let elsewhere = [
        Aad { table: "webhooks", ..PLACE },
        Aad { column: "api_key", ..PLACE },
        Aad { row: "18", ..PLACE },
        Aad { owner: Some(43), ..PLACE },
        Aad { owner: None, ..PLACE },
        Aad { table: "broker_credentials.api", column: "secret", ..PLACE },
    ];
    for place in elsewhere {
        assert_eq!(open(&ring(), &place, &sealed).unwrap_err(), OpenError::Refused, "{place:?}");
    }
}

#[test]
fn each_failure_has_its_own_error() {
    let sealed = seal(&ring(), &PLACE, b"", &mut OsRandom);
    assert_eq!(sealed.len(), OVERHEAD);
    assert_eq!(open(&ring(), &PLACE, &[]).unwrap_err(), OpenError::Truncated(0));
    assert_eq!(
        open(&ring(), &PLACE, &sealed[..OVERHEAD - 1]).unwrap_err(),
        OpenError::Truncated(OVERHEAD - 1)
    );
    let later = [&[2][..], &sealed[1..]].concat();
    assert_eq!(open(&ring(), &PLACE, &later).unwrap_err(), OpenError::UnsupportedVersion(2));
    let other = KeyRing::new(&master(101));
    assert_eq!(open(&other, &PLACE, &sealed).unwrap_err(), OpenError::UnknownKey(ring().active()));
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
    assert_eq!(reseal(&rotating, &moved, &old, &mut OsRandom), Err(OpenError::Refused));
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
    fn any_flipped_bit_is_found(plaintext in proptest::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index, bit in 0..8u8) {
        let mut sealed = seal(&ring(), &PLACE, &plaintext, &mut OsRandom);
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        let error = open(&ring(), &PLACE, &sealed).unwrap_err();
        let right_class = match error {
            OpenError::UnsupportedVersion(_) => at == 0,
            OpenError::UnknownKey(_) => KEY_ID.contains(&at),
            OpenError::Refused => at >= NONCE.start,
            OpenError::Truncated(_) => false,
        };
        prop_assert!(right_class, "{error} at byte {at}");
    }

    #[test]
    fn any_bytes_at_all_are_refused_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(open(&ring(), &PLACE, &bytes).is_err());
    }
}
