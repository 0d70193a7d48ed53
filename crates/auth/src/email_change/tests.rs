use plimsoll_crypto::OsRandom;

use super::*;
use crate::ports::{AccountStore, SessionStore};
use crate::testing::MemoryStore;
use crate::testing::fixtures::{at, keys, new_session, new_user, store};

const MAILS: [Uuid; 2] = [Uuid::from_u128(7_001), Uuid::from_u128(7_002)];

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
    assert_eq!(
        request(store, &policy, keys(), user, &email.parse().unwrap(), &new, &act(seconds)).unwrap(),
        None
    );
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
    assert_eq!(store.mails().len(), mails + 2);
    let told = store.mails().iter().filter(|posted| matches!(posted.mail, Mail::AlreadyRegistered { .. }));
    assert_eq!(told.count(), 1);
}

/// RST-11: the old address can take the change back, before its confirmation and after it.
#[test]
fn the_old_address_can_take_it_back() {
    let (mut store, user) = store();
    let first = ask(&mut store, user, "one@elsewhere.example", 1, 1);
    crate::cancel::use_token(&mut store, &first.cancel.digest(), MAILS, &act(2)).unwrap().unwrap();
    assert!(accept(&mut store, &first, 3).is_none());
    let second = ask(&mut store, user, "two@elsewhere.example", 2, 4);
    assert!(accept(&mut store, &second, 5).is_some());
    let late = act(4 + 72 * 3600);
    assert_eq!(crate::cancel::use_token(&mut store, &second.cancel.digest(), MAILS, &late).unwrap(), None);
    let in_time = act(3 + 72 * 3600);
    crate::cancel::use_token(&mut store, &second.cancel.digest(), MAILS, &in_time).unwrap().unwrap();
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

/// RST-11: a second change, confirmed at once, does not take the link of the first old address its effect.
#[test]
fn a_chain_of_changes_can_be_taken_back() {
    let (mut store, user) = store();
    let first = ask(&mut store, user, "thief@one.example", 1, 1);
    assert!(accept(&mut store, &first, 2).is_some());
    let second = ask(&mut store, user, "thief@two.example", 2, 3);
    assert!(accept(&mut store, &second, 4).is_some());
    crate::cancel::use_token(&mut store, &first.cancel.digest(), MAILS, &act(5)).unwrap().unwrap();
    assert_eq!(address(&mut store, user), "ann@example.com");
    // the link that went to the thief's own address undoes nothing of that
    crate::cancel::use_token(&mut store, &second.cancel.digest(), MAILS, &act(6)).unwrap();
    assert_eq!(address(&mut store, user), "ann@example.com");
}

/// RST-11: a stranger who registers with the old address, and cannot confirm it, does not keep it from its owner.
#[test]
fn an_unconfirmed_registration_does_not_hold_the_old_address() {
    let (mut store, user) = store();
    let first = ask(&mut store, user, "thief@one.example", 1, 1);
    assert!(accept(&mut store, &first, 2).is_some());
    let squatter = store.insert_user(&new_user("ann@example.com")).unwrap();
    store.account_mut(squatter).unwrap().user.email_verified_at = None;
    crate::cancel::use_token(&mut store, &first.cancel.digest(), MAILS, &act(5)).unwrap().unwrap();
    assert_eq!(address(&mut store, user), "ann@example.com");
}

/// SES-6: a reset of the password also ends a change of address that a thief of a session asked for.
#[test]
fn a_reset_ends_an_asked_change() {
    let (mut store, user) = store();
    let asked = ask(&mut store, user, "thief@one.example", 1, 1);
    sessions::close_all_doors(&mut store, user, None, true, &act(2)).unwrap();
    assert!(accept(&mut store, &asked, 3).is_none());
}

/// Whoever asks for an address that has an account gets the same mails as for one that has none.
#[test]
fn the_own_mailbox_does_not_tell_which_addresses_have_accounts() {
    let (mut store, user) = store();
    store.insert_user(&new_user("bob@example.com")).unwrap();
    let told =
        |store: &MemoryStore| store.mails().iter().filter(|m| m.to.as_str() == "ann@example.com").count();
    ask(&mut store, user, "free@example.com", 1, 1);
    let free = told(&store);
    ask(&mut store, user, "bob@example.com", 2, 2);
    assert_eq!(told(&store) - free, free);
}

/// The owner of an address is told of others' wishes for it at most once an hour, whether they registered or changed.
#[test]
fn the_owner_is_told_no_oftener_than_of_registrations() {
    let (mut store, user) = store();
    let bob = new_user("bob@example.com");
    store.insert_user(&bob).unwrap();
    let limit = AccountPolicy::default().registration.already_registered;
    let key = crate::throttle::address_key(keys().pepper, &bob.email);
    crate::ports::ThrottleStore::take(&mut store, "already_registered", &key, limit, at(1)).unwrap();
    ask(&mut store, user, "bob@example.com", 1, 2);
    assert!(store.mails().iter().all(|posted| posted.to != bob.email));
}
