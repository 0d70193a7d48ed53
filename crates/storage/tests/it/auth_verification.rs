//! Registrations, links that confirm addresses, the first administrator's token.

use std::sync::{Arc, Barrier};

use plimsoll_auth::ports::{
    AccountStore, NewRegistration, NewVerification, RegistrationStatus, SetupStore, VerificationStore,
};
use plimsoll_auth::registration::{VerifyOutcome, verify_email};
use plimsoll_auth::setup::{FirstAdmin, SetupOutcome, first_admin, issue};
use plimsoll_auth::{AccountPolicy, Act, ClientInfo};
use plimsoll_core_domain::{StoreErrorKind, UserId};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::{SecretToken, TokenDigest};
use uuid::Uuid;

use crate::world::{World, add_user, at};

const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$YW5vdGhlcnNhbHRhbm90aA$J5mPVCNJZ+3Wq4NUnKqzW3oLQsVw8qjMSYbWlOWcfzE";
/// As many posts at once as REG-4 names.
const AT_ONCE: usize = 50;

fn link(user: UserId, n: u8) -> NewVerification {
    NewVerification {
        id: Uuid::from_u128(n.into()),
        user,
        digest: TokenDigest([n; 32]),
        created_at: at(0),
        expires_at: at(100),
        client: ClientInfo::new(Some("2001:db8::17".parse().unwrap()), Some("test")),
    }
}

/// A world whose user waits for the confirmation of the address.
fn waiting() -> World {
    let world = World::new();
    world.test.execute("UPDATE users SET email_verified_at = NULL");
    world
}

/// How many of [`AT_ONCE`] runs at the same moment answer `true`.
fn winners(work: impl Fn() -> bool + Send + Sync + 'static) -> usize {
    let (work, start) = (Arc::new(work), Arc::new(Barrier::new(AT_ONCE)));
    let runs: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (work, start) = (Arc::clone(&work), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                work()
            })
        })
        .collect();
    runs.into_iter().map(|run| run.join().unwrap()).filter(|won| *won).count()
}

/// REG-4: 50 uses of one link at once give exactly one success.
#[test]
fn of_fifty_uses_of_a_link_exactly_one_succeeds() {
    let world = Arc::new(waiting());
    world.db.run_blocking(|tx| tx.insert_verification(&link(world.user, 7))).unwrap();
    let inner = Arc::clone(&world);
    let won = winners(move || {
        let outcome = inner.db.run_blocking(|tx| {
            verify_email(tx, &TokenDigest([7; 32]), Uuid::now_v7(), &Act::without_request(at(10)))
        });
        outcome.unwrap() == VerifyOutcome::Verified(inner.user)
    });
    assert_eq!(won, 1);
    assert_eq!(world.count("mail_outbox WHERE kind = 'welcome'"), 1);
    assert_eq!(world.count("audit_log WHERE action = 'email.verify'"), 1);
    assert_eq!(world.count("users WHERE email_verified_at IS NOT NULL"), 1);
}

/// REG-3, REG-5, REG-6: a link is found by its digest, used once, not when voided, not from its second of expiry on.
#[test]
fn a_link_is_good_once_unvoided_and_in_time() {
    let world = waiting();
    let (other, _) = add_user(&world.db, "other@example.com");
    let run = |digest: u8, second: i64| {
        world.db.run_blocking(|tx| tx.use_verification(&TokenDigest([digest; 32]), at(second))).unwrap()
    };
    world
        .db
        .run_blocking(|tx| {
            (1..=3).try_for_each(|n| tx.insert_verification(&link(world.user, n)))?;
            tx.insert_verification(&link(other, 4))
        })
        .unwrap();
    let row = &world.test.rows(
        "SELECT host(ip) AS ip, user_agent, octet_length(token_digest) AS bytes FROM email_verification_tokens",
    )[0];
    assert_eq!((row["ip"].as_str(), row["bytes"].as_i64()), (Some("2001:db8::17"), Some(32)));
    assert_eq!(run(9, 10), None, "unknown");
    assert_eq!(run(1, 100), None, "at its very second");
    assert_eq!(run(1, 99), Some(world.user));
    assert_eq!(run(1, 99), None, "used");
    let owner = |n: u8| world.db.read_blocking(|tx| tx.verification_owner(&TokenDigest([n; 32]))).unwrap();
    assert_eq!((owner(1), owner(4), owner(9)), (Some(world.user), Some(other), None));
    let voided = |user| world.db.run_blocking(|tx| tx.void_verifications_of(user, at(20))).unwrap();
    assert_eq!((voided(world.user), voided(world.user)), (2, 0));
    assert_eq!(run(2, 30), None, "voided");
    assert_eq!(run(4, 30), Some(other), "another user's");

    let verified = |second| {
        world.db.run_blocking(|tx| tx.set_email_verified(world.user, at(second))).unwrap();
        world.db.read_blocking(|tx| tx.user_by_id(world.user)).unwrap().unwrap().email_verified_at
    };
    assert_eq!((verified(40), verified(50)), (Some(at(40)), Some(at(40))), "the first time stays");
}

