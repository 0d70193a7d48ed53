//! Second factors, their attempts, challenges and resets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_auth::challenges::Challenge;
use plimsoll_auth::ports::{ChallengeStore, TwoFactorResetStore, TwoFactorStore};
use plimsoll_auth::totp::TotpSecret;
use plimsoll_auth::two_factor::{AttemptRecord, Budget, Method, OpenReset, Purpose, Status, StoredSecret};
use plimsoll_auth::{ClientInfo, Transport};
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::tokens::TokenDigest;
use plimsoll_storage::Tx;
use uuid::Uuid;

use crate::world::{World, add_user, at};

fn hash(n: u8) -> PasswordHash {
    let salt = salt(n);
    PasswordHash::parse(format!(
        "$argon2id$v=19$m=19456,t=2,p=1${salt}$J5mPVCNJZ+3Wq4NUnKqzW3oLQsVw8qjMSYbWlOWcfzE"
    ))
    .unwrap()
}

/// 22 characters of base64 that differ by `n`.
fn salt(n: u8) -> String {
    format!("{}{}", char::from(b'a' + n), "WvbWVzYWx0c29tZXNhbAA")
}

fn hashes(first: u8) -> Vec<PasswordHash> {
    (first..first + 10).map(hash).collect()
}

fn secret(n: u8) -> TotpSecret {
    TotpSecret::from_bytes(&[n; 20]).unwrap()
}

fn run<T>(world: &World, work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> T {
    world.db.run_blocking(work).unwrap()
}

/// In force since `at(0)`, with step 10 used.
fn enable(world: &World, user: UserId) {
    run(world, |tx| {
        tx.set_pending_factor(user, &secret(1), at(600), &hashes(0), at(0))?;
        assert!(tx.activate_pending_factor(user, &secret(1), 10, at(0))?);
        Ok(())
    });
}

/// How many of fifty at once got `true`.
fn of_fifty(world: &World, work: impl Fn(&mut Tx<'_>) -> Result<bool, StoreError> + Sync) -> usize {
    let won = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                loop {
                    match world.db.run_blocking(|tx| work(tx)) {
                        Ok(true) => won.fetch_add(1, Ordering::Relaxed),
                        Ok(false) => 0,
                        Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                            thread::sleep(Duration::from_millis(5)); // the pool is full: this is a test of the statement
                            continue;
                        }
                        Err(error) => panic!("{error}"),
                    };
                    break;
                }
            });
        }
    });
    won.into_inner()
}

fn factor_secret(world: &World, user: UserId) -> Option<StoredSecret> {
    run(world, |tx| tx.factor_of(user)).and_then(|factor| factor.secret)
}

/// TFA-1, ENC-2: the secret is sealed, and opens only in its own row, column and for its own user.
#[test]
fn a_secret_opens_only_where_it_was_sealed() {
    let world = World::new();
    let (other, _) = add_user(&world.db, "other@example.com");
    assert_eq!(run(&world, |tx| tx.factor_of(world.user)), None);
    enable(&world, world.user);
    enable(&world, other);
    assert_eq!(factor_secret(&world, world.user), Some(StoredSecret::Readable(secret(1))));

    let hex = "01".repeat(20);
    let rows = world.test.rows("SELECT encode(secret, 'hex') AS sealed FROM user_2fa ORDER BY user_id");
    let sealed: Vec<&str> = rows.iter().map(|row| row["sealed"].as_str().unwrap()).collect();
    assert!(
        sealed
            .iter()
            .all(|text| !text.contains(&hex) && text.len() == 2 * (20 + plimsoll_crypto::sealing::OVERHEAD)),
        "{sealed:?}"
    );
    assert_ne!(sealed[0], sealed[1]);

    world.test.execute(&format!(
        "UPDATE user_2fa SET secret = (SELECT secret FROM user_2fa WHERE user_id = {other}) WHERE user_id = {}",
        world.user
    ));
    assert_eq!(factor_secret(&world, world.user), Some(StoredSecret::Unreadable), "another user's");

    run(&world, |tx| tx.set_pending_factor(other, &secret(2), at(600), &hashes(10), at(1)));
    let factor = run(&world, |tx| tx.factor_of(other)).unwrap();
    assert_eq!(factor.pending.unwrap().secret, StoredSecret::Readable(secret(2)));
    world.test.execute(&format!("UPDATE user_2fa SET secret = pending_secret WHERE user_id = {other}"));
    assert_eq!(factor_secret(&world, other), Some(StoredSecret::Unreadable), "of another column");
}

