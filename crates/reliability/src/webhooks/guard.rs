//! Which addresses may be posted to.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use reqwest::Url;

use super::address::is_public;

/// The longest address of a hook, in bytes.
pub const LONGEST_URL: usize = 2048;
/// Below it stand the ports of services that are no webhook's.
const FIRST_FREE_PORT: u16 = 1024;

/// Why nothing is posted to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetRefusal {
    /// No address of a web server.
    #[error("must be an address of the form https://host/path")]
    Malformed,
    /// Longer than [`LONGEST_URL`].
    #[error("must have at most {LONGEST_URL} bytes")]
    TooLong,
    /// Not encrypted.
    #[error("must begin with https://")]
    Scheme,
    /// User name or password in it.
    #[error("must not hold a user name or password")]
    Credentials,
    /// A fragment, which is never sent.
    #[error("must not have a fragment")]
    Fragment,
    /// A port of other services.
    #[error("must use port 443 or one from {FIRST_FREE_PORT} up")]
    Port,
    /// An address of this machine or of a network that is not public.
    #[error("must not lead to this machine or into a private network")]
    Address,
}

impl TargetRefusal {
    /// A stable word for it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "invalid_url",
            Self::TooLong => "too_long",
            Self::Scheme => "not_https",
            Self::Credentials => "credentials_in_url",
            Self::Fragment => "fragment_in_url",
            Self::Port => "port_refused",
            Self::Address => "address_refused",
        }
    }
}

/// An address that was read and found fit, as far as can be told before its name is looked up.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub(crate) url: Url,
}

impl Target {
    /// The host alone: path and query may hold what only the receiver should know.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The address as it is stored, in the form in which it is used.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// Whether what is sent there is encrypted.
    #[must_use]
    pub fn encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}://{}/…)", self.url.scheme(), self.host())
    }
}

type Allowed = dyn Fn(IpAddr) -> bool + Send + Sync;

/// Says which addresses may be connected to: the public ones over https, and those of networks that the operator allowed
/// over http as well. Clones share everything.
#[derive(Clone)]
pub struct Guard {
    allowed: Option<Arc<Allowed>>,
}

impl Guard {
    /// Public addresses only, over https only.
    #[must_use]
    pub fn public() -> Self {
        Self { allowed: None }
    }

    /// Beside the public ones those addresses for which `allowed` is true, which need not be encrypted.
    #[must_use]
    pub fn allowing(allowed: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self { allowed: Some(Arc::new(allowed)) }
    }

    /// Whether the operator allows this address, encrypted or not.
    #[must_use]
    pub fn is_allowed(&self, address: IpAddr) -> bool {
        self.allowed.as_ref().is_some_and(|allowed| allowed(address.to_canonical()))
    }

    /// Whether a connection to this address may be made.
    #[must_use]
    pub fn permits(&self, address: IpAddr, encrypted: bool) -> bool {
        self.is_allowed(address) || (encrypted && is_public(address))
    }

    /// Reads an address. What a host's name leads to is looked at when a connection is made.
    ///
    /// # Errors
    /// Nothing is ever posted there.
    pub fn target(&self, text: &str) -> Result<Target, TargetRefusal> {
        if text.len() > LONGEST_URL {
            return Err(TargetRefusal::TooLong);
        }
        // The parser passes over tabs, line breaks and surrounding spaces, and reads a backslash as a slash.
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(TargetRefusal::Malformed);
        }
        let url = Url::parse(text).map_err(|_| TargetRefusal::Malformed)?;
        let encrypted = match url.scheme() {
            "https" => true,
            "http" if self.allowed.is_some() => false,
            "http" => return Err(TargetRefusal::Scheme),
            _ => return Err(TargetRefusal::Malformed),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetRefusal::Credentials);
        }
        if url.fragment().is_some() {
            return Err(TargetRefusal::Fragment);
        }
        if url.as_str().len() > LONGEST_URL {
            return Err(TargetRefusal::TooLong);
        }
        match url.port() {
            None => {}
            Some(port) if port >= FIRST_FREE_PORT || port == 443 || (port == 80 && !encrypted) => {}
            Some(_) => return Err(TargetRefusal::Port),
        }
        let host = url.host_str().ok_or(TargetRefusal::Malformed)?;
        match literal(host) {
            Some(address) if !self.permits(address, encrypted) => return Err(TargetRefusal::Address),
            Some(_) => {}
            None if self.allowed.is_none() && is_local_name(host) => return Err(TargetRefusal::Address),
            None => {}
        }
        Ok(Target { url })
    }
}

/// The address that a host is, when it is no name. The parser has brought IPv4 into its usual form already, whatever base
/// its numbers were written in.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.trim_end_matches('.').parse().ok()
}