#[test]
fn a_registration_shows_whether_its_user_is_verified() {
    let world = waiting();
    let registration =
        |n, user| NewRegistration { id: Uuid::from_u128(n), user, created_at: at(0), expires_at: at(100) };
    world
        .db
        .run_blocking(|tx| {
            tx.insert_registration(&registration(1, Some(world.user)))?;
            tx.insert_registration(&registration(2, None))
        })
        .unwrap();
    let status = |n| world.db.read_blocking(|tx| tx.registration_status(Uuid::from_u128(n))).unwrap();
    let is = |verified| Some(RegistrationStatus { verified, expires_at: at(100) });
    assert_eq!((status(1), status(2), status(3)), (is(false), is(false), None));
    world.db.run_blocking(|tx| tx.set_email_verified(world.user, at(1))).unwrap();
    assert_eq!((status(1), status(2)), (is(true), is(false)));
}

fn token(world: &World, second: i64) -> Option<SecretToken> {
    let token = SecretToken::generate(&mut OsRandom);
    let (policy, act) = (AccountPolicy::default(), Act::without_request(at(second)));
    let issued = world.db.run_blocking(|tx| issue(tx, &policy, Uuid::now_v7(), &token, &act));
    issued.unwrap().map(|_| token)
}

fn admin(digest: TokenDigest, email: &str) -> FirstAdmin {
    FirstAdmin {
        digest,
        email: email.parse().unwrap(),
        display_name: None,
        password_hash: PasswordHash::parse(HASH).unwrap(),
    }
}

/// ADM-1: of 50 uses of a setup token at once, each for another address, exactly one makes an administrator.
#[test]
fn of_fifty_uses_of_a_setup_token_exactly_one_makes_an_administrator() {
    let world = Arc::new(World::new());
    let first = token(&world, 0).unwrap();
    let good = token(&world, 1).unwrap();
    assert_eq!(world.count("setup_tokens"), 1, "a newer token replaces the older one");
    let used = |digest, email: &str, second| {
        world.db.run_blocking(|tx| first_admin(tx, admin(digest, email), &Act::without_request(at(second))))
    };
    assert_eq!(used(first.digest(), "root@example.com", 2).unwrap(), SetupOutcome::Invalid);
    assert_eq!(used(good.digest(), "root@example.com", 601).unwrap(), SetupOutcome::Invalid, "ten minutes");
    let taken = used(good.digest(), "trader@example.com", 2).unwrap_err();
    assert_eq!(taken.kind(), StoreErrorKind::Duplicate);
    assert_eq!(world.count("setup_tokens WHERE used_at IS NULL"), 1, "a taken address leaves it good");

    let (inner, digest) = (Arc::clone(&world), good.digest());
    let won = winners(move || {
        let email = format!("{}@example.com", Uuid::now_v7().simple());
        let act = Act::without_request(at(600));
        let outcome = inner.db.run_blocking(|tx| first_admin(tx, admin(digest, &email), &act)).unwrap();
        matches!(outcome, SetupOutcome::Made(_))
    });
    assert_eq!(won, 1);
    assert_eq!(world.count("users WHERE role = 'admin'"), 1);
    assert!(token(&world, 700).is_none());
    assert!(world.db.read_blocking(|tx| tx.is_set_up()).unwrap());
    // also when no administrator is left
    world.test.execute("UPDATE users SET role = 'user'");
    assert!(world.db.read_blocking(|tx| tx.is_set_up()).unwrap());
}
