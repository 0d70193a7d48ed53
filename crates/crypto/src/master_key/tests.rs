use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

fn stretching() -> Stretching {
    Stretching::new([7; 16], 600_000).unwrap()
}

fn key_bytes(seed: u8) -> [u8; 32] {
    std::array::from_fn(|i| (i as u8).wrapping_mul(37).wrapping_add(seed).rotate_left(3))
}

#[test]
fn pbkdf2_agrees_with_rfc_7914_section_11() {
    let short = stretch(b"passwd", b"salt", 1);
    assert_eq!(
        HEXLOWER.encode(short.expose()),
        "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
    );
    let long = stretch(b"Password", b"NaCl", 80_000);
    assert_eq!(
        HEXLOWER.encode(long.expose()),
        "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
    );
}

#[test]
fn every_encoding_of_32_bytes_is_the_same_key() {
    let bytes = [251u8; 31].iter().copied().chain([3]).collect::<Vec<_>>();
    let forms = [
        (HEXLOWER.encode(&bytes), KeyForm::Hex),
        (HEXLOWER.encode(&bytes).to_uppercase(), KeyForm::Hex),
        (BASE64.encode(&bytes), KeyForm::Base64),
        (BASE64URL.encode(&bytes), KeyForm::Base64),
        (BASE64_NOPAD.encode(&bytes), KeyForm::Base64),
        (format!(" {}\r\n", BASE64URL_NOPAD.encode(&bytes)), KeyForm::Base64),
    ];
    for (text, form) in forms {
        let key = MasterKey::parse(&text, &stretching()).unwrap();
        assert_eq!(key.key.expose()[..], bytes[..]);
        assert_eq!((key.form(), KeyForm::of(&text).unwrap()), (form, form));
    }
}

#[test]
fn a_pass_phrase_is_normalised_and_stretched_with_the_salt() {
    let composed = MasterKey::parse("Ein langes Gem\u{fc}se-Rezept\n", &stretching()).unwrap();
    let decomposed = MasterKey::parse("Ein langes Gemu\u{308}se-Rezept", &stretching()).unwrap();
    assert_eq!(composed.form(), KeyForm::PassPhrase);
    assert_eq!(composed.key, decomposed.key);
    assert_eq!(composed.key, stretch("Ein langes Gem\u{fc}se-Rezept".as_bytes(), &[7; 16], 600_000));
    let salted =
        MasterKey::parse("Ein langes Gem\u{fc}se-Rezept", &Stretching::new([8; 16], 600_000).unwrap());
    assert_ne!(composed.key, salted.unwrap().key);
}

#[test]
fn a_mistyped_key_is_not_taken_for_a_pass_phrase() {
    let bytes = key_bytes(1);
    let base64 = BASE64.encode(&bytes);
    let hex = HEXLOWER.encode(&bytes);
    let body = &base64[..43];
    let last_changed = format!("{}{}", &base64[..42], if body.ends_with('B') { 'C' } else { 'B' });
    let mistyped = [
        base64[1..].to_owned(),
        base64[..42].to_owned(),
        format!("{}=", &base64[..41]),
        format!("{body}A="),
        format!("{body}=="),
        last_changed,
        format!("+_{}", &base64[2..]),
        BASE64.encode(&[1; 24]),
        BASE64.encode(&[1; 31]),
        BASE64.encode(&[1; 33]),
        BASE64.encode(&[1; 40]),
        hex[1..].to_owned(),
        hex[2..].to_owned(),
        format!("{hex}0"),
        HEXLOWER.encode(&[1; 24]),
        HEXLOWER.encode(&[1; 40]),
    ];
    for text in mistyped {
        let got = KeyForm::of(&text);
        assert!(matches!(got, Err(MasterKeyError::Mistyped { .. })), "{text}: {got:?}");
    }
}

#[test]
fn text_of_another_size_is_a_pass_phrase() {
    for text in [
        "a fine long pass phrase",
        "correct-horse-battery-stapler",
        "Tr0ub4dor&3-and-more!",
        "0123456789abcdef",
    ] {
        assert_eq!(KeyForm::of(text), Ok(KeyForm::PassPhrase), "{text}");
    }
    assert_eq!(KeyForm::of(&BASE64_NOPAD.encode(&key_bytes(2)[..23])), Ok(KeyForm::PassPhrase));
    assert_eq!(
        KeyForm::of(&HEXLOWER.encode(&[key_bytes(2), key_bytes(3)].concat())),
        Ok(KeyForm::PassPhrase)
    );
}

#[test]
fn weak_keys_are_refused_by_name() {
    let cases = [
        ("", MasterKeyError::Empty),
        (" \n", MasterKeyError::Empty),
        (&"00".repeat(32), MasterKeyError::Constant),
        (&BASE64.encode(&[0xaa; 32]), MasterKeyError::Constant),
        (&"?".repeat(20), MasterKeyError::Constant),
        (EXAMPLE_KEY, MasterKeyError::Published),
        (&HEXLOWER.encode(&EXAMPLE_KEY_BYTES), MasterKeyError::Published),
        ("Correct horse battery staple", MasterKeyError::Published),
        ("fourteen chars", MasterKeyError::TooShort),
        ("\u{e9}\u{e8}\u{e9}\u{e8}\u{e9}\u{e8}\u{e9}\u{e8}", MasterKeyError::TooShort),
    ];
    for (text, error) in cases {
        assert_eq!(KeyForm::of(text), Err(error.clone()), "{text}");
        assert_eq!(MasterKey::parse(text, &stretching()).unwrap_err(), error);
    }
    assert_eq!(MasterKey::from_key(SecretKey::from_bytes([9; 32])).unwrap_err(), MasterKeyError::Constant);
}

#[test]
fn messages_and_debug_do_not_echo_the_key() {
    let secret = BASE64.encode(&key_bytes(4));
    let error = KeyForm::of(&secret[1..]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(&secret[10..20]));
    let key = MasterKey::parse(&secret, &stretching()).unwrap();
    assert_eq!(format!("{key:?}"), "MasterKey { key: SecretKey(redacted), form: Base64 }");
}

#[test]
fn stretching_has_bounds() {
    assert_eq!(Stretching::new([0; 15], 600_000), Err(StretchingError::Salt(15)));
    assert_eq!(Stretching::new([0; 16], 599_999), Err(StretchingError::Iterations(599_999)));
    assert_eq!(Stretching::new([0; 16], 20_000_001), Err(StretchingError::Iterations(20_000_001)));
    let stretching = Stretching::new([0; 16], DEFAULT_STRETCHING_ITERATIONS).unwrap();
    assert_eq!((stretching.salt(), stretching.iterations()), (&[0; 16][..], 1_000_000));
}

proptest! {
    #[test]
    fn any_key_survives_any_encoding(bytes: [u8; 32]) {
        for text in [HEXLOWER.encode(&bytes), BASE64.encode(&bytes), BASE64URL_NOPAD.encode(&bytes)] {
            let Material::Key(key, _) = read(&text).unwrap() else { panic!("a pass phrase") };
            prop_assert_eq!(key.expose(), &bytes);
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,90}") {
        let _ = KeyForm::of(&text);
    }
}
