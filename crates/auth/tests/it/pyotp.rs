//! Codes and addresses beside pyotp's.

use std::path::Path;
use std::process::Command;

use chrono::DateTime;
use plimsoll_auth::totp::{Checked, TotpSecret, step_at};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::outside::{python, run};

/// 2100-01-01T00:00:00Z.
const YEAR_2100: i64 = 4_102_444_800;

/// splitmix64: the same pairs in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn secret(&mut self) -> TotpSecret {
        let bytes: Vec<u8> = (0..20).map(|_| self.next() as u8).collect();
        TotpSecret::from_bytes(&bytes).unwrap()
    }
}

fn ask_pyotp(asked: &Value) -> Option<Value> {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            println!("SKIPPED: pyotp: {why}");
            return None;
        }
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pyotp/check.py");
    let output = run(Command::new(python).arg("-B").arg(script), asked.to_string().as_bytes());
    Some(serde_json::from_slice(&output.unwrap().stdout).unwrap())
}

/// TFA-3: 1000 pairs of secret and time, with time 0, the borders of steps, leading zeros and the year 2100 among them.
#[test]
fn a_thousand_codes_are_pyotps() {
    let mut numbers = Numbers(20_261_124);
    let mut pairs: Vec<(TotpSecret, i64)> = Vec::new();
    for time in [0, 1, 29, 30, 31, 59, 60, YEAR_2100 - 1, YEAR_2100, YEAR_2100 + 29, YEAR_2100 + 30] {
        pairs.push((numbers.secret(), time));
    }
    while pairs.len() < 1000 {
        let (secret, random) = (numbers.secret(), (numbers.next() % (2 * YEAR_2100 as u64)) as i64);
        let time = match pairs.len() % 4 {
            0 => random - random % 30,      // the first second of a step
            1 => random - random % 30 + 29, // the last one
            _ => random,
        };
        pairs.push((secret, time));
    }
    let ours: Vec<String> = pairs
        .iter()
        .map(|(secret, time)| {
            let at = DateTime::from_timestamp(*time, 0).unwrap();
            let code = secret.code_of(step_at(at));
            let (step, offset) = (step_at(at), 0);
            assert_eq!(secret.check(&code, at), Checked::Right { step, offset });
            code.expose_text().expose_secret().to_owned()
        })
        .collect();
    assert!(ours.iter().filter(|code| code.starts_with('0')).count() > 50, "leading zeros");
    assert!(ours.iter().any(|code| code.starts_with("00")));

    let asked: Vec<Value> =
        pairs.iter().map(|(secret, time)| json!([secret.expose_text().expose_secret(), time])).collect();
    let Some(theirs) = ask_pyotp(&json!({ "pairs": asked, "uris": [] })) else { return };
    let theirs: Vec<String> = serde_json::from_value(theirs["codes"].clone()).unwrap();
    assert_eq!(theirs.len(), 1000);
    for ((ours, theirs), (_, time)) in ours.iter().zip(&theirs).zip(&pairs) {
        assert_eq!(ours, theirs, "at {time}");
    }
}

/// TFA-2: pyotp reads the address back, whatever stands in issuer and account.
#[test]
fn pyotp_reads_our_addresses() {
    let secret = Numbers(7).secret();
    let names = [
        ("Plimsoll", "ann@example.com"),
        ("Plimsoll & Söhne", "ann+tag@example.com"),
        ("A/B?C#D", "o'neil@sub.example.org"),
    ];
    let uris: Vec<String> = names
        .iter()
        .map(|(issuer, account)| secret.uri(issuer, account).expose_secret().to_owned())
        .collect();
    let Some(read) = ask_pyotp(&json!({ "pairs": [], "uris": uris })) else { return };
    for ((issuer, account), read) in names.iter().zip(read["uris"].as_array().unwrap()) {
        let expected = json!({
            "secret": secret.expose_text().expose_secret(),
            "issuer": issuer,
            "name": account,
            "digits": 6,
            "interval": 30,
            "digest": "sha1",
        });
        // hashlib's constructors name themselves with or without a prefix
        let mut read = read.clone();
        read["digest"] = read["digest"].as_str().unwrap().trim_start_matches("openssl_").into();
        assert_eq!(read, expected);
    }
}
