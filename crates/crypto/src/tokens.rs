//! Bearer secrets: session tokens, mailed tokens, tickets and API tokens. Only their SHA-256 is ever stored.

use std::fmt;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use rand::CryptoRng;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{SecretKey, encoded};

/// SHA-256 of a token, as stored and looked up by. It opens nothing.
///
/// No salt is needed: the token has 256 random bits (OWASP ASVS 5.0, 6.5.2).
#[derive(Clone, Copy, PartialOrd, Ord)]
pub struct TokenDigest(pub [u8; 32]);

impl TokenDigest {
    /// The digest of a secret that some other party chose and that has at least 112 bits, such as a webhook secret.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// The bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenDigest {}

impl std::hash::Hash for TokenDigest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// The first four bytes only: enough to follow one session through a log.
impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({}…)", HEXLOWER.encode(&self.0[..4]))
    }
}

/// The text is not a token of this form. Whether such a token exists is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed token")]
pub struct MalformedToken;

/// 32 random bytes, in text 43 characters of unpadded base64url: sessions, challenges, tickets, mailed links.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretToken(SecretKey);

impl SecretToken {
    /// A new token.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(SecretKey::generate(rng))
    }

    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// [`MalformedToken`] for anything that [`SecretToken::expose_text`] cannot have written.
    pub fn parse(text: &str) -> Result<Self, MalformedToken> {
        decode(&BASE64URL_NOPAD, text.as_bytes()).map(Self)
    }

    /// The text form, to be handed to its owner once.
    #[must_use]
    pub fn expose_text(&self) -> SecretString {
        BASE64URL_NOPAD.encode(self.0.expose()).into()
    }

    /// What is stored of it.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.0.expose())
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretToken(redacted)")
    }
}

/// An API token: `plm_`, 52 characters of lower-case base32 (32 random bytes), 8 characters of checksum.
///
/// The prefix lets secret scanners find a leaked one (`plm_[a-z2-7]{60}`), the checksum lets a mistyped one be refused
/// without a look-up. The checksum is no protection against forgery; the 256 random bits are.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken(SecretKey);

const API_BODY_CHARS: usize = 52;
const API_CHECKSUM_CHARS: usize = 8;

impl ApiToken {
    /// Every API token begins so, and no session token does.
    pub const PREFIX: &'static str = "plm_";

    /// A new token.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(SecretKey::generate(rng))
    }

    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// [`MalformedToken`] for a wrong prefix, length, alphabet or checksum.
    pub fn parse(text: &str) -> Result<Self, MalformedToken> {
        let rest = text.strip_prefix(Self::PREFIX).ok_or(MalformedToken)?;
        if rest.len() != API_BODY_CHARS + API_CHECKSUM_CHARS || rest.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(MalformedToken);
        }
        let mut upper = Zeroizing::new(rest.as_bytes().to_vec());
        upper.make_ascii_uppercase();
        let token = Self(decode(&BASE32_NOPAD, &upper[..API_BODY_CHARS])?);
        let good: bool = token.checksum().as_bytes().ct_eq(&upper[API_BODY_CHARS..]).into();
        if good { Ok(token) } else { Err(MalformedToken) }
    }

    /// The text form, to be shown to its owner once.
    #[must_use]
    pub fn expose_text(&self) -> SecretString {
        let length = Self::PREFIX.len() + API_BODY_CHARS + API_CHECKSUM_CHARS;
        let mut text = String::with_capacity(length); // exact, so that no copy is left behind
        text.push_str(Self::PREFIX);
        BASE32_NOPAD.encode_append(self.0.expose(), &mut text);
        text.push_str(&self.checksum());
        text.make_ascii_lowercase();
        text.into()
    }

    /// What is stored of it.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.0.expose())
    }

    /// Five bytes of SHA-256 over prefix and secret, in upper-case base32.
    fn checksum(&self) -> String {
        let digest = Sha256::new_with_prefix(Self::PREFIX).chain_update(self.0.expose()).finalize();
        BASE32_NOPAD.encode(&digest[..5])
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(redacted)")
    }
}

