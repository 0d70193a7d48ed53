//! Users, their sessions and their broker accounts.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::TimeDelta;
use plimsoll_auth::ports::{AccountStore, SessionStore};
use plimsoll_auth::{AccountState, EmailAddress, NewUser, Role, Session, Transport, User};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::TokenDigest;
use plimsoll_storage::{Db, Tx};
use uuid::Uuid;

use crate::world::{World, add_user, at};

/// Valid argon2id hashes of no passwords that anybody knows.
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$YW5vdGhlcnNhbHRhbm90aA$J5mPVCNJZ+3Wq4NUnKqzW3oLQsVw8qjMSYbWlOWcfzE";
const OTHER_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$b3RoZXJzYWx0b3RoZXJzYQ$J5mPVCNJZ+3Wq4NUnKqzW3oLQsVw8qjMSYbWlOWcfzE";

fn read<T>(db: &Db, work: impl FnMut(&mut Tx<'_>) -> Result<T, StoreError>) -> T {
    db.read_blocking(work).unwrap()
}

fn email(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

fn digest(n: u8) -> TokenDigest {
    TokenDigest([n; 32])
}

fn session(user: UserId, n: u128) -> Session {
    Session {
        id: Uuid::from_u128(n),
        user_id: user,
        created_at: at(0),
        last_seen_at: at(0),
        idle_expires_at: at(100),
        expires_at: at(1_000),
        revoked_at: None,
        ip: Some("2001:db8::17".parse::<IpAddr>().unwrap()),
        user_agent: Some("Mozilla/5.0 (test)".into()),
        step_up_until: Some(at(50)),
        step_up_ip: Some("2001:db8::17".parse::<IpAddr>().unwrap()),
        transport: Transport::Cookie,
    }
}

fn stored(db: &Db, n: u8) -> (Session, User) {
    read(db, |tx| tx.session_by_digest(&digest(n))).unwrap()
}

#[test]
fn a_user_comes_back_as_written_whatever_the_case_of_the_address() {
    let world = World::new();
    let new = NewUser {
        email: email("Ada.Lovelace@Example.com"),
        display_name: Some("Ada".into()),
        role: Role::Admin,
        password_hash: PasswordHash::parse(HASH).unwrap(),
        email_verified_at: None,
        created_at: at(5),
    };
    let id = world.db.run_blocking(|tx| tx.insert_user(&new)).unwrap();
    let found = read(&world.db, |tx| tx.account_by_email(&email("ada.lovelace@EXAMPLE.com"))).unwrap();
    let user = User {
        id,
        email: new.email.clone(),
        display_name: Some("Ada".into()),
        role: Role::Admin,
        state: AccountState::Active,
        email_verified_at: None,
    };
    assert_eq!(found.user, user);
    assert_eq!(found.password_hash, new.password_hash);
    assert_eq!(read(&world.db, |tx| tx.user_by_id(id)), Some(user.clone()));
    assert_eq!(world.db.run_blocking(|tx| tx.lock_account_of(id)).unwrap(), Some(found));
    assert_eq!(read(&world.db, |tx| tx.users(world.user, 10)), std::slice::from_ref(&user));
    let both: Vec<_> = read(&world.db, |tx| tx.users(UserId(0), 10)).iter().map(|user| user.id).collect();
    assert_eq!(both, [world.user, id]);
    assert_eq!(read(&world.db, |tx| tx.users(UserId(0), 1)).len(), 1);

    let taken = NewUser { email: email("ADA.lovelace@example.COM"), ..new };
    let error = world.db.run_blocking(|tx| tx.insert_user(&taken)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Duplicate, "{error}");

    assert_eq!(read(&world.db, |tx| tx.account_by_email(&email("nobody@example.com"))), None);
    assert_eq!(read(&world.db, |tx| tx.user_by_id(UserId(999))), None);
    assert_eq!(world.db.run_blocking(|tx| tx.lock_account_of(UserId(999))).unwrap(), None);
}

#[test]
fn a_user_begins_with_a_stream_and_an_audit_chain() {
    let world = World::new();
    let user = world.user;
    assert_eq!(world.count(&format!("stream_head WHERE stream_id = {user} AND head = 0")), 1);
    assert_eq!(world.count(&format!("audit_head WHERE chain = {user} AND seq = 0")), 1);
    assert_eq!(
        world.count("(SELECT DISTINCT epoch FROM stream_head) AS epochs"),
        2,
        "each has its own epoch"
    );
}

#[test]
fn a_new_password_replaces_the_old_one_of_this_user_only() {
    let world = World::new();
    let (second, _) = add_user(&world.db, "second@example.com");
    let hash = PasswordHash::parse(OTHER_HASH).unwrap();
    world.db.run_blocking(|tx| tx.set_password_hash(world.user, &hash, at(9))).unwrap();
    let of = |user| world.db.run_blocking(|tx| tx.lock_account_of(user)).unwrap().unwrap().password_hash;
    assert_eq!(of(world.user), hash);
    assert_ne!(of(second), hash);
}

#[test]
fn a_row_that_the_domain_refuses_is_named() {
    let world = World::new();
    world.test.execute("UPDATE users SET password_hash = 'plain', email = 'no address'");
    let error = world.db.run_blocking(|tx| tx.lock_account_of(world.user)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Inconsistent);
    assert!(error.to_string().contains(&format!("users.email of row {}", world.user)), "{error}");
    world.test.execute("UPDATE users SET email = 'trader@example.com'");
    let error = world.db.run_blocking(|tx| tx.lock_account_of(world.user)).unwrap_err();
    assert!(error.to_string().contains("users.password_hash"), "{error}");
    assert!(!error.to_string().contains("plain"), "what was stored is not told: {error}");
}

#[test]
fn writers_of_one_account_wait_for_each_other() {
    let world = World::new();
    let (locked, wait) = std::sync::mpsc::channel();
    let world = Arc::new(world);
    let first = {
        let world = Arc::clone(&world);
        std::thread::spawn(move || {
            world.db.run_blocking(|tx| {
                tx.lock_account_of(world.user)?;
                locked.send(()).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(150));
                tx.set_password_hash(world.user, &PasswordHash::parse(OTHER_HASH).unwrap(), at(9))
            })
        })
    };
    wait.recv().unwrap();
    let seen = world.db.run_blocking(|tx| tx.lock_account_of(world.user)).unwrap().unwrap();
    assert_eq!(seen.password_hash.as_str(), OTHER_HASH, "the second sees what the first wrote");
    first.join().unwrap().unwrap();
}

#[test]
fn a_session_and_its_user_are_one_statement() {
    let world = World::new();
    let written = session(world.user, 1);
    read(&world.db, |tx| tx.insert_session(&digest(1), &written));
    let (found, user) = stored(&world.db, 1);
    assert_eq!(found, written);
    assert_eq!(user.id, world.user);
    let counter = world.db.count_queries();
    stored(&world.db, 1);
    assert_eq!(counter.sent(), 1);
    assert!(!counter.texts()[0].contains("password_hash"), "{:?}", counter.texts());
    assert_eq!(read(&world.db, |tx| tx.session_by_digest(&digest(2))), None);
    let bare = Session {
        ip: None,
        user_agent: None,
        step_up_until: None,
        step_up_ip: None,
        ..session(world.user, 2)
    };
    read(&world.db, |tx| tx.insert_session(&digest(2), &bare));
    assert_eq!(stored(&world.db, 2).0, bare);
    let twin = world.db.read_blocking(|tx| tx.insert_session(&digest(2), &session(world.user, 3)));
    assert_eq!(twin.unwrap_err().kind(), StoreErrorKind::Duplicate);
}

#[test]
fn a_touch_moves_forward_only_and_never_revives() {
    let world = World::new();
    read(&world.db, |tx| tx.insert_session(&digest(1), &session(world.user, 1)));
    let id = Uuid::from_u128(1);
    let times = || {
        let (session, _) = stored(&world.db, 1);
        (session.last_seen_at, session.idle_expires_at)
    };
    let touch = |user, seen, idle| read(&world.db, |tx| tx.touch_session(user, id, at(seen), at(idle)));
    touch(world.user, 60, 160);
    assert_eq!(times(), (at(60), at(160)));
    touch(world.user, 30, 130);
    assert_eq!(times(), (at(60), at(160)), "a late writer moves nothing back");
    touch(UserId(world.user.0 + 1), 90, 190);
    assert_eq!(times(), (at(60), at(160)), "the session of another user");
    assert!(read(&world.db, |tx| tx.revoke_session(world.user, id, at(70))));
    touch(world.user, 90, 190);
    assert_eq!(times(), (at(60), at(160)), "a revoked session");
}

#[test]
fn revoking_counts_once_and_spares_the_excepted() {
    let world = World::new();
    let (second, _) = add_user(&world.db, "second@example.com");
    for n in 1..=4 {
        let owner = if n == 4 { second } else { world.user };
        read(&world.db, |tx| tx.insert_session(&digest(n), &session(owner, u128::from(n))));
    }
    let id = Uuid::from_u128;
    let revoke = |user, n, second| read(&world.db, |tx| tx.revoke_session(user, id(n), at(second)));
    assert!(!revoke(second, 1, 10), "not this user's");
    assert!(revoke(world.user, 1, 10));
    assert!(!revoke(world.user, 1, 20));
    assert_eq!(stored(&world.db, 1).0.revoked_at, Some(at(10)), "the first time stays");
    let all = |except| read(&world.db, |tx| tx.revoke_all_sessions_of(world.user, except, at(30)));
    assert_eq!(all(Some(id(3))), 1);
    assert_eq!(stored(&world.db, 3).0.revoked_at, None);
    assert_eq!(all(None), 1);
    assert_eq!(all(None), 0);
    assert_eq!(stored(&world.db, 4).0.revoked_at, None, "another user's");
}

#[test]
fn a_session_lives_until_it_ends_in_any_of_its_ways() {
    let world = World::new();
    for n in 1..=3_u8 {
        let created = Session { created_at: at(i64::from(10 - n)), ..session(world.user, u128::from(n)) };
        read(&world.db, |tx| tx.insert_session(&digest(n), &created));
    }
    let list = |second| -> Vec<u128> {
        let sessions = read(&world.db, |tx| tx.live_sessions_of(world.user, at(second)));
        sessions.iter().map(|session| session.id.as_u128()).collect()
    };
    let live = |n, second| {
        read(&world.db, |tx| tx.role_of_live_login(world.user, Uuid::from_u128(n), at(second))).is_some()
    };
    assert_eq!(list(99), [3, 2, 1], "oldest first");
    assert!(live(1, 99));
    // idle: ends at its very second
    read(&world.db, |tx| tx.touch_session(world.user, Uuid::from_u128(2), at(90), at(190)));
    read(&world.db, |tx| tx.touch_session(world.user, Uuid::from_u128(3), at(90), at(2_000)));
    assert_eq!(list(100), [3, 2]);
    assert!(!live(1, 100) && live(2, 189) && !live(2, 190));
    // whatever the idle time says, the end is the end
    assert!(live(3, 999) && !live(3, 1_000));
    assert_eq!(list(1_000), Vec::<u128>::new());
    assert!(!live(9, 1), "one that is not there");
    read(&world.db, |tx| tx.revoke_session(world.user, Uuid::from_u128(2), at(20)));
    assert!(!live(2, 50));
    assert_eq!(list(50), [3, 1]);
    world.test.execute("UPDATE users SET state = 'disabled'");
    assert!(!live(1, 50), "of a disabled user");
    assert_eq!(stored(&world.db, 1).1.state, AccountState::Disabled);
}

#[test]
fn sessions_end_with_their_user_and_need_one() {
    let world = World::new();
    let nobody = world.db.read_blocking(|tx| tx.insert_session(&digest(1), &session(UserId(999), 1)));
    assert!(nobody.is_err());
    read(&world.db, |tx| tx.insert_session(&digest(1), &session(world.user, 1)));
    world.test.execute("DELETE FROM accounts; DELETE FROM users");
    assert_eq!(world.count("sessions"), 0);
}

#[test]
fn a_user_has_one_account_at_the_broker() {
    let world = World::new();
    let account = read(&world.db, |tx| tx.account_of_user(world.user)).unwrap();
    assert_eq!((account.id, account.user_id), (world.account, world.user));
    assert_eq!(
        (account.environment, account.broker_account, account.active),
        (Environment::Paper, None, true)
    );
    let again = world.db.read_blocking(|tx| tx.insert_account(world.user, Environment::Live, at(1)));
    assert_eq!(again.unwrap_err().kind(), StoreErrorKind::Duplicate);
    assert_eq!(read(&world.db, |tx| tx.account_of_user(UserId(999))), None);

    let (second, other) = add_user(&world.db, "second@example.com");
    let active =
        || -> Vec<_> { read(&world.db, |tx| tx.active_accounts()).iter().map(|row| row.id).collect() };
    assert_eq!(active(), [world.account, other]);
    world.test.execute(&format!("UPDATE accounts SET state = 'disabled' WHERE id = {}", world.account));
    assert_eq!(active(), [other]);
    assert!(!read(&world.db, |tx| tx.account_of_user(world.user)).unwrap().active);
    assert!(read(&world.db, |tx| tx.account_of_user(second)).unwrap().active);
}

#[test]
fn credentials_of_another_account_are_noticed() {
    let world = World::new();
    let claim = |number: &str| {
        let may = read(&world.db, |tx| tx.may_claim_broker_account(world.account, number));
        let claimed = read(&world.db, |tx| tx.claim_broker_account(world.account, number));
        assert_eq!(may, claimed, "the question and the claim are of one mind about {number}");
        claimed
    };
    assert!(claim("PA1"));
    assert!(claim("PA1"), "the same again");
    let number = || read(&world.db, |tx| tx.account_of_user(world.user)).unwrap().broker_account;
    world.test.execute(&format!(
        "INSERT INTO positions (account_id, symbol, user_id, qty, cost_basis, realized_pl, updated_at) \
         VALUES ({}, 'SPY', {}, 1, 100, 0, now())",
        world.account, world.user
    ));
    assert!(!claim("PA2"), "something is held in the account before");
    assert_eq!(number().as_deref(), Some("PA1"));
    world.test.execute("UPDATE positions SET qty = 0, cost_basis = 0");
    assert!(claim("PA2"), "nothing is");
    assert_eq!(number().as_deref(), Some("PA2"));

    // Real money and play money are never mixed up.
    world.test.execute(&format!(
        "INSERT INTO accounts (user_id, broker, environment, broker_account, state, created_at, updated_at) \
         VALUES ({}, 'alpaca', 'live', '900', 'inactive', now(), now())",
        world.user
    ));
    assert!(!claim("900"));
}

#[test]
fn times_keep_their_microseconds() {
    let world = World::new();
    let exact = at(0) + TimeDelta::microseconds(123_457);
    let written = Session { created_at: exact, ..session(world.user, 1) };
    read(&world.db, |tx| tx.insert_session(&digest(1), &written));
    assert_eq!(stored(&world.db, 1).0.created_at, exact);
}
