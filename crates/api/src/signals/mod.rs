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

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use secrecy::SecretString;
use uuid::Uuid;

use self::doors::Doors;
use self::proof::Decoy;
use self::recent::Recent;

/// Deliveries beyond the rate that are still noted, of each hook in a minute; those beyond are only counted by the sender.
const NOTED_PER_MINUTE: NonZeroU32 = NonZeroU32::new(1_200).expect("it is not zero");

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
    decoy: Decoy,
    /// Hooks seen a moment ago.
    pub(crate) doors: Doors,
    recent: Recent,
}

impl Signals {
    /// Hooks are kept for `life`; zero keeps none.
    pub(crate) fn new(settings: &SignalSettings, ring: &plimsoll_crypto::KeyRing, life: Duration) -> Self {
        Self {
            rate: settings.per_minute.map(|rate| RateLimiter::keyed(Quota::per_minute(rate))),
            noted: RateLimiter::keyed(Quota::per_minute(NOTED_PER_MINUTE)),
            decoy: Decoy::new(ring),
            doors: Doors::new(life),
            recent: Recent::default(),
        }
    }

    /// Whether a hook takes one more signal now; whether or not there is such a hook.
    fn admits(&self, hook: Uuid) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.check_key(&hook).is_ok())
    }

    /// Whether one that is not admitted is noted.
    fn notes(&self, hook: Uuid) -> bool {
        self.noted.check_key(&hook).is_ok()
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
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signals")
    }
}
