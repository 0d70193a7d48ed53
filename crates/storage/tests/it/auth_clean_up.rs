//! The clean-up of old rows, and what is told of unfinished sign-ins.

use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_auth::AccountPolicy;
use plimsoll_auth::clean_up::{self, Old};
use plimsoll_auth::ports::CleanUpStore;
use plimsoll_auth::unfinished::tell_unfinished;
use plimsoll_core_domain::UserId;
use uuid::Uuid;

use crate::world::{World, add_user, at};

const DAY: i64 = 86_400;

fn now() -> DateTime<Utc> {
    at(1_000 * DAY)
}

fn sql(time: DateTime<Utc>) -> String {
    format!("'{}'::timestamptz", time.to_rfc3339())
}

/// Inserts a row of each kind, whose end or last use was at `time`; `n` makes it another one.
fn row(user: UserId, n: usize, time: DateTime<Utc>, what: Old) -> String {
    let (id, digest) = (format!("'{}'", Uuid::from_u128(n as u128 + 1)), format!("sha256('{n}')"));
    let (time, long_ago) = (sql(time), sql(at(0)));
    match what {
        Old::VerificationTokens => format!(
            "INSERT INTO email_verification_tokens (user_id, id, token_digest, created_at, expires_at) \
             VALUES ({user}, {id}, {digest}, {long_ago}, {time})"
        ),
        Old::ResetTokens => format!(
            "INSERT INTO password_reset_tokens (user_id, id, token_digest, created_at, expires_at) \
             VALUES ({user}, {id}, {digest}, {long_ago}, {time})"
        ),
        Old::EmailChanges => format!(
            "INSERT INTO email_changes (user_id, id, new_email, new_email_folded, old_email, token_digest, created_at, \
             expires_at) VALUES ({user}, {id}, 'n@example.com', 'n@example.com', 'o@example.com', {digest}, {long_ago}, \
             {time})"
        ),
        Old::CancelTokens => format!(
            "INSERT INTO cancel_tokens (user_id, id, token_digest, purpose, created_at, expires_at) \
             VALUES ({user}, {id}, {digest}, 'email_change', {long_ago}, {time})"
        ),
        Old::SetupTokens => format!(
            "INSERT INTO setup_tokens (id, token_digest, created_at, expires_at) \
             VALUES ({id}, {digest}, {long_ago}, {time})"
        ),
        Old::Registrations => format!(
            "INSERT INTO registrations (id, user_id, created_at, expires_at) VALUES ({id}, {user}, {long_ago}, {time})"
        ),
        Old::Challenges => format!(
            "INSERT INTO login_challenges (user_id, id, token_digest, transport, created_at, expires_at) \
             VALUES ({user}, {id}, {digest}, 'bearer', {long_ago}, {time})"
        ),
        Old::WsTickets => format!(
            "WITH s AS (INSERT INTO sessions (user_id, id, token_digest, created_at, last_seen_at, idle_expires_at, \
             expires_at) VALUES ({user}, {id}, {digest}, {long_ago}, {long_ago}, {long_ago}, {far}) RETURNING id) \
             INSERT INTO ws_tickets (ticket_digest, user_id, session_id, created_at, expires_at) \
             SELECT {digest}, {user}, s.id, {long_ago}, {time} FROM s",
            far = sql(at(2_000 * DAY)),
        ),
        Old::Sessions => format!(
            "INSERT INTO sessions (user_id, id, token_digest, created_at, last_seen_at, idle_expires_at, expires_at) \
             VALUES ({user}, {id}, {digest}, {long_ago}, {long_ago}, {long_ago}, {time})"
        ),
        Old::ApiTokens => format!(
            "INSERT INTO api_tokens (user_id, id, name, token_digest, scopes, created_at, expires_at) \
             VALUES ({user}, {id}, 'n', {digest}, ARRAY['read'], {long_ago}, {time})"
        ),
        Old::LoginAttempts => format!(
            "INSERT INTO login_attempts (at, user_id, identifier, outcome, factor) \
             VALUES ({time}, {user}, {digest}, 'denied', 'password')"
        ),
        Old::FactorAttempts => format!(
            "INSERT INTO user_2fa_attempts (user_id, at, method, purpose, outcome) \
             VALUES ({user}, {time}, 'totp', 'login', 'wrong')"
        ),
        Old::LoginPlaces => format!(
            "INSERT INTO login_places (user_id, kind, digest, first_seen_at, last_seen_at) \
             VALUES ({user}, 'device', {digest}, {long_ago}, {time})"
        ),
        Old::Throttles => format!(
            "INSERT INTO throttles (kind, key, window_start, updated_at) VALUES ('t', {digest}, {time}, {time})"
        ),
        Old::FailedPairs => {
            format!("INSERT INTO failed_pairs (network, pair, at) VALUES (sha256('net'), {digest}, {time})")
        }
        Old::SentMails => format!(
            "INSERT INTO mail_outbox (id, kind, created_at, sent_at) VALUES ({id}, 'welcome', {time}, {time})"
        ),
        Old::UnsentMails => format!(
            "INSERT INTO mail_outbox (id, kind, sealed, created_at) VALUES ({id}, 'welcome', 'x', {time})"
        ),
        Old::PendingFactors | Old::UnverifiedAccounts => unreachable!("have tests of their own"),
    }
}

