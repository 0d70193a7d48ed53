use std::net::IpAddr;

use plimsoll_crypto::{DeviceCookies, DeviceId, Pepper};

use crate::throttle::{network_key, text_key};

/// The installation's keys that logins need: nothing guessable is stored without them.
#[derive(Debug, Clone, Copy)]
pub struct LoginKeys<'k> {
    /// Keyed digests.
    pub pepper: &'k Pepper,
    /// Device cookies.
    pub devices: &'k DeviceCookies,
}

impl LoginKeys<'_> {
    /// What stands for a folded address before anybody knows whether it has an account.
    #[must_use]
    pub fn identifier(&self, folded: &str) -> [u8; 32] {
        text_key(self.pepper, folded)
    }

    /// What stands for a network.
    #[must_use]
    pub fn network(&self, ip: IpAddr) -> [u8; 32] {
        network_key(self.pepper, Some(ip))
    }

    /// What stands for an account and a password tried.
    pub(super) fn pair(&self, identifier: &[u8; 32], password: &str) -> [u8; 32] {
        let password = self.pepper.digest("login password", "", password.as_bytes());
        self.pepper.digest("login pair", "", &[*identifier, password].concat())
    }

    /// What stands for a device of an account.
    pub(super) fn device(&self, identifier: &[u8; 32], device: DeviceId) -> [u8; 32] {
        self.pepper.digest("login device", "", &[&identifier[..], device.as_bytes()].concat())
    }

    /// What stands for a client by its name, for one account.
    pub(super) fn agent(&self, identifier: &[u8; 32], agent: &str) -> [u8; 32] {
        self.pepper.digest("login agent", "", &[&identifier[..], agent.as_bytes()].concat())
    }
}