/// TFA-4: what is in force stays so beside what is pending; activation replaces both secret and codes.
#[test]
fn a_pending_factor_waits_beside_the_one_in_force() {
    let world = World::new();
    let user = world.user;
    enable(&world, user);
    run(&world, |tx| tx.set_pending_factor(user, &secret(2), at(600), &hashes(10), at(100)));
    run(&world, |tx| tx.set_pending_factor(user, &secret(3), at(700), &hashes(12), at(101)));
    assert_eq!(factor_secret(&world, user), Some(StoredSecret::Readable(secret(1))));
    let codes = run(&world, |tx| tx.backup_codes_of(user));
    assert_eq!((codes.len(), codes[9].slot, &codes[9].hash), (10, 9, &hash(9)));

    assert!(
        !run(&world, |tx| tx.activate_pending_factor(user, &secret(3), 5, at(700))),
        "at its very end it is gone"
    );
    assert!(run(&world, |tx| tx.activate_pending_factor(user, &secret(3), 5, at(699))));
    assert!(!run(&world, |tx| tx.activate_pending_factor(user, &secret(3), 6, at(699))), "once");
    assert_eq!(factor_secret(&world, user), Some(StoredSecret::Readable(secret(3))));
    assert_eq!(run(&world, |tx| tx.backup_codes_of(user))[0].hash, hash(12));
    assert_eq!(world.count("user_2fa_backup_codes"), 10);
    let expected =
        Status { enabled_at: Some(at(699)), backup_codes_remaining: 10, last_used_at: Some(at(699)) };
    assert_eq!(run(&world, |tx| tx.two_factor_status(user)), expected);
    assert!(run(&world, |tx| tx.remove_factor(user)) && !run(&world, |tx| tx.remove_factor(user)));
    assert_eq!(world.count("user_2fa") + world.count("user_2fa_backup_codes"), 0);
    assert_eq!(run(&world, |tx| tx.two_factor_status(user)), Status::default());
}

/// TFA-5: a step is accepted once, and only above the last one, whoever comes at the same moment.
#[test]
fn of_fifty_that_use_a_step_one_does() {
    let world = World::new();
    let user = world.user;
    let step = |n| run(&world, |tx| tx.use_totp_step(user, n, at(1)));
    assert!(!step(11), "without a factor there is none to use");
    enable(&world, user);
    assert!(!step(9) && !step(10), "the enrolment's own step is used");
    assert_eq!(of_fifty(&world, |tx| tx.use_totp_step(user, 11, at(1))), 1);
    assert!(!step(11) && step(13) && !step(12));
    let rows = world.test.rows("SELECT last_step FROM user_2fa");
    assert_eq!(rows[0]["last_step"], 13);
}

/// TFA-4: of fifty confirmations at once one counts.
#[test]
fn of_fifty_that_activate_one_does() {
    let world = World::new();
    let user = world.user;
    run(&world, |tx| tx.set_pending_factor(user, &secret(1), at(600), &hashes(0), at(0)));
    assert_eq!(of_fifty(&world, |tx| tx.activate_pending_factor(user, &secret(1), 10, at(1))), 1);
}

/// TFA-12: a backup code is struck once.
#[test]
fn of_fifty_that_strike_a_backup_code_one_does() {
    let world = World::new();
    let user = world.user;
    enable(&world, user);
    let strike = |slot, n| run(&world, |tx| tx.use_backup_code(user, slot, &hash(n), at(5)));
    assert!(!strike(3, 4), "another code's hash");
    assert_eq!(of_fifty(&world, |tx| tx.use_backup_code(user, 3, &hash(3), at(5))), 1);
    assert!(!strike(3, 3));
    let status = run(&world, |tx| tx.two_factor_status(user));
    assert_eq!((status.backup_codes_remaining, status.last_used_at), (9, Some(at(5))));
    assert_eq!(run(&world, |tx| tx.backup_codes_of(user))[3].used_at, Some(at(5)));

    run(&world, |tx| tx.replace_backup_codes(user, &hashes(10), at(6)));
    assert!(!strike(4, 4), "replaced");
    assert!(strike(4, 14));
    world.test.execute("UPDATE user_2fa SET backup_disabled_at = now()");
    assert!(!strike(5, 15), "disabled");
    assert_eq!(run(&world, |tx| tx.two_factor_status(user)).backup_codes_remaining, 9, "and not struck");
}