/// Names that never lead out of the own network.
fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    !host.contains('.')
        || [".localhost", ".local", ".internal", ".home.arpa", ".lan"].iter().any(|end| host.ends_with(end))
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("allows_more", &self.allowed.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> TargetRefusal {
        Guard::public().target(text).unwrap_err()
    }

    /// WHK-6: only https, only a plain address, only ports of web servers.
    #[test]
    fn addresses_of_another_form_are_refused() {
        for (text, why) in [
            ("", TargetRefusal::Malformed),
            ("hook", TargetRefusal::Malformed),
            ("ftp://example.com/", TargetRefusal::Malformed),
            ("file:///etc/passwd", TargetRefusal::Malformed),
            ("gopher://example.com/", TargetRefusal::Malformed),
            ("https://", TargetRefusal::Malformed),
            ("https://exa mple.com/", TargetRefusal::Malformed),
            ("https://example.com/\r\nx: y", TargetRefusal::Malformed),
            ("https:\\\\example.com\\", TargetRefusal::Malformed),
            (" https://example.com/", TargetRefusal::Malformed),
            ("http://example.com/", TargetRefusal::Scheme),
            ("https://user@example.com/", TargetRefusal::Credentials),
            ("https://user:word@example.com/", TargetRefusal::Credentials),
            ("https://example.com/#here", TargetRefusal::Fragment),
            ("https://example.com:22/", TargetRefusal::Port),
            ("https://example.com:25/", TargetRefusal::Port),
            ("https://example.com:80/", TargetRefusal::Port),
            ("https://example.com:0/", TargetRefusal::Port),
            ("https://example.com:65536/", TargetRefusal::Malformed),
        ] {
            assert_eq!(refused(text), why, "{text}");
        }
        let long = format!("https://example.com/{}", "a".repeat(LONGEST_URL));
        assert_eq!(refused(&long), TargetRefusal::TooLong);
        let escapes = format!("https://example.com/{}", "é".repeat(LONGEST_URL / 3));
        assert_eq!(refused(&escapes), TargetRefusal::TooLong, "as it is sent");
    }

    /// WHK-6: addresses instead of names, in every way to write them.
    #[test]
    fn literal_addresses_of_private_networks_are_refused() {
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "2130706433",
            "017700000001",
            "0",
            "10.1.2.3",
            "169.254.169.254",
            "0xa9fea9fe",
            "192.168.0.1",
            "100.64.0.1",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "metadata.google.internal",
            "printer.local",
            "intranet",
            "127.0.0.1.",
            "１２７.0.0.1",
        ] {
            for port in ["", ":443", ":8443"] {
                let text = format!("https://{host}{port}/");
                assert_eq!(refused(&text), TargetRefusal::Address, "{text}");
            }
        }
    }

    #[test]
    fn public_addresses_pass() {
        for text in [
            "https://example.com",
            "https://example.com/a/b?c=d",
            "https://EXAMPLE.com:8443/x",
            "https://1.1.1.1/",
            "https://[2606:4700:4700::1111]/x",
            "https://bücher.example/",
        ] {
            assert!(Guard::public().target(text).is_ok(), "{text}");
        }
        let target = Guard::public().target("https://Example.com/secret?token=abc").unwrap();
        assert_eq!((target.host(), target.encrypted()), ("example.com", true));
        assert_eq!(format!("{target:?}"), "Target(https://example.com/…)");
    }

    /// The operator's networks may be reached, without encryption too, and nothing else comes in with them.
    #[test]
    fn allowed_networks_are_let_through_and_nothing_beside_them() {
        let guard = Guard::allowing(|ip| ip == IpAddr::from([127, 0, 0, 1]));
        for text in [
            "http://127.0.0.1:9000/",
            "http://127.0.0.1/",
            "https://127.0.0.1:9000/",
            "https://[::ffff:127.0.0.1]/",
        ] {
            assert!(guard.target(text).is_ok(), "{text}");
        }
        for text in ["http://127.0.0.2/", "https://10.0.0.1/", "http://1.1.1.1/", "https://[::1]/"] {
            assert_eq!(guard.target(text).unwrap_err(), TargetRefusal::Address, "{text}");
        }
        assert_eq!(guard.target("http://127.0.0.1:22/").unwrap_err(), TargetRefusal::Port);
        assert!(guard.target("http://intranet:8080/").is_ok(), "a name is looked up first");
        assert!(guard.permits([127, 0, 0, 1].into(), false) && !guard.permits([1, 1, 1, 1].into(), false));
        assert!(guard.permits([1, 1, 1, 1].into(), true) && !guard.permits([10, 0, 0, 1].into(), true));
    }
}
