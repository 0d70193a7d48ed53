use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use pbkdf2::pbkdf2_hmac;
use rand::CryptoRng;
use sha2::Sha256;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::SecretKey;
use crate::encoded::decode;

/// Fewest characters (Unicode code points, after NFC) of a pass phrase (NIST SP 800-63B-4, 3.1.1.2).
pub const MIN_PASS_PHRASE_CHARS: usize = 15;

/// PBKDF2-HMAC-SHA256 iterations for a new installation; the stretching runs once per start.
pub const DEFAULT_STRETCHING_ITERATIONS: u32 = 1_000_000;

const ITERATIONS: std::ops::RangeInclusive<u32> = 600_000..=20_000_000;
const MIN_SALT_BYTES: usize = 16;

/// The key that documentation may print. It is public, so [`MasterKey::parse`] refuses it in every form.
pub const EXAMPLE_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Keys that are printed where somebody may copy them from, as base64url.
const PUBLISHED_KEYS: [&str; 3] = [
    // 00 01 02 … 1f: our own example, and that of many others.
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    // 80 81 82 … 9f: RFC 8439, section 2.8.2, and the XChaCha draft.
    "gIGCg4SFhoeIiYqLjI2Oj5CRkpOUlZaXmJmam5ydnp8=",
    // The Fernet specification, from which the documentation of several libraries has it.
    "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=",
];
const EXAMPLE_PASS_PHRASES: [&str; 3] =
    ["correct horse battery staple", "correct-horse-battery-staple", "correcthorsebatterystaple"];

/// How the text of a master key was read. Safe to print: it says nothing about the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyForm {
    /// 64 hexadecimal digits.
    Hex,
    /// Base64 of 32 bytes, standard or URL-safe alphabet, with or without padding (the form a Fernet key has).
    Base64,
    /// A pass phrase, stretched with PBKDF2-HMAC-SHA256.
    PassPhrase,
}

impl std::fmt::Display for KeyForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hex => "32 bytes in hexadecimal",
            Self::Base64 => "32 bytes in base64",
            Self::PassPhrase => "a pass phrase, stretched with PBKDF2-HMAC-SHA256",
        })
    }
}

/// Why a text is no master key. No message repeats any part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// Nothing but white space.
    #[error("the key is empty")]
    Empty,
    /// It looks like an encoded key, but does not decode: most likely characters are missing, added or changed.
    #[error(
        "the key looks like {encoding} but does not decode: characters are missing, added or changed (a pass phrase \
         must not look like an encoded key)"
    )]
    Mistyped {
        /// `hexadecimal` or `base64`.
        encoding: &'static str,
    },
    /// An encoded key of another length.
    #[error(
        "the key is {encoding} of {bytes} bytes, and 32 are needed (a pass phrase must not look like an encoded key)"
    )]
    WrongLength {
        /// `hexadecimal` or `base64`.
        encoding: &'static str,
        /// How many bytes it decodes to, 24 to 40.
        bytes: usize,
    },
    /// An encoded key with something around it that is not part of it. A pass phrase may not look so either: whether the
    /// quotation marks belong to it depends on who reads the file.
    #[error("the key is wrapped in quotation marks, or has a prefix such as 0x, hex: or base64: remove it")]
    Wrapped,
    /// All bytes or characters are the same.
    #[error("the key is one value repeated, which anybody can guess")]
    Constant,
    /// A key or pass phrase that is printed in documentation.
    #[error("the key is a published example, which everybody knows")]
    Published,
    /// A pass phrase below [`MIN_PASS_PHRASE_CHARS`].
    #[error("the pass phrase is too short: at least {MIN_PASS_PHRASE_CHARS} characters are needed")]
    TooShort,
}

/// Why the parameters of the pass phrase form are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StretchingError {
    /// Fewer than 16 bytes of salt.
    #[error("the salt has {0} bytes, at least 16 are needed")]
    Salt(usize),
    /// Too few to slow an attacker down, or so many that a start would never end.
    #[error("{0} PBKDF2 iterations are outside 600000 to 20000000")]
    Iterations(u32),
}

