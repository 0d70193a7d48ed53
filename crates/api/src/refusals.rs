//! Refused authorisation (403) and throttle hits (429) in the audit log: one place for all routes.
//!
//! A refusal costs whoever provokes it nothing, so only a few a minute are written for each user, or for each network of
//! nobody known, and not many altogether; the next entry that is written says how many were left out.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::{HttpMessage, web};
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::audit::AuditOutcome;
use uuid::Uuid;

use crate::caller::Origin;
use crate::state::AppState;

/// Entries of one user or network within a [`WINDOW`].
const EACH: u32 = 10;
/// Entries within a [`WINDOW`], whoever they are of.
const TOGETHER: u32 = 300;
/// Users and networks that are told apart; those beyond share one place.
const KEYS: usize = 10_000;
const WINDOW: TimeDelta = TimeDelta::minutes(1);
/// How long it is remembered how many entries were left out.
const KEPT: TimeDelta = TimeDelta::days(1);

/// Who a request turned out to come from. Extractors leave it with the request as soon as they know, so that a refusal
/// later on has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The user.
    pub user: UserId,
    /// The session, where it is one.
    pub session: Option<Uuid>,
}

/// The code of the problem that an answer tells of; left with the answer for [`record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedWith(pub &'static str);

/// Left with an answer whose refusal the use case has recorded itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    User(UserId),
    /// An IPv4 address, or the /64 of an IPv6 address.
    Network(IpAddr),
    Unknown,
    /// Those for whom there was no place left.
    Others,
    /// All users together, and all networks of nobody known: those do not use up what is there for users.
    Everybody {
        known: bool,
    },
}

impl Key {
    fn of(known: Option<Known>, ip: Option<IpAddr>) -> Self {
        match (known, ip) {
            (Some(known), _) => Self::User(known.user),
            (None, Some(IpAddr::V6(ip))) => Self::Network(IpAddr::V6((u128::from(ip) >> 64 << 64).into())),
            (None, Some(ip)) => Self::Network(ip),
            (None, None) => Self::Unknown,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: DateTime<Utc>,
    written: u32,
    left_out: u64,
}

/// How many refusals were written lately, and how many left out.
#[derive(Default)]
pub struct Refusals(Mutex<HashMap<Key, Window>>);

impl Refusals {
    /// Whether one more may be written; then how many of its key were left out before it.
    fn admit(&self, key: Key, now: DateTime<Utc>) -> Option<u64> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= KEYS && !windows.contains_key(&key) {
            windows.retain(|_, window| now - window.began < WINDOW);
        }
        // whoever sends from many networks leaves places to users
        let places = if matches!(key, Key::User(_)) { 2 * KEYS } else { KEYS };
        let key = if windows.len() >= places && !windows.contains_key(&key) { Key::Others } else { key };
        let mut turn = |key: Key, most: u32| {
            let window = windows.entry(key).or_insert(Window { began: now, written: 0, left_out: 0 });
            // a clock that was set back begins a window too
            if now - window.began >= WINDOW || now < window.began {
                (window.began, window.written) = (now, 0);
            }
            if window.written >= most {
                window.left_out += 1;
                return false;
            }
            window.written += 1;
            true
        };
        if !turn(key, EACH) {
            return None;
        }
        let known = matches!(key, Key::User(_));
        if !turn(Key::Everybody { known }, TOGETHER) {
            // it is not written after all
            if let Some(window) = windows.get_mut(&key) {
                window.written -= 1;
                window.left_out += 1;
            }
            return None;
        }
        windows.get_mut(&key).map(|window| std::mem::take(&mut window.left_out))
    }

    /// Forgets what no longer counts. What was left out is kept for the next entry, at most a day.
    pub fn tidy(&self, now: DateTime<Utc>) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.retain(|_, window| {
            let age = now - window.began;
            age < WINDOW || (window.left_out > 0 && age < KEPT)
        });
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusals")
    }
}

/// Writes the audit entry of an answer that refuses: `access.refused` for 403, `request.throttled` for 429. An entry that
/// cannot be written does not turn a refusal into anything else; the log says so.
pub async fn record<B>(response: &ServiceResponse<B>) {
    let action = match response.status() {
        StatusCode::FORBIDDEN => "access.refused",
        StatusCode::TOO_MANY_REQUESTS => "request.throttled",
        _ => return,
    };
    if response.response().extensions().get::<Recorded>().is_some() {
        return;
    }
    let request = response.request();
    let Some(state) = request.app_data::<web::Data<AppState>>().cloned() else { return };
    let origin = Origin::of(request);
    let known = request.extensions().get::<Known>().copied();
    let now = state.clock.now();
    let Some(left_out) = state.refusals.admit(Key::of(known, origin.ip), now) else { return };
    // the pattern of the route, never the path: paths hold ids, and what a client made up
    let mut detail = serde_json::json!({
        "method": request.method().as_str(),
        "route": request.match_pattern(),
        "code": response.response().extensions().get::<RefusedWith>().map(|refused| refused.0),
    });
    if left_out > 0 {
        detail["left_out_before"] = left_out.into();
    }
    let user = known.map(|known| known.user);
    let act = origin.act(known.and_then(|known| known.session), now);
    let entry = act.entry(action, AuditOutcome::Denied, user, user, detail);
    if let Err(error) = state.db.run(move |tx| tx.append_audit(user, &entry)).await {
        tracing::error!(%error, action, "A refusal could not be recorded.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn network(text: &str) -> Key {
        Key::of(None, Some(text.parse().unwrap()))
    }

    /// AUD-4: an attacker cannot flood the log; what was left out is counted.
    #[test]
    fn a_few_a_minute_are_written_for_each() {
        let refusals = Refusals::default();
        let user = Key::User(UserId(1));
        let written = |key: Key, second: i64, times: u32| {
            (0..times).filter_map(|_| refusals.admit(key, at(second))).collect::<Vec<_>>()
        };
        assert_eq!(written(user, 0, 25), [0; 10]);
        assert_eq!(written(network("203.0.113.1"), 30, 12).len(), 10, "each has its own");
        assert!(written(user, 59, 5).is_empty());
        refusals.tidy(at(59));
        assert_eq!(written(user, 60, 2), [20, 0], "the first one after says how many");
        assert_eq!(written(user, 60, 20).len(), 8);
        refusals.tidy(at(180));
        assert_eq!(written(user, 200, 1), [12], "also after a while");
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    }

    /// AUD-4: many networks together cannot flood it either.
    #[test]
    fn all_together_are_limited_too() {
        let refusals = Refusals::default();
        let one_each = |second| {
            (0..20_000_u32)
                .filter(|n| {
                    let ip = IpAddr::from([10, (n >> 16) as u8, (n >> 8) as u8, *n as u8]);
                    refusals.admit(Key::of(None, Some(ip)), at(second)).is_some()
                })
                .count()
        };
        assert_eq!(one_each(0), 300);
        assert!(refusals.0.lock().unwrap().len() <= KEYS + 2);
        let user = Key::User(UserId(1));
        assert_eq!(refusals.admit(user, at(1)), Some(0), "strangers leave room for users");
        assert_eq!(one_each(60), 300);
        refusals.tidy(at(120));
        assert!(!refusals.0.lock().unwrap().contains_key(&user), "nothing of it was left out");
        refusals.tidy(at(100_000));
        assert!(refusals.0.lock().unwrap().is_empty());
    }
}
