//! Which passwords are taken: long enough, not common, not the user's own name. Nothing else is asked of them: no classes
//! of characters, no regular changes (NIST SP 800-63B-4, 3.1.1.2).

mod common;
mod shape;

use std::fmt;

use plimsoll_crypto::passwords::MAX_PASSWORD_BYTES;
use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;

pub use common::{FINGERPRINT_BYTES, fingerprint};

/// The name of the service, which every attacker tries.
const PRODUCT: &str = "plimsoll";
/// Shorter words say nothing about a password that contains them.
const LEAST_WORD: usize = 4;

/// Why a password is refused, to be told to whoever chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum WeakPassword {
    /// Too few characters.
    #[error("needs at least {least} characters")]
    TooShort {
        /// How many are needed.
        least: usize,
    },
    /// Over [`MAX_PASSWORD_BYTES`].
    #[error("may have at most {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
    /// One of the commonest passwords, or hardly different from one.
    #[error("is one of the commonest passwords, or nearly one")]
    Common,
    /// A repetition, a sequence or a walk over the keyboard.
    #[error("is a repetition or a sequence")]
    Pattern,
    /// Little more than the user's name or address, or the name of this service.
    #[error("is little more than your name, your address or the name of this service")]
    Context,
    /// Found among passwords of known data breaches.
    #[error("is known from a data breach")]
    Breached,
}

impl WeakPassword {
    /// A stable name for problems and records.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::TooShort { .. } => "too_short",
            Self::TooLong => "too_long",
            Self::Common => "common_password",
            Self::Pattern => "password_pattern",
            Self::Context => "password_of_context",
            Self::Breached => "breached_password",
        }
    }
}

/// The rules for new passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordRules {
    least: usize,
}

impl PasswordRules {
    /// No setting goes below so many characters (OWASP ASVS 5.0, 6.2.1).
    pub const FLOOR: usize = 8;

    /// Passwords of at least `least` characters, never fewer than [`Self::FLOOR`].
    #[must_use]
    pub fn new(least: usize) -> Self {
        Self { least: least.max(Self::FLOOR) }
    }

    /// Least characters: Unicode code points after NFC.
    #[must_use]
    pub fn least(&self) -> usize {
        self.least
    }

    /// Checks a password as it was typed. `context` holds what others know of the user: address, names. The password is
    /// looked at as it is hashed, in NFC; comparisons do not mind the case.
    ///
    /// # Errors
    ///
    /// The first reason to refuse it.
    pub fn check(&self, password: &SecretString, context: &[&str]) -> Result<(), WeakPassword> {
        let typed = password.expose_secret();
        // Composition never makes a text more than three times shorter, and nobody waits for megabytes of it.
        if typed.len() > 3 * MAX_PASSWORD_BYTES {
            return Err(WeakPassword::TooLong);
        }
        let normal: SecretString = typed.nfc().collect::<String>().into();
        let normal = normal.expose_secret();
        if normal.len() > MAX_PASSWORD_BYTES {
            return Err(WeakPassword::TooLong);
        }
        if normal.chars().count() < self.least {
            return Err(WeakPassword::TooShort { least: self.least });
        }
        let folded: SecretString = fold(normal).into();
        let folded = folded.expose_secret();
        if is_common(folded) {
            return Err(WeakPassword::Common);
        }
        if shape::is_pattern(folded) {
            return Err(WeakPassword::Pattern);
        }
        let unit = shape::repeated_unit(folded);
        if unit.is_some_and(is_common) {
            return Err(WeakPassword::Common);
        }
        let words = words(context);
        if is_of_words(folded, &words) || unit.is_some_and(|unit| is_of_words(unit, &words)) {
            return Err(WeakPassword::Context);
        }
        Ok(())
    }

    /// Asks a collection of breached passwords, after [`Self::check`]. When it cannot answer, the password is taken:
    /// nobody is kept out because another service is away. `warn` is told then.
    ///
    /// # Errors
    ///
    /// [`WeakPassword::Breached`].
    pub fn check_breaches(
        &self,
        password: &SecretString,
        breaches: &dyn BreachCheck,
        warn: impl FnOnce(&BreachCheckError),
    ) -> Result<(), WeakPassword> {
        match breaches.is_breached(password) {
            Ok(true) => Err(WeakPassword::Breached),
            Ok(false) => Ok(()),
            Err(error) => {
                warn(&error);
                Ok(())
            }
        }
    }
}

/// A collection of breached passwords that is asked over a network. An implementation tells the other side no more than
/// the first characters of a digest (k-anonymity). The bundled list works without any.
pub trait BreachCheck: fmt::Debug + Send + Sync {
    /// Whether the password is known from a breach. It may take a while; call it off the async workers.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    fn is_breached(&self, password: &SecretString) -> Result<bool, BreachCheckError>;
}

/// The collection gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("breached passwords cannot be looked up: {0}")]
pub struct BreachCheckError(pub String);

/// The form in which passwords are compared.
fn fold(text: &str) -> String {
    text.to_lowercase().nfc().collect()
}

/// The whole password is a common one, or a common one with a tail of digits and signs or with digits for letters.
fn is_common(folded: &str) -> bool {
    common::is_listed(folded) || {
        let (stem, tail) = shape::split_tail(folded);
        let near = stem.chars().count() >= LEAST_WORD && shape::is_cheap(stem, tail, common::is_listed);
        near && (common::is_listed(stem) || common::is_listed(&shape::plain(stem)))
            || common::is_listed(&shape::plain(folded))
    }
}

/// Of a longer text the beginning counts: each word is looked for in the password.
const MAX_CONTEXT_CHARS: usize = 512;

/// The words of the context: each text as a whole, without its signs, and its parts.
fn words(context: &[&str]) -> Vec<String> {
    let mut words = vec![PRODUCT.to_owned()];
    for text in context {
        let text = fold(&text.chars().take(MAX_CONTEXT_CHARS).nfc().collect::<String>());
        words.extend(text.split('@').map(str::to_owned));
        words.extend(text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned));
        words.push(text.chars().filter(|c| c.is_alphanumeric()).collect());
        words.push(text);
    }
    words.retain(|word| word.chars().count() >= LEAST_WORD);
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.dedup();
    words
}

/// Without the words of the context, no more is left than was taken away.
fn is_of_words(folded: &str, words: &[String]) -> bool {
    [folded.to_owned(), shape::plain(folded)].into_iter().any(|text| {
        let before = text.chars().count();
        let text: SecretString = text.into();
        let mut rest: SecretString = text.expose_secret().to_owned().into();
        for word in words {
            rest = rest.expose_secret().replace(word.as_str(), "").into();
        }
        let left = rest.expose_secret().chars().count();
        left < before && left * 2 <= before
    })
}

#[cfg(test)]
mod tests;