/// The installation's PBKDF2 parameters: random salt and iteration count, stored beside the data they protect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretching {
    salt: Vec<u8>,
    iterations: u32,
}

impl Stretching {
    /// Name of the function, to be stored with the parameters, so that another one can follow it some day.
    pub const FUNCTION: &'static str = "pbkdf2-hmac-sha256";

    /// The parameters of a new installation: 32 random bytes of salt, [`DEFAULT_STRETCHING_ITERATIONS`].
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut salt = vec![0; 32];
        rng.fill_bytes(&mut salt);
        Self { salt, iterations: DEFAULT_STRETCHING_ITERATIONS }
    }

    /// Stored or newly drawn parameters.
    ///
    /// # Errors
    ///
    /// Under 16 bytes of salt, or iterations outside 600,000 to 20,000,000 (OWASP ASVS 5.0, appendix C).
    pub fn new(salt: impl Into<Vec<u8>>, iterations: u32) -> Result<Self, StretchingError> {
        let salt = salt.into();
        if salt.len() < MIN_SALT_BYTES {
            return Err(StretchingError::Salt(salt.len()));
        }
        if !ITERATIONS.contains(&iterations) {
            return Err(StretchingError::Iterations(iterations));
        }
        Ok(Self { salt, iterations })
    }

    /// The salt.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The number of PBKDF2 iterations.
    #[must_use]
    pub fn iterations(&self) -> u32 {
        self.iterations
    }
}

/// The key that everything sealed hangs on. It is only ever an input to HKDF.
#[derive(Debug, Clone)]
pub struct MasterKey {
    pub(crate) key: SecretKey,
    form: KeyForm,
}

enum Material {
    Key(SecretKey, KeyForm),
    PassPhrase(Zeroizing<String>),
}

impl MasterKey {
    /// Reads the text of a master key; white space around it is ignored (a file often ends with a newline).
    ///
    /// Text that decodes (hexadecimal, or base64 of either alphabet) to exactly 32 bytes is the key itself. Text that
    /// decodes to 24–40 bytes, or would but for stray bits, a missing digit or wrong padding, is refused as mistyped;
    /// so is an encoded key in quotation marks or with a prefix. Anything else is a pass phrase, normalised to NFC and
    /// stretched, which takes a good part of a second.
    ///
    /// # Errors
    ///
    /// See [`MasterKeyError`]; the text itself is in none of them.
    pub fn parse(text: &str, stretching: &Stretching) -> Result<Self, MasterKeyError> {
        Ok(match read(text)? {
            Material::Key(key, form) => Self { key, form },
            Material::PassPhrase(phrase) => Self {
                key: stretch(phrase.as_bytes(), &stretching.salt, stretching.iterations),
                form: KeyForm::PassPhrase,
            },
        })
    }

    /// A key that is already 32 bytes, such as a newly generated one.
    ///
    /// # Errors
    ///
    /// [`MasterKeyError::Constant`] and [`MasterKeyError::Published`].
    pub fn from_key(key: SecretKey) -> Result<Self, MasterKeyError> {
        Ok(Self { key: checked(key)?, form: KeyForm::Base64 })
    }

    /// Which form the text had.
    #[must_use]
    pub fn form(&self) -> KeyForm {
        self.form
    }
}

impl KeyForm {
    /// The form a text would be read as, without the cost of stretching: for configuration checks, and to know
    /// whether [`Stretching`] parameters are needed at all.
    ///
    /// # Errors
    ///
    /// As [`MasterKey::parse`].
    pub fn of(text: &str) -> Result<Self, MasterKeyError> {
        Ok(match read(text)? {
            Material::Key(_, form) => form,
            Material::PassPhrase(_) => Self::PassPhrase,
        })
    }
}

