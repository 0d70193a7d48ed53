use data_encoding::BASE64URL;
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

/// `base64.urlsafe_b64encode(bytes(range(100, 132)))`
const KEY: &str = "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1-f4CBgoM=";
const PASSWORD: &str = "the old pass phrase";
const SALT: &[u8] = b"a salt of before";

/// Tokens made by the Python package `cryptography` 50.0.2, with:
/// ```text
/// import base64
/// from cryptography.fernet import Fernet
/// from cryptography.hazmat.primitives import hashes
/// from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
/// key = base64.urlsafe_b64encode(bytes(range(100, 132)))
/// kdf = PBKDF2HMAC(hashes.SHA256(), 32, b"a salt of before", 100_000)
/// derived = base64.urlsafe_b64encode(kdf.derive(b"the old pass phrase"))
/// for k in (key, derived):
///     for text in (b"", b"PKTEST0000000000CANARY", b"0123456789abcdef", "grüße 🔒".encode(), bytes(range(256))):
///         print(Fernet(k)._encrypt_from_parts(text, 1_700_000_000, bytes(range(16))).decode())
/// ```
const BY_KEY: [&str; 5] = [
    "gAAAAABlU_EAAAECAwQFBgcICQoLDA0OD_oCxom6GeJLDdcDRSlBx40b0_nERSomQeK__XTovgTv1Rw7iyZRKovXIXINQDScnA==",
    "gAAAAABlU_EAAAECAwQFBgcICQoLDA0ODwjTIzonLl4iST4m6Nh42-3z45UDRcOXLoGU6-Gs3HNUMj2Vt5d1t7MucQJyeaOlXQt2Q-iLwX1wUomh_z6CtNM=",
    "gAAAAABlU_EAAAECAwQFBgcICQoLDA0OD2pzB5_WOQ7z89va6czJhQE4NKv9CK3ZD3ryDTNrZywlN8nkp3uGkJ7axvK0sp06OqSwfP7KOiDihegmaY0iMMo=",
    "gAAAAABlU_EAAAECAwQFBgcICQoLDA0OD-r-MUh9OMws4J8PyMa5vUyT3I_CdKyJe-HAMXA1FiFBanFN1lsdONVF3ku6A1_baA==",
    "gAAAAABlU_EAAAECAwQFBgcICQoLDA0OD9jikyn0zcvfgC21mrA2vTTpdU4y-AjhqV_8ehJDlVv9J0HVgYZDOmnWwSLCvMMbmpRFjn4bjSPQ2TwukNb-Uen35FbEhSvrXySxs3yOrtQB-6G-qRs_7PCLBttWnKmFMJRHav7TpJGhrMea7GrSzvcfFUfLlFhzgJluXWguFRGPib5DmvM1_ZPxBl7-znuEVIjl__IFdTQP3lgGemtJEI8Pi5fYjN-u1en_JBZvHDqC0OAhkmIKFijdWz1qLWcShWJGa4nYGCmKBHxCzG_g6H8PlgzAyYe_vg9ATiqWXXR2-jxGyK-rHivyFBz40zPkfcWXGP8cmUn7Oh0n8X9PWkkf6pQRwjGDZozYJz8hh9maOl27YvY3AEkZEt-iNo7lfrM7gol0Pw4KyUv31yO_ox8=",
];
const BY_PASSWORD: [&str; 5] = [
    "gAAAAABlU_EAAAECAwQFBgcICQoLDA0OD1F1do5Q9mxS5qT5suXfU-Mi5m_0Co5gbOyVeDyhZ264N3PnhdRlOeOUexqwkMPd4Q==",
    "gAAAAABlU_EAAAECAwQFBgcICQoLDA0OD6JObM65OusK7djgnOZkviersaw_A9rIODSClSkBtA3y5hFgzqU7d82_gTYjNxMB6mn92_1aBvMTEkUJ60nJtL4=",
    "gAAAAABlU_EAAAECAwQFBgcICQoLDA0OD-Y3m_-0bjOLrAHtSAC0vlNUoN-IUJjxK4tIhcddtd2aazu0aLE-NzkJePTcH5LfXFwhCDz6y5IsIsnhAC_G3AE=",
    "gAAAAABlU_EAAAECAwQFBgcICQoLDA0OD5-7qigax0X8aly8kiWwzFst0rjs916ME6Sw2dzKtDaCJkwvsp9S1S_KJD7PJvPPvQ==",
    "gAAAAABlU_EAAAECAwQFBgcICQoLDA0ODwd-YwaS__DNdzG9f9GkuVl8307jXm9J66BKRHLQR_eGlrX4iEcZWEMH_XGdA68CpMhKsc0i2CjiKXwq4CRDl3dWTTBMkihxxd9aIT_BqngRT5DdnszomIDHGZofDVJxoKbsv7g6nTN92gEg1wCzzeKhMiSSDIEiWrKTxSqf-4pNlShKFqsmMjJpvka9q8Uhd7sjyC2CBl3R-V0dwc0WlT0yp8pWtamwERYNjF0p2GA8IHYOya5V7Eqs-SToZCzJuhk51URDvkLZHWaIT2oRPX-ClZ9i8msdQ564UNczldOq-u2TmvQ0-WrPCWAVeu7xIGKNrH3DrsmMqsaFvnzJJ5bdrSM9u1wfuFfgBd5-8T5xAqRHJrsWO-0ar_6M7pBOi05L07p5UjZW0ddbNoltO7w=",
];