const fn table(what: Old) -> &'static str {
    match what {
        Old::VerificationTokens => "email_verification_tokens",
        Old::ResetTokens => "password_reset_tokens",
        Old::EmailChanges => "email_changes",
        Old::CancelTokens => "cancel_tokens",
        Old::SetupTokens => "setup_tokens",
        Old::Registrations => "registrations",
        Old::Challenges => "login_challenges",
        Old::PendingFactors => "user_2fa",
        Old::WsTickets => "ws_tickets",
        Old::Sessions => "sessions",
        Old::ApiTokens => "api_tokens",
        Old::LoginAttempts => "login_attempts",
        Old::FactorAttempts => "user_2fa_attempts",
        Old::LoginPlaces => "login_places",
        Old::Throttles => "throttles",
        Old::FailedPairs => "failed_pairs",
        Old::SentMails | Old::UnsentMails => "mail_outbox",
        Old::UnverifiedAccounts => "users",
    }
}

fn simple() -> impl Iterator<Item = Old> {
    Old::ALL.iter().copied().filter(|what| !matches!(what, Old::PendingFactors | Old::UnverifiedAccounts))
}

fn clean(world: &World, what: Old, limit: usize) -> usize {
    let policy = AccountPolicy::default();
    world.db.run_blocking(|tx| clean_up::batch(tx, &policy, what, limit, now())).unwrap()
}

/// CLN-1: of every kind the old rows go, batch after batch, the oldest first, and the others stay to the microsecond.
#[test]
fn old_rows_go_in_batches_and_the_others_stay() {
    let world = World::new();
    let policy = AccountPolicy::default();
    let mut n = 0;
    for what in simple() {
        world.test.execute(&format!("DELETE FROM {}", table(what)));
        let before = what.before(&policy, now());
        for (micros, count) in [(-5_000_000, 2), (-1, 1), (0, 1), (5_000_000, 1)] {
            for _ in 0..count {
                n += 1;
                world.test.execute(&row(world.user, n, before + TimeDelta::microseconds(micros), what));
            }
        }
        assert_eq!(clean(&world, what, 2), 2, "{what:?}");
        assert_eq!(world.count(table(what)), 3, "{what:?}");
        assert_eq!(clean(&world, what, 2), 1, "{what:?}");
        assert_eq!(clean(&world, what, 2), 0, "{what:?}");
        assert_eq!(world.count(table(what)), 2, "{what:?}");
    }
    assert_eq!(world.count("users"), 1, "and nothing else went with them");
}