fn read(text: &str) -> Result<Material, MasterKeyError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(MasterKeyError::Empty);
    }
    if let Some((key, form)) = decoded(text)? {
        return Ok(Material::Key(checked(key)?, form));
    }
    if let Some(inner) = unwrapped(text)
        && !matches!(decoded(inner), Ok(None))
    {
        return Err(MasterKeyError::Wrapped);
    }
    // Room for the longest that NFC makes of it: growing would leave copies behind.
    let mut phrase = Zeroizing::new(String::with_capacity(text.len() * 3));
    phrase.extend(text.nfc());
    let mut chars = phrase.chars();
    let first = chars.next();
    if chars.all(|c| Some(c) == first) {
        return Err(MasterKeyError::Constant);
    }
    if phrase.chars().count() < MIN_PASS_PHRASE_CHARS {
        return Err(MasterKeyError::TooShort);
    }
    if EXAMPLE_PASS_PHRASES.iter().any(|example| phrase.eq_ignore_ascii_case(example)) {
        return Err(MasterKeyError::Published);
    }
    Ok(Material::PassPhrase(phrase))
}

fn checked(key: SecretKey) -> Result<SecretKey, MasterKeyError> {
    let bytes = key.expose();
    if bytes.iter().all(|byte| byte == &bytes[0]) {
        return Err(MasterKeyError::Constant);
    }
    let published = |text: &&str| BASE64URL.decode(text.as_bytes()).is_ok_and(|known| known == bytes);
    if PUBLISHED_KEYS.iter().any(published) {
        return Err(MasterKeyError::Published);
    }
    Ok(key)
}

/// What is left of a text without quotation marks or the prefix of an encoding.
fn unwrapped(text: &str) -> Option<&str> {
    let quoted = |mark| text.strip_prefix(mark).and_then(|text| text.strip_suffix(mark));
    let prefixed = ["0x", "0X", "hex:", "base64:"].iter().find_map(|prefix| text.strip_prefix(prefix));
    quoted('"').or_else(|| quoted('\'')).or(prefixed).map(str::trim)
}

/// `None` when the text is not the encoding of anything near a key's length.
fn decoded(text: &str) -> Result<Option<(SecretKey, KeyForm)>, MasterKeyError> {
    if text.bytes().all(|b| b.is_ascii_hexdigit()) && (48..=80).contains(&text.len()) {
        let bytes = decode(&HEXLOWER_PERMISSIVE, text.as_bytes());
        return sized(bytes, "hexadecimal").map(|key| Some((key, KeyForm::Hex)));
    }
    if looks_like_a_key_in_base64(text) {
        let encodings = [&BASE64, &BASE64URL, &BASE64_NOPAD, &BASE64URL_NOPAD];
        let bytes = encodings.iter().find_map(|encoding| decode(encoding, text.as_bytes()));
        return sized(bytes, "base64").map(|key| Some((key, KeyForm::Base64)));
    }
    Ok(None)
}

fn sized(bytes: Option<Zeroizing<Vec<u8>>>, encoding: &'static str) -> Result<SecretKey, MasterKeyError> {
    let bytes = bytes.ok_or(MasterKeyError::Mistyped { encoding })?;
    SecretKey::try_from(&bytes[..]).map_err(|_| MasterKeyError::WrongLength { encoding, bytes: bytes.len() })
}

/// Whether the text would decode to 24–40 bytes if both alphabets could be mixed, trailing bits and padding were not
/// looked at: so that a key with its last character changed is not taken for a pass phrase.
fn looks_like_a_key_in_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let padded = body.len() < text.len();
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_');
    let decodes = body.len() % 4 != 1 || padded;
    body.bytes().all(alphabet) && decodes && (24..=40).contains(&(body.len() * 3 / 4))
}

fn stretch(phrase: &[u8], salt: &[u8], iterations: u32) -> SecretKey {
    let mut key = Zeroizing::new([0; 32]);
    pbkdf2_hmac::<Sha256>(phrase, salt, iterations, &mut *key);
    SecretKey::from_bytes(*key)
}

#[cfg(test)]
mod tests;
