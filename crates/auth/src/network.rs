use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A network of IP addresses, or a single address: `192.0.2.0/24`, `2001:db8::/32`, `192.0.2.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpNetwork {
    address: IpAddr,
    prefix: u8,
}

/// The text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IpNetworkError {
    /// No address before the slash.
    #[error("not an IP address or network")]
    Malformed,
    /// The prefix is longer than the address, or no number.
    #[error("the prefix length must be a number from 0 to 32 (IPv4) or 128 (IPv6)")]
    Prefix,
    /// The address has bits beyond the prefix: more likely a slip than meant.
    #[error("the address has bits beyond its prefix")]
    HostBits,
}

impl IpNetwork {
    /// Whether the network has this address. An IPv4 address written as IPv6 (`::ffff:192.0.2.7`) is the IPv4 address.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                same_start(net.to_bits().into(), ip.to_bits().into(), 32 - self.prefix)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => same_start(net.to_bits(), ip.to_bits(), 128 - self.prefix),
            _ => false,
        }
    }
}

/// Whether two numbers are equal but for the last `free` bits.
fn same_start(a: u128, b: u128, free: u8) -> bool {
    (a ^ b).checked_shr(free.into()).unwrap_or(0) == 0
}

impl FromStr for IpNetwork {
    type Err = IpNetworkError;

    fn from_str(text: &str) -> Result<Self, IpNetworkError> {
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix)),
        };
        let address: IpAddr = address.parse().map_err(|_| IpNetworkError::Malformed)?;
        let Some(prefix) = prefix else {
            let address = address.to_canonical();
            return Ok(Self { address, prefix: longest(address) });
        };
        if address.to_canonical() != address {
            return Err(IpNetworkError::Malformed);
        }
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u8 = prefix.parse().ok().filter(|_| digits).ok_or(IpNetworkError::Prefix)?;
        if prefix > longest(address) {
            return Err(IpNetworkError::Prefix);
        }
        let (bits, free) = match address {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32 - prefix),
            IpAddr::V6(ip) => (ip.to_bits(), 128 - prefix),
        };
        let kept = bits.checked_shr(free.into()).unwrap_or(0).checked_shl(free.into()).unwrap_or(0);
        if kept == bits { Ok(Self { address, prefix }) } else { Err(IpNetworkError::HostBits) }
    }
}

fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == longest(self.address) {
            return write!(f, "{}", self.address);
        }
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for IpNetwork {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IpNetwork {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(network: &str, ip: &str) -> bool {
        network.parse::<IpNetwork>().unwrap().contains(ip.parse().unwrap())
    }

    #[test]
    fn networks_have_the_addresses_with_their_prefix() {
        for (network, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7", "::ffff:192.0.2.7", "::ffff:192.0.2.8"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.9"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
        ] {
            assert!(has(network, inside), "{network} {inside}");
            assert!(!has(network, outside), "{network} {outside}");
        }
    }

    #[test]
    fn networks_read_back_and_slips_are_refused() {
        for text in ["192.0.2.0/24", "192.0.2.7", "2001:db8::/32", "::1", "0.0.0.0/0", "::/0"] {
            assert_eq!(text.parse::<IpNetwork>().unwrap().to_string(), text);
        }
        for (text, why) in [
            ("", IpNetworkError::Malformed),
            ("example.com", IpNetworkError::Malformed),
            ("192.0.2.0/24/1", IpNetworkError::Prefix),
            ("::ffff:192.0.2.0/120", IpNetworkError::Malformed),
            ("192.0.2.0/33", IpNetworkError::Prefix),
            ("192.0.2.0/+8", IpNetworkError::Prefix),
            ("192.0.2.0/", IpNetworkError::Prefix),
            ("2001:db8::/129", IpNetworkError::Prefix),
            ("192.0.2.1/24", IpNetworkError::HostBits),
            ("192.0.2.1/0", IpNetworkError::HostBits),
            ("2001:db8::1/64", IpNetworkError::HostBits),
        ] {
            assert_eq!(text.parse::<IpNetwork>(), Err(why), "{text}");
        }
    }
}
