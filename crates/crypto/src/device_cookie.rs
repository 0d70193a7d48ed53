use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use rand::CryptoRng;
use sha2::Sha256;

use crate::canonical::Encoder;
use crate::{InstallationKey, KeyPurpose, WrongPurpose};

const DEVICE_BYTES: usize = 16;
const MAC_BYTES: usize = 32;

/// A device from which somebody has signed in to an account: 16 random bytes. It opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceId([u8; DEVICE_BYTES]);

impl DeviceId {
    /// A device not seen before.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = [0; DEVICE_BYTES];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The bytes, to be digested before they are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Signs device cookies: text that says that an account was signed in to from this device, and grants nothing else. It
/// keeps somebody who guesses passwords elsewhere from locking the owner out (OWASP Authentication Cheat Sheet).
#[derive(Clone)]
pub struct DeviceCookies(Hmac<Sha256>);

impl DeviceCookies {
    /// Takes the installation's key for device cookies.
    ///
    /// # Errors
    ///
    /// [`WrongPurpose`] for any other key.
    pub fn new(key: &InstallationKey) -> Result<Self, WrongPurpose> {
        let key = key.key_for(KeyPurpose::DeviceCookie)?;
        Ok(Self(Hmac::new_from_slice(key.expose()).expect("HMAC takes a key of any length")))
    }

    /// The cookie's value for a device and an account, 64 characters of base64url. `account` is whatever the caller names
    /// accounts by before they are looked up.
    #[must_use]
    pub fn sign(&self, account: &[u8], device: DeviceId) -> String {
        let mac = self.mac(account, device).finalize().into_bytes();
        BASE64URL_NOPAD.encode(&[&device.0[..], &mac].concat())
    }

    /// The device of a cookie that this installation signed for this account.
    #[must_use]
    pub fn verify(&self, account: &[u8], cookie: &str) -> Option<DeviceId> {
        if cookie.len() != 64 {
            return None;
        }
        let bytes = BASE64URL_NOPAD.decode(cookie.as_bytes()).ok()?;
        let (device, mac) = bytes.split_at_checked(DEVICE_BYTES).filter(|(_, mac)| mac.len() == MAC_BYTES)?;
        let device = DeviceId(device.try_into().ok()?);
        self.mac(account, device).verify_slice(mac).ok().map(|()| device)
    }

    fn mac(&self, account: &[u8], device: DeviceId) -> Hmac<Sha256> {
        let input = Encoder::new("plimsoll device cookie v1").bytes(account).bytes(&device.0).finish();
        self.0.clone().chain_update(input)
    }
}

impl fmt::Debug for DeviceCookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceCookies(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsRandom;
    use crate::installation_key::tests_support::fixed_key;

    /// LOG-6: a cookie is good for its account and installation only.
    #[test]
    fn a_device_cookie_is_bound_to_its_account() {
        let cookies = DeviceCookies::new(&fixed_key(KeyPurpose::DeviceCookie)).unwrap();
        let device = DeviceId::generate(&mut OsRandom);
        let cookie = cookies.sign(b"ann", device);
        assert_eq!(cookies.verify(b"ann", &cookie), Some(device));
        assert_eq!(cookies.verify(b"bob", &cookie), None);
        for at in 0..cookie.len() {
            let mut forged = cookie.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(cookies.verify(b"ann", std::str::from_utf8(&forged).unwrap()), None, "{at}");
        }
        let long = "A".repeat(10_000);
        for other in ["", "x", &cookie[..63], long.as_str(), "é".repeat(32).as_str()] {
            assert_eq!(cookies.verify(b"ann", other), None);
        }
        assert!(DeviceCookies::new(&fixed_key(KeyPurpose::Pepper)).is_err());
    }
}