/// CLN-1, LOG-3, LOG-8: a counter that blocks, or a bucket that is not full again, stays however long it was not used.
#[test]
fn counters_that_still_count_are_kept() {
    let world = World::new();
    let (old, later) = (sql(now() - TimeDelta::days(30)), sql(now() + TimeDelta::hours(1)));
    for (key, column) in [("a", "blocked_until"), ("b", "arrival")] {
        world.test.execute(&format!(
            "INSERT INTO throttles (kind, key, window_start, updated_at, {column}) \
             VALUES ('t', sha256('{key}'), {old}, {old}, {later}), ('t', sha256('{key}x'), {old}, {old}, {old})"
        ));
    }
    assert_eq!(clean(&world, Old::Throttles, 100), 2);
    assert_eq!(world.count("throttles WHERE blocked_until IS NOT NULL"), 1);
    assert_eq!(world.count("throttles WHERE arrival IS NOT NULL"), 1);
}

/// CLN-1: sent and waiting mails have ages of their own.
#[test]
fn a_mail_that_waits_is_kept_longer_than_one_that_was_sent() {
    let world = World::new();
    let time = now() - TimeDelta::days(60);
    world.test.execute(&row(world.user, 1, time, Old::SentMails));
    world.test.execute(&row(world.user, 2, time, Old::UnsentMails));
    assert_eq!((clean(&world, Old::UnsentMails, 9), clean(&world, Old::SentMails, 9)), (0, 1));
    assert_eq!(world.count("mail_outbox WHERE sealed IS NOT NULL"), 1);
}

/// CLN-1, TFA-4: a secret that was never confirmed goes with its codes; the one in force stays, and so does the register
/// of used steps.
#[test]
fn an_unconfirmed_secret_goes_and_an_enabled_one_stays() {
    let world = World::new();
    let fresh = add_user(&world.db, "fresh@example.com").0;
    let (past, future) = (sql(now() - TimeDelta::seconds(1)), sql(now() + TimeDelta::seconds(1)));
    let user = world.user;
    world.test.execute(&format!(
        "INSERT INTO user_2fa (user_id, secret, enabled_at, pending_secret, pending_expires_at, last_step, updated_at) \
         VALUES ({user}, 's', {past}, 'p', {past}, 7, {past}), ({fresh}, NULL, NULL, 'p', {future}, 0, {past})"
    ));
    for (user, pending) in [(user, false), (user, true), (fresh, true)] {
        world.test.execute(&format!(
            "INSERT INTO user_2fa_backup_codes (user_id, pending, slot, hash, created_at) \
             VALUES ({user}, {pending}, 0, 'h', {past})"
        ));
    }
    assert_eq!((clean(&world, Old::PendingFactors, 10), clean(&world, Old::PendingFactors, 10)), (1, 0));
    let kept = "user_2fa WHERE secret IS NOT NULL AND pending_secret IS NULL AND last_step = 7";
    assert_eq!(world.count(kept), 1);
    assert_eq!(world.count("user_2fa WHERE pending_secret IS NOT NULL"), 1, "not over yet");
    assert_eq!(world.count(&format!("user_2fa_backup_codes WHERE user_id = {user} AND NOT pending")), 1);
    assert_eq!(world.count("user_2fa_backup_codes"), 2);
}