fn key() -> FernetKey {
    FernetKey::parse(KEY).unwrap()
}

fn by_password() -> FernetKey {
    FernetKey::from_password(PASSWORD, SALT, DEFAULT_PASSWORD_ITERATIONS).unwrap()
}

fn spec_key() -> FernetKey {
    FernetKey::parse("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=").unwrap()
}

#[test]
fn tokens_of_the_python_package_open_with_either_form_of_key() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let texts: [&[u8]; 5] =
        [b"", b"PKTEST0000000000CANARY", b"0123456789abcdef", "grüße 🔒".as_bytes(), &every_byte];
    for (key, tokens) in [(key(), BY_KEY), (by_password(), BY_PASSWORD)] {
        for (token, text) in tokens.iter().zip(texts) {
            let message = key.open(token).unwrap();
            assert_eq!(message.plaintext.expose_secret(), text);
            assert_eq!(message.created_at_s, 1_700_000_000);
            let pasted = format!("  {}\r\n", token.trim_end_matches('='));
            assert_eq!(key.open(&pasted).unwrap().plaintext.expose_secret(), text);
        }
    }
}

/// The specification's `verify.json` and `invalid.json`, as far as they do not ask for the token's age.
#[test]
fn the_vectors_of_the_specification_hold() {
    let good = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
    let message = spec_key().open(good).unwrap();
    assert_eq!(message.plaintext.expose_secret(), b"hello");
    assert_eq!(message.created_at_s, 499_162_800);
    let invalid = [
        (
            "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==",
            FernetError::WrongKeyOrChanged,
        ),
        ("gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA==", FernetError::TooShort(40)),
        (
            "%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
            FernetError::NotBase64,
        ),
        (
            "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm",
            FernetError::TooShort(72),
        ),
        (
            "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==",
            FernetError::Padding,
        ),
        (
            "gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvcZjK1zQ==",
            FernetError::Padding,
        ),
    ];
    for (token, error) in invalid {
        assert_eq!(spec_key().open(token).unwrap_err(), error, "{token}");
    }
}