/// TFA-8, LOG-5: each method has a row of failures of its own.
#[test]
fn failures_in_a_row_disable_their_method_only() {
    let world = World::new();
    let user = world.user;
    let wrong = |method| run(&world, |tx| tx.count_wrong_code(user, method, 3, at(9)));
    assert!(!wrong(Method::Totp), "no factor");
    enable(&world, user);
    assert!(!wrong(Method::Totp) && !wrong(Method::Totp));
    assert!(run(&world, |tx| tx.use_totp_step(user, 11, at(1))));
    assert!(!wrong(Method::BackupCode) && !wrong(Method::Totp) && !wrong(Method::Totp), "the row began anew");
    assert!(wrong(Method::Totp), "three in a row");
    assert!(!wrong(Method::Totp), "told once");
    assert!(!run(&world, |tx| tx.use_totp_step(user, 12, at(2))));
    let factor = run(&world, |tx| tx.factor_of(user)).unwrap();
    assert_eq!((factor.totp_disabled_at, factor.backup_disabled_at), (Some(at(9)), None));
    assert!(!wrong(Method::BackupCode) && wrong(Method::BackupCode));
    run(&world, |tx| tx.replace_backup_codes(user, &hashes(10), at(10)));
    let factor = run(&world, |tx| tx.factor_of(user)).unwrap();
    assert_eq!((factor.totp_disabled_at, factor.backup_disabled_at), (Some(at(9)), None));
    run(&world, |tx| {
        tx.set_pending_factor(user, &secret(2), at(600), &hashes(0), at(20))?;
        tx.activate_pending_factor(user, &secret(2), 20, at(20))
    });
    assert_eq!(run(&world, |tx| tx.factor_of(user)).unwrap().totp_disabled_at, None, "bound anew");
}

fn attempt(method: Method, second: i64, outcome: &'static str) -> AttemptRecord {
    let client = ClientInfo::new(Some("2001:db8::5".parse().unwrap()), Some("Mozilla/5.0 (test)"));
    AttemptRecord { method, purpose: Purpose::Login, outcome, client, at: at(second) }
}

/// TFA-8, TFA-13: an attempt counts as failed from its beginning until it is accepted; throttled ones never do.
#[test]
fn attempts_count_until_they_are_accepted() {
    let world = World::new();
    let (user, (other, _)) = (world.user, add_user(&world.db, "other@example.com"));
    let add = |user, method, second, outcome| {
        run(&world, |tx| tx.insert_factor_attempt(user, &attempt(method, second, outcome)))
    };
    let failed = |budget, since, most| -> Vec<DateTime<Utc>> {
        run(&world, |tx| tx.failed_attempts_since(user, budget, at(since), most))
    };
    add(user, Method::Totp, 1, "started");
    let second = add(user, Method::BackupCode, 2, "started");
    add(user, Method::Totp, 3, "throttled");
    add(user, Method::Password, 4, "started");
    add(other, Method::Totp, 5, "started");
    assert_eq!(failed(Budget::Codes, 0, 9), [at(2), at(1)], "both methods, newest first");
    assert_eq!(failed(Budget::Codes, 1, 9), [at(2)], "after, not at");
    assert_eq!(failed(Budget::Codes, 0, 1), [at(2)]);
    assert_eq!(failed(Budget::Passwords, 0, 9), [at(4)]);
    run(&world, |tx| tx.finish_factor_attempt(other, second, "accepted", None));
    assert_eq!(failed(Budget::Codes, 1, 9), [at(2)], "of another user");
    run(&world, |tx| tx.finish_factor_attempt(user, second, "accepted", Some(-1)));
    assert!(failed(Budget::Codes, 1, 9).is_empty());
    let rows = world.test.rows(&format!(
        "SELECT method, purpose, outcome, step_offset, host(ip) AS ip, user_agent FROM user_2fa_attempts WHERE id = {second} \
         AND user_id = {user}"
    ));
    let expected = serde_json::json!({
        "method": "backup_code", "purpose": "login", "outcome": "accepted", "step_offset": -1, "ip": "2001:db8::5",
        "user_agent": "Mozilla/5.0 (test)"
    });
    assert_eq!(rows, [expected]);
}