/// CLN-1: an account that was never verified goes long after its last link; none with a link that lives or lately did, a
/// broker account, a role or a mark of an administrator does, and no verified or erased one.
#[test]
fn only_forgotten_accounts_go() {
    let world = World::new();
    let (old, lately) = (sql(now() - TimeDelta::days(40)), sql(now() - TimeDelta::days(20)));
    let add = |email: &str, created: &str, columns: &str| {
        let user = add_user(&world.db, email).0;
        world.test.execute(&format!("DELETE FROM accounts WHERE user_id = {user}"));
        world.test.execute(&format!(
            "UPDATE users SET email_verified_at = NULL, created_at = {created} WHERE id = {user}; \
             UPDATE users SET updated_at = updated_at{columns} WHERE id = {user}"
        ));
        user
    };
    let forgotten = add("forgotten@example.com", &old, "");
    world.test.execute(&row(forgotten, 1, now() - TimeDelta::days(38), Old::VerificationTokens));
    world.test.execute(&row(forgotten, 2, now() - TimeDelta::days(38), Old::LoginAttempts));
    let asked_again = add("again@example.com", &old, "");
    world.test.execute(&row(asked_again, 3, now() - TimeDelta::days(2), Old::VerificationTokens));
    add("young@example.com", &lately, "");
    add("admin@example.com", &old, ", role = 'admin'");
    add("disabled@example.com", &old, ", state = 'disabled'");
    add("erased@example.com", &old, ", state = 'disabled', deleted_at = now()");
    add("verified@example.com", &old, ", email_verified_at = now()");
    let trader = add("trades@example.com", &old, "");
    world.test.execute(&format!("UPDATE accounts SET user_id = {trader}"));
    let before = world.count("users");
    assert_eq!(
        (clean(&world, Old::UnverifiedAccounts, 10), clean(&world, Old::UnverifiedAccounts, 10)),
        (1, 0)
    );
    assert_eq!(world.count("users"), before - 1);
    assert_eq!(world.count(&format!("users WHERE id = {forgotten}")), 0);
    assert_eq!(world.count(&format!("login_attempts WHERE user_id = {forgotten}")), 0);
    assert_eq!(world.count(&format!("email_verification_tokens WHERE user_id = {forgotten}")), 0);
    // AUD-4: and there is an entry of it
    let entry = format!(
        "audit_log WHERE action = 'user.expire' AND subject_id = {forgotten} AND chain = {forgotten}"
    );
    assert_eq!((world.count(&entry), world.count("audit_log WHERE action = 'user.expire'")), (1, 1));
    assert_eq!(world.db.read_blocking(|tx| tx.verify_audit()).unwrap().first_bad, None);
}

/// AUD-3: an account whose entry cannot be written stays.
#[test]
fn without_its_entry_no_account_goes() {
    let world = World::new();
    let user = add_user(&world.db, "forgotten@example.com").0;
    let old = sql(now() - TimeDelta::days(40));
    world.test.execute(&format!(
        "DELETE FROM accounts WHERE user_id = {user}; DELETE FROM audit_head WHERE chain = {user}; \
         UPDATE users SET email_verified_at = NULL, created_at = {old} WHERE id = {user}"
    ));
    let policy = AccountPolicy::default();
    let cleaned =
        world.db.run_blocking(|tx| clean_up::batch(tx, &policy, Old::UnverifiedAccounts, 10, now()));
    assert!(cleaned.is_err());
    assert_eq!(world.count(&format!("users WHERE id = {user}")), 1);
}

