use plimsoll_crypto::OsRandom;

use super::*;
use crate::Transport;
use crate::ports::{SessionStore, VaultStore};
use crate::sessions::start;
use crate::testing::MemoryStore;
use crate::testing::factors::{Bound, act, bound, ids};
use crate::testing::fixtures::{at, new_session, new_user, store};
use crate::vault::BrokerName;

const ADMIN: UserId = UserId(500);
const DAY: i64 = 86_400;

fn policy() -> AccountPolicy {
    AccountPolicy::default()
}

fn ask(store: &mut MemoryStore, user: UserId, n: u128, second: i64) -> Requested {
    let new = NewReset { id: Uuid::from_u128(n), cancel: SecretToken::generate(&mut OsRandom) };
    request(store, &policy(), Some(ADMIN), user, &new, &act(second), &mut ids()).unwrap()
}

/// TFA-15: an administrator only starts a reset; after the delay it takes effect, and the owner is told both times.
#[test]
fn a_reset_takes_effect_after_the_delay() {
    let Bound { mut store, user, .. } = bound();
    start(&mut store, &policy(), user, Transport::Bearer, &new_session(1), true, &act(0)).unwrap();
    assert_eq!(ask(&mut store, user, 1, 0), Requested::Begun { due_at: at(DAY) });
    assert_eq!(ask(&mut store, user, 2, 50), Requested::AlreadyBegun { due_at: at(DAY) });
    let told = &store.mails()[0];
    assert!(matches!(told.mail, Mail::TwoFactorResetBegun { due_at, .. } if due_at == at(DAY)), "{told:?}");
    assert_eq!((told.user, told.to.as_str(), store.mails().len()), (Some(user), "ann@example.com", 1));

    store.set_live_enabled(user, BrokerName::Alpaca, true, at(60)).unwrap();
    assert!(complete_due(&mut store, at(DAY - 1), &mut ids()).unwrap().is_empty());
    assert!(store.live_enabled(user, BrokerName::Alpaca));
    assert!(is_enabled(&mut store, user).unwrap());
    assert_eq!(store.live_sessions_of(user, at(60)).unwrap().len(), 1, "nothing is different before");

    assert_eq!(complete_due(&mut store, at(DAY), &mut ids()).unwrap(), [user]);
    assert!(!is_enabled(&mut store, user).unwrap());
    assert!(store.live_sessions_of(user, at(60)).unwrap().is_empty());
    assert!(matches!(store.mails()[1].mail, Mail::TwoFactorDisabled { .. }));
    assert!(complete_due(&mut store, at(DAY), &mut ids()).unwrap().is_empty(), "once");
    let actions: Vec<_> =
        store.audit().iter().map(|(owner, e)| (*owner, e.action.as_str(), e.actor_id)).collect();
    assert_eq!(
        actions,
        [
            (Some(user), "2fa.reset_request", Some(ADMIN)),
            (Some(user), "2fa.reset", None),
            (Some(user), "account.live", None),
        ]
    );
    assert!(!store.live_enabled(user, BrokerName::Alpaca), "real money needs a second factor");
}

/// TFA-15: the owner's link stops it.
#[test]
fn the_owner_stops_a_reset() {
    let Bound { mut store, user, .. } = bound();
    ask(&mut store, user, 1, 0);
    assert!(!cancel(&mut store, user, Uuid::from_u128(2), &act(10)).unwrap(), "another one");
    assert!(!cancel(&mut store, UserId(user.0 + 1), Uuid::from_u128(1), &act(10)).unwrap(), "another user's");
    assert!(cancel(&mut store, user, Uuid::from_u128(1), &act(10)).unwrap());
    assert!(!cancel(&mut store, user, Uuid::from_u128(1), &act(11)).unwrap(), "once");
    assert!(complete_due(&mut store, at(2 * DAY), &mut ids()).unwrap().is_empty());
    assert!(is_enabled(&mut store, user).unwrap());
    assert_eq!(
        ask(&mut store, user, 3, 20),
        Requested::Begun { due_at: at(20 + DAY) },
        "and may be asked again"
    );
}

#[test]
fn without_a_second_factor_there_is_nothing_to_reset() {
    let (mut store, user) = store();
    assert_eq!(ask(&mut store, user, 1, 0), Requested::NotEnabled);
    assert_eq!(ask(&mut store, UserId(99), 1, 0), Requested::NoSuchUser);
    assert!(store.mails().is_empty() && store.audit().is_empty());
}

#[test]
fn several_are_completed_in_one_go() {
    let Bound { mut store, user, secret, .. } = bound();
    let other = store.insert_user_with_factor("bob@example.com", &secret);
    ask(&mut store, user, 1, 0);
    ask(&mut store, other, 2, 1);
    assert_eq!(complete_due(&mut store, at(DAY), &mut ids()).unwrap(), [user]);
    assert_eq!(complete_due(&mut store, at(DAY + 1), &mut ids()).unwrap(), [other]);
}

impl MemoryStore {
    fn insert_user_with_factor(&mut self, email: &str, secret: &crate::totp::TotpSecret) -> UserId {
        use crate::ports::{AccountStore, TwoFactorStore};
        let user = self.insert_user(&new_user(email)).unwrap();
        self.set_pending_factor(user, secret, at(600), &[], at(0)).unwrap();
        assert!(self.activate_pending_factor(user, secret, 1, at(0)).unwrap());
        user
    }
}
