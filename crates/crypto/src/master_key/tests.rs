use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

fn stretching() -> Stretching {
    Stretching::new([7; 16], 600_000).unwrap()
}

fn key_bytes(seed: u8) -> [u8; 32] {
    std::array::from_fn(|i| (i as u8).wrapping_mul(37).wrapping_add(seed).rotate_left(3))
}

/// RFC 7914, section 11 (the first 32 of its 64 bytes), and the vectors of RFC 6070 with SHA-256 in place of SHA-1, which
/// is what most implementations test with. The last one has the count of a new installation; computed apart.
#[test]
fn pbkdf2_agrees_with_published_vectors() {
    let salt: Vec<u8> = (0..16).collect();
    let vectors: [(&[u8], &[u8], u32, &str); 8] = [
        (b"passwd", b"salt", 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"),
        (b"Password", b"NaCl", 80_000, "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"),
        (b"password", b"salt", 1, "120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b"),
        (b"password", b"salt", 2, "ae4d0c95af6b46d32d0adff928f06dd02a303f8ef3c251dfd6e2d85a95474c43"),
        (b"password", b"salt", 4_096, "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a"),
        (
            b"passwordPASSWORDpassword",
            b"saltSALTsaltSALTsaltSALTsaltSALTsalt",
            4_096,
            "348c89dbcbd32b2f32d814b8116e84cf2b17347ebc1800181c4e2a1fb8dd53e1",
        ),
        (b"pass\0word", b"sa\0lt", 4_096, "89b69d0516f829893c696226650a86878c029ac13ee276509d5ae58b6466a724"),
        (
            b"a pass phrase of some length",
            &salt,
            DEFAULT_STRETCHING_ITERATIONS,
            "28b7f989fcda41b81dedddafafa51ff47a746d93ba850301d1cf469ed1f1eecf",
        ),
    ];
    for (password, salt, iterations, key) in vectors {
        assert_eq!(HEXLOWER.encode(stretch(password, salt, iterations).expose()), key, "{iterations}");
    }
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
        hex[1..].to_owned(),
        format!("{hex}0"),
    ];
    for text in mistyped {
        let got = KeyForm::of(&text);
        assert!(matches!(got, Err(MasterKeyError::Mistyped { .. })), "{text}: {got:?}");
    }
}

#[test]
fn a_key_of_another_length_is_refused_with_its_length() {
    for bytes in (24..=40).filter(|&bytes| bytes != 32) {
        let key: Vec<u8> = (0..bytes).map(|i| (i * 37 + 5) as u8).collect();
        let texts = [
            (HEXLOWER.encode(&key), "hexadecimal"),
            (BASE64.encode(&key), "base64"),
            (BASE64URL.encode(&key), "base64"),
            (BASE64_NOPAD.encode(&key), "base64"),
        ];
        for (text, encoding) in texts {
            let error = MasterKeyError::WrongLength { encoding, bytes };
            assert_eq!(KeyForm::of(&text), Err(error.clone()), "{text}");
            assert_eq!(MasterKey::parse(&text, &stretching()).unwrap_err(), error);
        }
    }
    let short = KeyForm::of(&BASE64.encode(&key_bytes(1)[1..])).unwrap_err();
    assert_eq!(
        short.to_string(),
        "the key is base64 of 31 bytes, and 32 are needed (a pass phrase must not look like an encoded key)"
    );
}

#[test]
fn an_encoded_key_with_something_around_it_is_not_a_pass_phrase() {
    let (base64, hex) = (BASE64.encode(&key_bytes(1)), HEXLOWER.encode(&key_bytes(1)));
    for text in [
        format!("\"{base64}\""),
        format!("'{hex}'\n"),
        format!("\" {hex} \""),
        format!("0x{hex}"),
        format!("0X{}", hex.to_uppercase()),
        format!("hex:{hex}"),
        format!("base64:{base64}"),
        format!("base64: {}", &base64[1..]),
        format!("0x{}", &hex[2..]),
    ] {
        assert_eq!(KeyForm::of(&text), Err(MasterKeyError::Wrapped), "{text}");
        assert_eq!(MasterKey::parse(&text, &stretching()).unwrap_err(), MasterKeyError::Wrapped);
    }
    for text in
        ["\"a fine long pass phrase\"", "0x is how this pass phrase begins", "base64: what a pass phrase"]
    {
        assert_eq!(KeyForm::of(text), Ok(KeyForm::PassPhrase), "{text}");
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
        (&HEXLOWER.encode(&std::array::from_fn::<u8, 32, _>(|i| i as u8)), MasterKeyError::Published),
        (&HEXLOWER.encode(&std::array::from_fn::<u8, 32, _>(|i| 0x80 + i as u8)), MasterKeyError::Published),
        ("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=", MasterKeyError::Published),
        ("cw/0x689RpI+jtRR7oE8h/eQsKImvJapLeSbXpwF4e4", MasterKeyError::Published),
        ("Correct horse battery staple", MasterKeyError::Published),
        ("fourteen chars", MasterKeyError::TooShort),
        ("\u{e9}\u{e8}\u{e9}\u{e8}\u{e9}\u{e8}\u{e9}\u{e8}", MasterKeyError::TooShort),
    ];
    for (text, error) in cases {
        assert_eq!(KeyForm::of(text), Err(error.clone()), "{text}");
        assert_eq!(MasterKey::parse(text, &stretching()).unwrap_err(), error);
    }
    assert_eq!(PUBLISHED_KEYS[0], EXAMPLE_KEY);
    assert_eq!(MasterKey::from_key(SecretKey::from_bytes([9; 32])).unwrap_err(), MasterKeyError::Constant);
    for key in PUBLISHED_KEYS {
        let bytes = BASE64URL.decode(key.as_bytes()).unwrap();
        let error = MasterKey::from_key(SecretKey::try_from(&bytes[..]).unwrap()).unwrap_err();
        assert_eq!(error, MasterKeyError::Published, "{key}");
    }
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
    let new = Stretching::generate(&mut crate::OsRandom);
    assert_eq!((new.salt().len(), new.iterations()), (32, 1_000_000));
    assert_eq!(Stretching::new(new.salt(), new.iterations()), Ok(new.clone()));
    assert_ne!(Stretching::generate(&mut crate::OsRandom), new);
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