fn challenge(user: UserId, n: u128) -> Challenge {
    Challenge {
        id: Uuid::from_u128(n),
        user,
        transport: Transport::Cookie,
        created_at: at(0),
        expires_at: at(300),
        after_failures: true,
        tries: 0,
        ended_at: None,
        ip: Some("192.0.2.9".parse().unwrap()),
        user_agent: Some("test".into()),
    }
}

/// LOG-11: a challenge is found by its token's digest, gives five tries and is used once.
#[test]
fn a_challenge_has_five_tries_and_one_use() {
    let world = World::new();
    let user = world.user;
    let digest = TokenDigest([7; 32]);
    let written = challenge(user, 1);
    run(&world, |tx| tx.insert_challenge(&digest, &written));
    assert_eq!(run(&world, |tx| tx.challenge_by_digest(&digest)), Some(written));
    assert_eq!(run(&world, |tx| tx.challenge_by_digest(&TokenDigest([8; 32]))), None);
    let id = Uuid::from_u128(1);
    assert!(!run(&world, |tx| tx.take_challenge_try(user, id, 5, at(300))), "expired");
    assert!(!run(&world, |tx| tx.take_challenge_try(UserId(user.0 + 1), id, 5, at(1))), "another user's");
    assert_eq!(of_fifty(&world, |tx| tx.take_challenge_try(user, id, 5, at(1))), 5);
    assert_eq!(run(&world, |tx| tx.challenge_by_digest(&digest)).unwrap().tries, 5);
    assert!(!run(&world, |tx| tx.use_challenge(user, id, at(300))), "expired");
    assert_eq!(of_fifty(&world, |tx| tx.use_challenge(user, id, at(2))), 1);
    assert_eq!(run(&world, |tx| tx.challenge_by_digest(&digest)).unwrap().ended_at, Some(at(2)));

    let other = TokenDigest([9; 32]);
    run(&world, |tx| tx.insert_challenge(&other, &challenge(user, 2)));
    world.test.execute("UPDATE login_challenges SET voided_at = now()");
    let second = Uuid::from_u128(2);
    assert!(!run(&world, |tx| tx.take_challenge_try(user, second, 5, at(1))));
    assert!(!run(&world, |tx| tx.use_challenge(user, second, at(1))));
    assert!(run(&world, |tx| tx.challenge_by_digest(&other)).unwrap().ended_at.is_some());
}

/// TFA-15: one open reset a user; it is cancelled or done, once, and done only when it is due.
#[test]
fn a_reset_is_open_until_it_is_cancelled_or_done() {
    let world = World::new();
    let (user, (other, _)) = (world.user, add_user(&world.db, "other@example.com"));
    let reset = |user, n, due| OpenReset { user, id: Uuid::from_u128(n), due_at: at(due) };
    let insert = |reset: OpenReset| {
        world.db.run_blocking(|tx| tx.insert_two_factor_reset(&reset, Some(UserId(99)), at(0)))
    };
    insert(reset(other, 1, 50)).unwrap();
    insert(reset(user, 2, 100)).unwrap();
    assert_eq!(insert(reset(user, 3, 100)).unwrap_err().kind(), StoreErrorKind::Duplicate);
    assert_eq!(run(&world, |tx| tx.open_reset_of(user)), Some(reset(user, 2, 100)));
    let due = |second, most| run(&world, |tx| tx.due_two_factor_resets(at(second), most));
    assert_eq!(due(49, 9), []);
    assert_eq!(due(99, 9), [reset(other, 1, 50)]);
    assert_eq!(due(100, 9), [reset(user, 2, 100), reset(other, 1, 50)], "in the order of users");
    assert_eq!(due(100, 1).len(), 1);

    let finish =
        |user, n, second| run(&world, |tx| tx.finish_two_factor_reset(user, Uuid::from_u128(n), at(second)));
    assert!(!finish(user, 2, 99) && !finish(other, 2, 100));
    assert!(finish(other, 1, 50) && !finish(other, 1, 51));
    let cancel = |user, id: Option<u128>| {
        run(&world, |tx| tx.cancel_two_factor_reset(user, id.map(Uuid::from_u128), at(60)))
    };
    assert!(!cancel(other, None), "it is done");
    assert!(!cancel(user, Some(1)));
    assert!(cancel(user, Some(2)) && !cancel(user, Some(2)));
    assert!(!finish(user, 2, 200));
    assert_eq!(run(&world, |tx| tx.open_reset_of(user)), None);
    insert(reset(user, 4, 100)).unwrap();
    assert!(cancel(user, None), "whichever is open");
}
