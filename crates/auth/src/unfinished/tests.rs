use chrono::TimeDelta;
use plimsoll_core_domain::UserId;

use super::*;
use crate::Transport;
use crate::challenges::{NewChallenge, begin};
use crate::mail::Mail;
use crate::ports::ChallengeStore;
use crate::testing::MemoryStore;
use crate::testing::factors::{Bound, act, bound, ids};
use crate::testing::fixtures::at;
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::SecretToken;

fn password_given(store: &mut MemoryStore, user: UserId, n: u128, second: i64) {
    let (policy, token) = (AccountPolicy::default(), SecretToken::generate(&mut OsRandom));
    let new = NewChallenge {
        id: Uuid::from_u128(n),
        token: &token,
        transport: Transport::Bearer,
        after_failures: false,
    };
    begin(store, &policy, user, new, &act(second)).unwrap();
}

fn sweep(store: &mut MemoryStore, second: i64) -> usize {
    tell_unfinished(store, &AccountPolicy::default(), 100, at(second), &mut ids()).unwrap()
}

/// LOG-13: a right password without its second factor is told of after three minutes, once, with where it came from.
#[test]
fn the_owner_is_told_once() {
    let Bound { mut store, user, .. } = bound();
    password_given(&mut store, user, 1, 0);
    assert_eq!(sweep(&mut store, 179), 0);
    assert_eq!(sweep(&mut store, 180), 1);
    assert_eq!(sweep(&mut store, 240), 0, "once");
    let [posted] = store.mails() else { panic!("{:?}", store.mails()) };
    assert_eq!((posted.user, posted.to.as_str()), (Some(user), "ann@example.com"));
    let Mail::UnfinishedSignIn { circumstances } = &posted.mail else { panic!("{posted:?}") };
    assert_eq!((circumstances.at, circumstances.ip.as_deref()), (at(0), Some("192.0.2.7")));
    let (owner, entry) = store.audit().last().unwrap();
    assert_eq!((*owner, entry.action.as_str()), (Some(user), "login.unfinished"));
    assert_eq!(entry.ip.as_deref(), Some("192.0.2.7"));
}

/// LOG-13: finished and voided ones are nothing to tell of, nor is one that the owner began again and finished.
#[test]
fn what_was_finished_is_not_told_of() {
    let Bound { mut store, user, .. } = bound();
    password_given(&mut store, user, 1, 0);
    password_given(&mut store, user, 2, 30);
    assert!(store.use_challenge(user, Uuid::from_u128(2), at(40)).unwrap());
    assert_eq!(sweep(&mut store, 400), 1, "the first one is dealt with");
    assert_eq!(sweep(&mut store, 400), 0);
    assert!(store.mails().is_empty() && store.audit().is_empty());
}

/// LOG-13: whoever goes on trying does not flood the owner; every attempt is in the log all the same.
#[test]
fn many_attempts_make_few_mails() {
    let Bound { mut store, user, .. } = bound();
    for n in 0..20 {
        password_given(&mut store, user, n + 1, i64::try_from(n).unwrap());
    }
    assert_eq!(sweep(&mut store, 300), 20);
    assert_eq!(store.mails().len(), 1, "one for all that are due");
    for n in 0..10 {
        let second = 400 + 60 * n;
        password_given(&mut store, user, 100 + u128::try_from(n).unwrap(), second);
        assert_eq!(sweep(&mut store, second + 180), 1);
    }
    assert_eq!(store.mails().len(), 3, "and three an hour");
    assert_eq!(store.audit().len(), 30);
    password_given(&mut store, user, 500, 10_000);
    let later = TimeDelta::seconds(10_180).num_seconds();
    assert_eq!(sweep(&mut store, later), 1);
    assert_eq!(store.mails().len(), 4);
}
