use plimsoll_core_domain::UserId;
use plimsoll_crypto::OsRandom;

use super::*;
use crate::ClientInfo;
use crate::ports::{AccountStore, SessionStore};
use crate::sessions::{Activity, authenticate};
use crate::testing::MemoryStore;
use crate::testing::fixtures::{PASSWORDS, at, keys, new_session, new_user, secret, store};

fn act(seconds: i64) -> Act {
    let client = ClientInfo::new(Some([192, 0, 2, 7].into()), Some("a browser"));
    Act { client, request_id: None, session: None, at: at(seconds) }
}

fn new_reset(n: u128) -> NewReset {
    NewReset {
        id: Uuid::from_u128(n),
        token: SecretToken::generate(&mut OsRandom),
        cancel_id: Uuid::from_u128(n + 1_000),
        cancel: SecretToken::generate(&mut OsRandom),
        mail: Uuid::from_u128(n + 2_000),
    }
}

fn ask(store: &mut MemoryStore, email: &str, n: u128, seconds: i64) -> NewReset {
    let new = new_reset(n);
    let email = email.parse().unwrap();
    request(store, &AccountPolicy::default(), keys(), &email, &new, &act(seconds)).unwrap();
    new
}

fn new_hash() -> PasswordHash {
    PASSWORDS.hash(&secret("an entirely new password"), &mut OsRandom).unwrap()
}

fn reset(store: &mut MemoryStore, new: &NewReset, seconds: i64) -> Option<User> {
    reset_password(store, keys(), &new.token.digest(), &new_hash(), Uuid::from_u128(9_000), &act(seconds))
        .unwrap()
}

fn session_of(store: &mut MemoryStore, user: UserId) -> TokenDigest {
    let new = new_session(77);
    let policy = AccountPolicy::default();
    sessions::start(store, &policy, user, crate::Transport::Bearer, &new, false, &act(0)).unwrap();
    new.token.digest()
}

/// RST-2, RST-5, SES-6: a link works once, ends what was open, leaves the second factor and signs nobody in.
#[test]
fn a_link_sets_the_password_once_and_ends_every_session() {
    let (mut store, user) = store();
    let before = store.account_mut(user).unwrap().password_hash.clone();
    let session = session_of(&mut store, user);
    let new = ask(&mut store, "ANN@example.com", 1, 10);
    let mail = store.mails().last().unwrap().clone();
    assert!(
        matches!(&mail.mail, Mail::ResetPassword { circumstances, .. } if circumstances.ip.as_deref() == Some("192.0.2.7"))
    );
    assert_eq!(reset(&mut store, &new, 20).map(|user| user.id), Some(user));
    assert_ne!(store.account_mut(user).unwrap().password_hash, before);
    let policy = AccountPolicy::default().sessions;
    assert!(authenticate(&mut store, &session, &policy, Activity::User, at(21)).is_err());
    assert!(store.live_sessions_of(user, at(21)).unwrap().is_empty(), "a reset signs nobody in");
    assert!(reset(&mut store, &new, 22).is_none(), "once");
    let actions: Vec<&str> = store.audit().iter().map(|(_, entry)| entry.action.as_str()).collect();
    assert_eq!(actions, ["password.reset_request", "password.reset"]);
}

/// RST-3, RST-6: the confirmation tells who asked and who used the link.
#[test]
fn the_confirmation_names_request_and_use() {
    let (mut store, _) = store();
    let new = ask(&mut store, "ann@example.com", 1, 10);
    let elsewhere = Act { client: ClientInfo::new(Some([203, 0, 113, 5].into()), Some("b")), ..act(20) };
    reset_password(&mut store, keys(), &new.token.digest(), &new_hash(), Uuid::from_u128(5), &elsewhere)
        .unwrap();
    let Mail::PasswordChanged { requested: Some(requested), circumstances } =
        &store.mails().last().unwrap().mail
    else {
        panic!("{:?}", store.mails())
    };
    assert_eq!(
        (requested.ip.as_deref(), circumstances.ip.as_deref()),
        (Some("192.0.2.7"), Some("203.0.113.5"))
    );
    assert_eq!((requested.at, circumstances.at), (at(10), at(20)));
}

