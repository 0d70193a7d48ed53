use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::canonical::Encoder;
use crate::{InstallationKey, KeyPurpose, WrongPurpose};

/// Keyed digests of values that could be guessed from a plain one: short codes, or address and password pairs.
///
/// A stolen database alone then tells nothing, because the key is stored wrapped.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl Pepper {
    /// Takes the installation's pepper.
    ///
    /// # Errors
    ///
    /// [`WrongPurpose`] for any other key.
    pub fn new(key: &InstallationKey) -> Result<Self, WrongPurpose> {
        let key = key.key_for(KeyPurpose::Pepper)?;
        Ok(Self(Hmac::new_from_slice(key.expose()).expect("HMAC takes a key of any length")))
    }

    /// HMAC-SHA256 over use, scope and value. `context` names the use (`backup code`), `scope` whose value it is.
    #[must_use]
    pub fn digest(&self, context: &str, scope: &str, value: &[u8]) -> [u8; 32] {
        let input = Encoder::new(context).text(scope).bytes(value).finish();
        self.0.clone().chain_update(input).finalize().into_bytes().into()
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::installation_key::tests_support::fixed_key;

    #[test]
    fn digests_differ_by_context_scope_and_value() {
        let pepper = Pepper::new(&fixed_key(KeyPurpose::Pepper)).unwrap();
        let digest = pepper.digest("backup code", "42", b"ABCD2345");
        assert_eq!(digest, pepper.digest("backup code", "42", b"ABCD2345"));
        assert_ne!(digest, pepper.digest("backup code", "43", b"ABCD2345"));
        assert_ne!(digest, pepper.digest("backup code", "42", b"ABCD2346"));
        assert_ne!(digest, pepper.digest("spray", "42", b"ABCD2345"));
    }

    #[test]
    fn only_its_own_key_will_do() {
        assert!(Pepper::new(&fixed_key(KeyPurpose::DeviceCookie)).is_err());
    }
}