#[test]
fn each_failure_has_its_own_error() {
    let open = |token: &str| key().open(token).unwrap_err();
    assert_eq!(open(""), FernetError::TooShort(0));
    assert_eq!(open("gAAA A"), FernetError::NotBase64);
    assert_eq!(open(&BASE64URL.encode(&[0x80; 72])), FernetError::TooShort(72));
    assert_eq!(open(&BASE64URL.encode(&[0x80; 74])), FernetError::NotWholeBlocks(74));
    assert_eq!(open(&BASE64URL.encode(&[0x81; 73])), FernetError::UnknownVersion(0x81));
    assert_eq!(open(&BASE64URL.encode(&[0x80; 73])), FernetError::WrongKeyOrChanged);
    assert_eq!(spec_key().open(BY_KEY[1]).unwrap_err(), FernetError::WrongKeyOrChanged);
    assert_eq!(open("PKTEST0000000000CANARY"), FernetError::NotBase64);
    assert_eq!(open("é"), FernetError::NotBase64);
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let token = BASE64URL.decode(BY_KEY[1].as_bytes()).unwrap();
    for (at, bit) in (0..token.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut changed = token.clone();
        changed[at] ^= 1 << bit;
        let error = key().open(&BASE64URL.encode(&changed)).unwrap_err();
        let right =
            if at == 0 { FernetError::UnknownVersion(changed[0]) } else { FernetError::WrongKeyOrChanged };
        assert_eq!(error, right, "byte {at} bit {bit}");
    }
    for length in 0..token.len() {
        let error = key().open(&BASE64URL.encode(&token[..length])).unwrap_err();
        let right = match length {
            0..73 => FernetError::TooShort(length),
            73 => FernetError::WrongKeyOrChanged,
            _ => FernetError::NotWholeBlocks(length),
        };
        assert_eq!(error, right, "{length}");
    }
}

#[test]
fn keys_have_32_bytes_and_passwords_their_parameters() {
    for bad in [
        "",
        "x",
        &KEY[1..],
        &KEY[..42],
        &format!("{KEY}A"),
        &KEY.replace('-', "+"),
        "a password of 32 bytes, not a key",
    ] {
        assert_eq!(FernetKey::parse(bad).unwrap_err(), FernetKeyError::Malformed, "{bad}");
    }
    // 31 bytes and one more, each with its own padding: what many decoders take for 32 bytes.
    let joined = format!("{}AA==", BASE64URL.encode(&[1; 31]));
    assert_eq!(FernetKey::parse(&joined).unwrap_err(), FernetKeyError::Malformed);
    for length in [31, 33] {
        let text = BASE64URL.encode(&vec![1; length]);
        assert_eq!(FernetKey::parse(&text).unwrap_err(), FernetKeyError::Malformed);
    }
    assert_eq!(FernetKey::parse(&format!(" {}\n", &KEY[..43])).unwrap().0, key().0);

    let derived = "YEZiQKHtqxYx5CyKYADuZmBw7PHH5mCVkcibIMsRAeE=";
    assert_eq!(BASE64URL.encode(by_password().0.expose()), derived);
    let of = FernetKey::from_password;
    assert_eq!(of("", SALT, 1).unwrap_err(), FernetKeyError::EmptyPassword);
    assert_eq!(of("p", SALT, 0).unwrap_err(), FernetKeyError::Iterations(0));
    assert_eq!(of("p", SALT, 20_000_001).unwrap_err(), FernetKeyError::Iterations(20_000_001));
    for other in [of(PASSWORD, SALT, 99_999), of(PASSWORD, b"another", 100_000), of("The old", SALT, 1)] {
        assert_eq!(other.unwrap().open(BY_PASSWORD[0]).unwrap_err(), FernetError::WrongKeyOrChanged);
    }
}

#[test]
fn debug_shows_neither_key_nor_plaintext() {
    let printed = format!("{:?} {:?}", key(), key().open(BY_KEY[1]).unwrap());
    assert!(printed.starts_with("FernetKey(redacted) "), "{printed}");
    assert!(printed.contains("REDACTED") && !printed.contains("CANARY") && !printed.contains("80, 75"));
}

proptest! {
    #[test]
    fn no_text_panics_or_opens(text in "\\PC{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(key().open(&text).is_err());
        prop_assert!(key().open(&BASE64URL.encode(&[&[VERSION], &bytes[..]].concat())).is_err());
    }
}