/// RST-2: a newer link voids the older one; a link ends after 24 hours to the second.
#[test]
fn links_end_by_time_and_by_newer_ones() {
    let (mut store, user) = store();
    let first = ask(&mut store, "ann@example.com", 1, 0);
    let second = ask(&mut store, "ann@example.com", 2, 1);
    assert_eq!(owner(&mut store, &first.token.digest(), at(2)).unwrap(), None);
    let day = 86_400;
    assert_eq!(owner(&mut store, &second.token.digest(), at(day)).unwrap().map(|user| user.id), Some(user));
    assert!(reset(&mut store, &second, day + 1).is_none());
    let third = ask(&mut store, "ann@example.com", 3, day + 1);
    assert!(reset(&mut store, &third, 2 * day).is_some());
}

/// RST-1, RST-7: unknown, disabled and unverified accounts get nothing, and the fourth request in an hour neither.
#[test]
fn only_an_account_that_may_sign_in_gets_a_link_and_not_too_often() {
    let (mut store, user) = store();
    let unverified = store.insert_user(&new_user("una@example.com")).unwrap();
    store.account_mut(unverified).unwrap().user.email_verified_at = None;
    let disabled = store.insert_user(&new_user("dora@example.com")).unwrap();
    store.account_mut(disabled).unwrap().user.state = AccountState::Disabled;
    for (n, email) in ["nobody@example.com", "una@example.com", "dora@example.com"].into_iter().enumerate() {
        ask(&mut store, email, 100 + n as u128, 0);
    }
    assert!(store.mails().is_empty() && store.audit().is_empty());
    for n in 0..5 {
        ask(&mut store, "ann@example.com", 1 + n, 1);
    }
    assert_eq!(store.mails().len(), 3);
    assert!(store.login_attempts().is_empty() && store.account_mut(user).is_some());
    let mut admitted = 0;
    for _ in 0..12 {
        admitted +=
            u32::from(admit(&mut store, &AccountPolicy::default(), keys(), &act(1)).unwrap().is_none());
    }
    assert_eq!(admitted, 10);
}

/// RST-4: the link "this was not me" voids the reset.
#[test]
fn the_owner_can_void_a_link() {
    let (mut store, _) = store();
    let new = ask(&mut store, "ann@example.com", 1, 0);
    let cancel = |store: &mut MemoryStore| {
        crate::cancel::use_token(
            store,
            &new.cancel.digest(),
            [Uuid::from_u128(7_001), Uuid::from_u128(7_002)],
            &act(1),
        )
        .unwrap()
    };
    assert_eq!(cancel(&mut store).map(|(_, purpose)| purpose), Some(CancelPurpose::PasswordReset));
    assert_eq!(cancel(&mut store), None, "once");
    assert!(reset(&mut store, &new, 2).is_none());
    assert!(store.audit().iter().any(|(_, entry)| entry.action == "password.reset_cancel"));
}

/// LOG-13: the link of a sign-in mail signs out everywhere.
#[test]
fn a_mailed_link_signs_out_everywhere() {
    let (mut store, user) = store();
    let session = session_of(&mut store, user);
    let token = SecretToken::generate(&mut OsRandom);
    let link = CancelToken {
        id: Uuid::from_u128(1),
        user,
        purpose: CancelPurpose::LogoutEverywhere,
        target: None,
        created_at: at(0),
        expires_at: at(100),
    };
    crate::ports::CancelStore::insert_cancel_token(&mut store, &token.digest(), &link).unwrap();
    let used = crate::cancel::use_token(
        &mut store,
        &token.digest(),
        [Uuid::from_u128(7_001), Uuid::from_u128(7_002)],
        &act(100),
    )
    .unwrap();
    assert_eq!(used, None, "expired");
    let used = crate::cancel::use_token(
        &mut store,
        &token.digest(),
        [Uuid::from_u128(7_001), Uuid::from_u128(7_002)],
        &act(99),
    )
    .unwrap();
    assert_eq!(used, Some((user, CancelPurpose::LogoutEverywhere)));
    let policy = AccountPolicy::default().sessions;
    assert!(authenticate(&mut store, &session, &policy, Activity::User, at(99)).is_err());
}
