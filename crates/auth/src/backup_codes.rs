//! Backup codes: ten codes of forty random bits, each good for one sign-in in place of a time-based code.
//!
//! Forty bits can be tried out once a database is stolen, so what is stored is argon2id, with a salt of its own, over a
//! keyed digest of user and code: without the installation's pepper there is nothing to try.

use std::fmt;

use data_encoding::HEXLOWER;
use plimsoll_core_domain::UserId;
use plimsoll_crypto::passwords::{HashParams, PasswordHash, Passwords};
use plimsoll_crypto::{CryptoRng, Pepper};
use secrecy::SecretString;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// How many codes a user has.
pub const CODES: usize = 10;
/// Characters of a code.
pub const CODE_CHARS: usize = 8;
/// The symbols of a code: no 0 and O, no 1 and I.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// Cost of one hash: ten are computed for each code that is tried.
const COST: HashParams = HashParams { memory_kib: 19_456, iterations: 2, parallelism: 1 };
const CONTEXT: &str = "plimsoll backup code v1";

/// One code. Never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct BackupCode([u8; CODE_CHARS]);

impl BackupCode {
    /// A new code.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut code = Self([0; CODE_CHARS]);
        rng.fill_bytes(&mut code.0);
        // 256 is a multiple of 32, so every symbol is as likely as any other
        for byte in &mut code.0 {
            *byte = ALPHABET[usize::from(*byte % 32)];
        }
        code
    }

    /// Reads a code as typed: case, hyphens and spaces do not matter. `None` when it cannot be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut code = Self([0; CODE_CHARS]);
        let mut count = 0;
        for byte in text.bytes().filter(|byte| !matches!(byte, b' ' | b'-')) {
            let byte = byte.to_ascii_uppercase();
            if !ALPHABET.contains(&byte) || count == CODE_CHARS {
                return None;
            }
            code.0[count] = byte;
            count += 1;
        }
        (count == CODE_CHARS).then_some(code)
    }

    /// The text form, to be shown to its owner once.
    #[must_use]
    pub fn expose_text(&self) -> SecretString {
        String::from_utf8_lossy(&self.0).into_owned().into()
    }
}

impl fmt::Debug for BackupCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupCode(redacted)")
    }
}

/// Ten new codes and what is stored of them, in the same order.
#[derive(Debug, Clone)]
pub struct NewCodes {
    /// To be shown to their owner once.
    pub codes: Vec<BackupCode>,
    /// To be stored.
    pub hashes: Vec<PasswordHash>,
}

/// A stored code, used or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCode {
    /// Its place among the ten, from 0.
    pub slot: i16,
    /// What is stored of it.
    pub hash: PasswordHash,
    /// When it was used up.
    pub used_at: Option<chrono::DateTime<chrono::Utc>>,
}

/// Makes and checks the stored form of codes.
#[derive(Clone)]
pub struct BackupCodes {
    hasher: Passwords,
    pepper: Pepper,
}

impl BackupCodes {
    /// With the cost that suits an installation whose login passwords cost `login`: never dearer than those.
    #[must_use]
    pub fn new<R: CryptoRng + ?Sized>(login: HashParams, pepper: Pepper, rng: &mut R) -> Self {
        let cost = if login.memory_kib < COST.memory_kib { HashParams::MINIMUM } else { COST };
        let hasher = Passwords::new(cost, rng).expect("both costs are accepted ones");
        Self { hasher, pepper }
    }

    /// Ten codes that differ, at the cost of ten hashes.
    pub fn generate<R: CryptoRng + ?Sized>(&self, user: UserId, rng: &mut R) -> NewCodes {
        let mut codes: Vec<BackupCode> = Vec::with_capacity(CODES);
        while codes.len() < CODES {
            let code = BackupCode::generate(rng);
            if !codes.contains(&code) {
                codes.push(code);
            }
        }
        let hashes = codes
            .iter()
            .map(|code| {
                let text = self.peppered(user, code);
                self.hasher.hash(&text, rng).expect("64 characters are no overlong password")
            })
            .collect();
        NewCodes { codes, hashes }
    }

    /// The slot of the stored code that `code` is, used or not. Ten hashes are computed whatever is stored and wherever
    /// the match is.
    #[must_use]
    pub fn find(&self, user: UserId, code: &BackupCode, stored: &[StoredCode]) -> Option<i16> {
        let text = self.peppered(user, code);
        let mut found = None;
        for at in 0..CODES.max(stored.len()) {
            let candidate = stored.get(at);
            if self.hasher.verify(&text, candidate.map(|candidate| &candidate.hash)) {
                found = candidate.map(|candidate| candidate.slot);
            }
        }
        found
    }

    fn peppered(&self, user: UserId, code: &BackupCode) -> SecretString {
        let digest = Zeroizing::new(self.pepper.digest(CONTEXT, &user.0.to_string(), &code.0));
        HEXLOWER.encode(&*digest).into()
    }
}

impl fmt::Debug for BackupCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupCodes").field("cost", &self.hasher.params()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
