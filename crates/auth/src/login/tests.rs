use plimsoll_core_domain::StoreErrorKind;
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::HashParams;

use super::*;
use crate::ports::SessionStore;
use crate::sessions::{Activity, authenticate};
use crate::testing::MemoryStore;
use crate::testing::fixtures::{PASSWORD, PASSWORDS, at, new_session, new_user, secret, store};

/// All three steps at 0.
fn login(store: &mut MemoryStore, email: &str, password: &str) -> Result<SignedIn, LoginError> {
    login_as(store, email, password, 1, 0)
}

fn login_as(
    store: &mut MemoryStore,
    email: &str,
    password: &str,
    n: u128,
    seconds: i64,
) -> Result<SignedIn, LoginError> {
    let verified = prepare(store, email)?.verify(&PASSWORDS, &secret(password), &mut OsRandom)?;
    finish(store, &SessionPolicy::default(), verified, &client(), new_session(n), at(seconds))
}

fn client() -> ClientInfo {
    ClientInfo::new(Some([192, 0, 2, 7].into()), Some("a browser"))
}

fn refusal(result: Result<SignedIn, LoginError>) -> Refusal {
    match result {
        Err(LoginError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_right_password_makes_a_session_that_authenticates() {
    let (mut store, user) = store();
    let signed_in = login(&mut store, "ANN@example.com", PASSWORD).unwrap();
    assert_eq!((signed_in.user.id, signed_in.evicted, signed_in.password_upgraded), (user, vec![], false));
    let session = &signed_in.session;
    assert_eq!((session.idle_expires_at, session.expires_at), (at(1800), at(43_200)));
    assert_eq!((session.ip, session.user_agent.as_deref()), (client().ip(), Some("a browser")));
    assert!(!session.is_stepped_up(None, at(0)), "a login with a password alone is no step-up");

    let digest = signed_in.token.digest();
    let found =
        authenticate(&mut store, &digest, &SessionPolicy::default(), Activity::Background, at(1)).unwrap();
    assert_eq!((&found.session, found.user), (session, signed_in.user));
}

#[test]
fn refusals_differ_for_the_record_only() {
    let (mut store, user) = store();
    let disabled = store.insert_user(&new_user("dora@example.com")).unwrap();
    store.account_mut(disabled).unwrap().user.state = AccountState::Disabled;
    let unverified = store.insert_user(&new_user("una@example.com")).unwrap();
    store.account_mut(unverified).unwrap().user.email_verified_at = None;
    let cases = [
        ("nobody@example.com", PASSWORD, None, RefusalReason::UnknownUser),
        ("no address", PASSWORD, None, RefusalReason::UnknownUser),
        ("ann@example.com ", PASSWORD, None, RefusalReason::UnknownUser),
        ("ann@example.com", "wrong", Some(user), RefusalReason::WrongPassword),
        ("ann@example.com", "", Some(user), RefusalReason::WrongPassword),
        ("dora@example.com", "wrong", Some(disabled), RefusalReason::WrongPassword),
        ("dora@example.com", PASSWORD, Some(disabled), RefusalReason::Disabled),
        ("una@example.com", "wrong", Some(unverified), RefusalReason::WrongPassword),
    ];
    for (email, password, user, reason) in cases {
        let refusal = refusal(login(&mut store, email, password));
        assert_eq!(refusal, Refusal { user, reason }, "{email} {password}");
        assert_eq!(LoginError::from(refusal).to_string(), "wrong e-mail address or password");
    }
    assert!(store.sessions().is_empty());
}

#[test]
fn only_who_knows_the_password_learns_that_the_address_is_unverified() {
    let (mut store, user) = store();
    store.account_mut(user).unwrap().user.email_verified_at = None;
    let result = login(&mut store, "ann@example.com", PASSWORD);
    assert!(matches!(result, Err(LoginError::EmailUnverified { user: of }) if of == user), "{result:?}");

    store.account_mut(user).unwrap().user.state = AccountState::Disabled;
    let both = refusal(login(&mut store, "ann@example.com", PASSWORD));
    assert_eq!(both.reason, RefusalReason::Disabled, "disabled comes first");
    assert!(store.sessions().is_empty());
}

#[test]
fn what_changes_while_the_password_is_verified_counts() {
    type Change = fn(&mut Account);
    let changes: [(Change, RefusalReason); 2] = [
        (|account| account.user.state = AccountState::Disabled, RefusalReason::Disabled),
        (
            |account| account.password_hash = PASSWORDS.hash(&secret("another"), &mut OsRandom).unwrap(),
            RefusalReason::PasswordChanged,
        ),
    ];
    for (change, reason) in changes {
        let (mut store, user) = store();
        let prepared = prepare(&mut store, "ann@example.com").unwrap();
        let verified = prepared.verify(&PASSWORDS, &secret(PASSWORD), &mut OsRandom).unwrap();
        assert_eq!(verified.user(), user);
        change(store.account_mut(user).unwrap());
        let late = finish(&mut store, &SessionPolicy::default(), verified, &client(), new_session(1), at(0));
        assert_eq!(refusal(late), Refusal { user: Some(user), reason });
        assert!(store.sessions().is_empty());
    }
}

#[test]
fn an_account_deleted_meanwhile_is_refused() {
    let (mut store, _) = store();
    let prepared = prepare(&mut store, "ann@example.com").unwrap();
    let verified = prepared.verify(&PASSWORDS, &secret(PASSWORD), &mut OsRandom).unwrap();
    let mut empty = MemoryStore::new();
    let late = finish(&mut empty, &SessionPolicy::default(), verified, &client(), new_session(1), at(0));
    assert_eq!(refusal(late), Refusal { user: None, reason: RefusalReason::UnknownUser });
}

#[test]
fn a_weak_hash_is_upgraded_by_the_next_login() {
    let dearer = HashParams { memory_kib: 19_456, ..HashParams::MINIMUM };
    let dearer = Passwords::new(dearer, &mut OsRandom).unwrap();
    let (mut store, user) = store();
    let old = store.account_mut(user).unwrap().password_hash.clone();
    let verify = |store: &mut MemoryStore, password| {
        prepare(store, "ann@example.com").unwrap().verify(&dearer, &secret(password), &mut OsRandom)
    };
    verify(&mut store, "wrong").unwrap_err();
    let verified = verify(&mut store, PASSWORD).unwrap();
    let twin = verify(&mut store, PASSWORD).unwrap();
    let signed_in =
        finish(&mut store, &SessionPolicy::default(), verified, &client(), new_session(1), at(0)).unwrap();
    assert!(signed_in.password_upgraded);
    let new = store.account_mut(user).unwrap().password_hash.clone();
    assert!(new != old && !dearer.needs_upgrade(&new));

    let beaten = finish(&mut store, &SessionPolicy::default(), twin, &client(), new_session(2), at(0));
    assert_eq!(refusal(beaten).reason, RefusalReason::PasswordChanged);
    let again = verify(&mut store, PASSWORD).unwrap();
    let again =
        finish(&mut store, &SessionPolicy::default(), again, &client(), new_session(2), at(0)).unwrap();
    assert!(!again.password_upgraded, "the second try of the beaten twin succeeds");
}

#[test]
fn the_oldest_live_session_makes_room() {
    let (mut store, user) = store();
    for n in 1..=10 {
        assert!(login_as(&mut store, "ann@example.com", PASSWORD, n, n as i64).unwrap().evicted.is_empty());
    }
    store.revoke_session(user, Uuid::from_u128(5), at(11)).unwrap();
    let login =
        |store: &mut _, n, seconds| login_as(store, "ann@example.com", PASSWORD, n, seconds).unwrap().evicted;
    assert!(login(&mut store, 11, 20).is_empty(), "an ended session takes no room");
    assert_eq!(login(&mut store, 12, 21), [Uuid::from_u128(1)]);
    assert_eq!(login(&mut store, 13, 22), [Uuid::from_u128(2)]);
    assert_eq!(store.live_sessions_of(user, at(22)).unwrap().len(), 10);
}

#[test]
fn a_failing_store_fails_the_login_at_every_step() {
    for calls in 0..4 {
        let (mut store, _) = store();
        store.fail_after(calls, StoreErrorKind::Contention);
        let result = login(&mut store, "ann@example.com", PASSWORD);
        let Err(LoginError::Store(error)) = result else { panic!("{calls}: {result:?}") };
        assert_eq!(error.kind(), StoreErrorKind::Contention);
        assert!(store.sessions().is_empty());
    }
}

#[test]
fn a_taken_address_is_a_duplicate_in_any_spelling() {
    let (mut store, user) = store();
    let error = store.insert_user(&new_user("Ann@EXAMPLE.com")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Duplicate);
    assert_eq!(store.user_by_id(user).unwrap().unwrap().email.as_str(), "ann@example.com");
}

#[test]
fn nothing_printed_holds_a_hash_or_token() {
    let (mut store, _) = store();
    let prepared = prepare(&mut store, "ann@example.com").unwrap();
    let mut printed = format!("{prepared:?}");
    let verified = prepared.verify(&PASSWORDS, &secret(PASSWORD), &mut OsRandom).unwrap();
    printed += &format!("{verified:?} {store:?}");
    let signed_in = login(&mut store, "ann@example.com", PASSWORD).unwrap();
    printed += &format!("{signed_in:?}");
    assert!(!printed.contains("argon2") && !printed.contains(PASSWORD), "{printed}");
    let text = signed_in.token.expose_text();
    assert!(!printed.contains(secrecy::ExposeSecret::expose_secret(&text)));
}

#[test]
fn reasons_have_distinct_codes() {
    use RefusalReason::{Disabled, PasswordChanged, UnknownUser, WrongPassword};
    let codes = [UnknownUser, WrongPassword, Disabled, PasswordChanged].map(RefusalReason::code);
    assert_eq!(codes, ["unknown_user", "wrong_password", "disabled", "password_changed"]);
}
