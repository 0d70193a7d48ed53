use plimsoll_crypto::OsRandom;

use super::*;
use crate::ports::{AccountStore, SessionStore};
use crate::testing::MemoryStore;
use crate::testing::fixtures::{PASSWORDS, at, new_session, secret, store};

fn act(seconds: i64) -> Act {
    Act::without_request(at(seconds))
}

fn start(store: &mut MemoryStore, user: UserId, n: u128) -> Session {
    let (policy, new) = (AccountPolicy::default(), new_session(n));
    sessions::start(store, &policy, user, crate::Transport::Bearer, &new, false, &act(0)).unwrap().session
}

fn change(store: &mut MemoryStore, user: UserId) -> Change {
    let Some(Begun::Ready(verified)) = begin(store, &AccountPolicy::default(), user, &act(1)).unwrap() else {
        panic!("throttled")
    };
    Change {
        verified,
        hash: PASSWORDS.hash(&secret("another good password"), &mut OsRandom).unwrap(),
        digest: plimsoll_crypto::tokens::TokenDigest([9; 32]),
        with_api_tokens: false,
        mail: Uuid::from_u128(1),
    }
}

/// RST-10, SES-2, SES-6: the own session goes on under a new token, every other one ends, and the owner is told.
#[test]
fn a_change_ends_every_other_session_and_rotates_this_one() {
    let (mut store, user) = store();
    let (mine, other) = (start(&mut store, user, 1), start(&mut store, user, 2));
    let new = change(&mut store, user);
    let policy = AccountPolicy::default();
    let finished = finish(&mut store, &policy, &mine, &new, &act(2)).unwrap();
    let Finished::Done(rotated) = finished else { panic!("{finished:?}") };
    assert_eq!(rotated.id, mine.id);
    let live: Vec<Uuid> =
        store.live_sessions_of(user, at(3)).unwrap().iter().map(|session| session.id).collect();
    assert_eq!(live, [mine.id]);
    assert_eq!(store.session_by_digest(&new.digest).unwrap().unwrap().0.id, mine.id);
    assert!(matches!(store.mails().last().unwrap().mail, Mail::PasswordChanged { requested: None, .. }));
    assert_eq!(store.account_mut(user).unwrap().password_hash, new.hash);
    let again = change(&mut store, user);
    let over = finish(&mut store, &policy, &other, &again, &act(4)).unwrap();
    assert!(matches!(over, Finished::SessionOver), "of a session that has ended: {over:?}");
}

/// RST-10: wrong current passwords are counted as a login's are.
#[test]
fn guesses_are_throttled() {
    let (mut store, user) = store();
    let owner = store.user_by_id(user).unwrap().unwrap();
    let policy = AccountPolicy::default();
    for second in 0..5 {
        assert!(matches!(begin(&mut store, &policy, user, &act(second)).unwrap(), Some(Begun::Ready(_))));
        refuse(&mut store, &AccountPolicy::default(), &owner, Uuid::from_u128(50), &act(second)).unwrap();
    }
    assert!(matches!(begin(&mut store, &policy, user, &act(5)).unwrap(), Some(Begun::Throttled { .. })));
    assert!(matches!(begin(&mut store, &policy, user, &act(40)).unwrap(), Some(Begun::Ready(_))));
    assert_eq!(store.audit().len(), 5);
}

/// A password that changed while the current one was compared is not overwritten.
#[test]
fn a_parallel_change_wins() {
    let (mut store, user) = store();
    let mine = start(&mut store, user, 1);
    let (first, second) = (change(&mut store, user), change(&mut store, user));
    let policy = AccountPolicy::default();
    assert!(matches!(finish(&mut store, &policy, &mine, &first, &act(2)).unwrap(), Finished::Done(_)));
    assert!(matches!(finish(&mut store, &policy, &mine, &second, &act(3)).unwrap(), Finished::Refused));
    assert_eq!(store.account_mut(user).unwrap().password_hash, first.hash);
}

/// LOG-5, RST-10: wrong current passwords count among the hundred that disable it.
#[test]
fn guesses_count_towards_the_end_of_the_password() {
    let (mut store, user) = store();
    let owner = store.user_by_id(user).unwrap().unwrap();
    refuse(&mut store, &AccountPolicy::default(), &owner, Uuid::from_u128(50), &act(1)).unwrap();
    let state = crate::ports::LoginStore::password_state(&mut store, user).unwrap();
    assert_eq!(state.failures, 1);
}

/// LOG-5: a disabled password is not looked at, and one that was disabled meanwhile changes nothing; both are on record.
#[test]
fn a_disabled_password_is_neither_tested_nor_changed() {
    let (mut store, user) = store();
    let mine = start(&mut store, user, 1);
    let (policy, new) = (AccountPolicy::default(), change(&mut store, user));
    crate::ports::LoginStore::disable_password(&mut store, user, at(2)).unwrap();
    assert!(matches!(begin(&mut store, &policy, user, &act(3)).unwrap(), Some(Begun::Disabled)));
    assert!(matches!(finish(&mut store, &policy, &mine, &new, &act(3)).unwrap(), Finished::Refused));
    assert_eq!(store.account_mut(user).unwrap().password_hash, new.verified);
    let entries: Vec<_> = store.audit().iter().map(|(_, entry)| (&*entry.action, entry.outcome)).collect();
    assert_eq!(entries, [("password.change", AuditOutcome::Denied); 2]);
}
