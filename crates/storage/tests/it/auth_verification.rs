//! Registrations, links that confirm addresses, the first administrator's token.

use std::sync::{Arc, Barrier};

use plimsoll_auth::ports::{
    AccountStore, Claim, EmailChangeStore, NewRegistration, NewVerification, RegistrationStatus, SetupStore,
    UsedVerification, VerificationStore,
};
use plimsoll_auth::registration::{NewLink, Register, VerifyOutcome, register, verify_email};
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

/// What registration `n` chose.
fn claim(n: u8) -> Claim {
    Claim {
        registration: Uuid::from_u128(n.into()),
        registered_at: at(n.into()),
        client: ClientInfo::new(Some("2001:db8::17".parse().unwrap()), Some("test")),
        password_hash: PasswordHash::parse(HASH).unwrap(),
        display_name: Some(format!("No {n}")),
    }
}

fn link(user: UserId, n: u8) -> NewVerification {
    NewVerification {
        id: Uuid::from_u128(n.into()),
        user,
        digest: TokenDigest([n; 32]),
        created_at: at(0),
        expires_at: at(100),
        claim: Some(claim(n)),
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
    let used = |user, n| Some(UsedVerification { user, claim: Some(claim(n)) });
    assert_eq!(run(1, 99), used(world.user, 1));
    assert_eq!(run(1, 99), None, "used");
    let owner = |n: u8| world.db.read_blocking(|tx| tx.verification_owner(&TokenDigest([n; 32]))).unwrap();
    assert_eq!((owner(1), owner(4), owner(9)), (Some(world.user), Some(other), None));
    let voided = |n: u128| {
        let of = Some(Uuid::from_u128(n));
        world.db.run_blocking(|tx| tx.void_verifications_of(world.user, of, at(20))).unwrap()
    };
    assert_eq!((voided(1), voided(2), voided(2)), (0, 1, 0), "those of one registration");
    assert_eq!(run(2, 30), None, "voided");
    assert_eq!(run(4, 30), used(other, 4), "another user's");
    world.db.run_blocking(|tx| tx.close_verifications_of(world.user, at(40))).unwrap();
    assert_eq!(run(3, 50), None, "closed");
    let left = format!("email_verification_tokens WHERE user_id = {} AND", world.user);
    assert_eq!(world.count(&format!("{left} (password_hash IS NOT NULL OR display_name IS NOT NULL)")), 0);
    assert_eq!(world.count(&format!("{left} used_at IS NOT NULL AND voided_at IS NULL")), 1);

    let verified = |claim: Option<&Claim>, second| {
        world.db.run_blocking(|tx| tx.set_email_verified(world.user, claim, at(second))).unwrap();
        let user = world.db.read_blocking(|tx| tx.user_by_id(world.user)).unwrap().unwrap();
        (user.email_verified_at, user.display_name)
    };
    assert_eq!(verified(Some(&claim(1)), 40), (Some(at(40)), Some("No 1".to_owned())));
    assert_eq!(verified(None, 50), (Some(at(40)), Some("No 1".to_owned())), "the first time stays");
    assert_eq!(world.count(&format!("users WHERE password_hash = '{HASH}'")), 1);
}

/// REG-6: what was last registered is what the newest link carries, whether it can be used or not.
#[test]
fn the_newest_link_says_what_was_last_registered() {
    let world = waiting();
    let last = || world.db.read_blocking(|tx| tx.last_claim_of(world.user)).unwrap();
    assert_eq!(last(), None);
    let insert = |n: u8, second: i64, claim: Option<Claim>| {
        let new = NewVerification { created_at: at(second), claim, ..link(world.user, n) };
        world.db.run_blocking(|tx| tx.insert_verification(&new)).unwrap();
    };
    insert(1, 1, None);
    assert_eq!(last(), None, "one of before links carried anything");
    insert(2, 2, Some(claim(2)));
    insert(3, 5, Some(claim(3)));
    insert(4, 4, Some(Claim { display_name: None, client: ClientInfo::default(), ..claim(4) }));
    assert_eq!(last(), Some(claim(3)));
    world.test.execute(&format!("DELETE FROM email_verification_tokens WHERE id = '{}'", Uuid::from_u128(3)));
    assert_eq!(last(), Some(Claim { display_name: None, client: ClientInfo::default(), ..claim(4) }));
}

/// REG-8: a registration is verified by a link of its own only. Links of before have no registration: they count for the
/// one that made the user.
#[test]
fn a_registration_shows_whether_its_own_link_was_used() {
    let world = waiting();
    let (old, _) = add_user(&world.db, "old@example.com");
    let registration =
        |n, user| NewRegistration { id: Uuid::from_u128(n), user, created_at: at(0), expires_at: at(100) };
    world
        .db
        .run_blocking(|tx| {
            tx.insert_registration(&registration(1, Some(world.user)))?;
            tx.insert_registration(&registration(2, None))?;
            tx.insert_registration(&registration(4, Some(old)))?;
            (1..=2).try_for_each(|n| tx.insert_verification(&link(world.user, n)))?;
            tx.insert_verification(&NewVerification { claim: None, ..link(old, 4) })
        })
        .unwrap();
    let status = |n| world.db.read_blocking(|tx| tx.registration_status(Uuid::from_u128(n))).unwrap();
    let is = |verified| Some(RegistrationStatus { verified, expires_at: at(100) });
    assert_eq!((status(1), status(2), status(3), status(4)), (is(false), is(false), None, is(false)));
    let verify = |n: u8| {
        let act = Act::without_request(at(10));
        world.db.run_blocking(|tx| verify_email(tx, &TokenDigest([n; 32]), Uuid::now_v7(), &act)).unwrap()
    };
    world.test.execute("UPDATE users SET email_verified_at = NULL");
    assert_eq!(verify(2), VerifyOutcome::Verified(world.user));
    assert_eq!(verify(1), VerifyOutcome::Invalid);
    assert_eq!((status(1), status(2)), (is(false), is(true)));
    let hash = world.test.rows(&format!("SELECT password_hash AS h FROM users WHERE id = {old}"))[0].clone();
    assert_eq!(verify(4), VerifyOutcome::Verified(old));
    assert_eq!(status(4), is(true));
    assert_eq!(
        world.count(&format!("users WHERE id = {old} AND password_hash = '{}'", hash["h"].as_str().unwrap())),
        1
    );
}

/// REG-1: an address that is unknown, one that waits and one that has an account cost the same number of statements and
/// one mail each.
#[test]
fn known_and_unknown_addresses_cost_the_same_statements() {
    let world = World::new();
    let (waiting, _) = add_user(&world.db, "waiting@example.com");
    world.test.execute(&format!("UPDATE users SET email_verified_at = NULL WHERE id = {waiting}"));
    world.test.execute(&format!("UPDATE users SET email_verified_at = now() WHERE id = {}", world.user));
    let key = plimsoll_crypto::InstallationKey::generate(plimsoll_crypto::KeyPurpose::Pepper, &mut OsRandom);
    let pepper = plimsoll_crypto::Pepper::new(&key).unwrap();
    let counted = |email: &str| {
        let new = || Register {
            id: Uuid::now_v7(),
            email: email.parse().unwrap(),
            display_name: None,
            password_hash: PasswordHash::parse(HASH).unwrap(),
            link: NewLink {
                id: Uuid::now_v7(),
                mail: Uuid::now_v7(),
                token: SecretToken::generate(&mut OsRandom),
            },
        };
        let mails = world.count("mail_outbox");
        let (policy, act) = (AccountPolicy::default(), Act::without_request(at(1)));
        let counter = world.db.count_queries();
        world.db.run_blocking(|tx| register(tx, &policy, &pepper, new(), &act)).unwrap();
        let statements = counter.texts().len();
        drop(counter);
        assert_eq!(world.count("mail_outbox"), mails + 1, "{email}");
        statements
    };
    let unknown = counted("unknown@example.com");
    assert_eq!(counted("waiting@example.com"), unknown);
    assert_eq!(counted("trader@example.com"), unknown);
}

/// REG-8: an unconfirmed account gives its address up to whoever confirms it, and its links with it; nobody can have
/// registered what it is called then.
#[test]
fn an_address_that_is_given_up_takes_its_links_along() {
    let world = waiting();
    let waiting = world.user;
    let squatted = format!("released-{waiting}@released.invalid");
    add_user(&world.db, &squatted);
    world.db.run_blocking(|tx| tx.insert_verification(&link(waiting, 1))).unwrap();
    let address = "trader@example.com".parse().unwrap();
    assert!(world.db.run_blocking(|tx| tx.release_unconfirmed_email(&address, at(5))).unwrap());
    assert!(!world.db.run_blocking(|tx| tx.release_unconfirmed_email(&address, at(6))).unwrap());
    let used = world.db.run_blocking(|tx| tx.use_verification(&TokenDigest([1; 32]), at(7))).unwrap();
    assert_eq!(used, None);
    assert_eq!(
        world.count(&format!(
            "users WHERE id = {waiting} AND email = email_folded AND email ~ '^released-{waiting}-[0-9a-f]{{32}}@'"
        )),
        1
    );
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