fn decode(encoding: &data_encoding::Encoding, text: &[u8]) -> Result<SecretKey, MalformedToken> {
    let bytes = encoded::decode(encoding, text).ok_or(MalformedToken)?;
    SecretKey::try_from(&bytes[..]).map_err(|_| MalformedToken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn digests_are_sha_256() {
        // FIPS 180-2, appendix B.1.
        let digest = TokenDigest::of(b"abc");
        assert_eq!(
            HEXLOWER.encode(digest.as_bytes()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(format!("{digest:?}"), "TokenDigest(ba7816bf…)");
    }

    #[test]
    fn token_forms_are_pinned() {
        // Computed apart with another implementation.
        let bytes: [u8; 32] = std::array::from_fn(|i| i as u8);
        let api = ApiToken(SecretKey::from_bytes(bytes));
        assert_eq!(
            api.expose_text().expose_secret(),
            "plm_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypquio7njlr"
        );
        let token = SecretToken(SecretKey::from_bytes(bytes));
        assert_eq!(token.expose_text().expose_secret(), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
        assert_eq!(token.digest(), api.digest());
    }

    #[test]
    fn malformed_tokens_are_refused() {
        let good = SecretToken::generate(&mut crate::OsRandom).expose_text();
        let good = good.expose_secret();
        for bad in
            ["", "x", &good[1..], &format!("{good}A"), &format!("{good}="), &good.replace(&good[..1], "+")]
        {
            assert_eq!(SecretToken::parse(bad), Err(MalformedToken), "{bad}");
        }
        // 43 characters hold 258 bits: the two spare ones must be zero, or one token had four spellings.
        assert_eq!(SecretToken::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9"), Err(MalformedToken));
        for bad in [
            "plm_",
            "plm_é",
            "PLM_a",
            &format!("plm_{}", "a".repeat(60)),
            &format!("plm_{}é", "a".repeat(58)),
        ] {
            assert_eq!(ApiToken::parse(bad), Err(MalformedToken), "{bad}");
        }
        let api = ApiToken::generate(&mut crate::OsRandom).expose_text();
        let api = api.expose_secret();
        assert_eq!(ApiToken::parse(&api.to_uppercase().replace("PLM_", "plm_")), Err(MalformedToken));
        assert_eq!(ApiToken::parse(&api[..api.len() - 1]), Err(MalformedToken));
        assert_eq!(SecretToken::parse(api), Err(MalformedToken));
    }

    #[test]
    fn debug_shows_nothing() {
        let mut rng = crate::OsRandom;
        let printed = format!("{:?} {:?}", SecretToken::generate(&mut rng), ApiToken::generate(&mut rng));
        assert_eq!(printed, "SecretToken(redacted) ApiToken(redacted)");
    }

    proptest! {
        #[test]
        fn tokens_survive_their_text_form(seed: u64) {
            let mut rng = StdRng::seed_from_u64(seed);
            let token = SecretToken::generate(&mut rng);
            prop_assert_eq!(SecretToken::parse(token.expose_text().expose_secret()), Ok(token));
            let api = ApiToken::generate(&mut rng);
            let text = api.expose_text();
            prop_assert_eq!(text.expose_secret().len(), 64);
            prop_assert_eq!(ApiToken::parse(text.expose_secret()), Ok(api));
        }

        #[test]
        fn one_wrong_character_in_an_api_token_is_found(at in 4..64usize, to in "[a-z2-7]") {
            let token = ApiToken(SecretKey::from_bytes([7; 32]));
            let mut text = token.expose_text().expose_secret().to_owned();
            prop_assume!(text[at..=at] != to);
            text.replace_range(at..=at, &to);
            prop_assert_eq!(ApiToken::parse(&text), Err(MalformedToken));
        }
    }
}