/// CLN-1: two clean-ups at once share the rows and wait for nobody, not even for whoever is working on one of them.
#[test]
fn parallel_clean_ups_share_the_rows() {
    let world = World::new();
    world.test.execute(&format!(
        "INSERT INTO login_attempts (at, identifier, outcome, factor) \
         SELECT {}, sha256('x'), 'denied', 'password' FROM generate_series(1, 400)",
        sql(at(0))
    ));
    let deleted = AtomicUsize::new(0);
    let mut busy = world.test.raw();
    busy.execute(
        "BEGIN; UPDATE login_attempts SET outcome = 'busy' WHERE id = (SELECT min(id) FROM login_attempts)",
    )
    .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let rows @ 1.. = clean(&world, Old::LoginAttempts, 30) {
                    deleted.fetch_add(rows, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!((deleted.into_inner(), world.count("login_attempts")), (399, 1));
    busy.execute("COMMIT").unwrap();
    assert_eq!(clean(&world, Old::LoginAttempts, 30), 1, "the next one finds it");
}

/// CLN-1: every statement finds its rows along an index on the time, without reading the table.
#[test]
fn old_rows_are_found_along_an_index() {
    const INDEXES: &[(Old, &str)] = &[
        (Old::VerificationTokens, "email_verification_tokens_expires_at"),
        (Old::ResetTokens, "password_reset_tokens_expires_at"),
        (Old::EmailChanges, "email_changes_expires_at"),
        (Old::CancelTokens, "cancel_tokens_expires_at"),
        (Old::SetupTokens, "setup_tokens_expires_at"),
        (Old::Registrations, "registrations_expires_at"),
        (Old::Challenges, "login_challenges_expires_at"),
        (Old::PendingFactors, "user_2fa_pending_until"),
        (Old::WsTickets, "ws_tickets_expires_at"),
        (Old::Sessions, "sessions_expires_at"),
        (Old::ApiTokens, "api_tokens_expires_at"),
        (Old::LoginAttempts, "login_attempts_at"),
        (Old::FactorAttempts, "user_2fa_attempts_at"),
        (Old::LoginPlaces, "login_places_last_seen_at"),
        (Old::Throttles, "throttles_updated_at"),
        (Old::FailedPairs, "failed_pairs_at"),
        (Old::SentMails, "mail_outbox_created_at"),
        (Old::UnsentMails, "mail_outbox_created_at"),
        (Old::UnverifiedAccounts, "users_unverified"),
    ];
    let world = World::new();
    let mut raw = world.test.raw();
    // Small tables are read whole and sorted; what matters is that there is another way.
    raw.execute(
        "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off; \
         CREATE FUNCTION explain_of(sql text) RETURNS SETOF text LANGUAGE plpgsql AS \
         $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN ' || sql; END $$",
    )
    .unwrap();
    for what in Old::ALL {
        let (_, index) = INDEXES.iter().find(|(known, _)| known == what).unwrap();
        let counter = world.db.count_queries();
        world.db.run_blocking(|tx| tx.delete_old(*what, now(), 10)).unwrap();
        let text = counter.texts().into_iter().find(|text| text.contains("SKIP LOCKED")).unwrap();
        let last = text.matches('$').count();
        let mut text = text.replace(&format!("${last}"), "10");
        for n in 1..last {
            text = text.replace(&format!("${n}"), &sql(now()));
        }
        let plan: Vec<String> = raw
            .rows(&format!("SELECT * FROM explain_of($sql${text}$sql$) AS line"))
            .unwrap()
            .iter()
            .map(|row| row["line"].as_str().unwrap().to_owned())
            .collect();
        let plan = plan.join("\n");
        assert!(plan.contains(&format!("using {index}")), "{what:?}: {plan}");
        assert!(!plan.contains(&format!("Seq Scan on {}", table(*what))), "{what:?}: {plan}");
    }
}

/// LOG-13: two sweeps at once tell the owner once, and nobody is told of what was finished or voided.
#[test]
fn an_unfinished_sign_in_is_told_of_once() {
    let world = World::new();
    let time = now() - TimeDelta::minutes(4);
    let columns = ["used_at", "voided_at"];
    for n in 0..4 {
        world.test.execute(&row(world.user, n, now(), Old::Challenges));
        let id = Uuid::from_u128(n as u128 + 1);
        let ended = columns.get(n).map(|column| format!(", {column} = {}", sql(time))).unwrap_or_default();
        // The last one is too young to be told of.
        let created = if n == 3 { now() } else { time };
        world.test.execute(&format!(
            "UPDATE login_challenges SET created_at = {}, ip = '192.0.2.{n}'{ended} WHERE id = '{id}'",
            sql(created)
        ));
    }
    let seen = AtomicUsize::new(0);
    let policy = AccountPolicy::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let found = world
                    .db
                    .run_blocking(|tx| tell_unfinished(tx, &policy, 10, now(), &mut Uuid::new_v4))
                    .unwrap();
                seen.fetch_max(found, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(seen.into_inner(), 1);
    assert_eq!(world.count("mail_outbox WHERE kind = 'unfinished_sign_in'"), 1);
    assert_eq!(
        world.count("audit_log WHERE action = 'login.unfinished' AND host(ip::inet) = '192.0.2.2'"),
        1
    );
    assert_eq!(world.count("audit_log WHERE action = 'login.unfinished'"), 1);
    assert_eq!(world.count("login_challenges WHERE notified_at IS NOT NULL"), 1);
}
