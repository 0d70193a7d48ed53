use plimsoll_crypto::OsRandom;

use super::*;
use crate::ports::{AccountStore, SessionStore};
use crate::testing::MemoryStore;
use crate::testing::fixtures::{at, new_session, new_user, store};

fn act(seconds: i64) -> Act {
    Act::without_request(at(seconds))
}

fn ask(store: &mut MemoryStore, user: UserId, email: &str, n: u128, seconds: i64) -> NewChange {
    let new = NewChange {
        id: Uuid::from_u128(n),
        token: SecretToken::generate(&mut OsRandom),
        cancel_id: Uuid::from_u128(n + 100),
        cancel: SecretToken::generate(&mut OsRandom),
        mails: [Uuid::from_u128(n + 200), Uuid::from_u128(n + 300)],
    };
    let policy = AccountPolicy::default();
    assert!(request(store, &policy, user, &email.parse().unwrap(), &new, &act(seconds)).unwrap());
    new
}

fn accept(store: &mut MemoryStore, new: &NewChange, seconds: i64) -> Option<User> {
    let mails = [Uuid::from_u128(900 + seconds as u128), Uuid::from_u128(1_900 + seconds as u128)];
    confirm(store, &new.token.digest(), None, mails, &act(seconds)).unwrap()
}

fn address(store: &mut MemoryStore, user: UserId) -> String {
    store.user_by_id(user).unwrap().unwrap().email.as_str().to_owned()
}

/// RST-11, RST-6: the old address stays until the new one is confirmed; both are told; sessions end.
#[test]
fn an_address_changes_when_the_new_one_is_confirmed() {
    let (mut store, user) = store();
    let policy = AccountPolicy::default();
    sessions::start(&mut store, &policy, user, crate::Transport::Bearer, &new_session(1), false, &act(0))
        .unwrap();
    let new = ask(&mut store, user, "ann@elsewhere.example", 1, 1);
    assert_eq!(address(&mut store, user), "ann@example.com");
    let to: Vec<_> = store.mails().iter().map(|posted| posted.to.as_str().to_owned()).collect();
    assert_eq!(to, ["ann@elsewhere.example", "ann@example.com"]);
    assert!(accept(&mut store, &new, 2).is_some());
    assert_eq!(address(&mut store, user), "ann@elsewhere.example");
    assert!(accept(&mut store, &new, 3).is_none(), "once");
    assert!(store.live_sessions_of(user, at(3)).unwrap().is_empty());
    let told = store.mails().iter().filter(|posted| matches!(posted.mail, Mail::EmailChanged { .. })).count();
    assert_eq!(told, 2);
}

/// RST-11: uniqueness is looked at again at the confirmation, and a taken address is not told of.
#[test]
fn an_address_taken_meanwhile_is_not_given_twice() {
    let (mut store, user) = store();
    let new = ask(&mut store, user, "bob@example.com", 1, 1);
    store.insert_user(&new_user("Bob@example.com")).unwrap();
    assert!(accept(&mut store, &new, 2).is_none());
    assert_eq!(address(&mut store, user), "ann@example.com");
    let mails = store.mails().len();
    let taken = ask(&mut store, user, "bob@example.com", 2, 3);
    assert!(accept(&mut store, &taken, 4).is_none());
    assert_eq!(store.mails().len(), mails + 1);
    assert!(matches!(store.mails().last().unwrap().mail, Mail::AlreadyRegistered { .. }));
}

/// RST-11: the old address can take the change back, before its confirmation and after it.
#[test]
fn the_old_address_can_take_it_back() {
    let (mut store, user) = store();
    let first = ask(&mut store, user, "one@elsewhere.example", 1, 1);
    crate::cancel::use_token(&mut store, &first.cancel.digest(), &act(2)).unwrap().unwrap();
    assert!(accept(&mut store, &first, 3).is_none());
    let second = ask(&mut store, user, "two@elsewhere.example", 2, 4);
    assert!(accept(&mut store, &second, 5).is_some());
    let late = act(4 + 72 * 3600);
    assert_eq!(crate::cancel::use_token(&mut store, &second.cancel.digest(), &late).unwrap(), None);
    let in_time = act(3 + 72 * 3600);
    crate::cancel::use_token(&mut store, &second.cancel.digest(), &in_time).unwrap().unwrap();
    assert_eq!(address(&mut store, user), "ann@example.com");
}

/// A newer request replaces an older one, and a link ends after its day.
#[test]
fn older_links_end() {
    let (mut store, user) = store();
    let first = ask(&mut store, user, "one@elsewhere.example", 1, 1);
    let second = ask(&mut store, user, "two@elsewhere.example", 2, 2);
    assert!(accept(&mut store, &first, 3).is_none());
    assert!(accept(&mut store, &second, 2 + 86_400).is_none());
    assert!(accept(&mut store, &second, 1 + 86_400).is_some());
}
