//! Signals from outside: who sent them, what is made of them, and what is answered.
//!
//! A signal is on disk before it is answered. Where everything is known that its order needs, the order is on disk with it;
//! else a job decides, and the request tries for a moment to be faster than the job.

pub mod act;
mod body;
mod doors;
pub mod facts;
pub(crate) mod proof;
pub(crate) mod receive;
mod recent;

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use secrecy::SecretString;
use uuid::Uuid;

use self::doors::Doors;
use self::proof::Decoy;
use self::recent::Recent;

/// Deliveries that prove nothing, or are beyond the rate, and are still noted, of each hook in a minute; those beyond are
/// only counted by the sender.
const NOTED_PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).expect("it is not zero");
/// Deliveries from one address in a minute to doors through which nobody has come yet: where somebody has, the rightful
/// sender may stand behind the same address.
const STRANGERS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(300).expect("it is not zero");
/// Doors that are remembered as ones that somebody came through; beyond it all are forgotten.
const MOST_DOORS: usize = 50_000;

/// The server's own secret for `POST /webhook`, and for whom it is.
#[derive(Clone, Debug)]
pub struct BuiltinHook {
    /// What the body or the signature must prove.
    pub secret: SecretString,
    /// The folded address of the user who trades.
    pub user: String,
}

/// The settings of signals.
#[derive(Clone, Debug)]
pub struct SignalSettings {
    /// Signals that a hook takes in a minute, all of them at once if they come so; `None`: no limit (benches).
    pub per_minute: Option<NonZeroU32>,
    /// `None`: `POST /webhook` knows nobody.
    pub builtin: Option<BuiltinHook>,
}

impl Default for SignalSettings {
    fn default() -> Self {
        Self { per_minute: NonZeroU32::new(60), builtin: None }
    }
}

/// What is kept in memory for signals.
pub struct Signals {
    rate: Option<DefaultKeyedRateLimiter<Uuid>>,
    noted: DefaultKeyedRateLimiter<Uuid>,
    strangers: DefaultKeyedRateLimiter<Option<IpAddr>>,
    proven: Mutex<HashSet<Uuid>>,
    decoy: Decoy,
    /// Hooks seen a moment ago.
    pub(crate) doors: Doors,
    recent: Recent,
}

/// An address as strangers are counted: of IPv6 the network of one customer.
fn counted(ip: Option<IpAddr>) -> Option<IpAddr> {
    ip.map(|ip| match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        ip @ IpAddr::V4(_) => ip,
    })
}

impl Signals {
    /// Hooks are kept for `life`; zero keeps none.
    pub(crate) fn new(settings: &SignalSettings, ring: &plimsoll_crypto::KeyRing, life: Duration) -> Self {
        Self {
            rate: settings.per_minute.map(|rate| RateLimiter::keyed(Quota::per_minute(rate))),
            noted: RateLimiter::keyed(Quota::per_minute(NOTED_PER_MINUTE)),
            strangers: RateLimiter::keyed(Quota::per_minute(STRANGERS_PER_MINUTE)),
            proven: Mutex::default(),
            decoy: Decoy::new(ring),
            doors: Doors::new(life),
            recent: Recent::default(),
        }
    }

    fn doors(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a delivery is looked at at all. Nothing is proven yet, so nothing that a stranger does may keep the rightful
    /// sender out: through a door that somebody came through before, everybody is let as far as the proof.
    fn admits(&self, door: Option<Uuid>, ip: Option<IpAddr>) -> bool {
        door.is_some_and(|door| self.doors().contains(&door))
            || self.strangers.check_key(&counted(ip)).is_ok()
    }

    /// Somebody has come through a door.
    fn proved(&self, door: Uuid) {
        let mut doors = self.doors();
        if doors.len() >= MOST_DOORS {
            doors.clear();
        }
        doors.insert(door);
    }

    /// Whether a hook takes one more signal of its sender now.
    fn takes(&self, hook: Uuid) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.check_key(&hook).is_ok())
    }

    /// Whether one more delivery that is not taken is noted; whether or not there is such a hook.
    fn notes(&self, door: Option<Uuid>) -> bool {
        self.noted.check_key(&door.unwrap_or_default()).is_ok()
    }

    fn decoy(&self) -> &Decoy {
        &self.decoy
    }

    /// Forgets hooks that the limits no longer touch.
    pub(crate) fn tidy(&self) {
        if let Some(rate) = &self.rate {
            rate.retain_recent();
        }
        self.noted.retain_recent();
        self.doors.tidy();
        self.strangers.retain_recent();
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signals")
    }
}
