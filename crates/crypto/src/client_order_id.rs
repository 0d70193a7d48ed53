use std::fmt;

use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::canonical::Encoder;
use crate::{InstallationKey, KeyPurpose, WrongPurpose};

/// What made an order, and so what its client id follows from. Two kinds never share an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderOrigin<'a> {
    /// The caller's idempotency key, exactly as sent.
    IdempotencyKey(&'a str),
    /// The id of a stored signal, in its text form.
    Signal(&'a str),
    /// What a job of the platform does.
    Job(&'a str),
}

/// Derives client order ids, so that a retry after a lost row meets the broker's own duplicate check.
///
/// `plm-` and the unpadded lower-case base32 of the first 20 bytes of HMAC-SHA256 over account, user and origin: 36
/// characters, the same for ever for the same input. The encoding of the input is length-prefixed, so no two inputs run
/// together.
#[derive(Clone)]
pub struct ClientOrderIdKey(Hmac<Sha256>);

impl ClientOrderIdKey {
    /// Every derived id begins so.
    pub const PREFIX: &'static str = "plm-";

    /// Takes the installation's key for order ids.
    ///
    /// # Errors
    ///
    /// [`WrongPurpose`] for any other key.
    pub fn new(key: &InstallationKey) -> Result<Self, WrongPurpose> {
        let key = key.key_for(KeyPurpose::OrderId)?;
        Ok(Self(Hmac::new_from_slice(key.expose()).expect("HMAC takes a key of any length")))
    }

    /// The id of the order that this user of this account makes from this origin. `account` is its id's text form.
    #[must_use]
    pub fn derive(&self, account: &str, user: i64, origin: OrderOrigin<'_>) -> String {
        let (kind, value) = match origin {
            OrderOrigin::IdempotencyKey(key) => ("idempotency_key", key),
            OrderOrigin::Signal(id) => ("signal", id),
            OrderOrigin::Job(what) => ("job", what),
        };
        let input = Encoder::new("plimsoll client order id v1")
            .text(account)
            .int(user)
            .text(kind)
            .text(value)
            .finish();
        let tag = self.0.clone().chain_update(input).finalize().into_bytes();
        let mut id = BASE32_NOPAD.encode(&tag[..20]);
        id.make_ascii_lowercase();
        format!("{}{id}", Self::PREFIX)
    }
}

impl fmt::Debug for ClientOrderIdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientOrderIdKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::OrderOrigin::{IdempotencyKey, Job, Signal};
    use super::*;
    use crate::OsRandom;
    use crate::installation_key::tests_support::fixed_key;

    fn key() -> ClientOrderIdKey {
        ClientOrderIdKey::new(&fixed_key(KeyPurpose::OrderId)).unwrap()
    }

    #[test]
    fn ids_are_pinned() {
        // Computed apart with another implementation of HMAC and base32.
        assert_eq!(key().derive("7", 42, IdempotencyKey("k-1")), "plm-5dt6z2qwcw5cckxfoozazg7ij5kdeopg");
        assert_eq!(key().derive("7", 42, Signal("k-1")), "plm-2rfi6jfvogxrio2o7w2bfhitgtsh2dwi");
        assert_eq!(key().derive("7", 42, Job("k-1")), "plm-gmdpfkl6t5ypy6tvdir5uumceu5csnvq");
    }

    #[test]
    fn another_installation_has_other_ids() {
        let other = InstallationKey::generate(KeyPurpose::OrderId, &mut OsRandom);
        let other = ClientOrderIdKey::new(&other).unwrap();
        assert_ne!(other.derive("7", 42, Signal("s")), key().derive("7", 42, Signal("s")));
    }

    #[test]
    fn only_its_own_key_will_do() {
        let wrong = ClientOrderIdKey::new(&fixed_key(KeyPurpose::Pepper)).unwrap_err();
        assert_eq!(wrong, WrongPurpose { needed: KeyPurpose::OrderId, given: KeyPurpose::Pepper });
    }

    proptest! {
        #[test]
        fn ids_differ_exactly_when_inputs_do(
            a in ("[0-9a]{0,3}", 0..3i64, "[0-9a]{1,3}", 0..3u8),
            b in ("[0-9a]{0,3}", 0..3i64, "[0-9a]{1,3}", 0..3u8),
        ) {
            let derive = |(account, user, value, kind): &(String, i64, String, u8)| {
                let origin = [IdempotencyKey, Signal, Job][usize::from(*kind)](value);
                key().derive(account, *user, origin)
            };
            let id = derive(&a);
            prop_assert_eq!(id == derive(&b), a == b);
            prop_assert_eq!(id.len(), 36);
            let ok = |b: u8| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b);
            prop_assert!(id.starts_with("plm-") && id[4..].bytes().all(ok));
        }
    }
}
