//! How many sockets may be open, and how fast they may come.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_core_domain::UserId;

use super::WsSettings;

/// Counts open sockets.
pub(super) struct ConnectionLimits {
    max_per_user: usize,
    max_per_ip: usize,
    max_connections: usize,
    upgrades: Mutex<Rate>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_ip: HashMap<IpAddr, usize>,
    by_user: HashMap<UserId, usize>,
}

/// What a slot was counted under.
enum Place {
    Connection(Option<IpAddr>),
    User(UserId),
}

/// A place that is given back on drop.
pub(super) struct Slot {
    limits: Arc<ConnectionLimits>,
    place: Place,
}

/// Why there is no place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The server has enough; the client may try again soon.
    Server,
    /// This address or user has enough.
    Client,
}

impl ConnectionLimits {
    pub(super) fn new(settings: &WsSettings) -> Self {
        Self {
            max_per_user: settings.max_per_user,
            max_per_ip: settings.max_per_ip,
            max_connections: settings.max_connections,
            upgrades: Mutex::new(Rate::new(settings.upgrades_per_second, Duration::from_secs(1))),
            open: Mutex::default(),
        }
    }

    pub(super) fn open(&self) -> usize {
        lock(&self.open).total
    }

    /// A place for a connection from this address.
    pub(super) fn admit(self: &Arc<Self>, ip: Option<IpAddr>, now: Instant) -> Result<Slot, Full> {
        if !lock(&self.upgrades).allows(now) {
            return Err(Full::Server);
        }
        let ip = ip.map(host);
        let mut open = lock(&self.open);
        if open.total >= self.max_connections {
            return Err(Full::Server);
        }
        if ip.is_some_and(|ip| !enter(&mut open.by_ip, ip, self.max_per_ip)) {
            return Err(Full::Client);
        }
        open.total += 1;
        Ok(Slot { limits: self.clone(), place: Place::Connection(ip) })
    }

    /// A place for one more socket of this user.
    pub(super) fn admit_user(self: &Arc<Self>, user: UserId) -> Result<Slot, Full> {
        let entered = enter(&mut lock(&self.open).by_user, user, self.max_per_user);
        entered.then(|| Slot { limits: self.clone(), place: Place::User(user) }).ok_or(Full::Client)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = lock(&self.limits.open);
        match self.place {
            Place::User(user) => leave(&mut open.by_user, &user),
            Place::Connection(ip) => {
                open.total -= 1;
                if let Some(ip) = ip {
                    leave(&mut open.by_ip, &ip);
                }
            }
        }
    }
}

fn enter<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K, max: usize) -> bool {
    let count = counts.get(&key).copied().unwrap_or(0);
    if count >= max {
        return false;
    }
    counts.insert(key, count + 1);
    true
}

fn leave<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// One subscriber of an IPv6 network has a /64 of addresses (RFC 6177), and an IPv4 client may come mapped.
fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only counters are behind these locks, and nothing panics between two of their changes.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// At most so many in each window of time.
#[derive(Debug)]
pub(super) struct Rate {
    max: u32,
    window: Duration,
    began: Option<Instant>,
    count: u32,
}

impl Rate {
    pub(super) fn new(max: u32, window: Duration) -> Self {
        Self { max, window, began: None, count: 0 }
    }

    /// Counts one more, and says whether it is within the limit.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= self.window) {
            self.began = Some(now);
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count <= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(settings: WsSettings) -> Arc<ConnectionLimits> {
        Arc::new(ConnectionLimits::new(&settings))
    }

    #[test]
    fn places_are_given_back() {
        let limits = limits(WsSettings { max_per_ip: 2, max_per_user: 1, ..WsSettings::default() });
        let (now, ip) = (Instant::now(), Some(IpAddr::from([192, 0, 2, 1])));
        let first = limits.admit(ip, now).ok().unwrap();
        let _second = limits.admit(ip, now).ok().unwrap();
        assert_eq!(limits.admit(ip, now).err(), Some(Full::Client));
        assert!(limits.admit(Some(IpAddr::from([192, 0, 2, 2])), now).is_ok());
        assert!(limits.admit(None, now).is_ok());
        drop(first);
        assert!(limits.admit(ip, now).is_ok());
        assert_eq!(limits.open(), 1);

        let user = limits.admit_user(UserId(1)).ok().unwrap();
        assert_eq!(limits.admit_user(UserId(1)).err(), Some(Full::Client));
        assert!(limits.admit_user(UserId(2)).is_ok());
        drop(user);
        assert!(limits.admit_user(UserId(1)).is_ok());
        assert_eq!(lock(&limits.open).by_user.len(), 0, "nothing stays behind");
    }

    #[test]
    fn the_server_as_a_whole_is_limited() {
        let limits =
            limits(WsSettings { max_connections: 1, upgrades_per_second: 3, ..WsSettings::default() });
        let now = Instant::now();
        let slot = limits.admit(None, now).ok().unwrap();
        assert_eq!(limits.admit(None, now).err(), Some(Full::Server));
        drop(slot);
        assert!(limits.admit(None, now).is_ok());
        assert_eq!(limits.admit(None, now).err(), Some(Full::Server), "the fourth in this second");
        assert!(limits.admit(None, now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn a_host_is_one_ipv6_network_or_one_ipv4_address() {
        let host = |text: &str| super::host(text.parse().unwrap());
        assert_eq!(host("2001:db8::1"), host("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(host("2001:db8::1"), host("2001:db8:0:1::1"));
        assert_eq!(host("::ffff:192.0.2.1"), host("192.0.2.1"));
        assert_ne!(host("192.0.2.1"), host("192.0.2.2"));
    }
}
