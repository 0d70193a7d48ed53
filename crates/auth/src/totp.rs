//! Time-based codes (RFC 6238): SHA-1, six digits, thirty seconds, as every authenticator app has them.

use std::fmt;

use chrono::{DateTime, Utc};
use data_encoding::{BASE32_NOPAD, Encoding, Specification};
use plimsoll_crypto::CryptoRng;
use secrecy::{ExposeSecret, SecretString};
use subtle::{Choice, ConstantTimeEq};
use totp_lite::{Sha1, totp_custom};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 20;
/// Seconds in which a code is shown.
pub const PERIOD: i64 = 30;
/// Digits of a code.
pub const DIGITS: usize = 6;
/// How many steps before and after the server's own a code may be of (RFC 6238, 5.2).
pub const SKEW: i64 = 1;
/// How far off a refused code is still recognised, in steps: five minutes, so that a clock that is wrong gets noticed.
pub const RECOGNISED_DRIFT: i64 = 10;

/// The secret shared with an authenticator app: wiped when dropped, compared in constant time, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TotpSecret([u8; SECRET_BYTES]);

/// The bytes or the text are no secret of [`SECRET_BYTES`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a TOTP secret has {SECRET_BYTES} bytes, in text 32 characters of base32")]
pub struct MalformedSecret;

impl TotpSecret {
    /// A new secret.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut secret = Self([0; SECRET_BYTES]);
        rng.fill_bytes(&mut secret.0);
        secret
    }

    /// A stored secret.
    ///
    /// # Errors
    ///
    /// [`MalformedSecret`] for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedSecret> {
        bytes.try_into().map(Self).map_err(|_| MalformedSecret)
    }

    /// Reads the text form. Spaces, hyphens, padding and case do not matter.
    ///
    /// # Errors
    ///
    /// [`MalformedSecret`].
    pub fn parse(text: &str) -> Result<Self, MalformedSecret> {
        let mut plain = Zeroizing::new(String::with_capacity(text.len()));
        plain.extend(text.chars().filter(|c| !matches!(c, ' ' | '-' | '=')).map(|c| c.to_ascii_uppercase()));
        let bytes = lenient().decode(plain.as_bytes()).map(Zeroizing::new).map_err(|_| MalformedSecret)?;
        Self::from_bytes(&bytes)
    }

    /// The bytes, to be sealed.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// The text form, to be shown to its owner once: 32 characters of upper-case base32, without padding.
    #[must_use]
    pub fn expose_text(&self) -> SecretString {
        BASE32_NOPAD.encode(&self.0).into()
    }

    /// The code of one step.
    #[must_use]
    pub fn code_of(&self, step: i64) -> TotpCode {
        let text = Zeroizing::new(digits_of(&self.0, step, DIGITS as u32));
        TotpCode(text.as_bytes().try_into().expect("as many digits as were asked for"))
    }

    /// The address that authenticator apps read, usually from a QR code: `otpauth://totp/Issuer:account?…`.
    #[must_use]
    pub fn uri(&self, issuer: &str, account: &str) -> SecretString {
        let (issuer, account) = (percent_encode(issuer), percent_encode(account));
        format!(
            "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={PERIOD}",
            self.expose_text().expose_secret()
        )
        .into()
    }

    /// What a code is at `now`. Every live code is computed and compared, whichever of them matches.
    #[must_use]
    pub fn check(&self, code: &TotpCode, now: DateTime<Utc>) -> Checked {
        let current = step_at(now);
        match self.nearest(code, current, 0..=SKEW) {
            Some(offset) => Checked::Right { step: current + offset, offset },
            None => match self.nearest(code, current, SKEW + 1..=RECOGNISED_DRIFT) {
                Some(offset) => Checked::Drifted { offset },
                None => Checked::Wrong,
            },
        }
    }

    /// The offset of the matching step that is least far from `current`; of two, the earlier one.
    fn nearest(
        &self,
        code: &TotpCode,
        current: i64,
        distances: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let mut found = None;
        for offset in distances.rev().flat_map(|far| [far, -far]) {
            let step = current + offset;
            if step >= 0 && bool::from(self.code_of(step).ct_eq(code)) {
                found = Some(offset);
            }
        }
        found
    }
}

impl ConstantTimeEq for TotpSecret {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for TotpSecret {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for TotpSecret {}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(redacted)")
    }
}

/// What became of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// One of the live codes.
    Right {
        /// The step it belongs to, to be used up.
        step: i64,
        /// How many steps that is from the server's own.
        offset: i64,
    },
    /// A code of the secret, but of a step too far away: refused, and a sign that a clock is wrong.
    Drifted {
        /// How many steps away; never within [`SKEW`].
        offset: i64,
    },
    /// No code of this secret that is worth telling.
    Wrong,
}

/// Six digits. Never printed, compared in constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TotpCode([u8; DIGITS]);

impl TotpCode {
    /// Reads exactly six ASCII digits, between which there may be spaces; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut digits = Self([0; DIGITS]);
        let mut count = 0;
        for byte in text.bytes().filter(|byte| *byte != b' ') {
            if !byte.is_ascii_digit() || count == DIGITS {
                return None;
            }
            digits.0[count] = byte;
            count += 1;
        }
        (count == DIGITS).then_some(digits)
    }

    /// The digits, for tests and for apps that show them.
    #[must_use]
    pub fn expose_text(&self) -> SecretString {
        String::from_utf8_lossy(&self.0).into_owned().into()
    }
}

impl ConstantTimeEq for TotpCode {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for TotpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpCode(redacted)")
    }
}

/// The step that `now` is in.
#[must_use]
pub fn step_at(now: DateTime<Utc>) -> i64 {
    now.timestamp().div_euclid(PERIOD)
}

fn digits_of(secret: &[u8], step: i64, digits: u32) -> String {
    let seconds = u64::try_from(step).unwrap_or(0) * PERIOD.unsigned_abs();
    totp_custom::<Sha1>(PERIOD.unsigned_abs(), digits, secret, seconds)
}

fn lenient() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
    specification.check_trailing_bits = false;
    specification.encoding().expect("base32 is a valid specification")
}

/// Everything but the unreserved characters of RFC 3986 as `%XX`, so that it may stand in a path or a query.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
