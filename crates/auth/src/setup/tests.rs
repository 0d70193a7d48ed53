use plimsoll_crypto::OsRandom;

use super::*;
use crate::testing::MemoryStore;
use crate::testing::fixtures::{at, new_user, store};
use crate::{StoreErrorKind, UserId};

fn act(second: i64) -> Act {
    Act::without_request(at(second))
}

fn issued(store: &mut MemoryStore, second: i64) -> Option<TokenDigest> {
    let token = SecretToken::generate(&mut OsRandom);
    let id = Uuid::from_u128(u128::try_from(second).unwrap());
    let until = issue(store, &AccountPolicy::default(), id, &token, &act(second)).unwrap();
    assert!(until.is_none_or(|until| until == at(second + 600)));
    until.map(|_| token.digest())
}

fn make(
    store: &mut MemoryStore,
    digest: TokenDigest,
    email: &str,
    second: i64,
) -> Result<SetupOutcome, StoreError> {
    let new = FirstAdmin {
        digest,
        email: email.parse().unwrap(),
        display_name: None,
        password_hash: new_user(email).password_hash,
    };
    first_admin(store, new, &act(second))
}

/// ADM-1: there is no default account; a setup token makes the first administrator once, and then none ever again.
#[test]
fn a_token_makes_the_first_administrator_once() {
    let (mut store, _) = store();
    let digest = issued(&mut store, 0).unwrap();
    assert_eq!(standing(&mut store, Some(&digest), at(1)).unwrap(), Standing::Good);
    assert_eq!(standing(&mut store, None, at(1)).unwrap(), Standing::Invalid);
    let made = make(&mut store, digest, "root@example.com", 1).unwrap();
    let SetupOutcome::Made(user) = made else { panic!("{made:?}") };
    assert_eq!((user.role, user.email_verified_at), (Role::Admin, Some(at(1))));
    assert_eq!(store.user_by_id(user.id).unwrap(), Some(user));
    assert_eq!(standing(&mut store, Some(&digest), at(1)).unwrap(), Standing::Over);
    assert_eq!(make(&mut store, digest, "second@example.com", 2).unwrap(), SetupOutcome::Over);
    assert_eq!(issued(&mut store, 3), None);
    let actions: Vec<_> = store.audit().iter().map(|(_, entry)| entry.action.as_str()).collect();
    assert_eq!(actions, ["setup.token", "user.create"]);
}

/// ADM-1: a setup token dies after ten minutes, or when a newer one is issued.
#[test]
fn a_token_dies_after_ten_minutes_or_with_a_newer_one() {
    let mut store = MemoryStore::new();
    let first = issued(&mut store, 0).unwrap();
    assert_eq!(standing(&mut store, Some(&first), at(599)).unwrap(), Standing::Good);
    assert_eq!(standing(&mut store, Some(&first), at(600)).unwrap(), Standing::Invalid);
    assert_eq!(make(&mut store, first, "root@example.com", 600).unwrap(), SetupOutcome::Invalid);
    let second = issued(&mut store, 700).unwrap();
    let third = issued(&mut store, 800).unwrap();
    assert_eq!(make(&mut store, second, "root@example.com", 801).unwrap(), SetupOutcome::Invalid);
    assert!(matches!(make(&mut store, third, "root@example.com", 801).unwrap(), SetupOutcome::Made(_)));
}

#[test]
fn an_administrator_made_otherwise_ends_it_too_and_a_taken_address_is_told() {
    let (mut store, ann) = store();
    let digest = issued(&mut store, 0).unwrap();
    let taken = make(&mut store, digest, "ANN@example.com", 1).unwrap_err();
    assert_eq!(taken.kind(), StoreErrorKind::Duplicate);
    let (mut store, _) = (MemoryStore::new(), ann);
    let digest = issued(&mut store, 0).unwrap();
    let root =
        store.insert_user(&crate::NewUser { role: Role::Admin, ..new_user("root@example.com") }).unwrap();
    assert_eq!(root, UserId(1));
    assert_eq!(standing(&mut store, Some(&digest), at(1)).unwrap(), Standing::Over);
    assert_eq!(make(&mut store, digest, "second@example.com", 1).unwrap(), SetupOutcome::Over);
}
