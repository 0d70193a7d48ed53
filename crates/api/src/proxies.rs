//! The address of a request's client, behind the proxies that are trusted.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, web};
use plimsoll_auth::IpNetwork;

use crate::state::AppState;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose word on their clients is believed. By default none: then the client is whoever connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNetwork]>);

impl TrustedProxies {
    /// These.
    #[must_use]
    pub fn new(networks: Vec<IpNetwork>) -> Self {
        Self(networks.into())
    }

    /// How many networks are trusted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether every address of IPv4 or IPv6 is one of a trusted proxy, so that anybody may claim any address.
    #[must_use]
    pub fn trusts_everybody(&self) -> bool {
        self.0.iter().any(|network| network.to_string().ends_with("/0"))
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The nearest address that is no trusted proxy. Each proxy adds its peer at the right of `X-Forwarded-For`, so the
    /// list is read from there; whatever stands left of an address that is not trusted was written by that address.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return client;
        }
        // Bytes, since a proxy may append to a line that its client began with anything at all.
        let lines: Vec<&[u8]> = headers.get_all(FORWARDED_FOR).map(HeaderValue::as_bytes).collect();
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
            // A hop that is no address is not looked behind.
            let Some(hop) = std::str::from_utf8(hop).ok().and_then(|hop| address(hop.trim())) else { break };
            client = hop;
            if !self.contains(client) {
                break;
            }
        }
        client
    }
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    bare().or_else(with_port).or_else(bracketed).map(|ip| ip.to_canonical())
}

/// The address of a request's client, as far as it is known.
#[must_use]
pub fn client_ip(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    match request.app_data::<web::Data<AppState>>() {
        Some(state) => Some(state.settings.trusted_proxies.client(peer, request.headers())),
        None => Some(peer.to_canonical()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        client_of_bytes(trusted, peer, &forwarded.iter().map(|line| line.as_bytes()).collect::<Vec<_>>())
    }

    fn client_of_bytes(trusted: &[&str], peer: &str, forwarded: &[&[u8]]) -> String {
        let proxies = TrustedProxies::new(trusted.iter().map(|text| text.parse().unwrap()).collect());
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line).unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    /// PRX-1: forwarded addresses count only from trusted proxies, and only as far as those vouch for them.
    #[test]
    fn the_client_is_the_nearest_address_that_is_not_trusted() {
        let proxy = ["10.0.0.0/8"];
        assert_eq!(client(&[], "10.0.0.1", &["203.0.113.9"]), "10.0.0.1", "nobody is trusted by default");
        assert_eq!(client(&proxy, "198.51.100.1", &["203.0.113.9"]), "198.51.100.1", "a stranger's header");
        assert_eq!(client(&proxy, "10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(&proxy, "10.0.0.1", &["127.0.0.1, 203.0.113.9"]), "203.0.113.9", "what it claims");
        assert_eq!(client(&proxy, "10.0.0.1", &["203.0.113.9, 10.9.9.9"]), "203.0.113.9", "two proxies");
        assert_eq!(client(&proxy, "10.0.0.1", &["1.2.3.4", "203.0.113.9"]), "203.0.113.9", "two headers");
        assert_eq!(client(&proxy, "10.0.0.1", &["10.0.0.7, 10.0.0.2"]), "10.0.0.7", "all trusted");
        assert_eq!(client(&proxy, "10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client(&proxy, "10.0.0.1", &["203.0.113.9, unknown"]), "10.0.0.1", "no address");
        assert_eq!(client(&proxy, "10.0.0.1", &["203.0.113.9:4711"]), "203.0.113.9");
        let begun_by_the_client: &[u8] = b"\xff, 203.0.113.9";
        assert_eq!(client_of_bytes(&proxy, "10.0.0.1", &[begun_by_the_client]), "203.0.113.9", "any bytes");
        assert_eq!(client_of_bytes(&proxy, "10.0.0.1", &[b"203.0.113.9, \xff"]), "10.0.0.1", "no address");
        assert_eq!(client(&proxy, "10.0.0.1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(client(&proxy, "::ffff:10.0.0.1", &["::ffff:203.0.113.9"]), "203.0.113.9", "mapped");
    }
}
