use plimsoll_crypto::OsRandom;
use proptest::prelude::*;

use super::*;

/// RFC 6238, appendix B: the secret of its SHA-1 rows.
const RFC_SECRET: &[u8; 20] = b"12345678901234567890";

fn secret() -> TotpSecret {
    TotpSecret::from_bytes(RFC_SECRET).unwrap()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn code(text: &str) -> TotpCode {
    TotpCode::parse(text).unwrap()
}

/// TFA-3: the vectors of RFC 6238, appendix B, with eight digits as printed there; ours are their last six.
#[test]
fn the_vectors_of_rfc_6238_pass() {
    for (seconds, digits) in [
        (59, "94287082"),
        (1_111_111_109, "07081804"),
        (1_111_111_111, "14050471"),
        (1_234_567_890, "89005924"),
        (2_000_000_000, "69279037"),
        (20_000_000_000, "65353130"),
    ] {
        let step = step_at(at(seconds));
        assert_eq!(digits_of(RFC_SECRET, step, 8), digits, "{seconds}");
        assert_eq!(secret().code_of(step).expose_text().expose_secret(), &digits[2..], "{seconds}");
    }
}

/// TFA-7: exactly six ASCII digits after removing spaces.
#[test]
fn only_six_ascii_digits_are_a_code() {
    for good in ["081804", "081 804", " 0 8 1 8 0 4 "] {
        let read = TotpCode::parse(good).unwrap();
        assert_eq!(read.expose_text().expose_secret(), "081804", "{good:?}");
    }
    for bad in [
        "",
        "      ",
        "08180",
        "0818044",
        "+81804",
        "-81804",
        "08180a",
        "０８１８０４",
        "081804\n",
        "\t081804",
        "08.804",
        "٠٨١٨٠٤",
        "0818 0 4 4",
        "0x1804",
        "1e5000",
        "08180\0",
        "081\u{a0}804",
    ] {
        assert!(TotpCode::parse(bad).is_none(), "{bad:?}");
    }
}

/// TFA-9: the server's own step and one on either side, and nothing else.
#[test]
fn one_step_of_skew_is_accepted_and_more_is_recognised() {
    let now = at(1_800_000_015);
    let current = step_at(now);
    for offset in -12..=12_i64 {
        let expected = match offset.abs() {
            0..=1 => Checked::Right { step: current + offset, offset },
            2..=10 => Checked::Drifted { offset },
            _ => Checked::Wrong,
        };
        assert_eq!(secret().check(&secret().code_of(current + offset), now), expected, "{offset}");
    }
    assert_eq!(secret().check(&code("000000"), now), Checked::Wrong);
}

#[test]
fn the_borders_of_a_step_are_exact() {
    for (seconds, step) in
        [(0, 0), (29, 0), (30, 1), (59, 1), (60, 2), (4_102_444_799, 136_748_159), (-1, -1)]
    {
        assert_eq!(step_at(at(seconds)), step, "{seconds}");
    }
    let of = |step| secret().code_of(step);
    assert_eq!(secret().check(&of(2), at(89)), Checked::Right { step: 2, offset: 0 });
    assert_eq!(secret().check(&of(2), at(90)), Checked::Right { step: 2, offset: -1 });
    assert_eq!(secret().check(&of(2), at(119)), Checked::Right { step: 2, offset: -1 });
    assert_eq!(secret().check(&of(2), at(120)), Checked::Drifted { offset: -2 });
    assert_eq!(secret().check(&of(2), at(30)), Checked::Right { step: 2, offset: 1 });
    assert_eq!(secret().check(&of(2), at(29)), Checked::Drifted { offset: 2 });
    assert_eq!(secret().check(&of(0), at(0)), Checked::Right { step: 0, offset: 0 });
}

/// TFA-1: 20 random bytes, in text 32 characters of upper-case base32 without padding.
#[test]
fn a_secret_is_twenty_random_bytes() {
    let (one, other) = (TotpSecret::generate(&mut OsRandom), TotpSecret::generate(&mut OsRandom));
    assert_ne!(one, other);
    let text = one.expose_text();
    let text = text.expose_secret();
    assert_eq!(text.len(), 32);
    assert!(text.bytes().all(|byte| b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".contains(&byte)), "{text}");
    assert_eq!(secret().expose_text().expose_secret(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    for spelling in [
        "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        "gezd gnbv gy3t qojq gezd gnbv gy3t qojq",
        "GEZD-GNBV-GY3T-QOJQ-GEZD-GNBV-GY3T-QOJQ====",
    ] {
        assert_eq!(TotpSecret::parse(spelling), Ok(secret()), "{spelling}");
    }
    for bad in
        ["", "GEZDGNBVGY3TQOJQ", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ1", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQAA"]
    {
        assert_eq!(TotpSecret::parse(bad), Err(MalformedSecret), "{bad}");
    }
    assert_eq!(TotpSecret::from_bytes(&[0; 19]), Err(MalformedSecret));
}

/// TFA-2: label and issuer are percent-encoded, every parameter is written out.
#[test]
fn the_uri_has_every_part_once() {
    let uri = secret().uri("Plimsoll & Söhne", "ann+x@example.com");
    assert_eq!(
        uri.expose_secret(),
        "otpauth://totp/Plimsoll%20%26%20S%C3%B6hne:ann%2Bx%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
         &issuer=Plimsoll%20%26%20S%C3%B6hne&algorithm=SHA1&digits=6&period=30"
    );
}

#[test]
fn nothing_is_printed() {
    let printed = format!("{:?} {:?}", secret(), secret().code_of(1));
    assert_eq!(printed, "TotpSecret(redacted) TotpCode(redacted)");
}

proptest! {
    #[test]
    fn a_secret_survives_its_text_form(bytes: [u8; 20]) {
        let secret = TotpSecret::from_bytes(&bytes).unwrap();
        prop_assert_eq!(TotpSecret::parse(secret.expose_text().expose_secret()), Ok(secret));
    }

    #[test]
    fn no_text_panics(text: String) {
        let _ = (TotpCode::parse(&text), TotpSecret::parse(&text));
    }
}
