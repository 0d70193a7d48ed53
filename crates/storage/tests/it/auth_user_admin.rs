//! The administration of users.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use plimsoll_auth::admin::{self, Change, Changed, Erased, Filter};
use plimsoll_auth::ports::{AccountStore, UserAdminStore};
use plimsoll_auth::{AccountState, Act, EmailAddress, Role};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::order::Side;
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_storage::Db;

use crate::world::{World, add_user, at, market};

/// Of no password that anybody knows.
const UNUSABLE: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$dW51c2FibGV1bnVzYWJsZQ$J5mPVCNJZ+3Wq4NUnKqzW3oLQsVw8qjMSYbWlOWcfzE";

fn act() -> Act {
    Act::without_request(at(10))
}

fn set(db: &Db, user: UserId, role: Option<Role>, state: Option<AccountState>) -> Changed {
    db.run_blocking(|tx| admin::change(tx, &act(), None, user, Change { role, state })).unwrap()
}

fn active_admins(world: &World) -> i64 {
    world.count("users WHERE role = 'admin' AND state = 'active'")
}

/// ADM-4: two administrators who demote or disable each other at the same moment: one of them stays, every time.
#[test]
fn two_parallel_demotions_leave_one_administrator() {
    let world = World::new();
    let pair = ["a@example.com", "b@example.com"].map(|email| add_user(&world.db, email).0);
    for round in 0..12 {
        for user in pair {
            world
                .test
                .execute(&format!("UPDATE users SET role = 'admin', state = 'active' WHERE id = {user}"));
        }
        let barrier = Barrier::new(2);
        let refused = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for (n, user) in pair.into_iter().enumerate() {
                let (world, barrier, refused) = (&world, &barrier, &refused);
                scope.spawn(move || {
                    let demote = (round + n) % 2 == 0;
                    let (role, state) =
                        if demote { (Some(Role::User), None) } else { (None, Some(AccountState::Disabled)) };
                    barrier.wait();
                    let changed = set(&world.db, user, role, state);
                    refused.fetch_add(u32::from(changed == Changed::LastAdmin), Ordering::Relaxed);
                });
            }
        });
        assert_eq!((active_admins(&world), refused.into_inner()), (1, 1), "round {round}");
    }
}

/// ADM-4: so it is for ten of them at once, whoever comes first.
#[test]
fn ten_parallel_demotions_leave_one_administrator() {
    let world = World::new();
    let all: Vec<UserId> = (0..10).map(|n| add_user(&world.db, &format!("admin{n}@example.com")).0).collect();
    world.test.execute("UPDATE users SET role = 'admin' WHERE email LIKE 'admin%'");
    let barrier = Barrier::new(all.len());
    std::thread::scope(|scope| {
        for user in &all {
            scope.spawn(|| {
                barrier.wait();
                set(&world.db, *user, Some(Role::User), None)
            });
        }
    });
    assert_eq!(active_admins(&world), 1);
    assert_eq!(world.count("audit_log WHERE action = 'user.role_change'"), 9);
    assert_eq!(world.count("audit_log WHERE action = 'user.change' AND outcome = 'denied'"), 1);
}

#[test]
fn lists_search_filter_and_go_on_where_they_stopped() {
    let world = World::new();
    let (ada, _) = add_user(&world.db, "Ada.Lovelace@Example.com");
    let (bob, _) = add_user(&world.db, "bob@example.org");
    world.test.execute(&format!("UPDATE users SET display_name = 'Robert %_' WHERE id = {bob}"));
    set(&world.db, bob, Some(Role::Admin), None);
    set(&world.db, ada, None, Some(AccountState::Disabled));
    let ids = |filter: &Filter, before, limit| {
        let listed = world.db.read_blocking(|tx| tx.list_users(filter, before, limit)).unwrap();
        listed.iter().map(|listed| listed.user.id).collect::<Vec<_>>()
    };
    let text = |text: &str| Filter { text: Some(text.into()), ..Filter::default() };
    assert_eq!(ids(&Filter::default(), None, 10), [bob, ada, world.user]);
    assert_eq!(ids(&Filter::default(), None, 2), [bob, ada]);
    assert_eq!(ids(&Filter::default(), Some(ada), 2), [world.user]);
    assert_eq!(ids(&text("LOVELACE"), None, 10), [ada]);
    assert_eq!(ids(&text("robert"), None, 10), [bob]);
    assert_eq!(ids(&text("%_"), None, 10), [bob], "nothing in it is a pattern");
    assert_eq!(ids(&text("nobody"), None, 10), []);
    assert_eq!(ids(&Filter { role: Some(Role::Admin), ..Filter::default() }, None, 10), [bob]);
    let disabled = Filter { state: Some(AccountState::Disabled), ..Filter::default() };
    assert_eq!(ids(&disabled, None, 10), [ada]);

    world.test.execute(&format!(
        "INSERT INTO user_2fa (user_id, secret, enabled_at, updated_at) VALUES ({bob}, '\\x00', now(), now())"
    ));
    world.test.execute(&format!("UPDATE users SET password_disabled_at = now() WHERE id = {ada}"));
    let listed = |user| world.db.read_blocking(|tx| tx.listed_user(user)).unwrap().unwrap();
    assert_eq!((listed(bob).two_factor, listed(bob).password_disabled), (true, false));
    assert_eq!((listed(ada).two_factor, listed(ada).password_disabled), (false, true));
    assert_eq!(listed(ada).created_at, at(0));
}

/// ADM-6: a deleted user's row names nobody; orders and audit entries are still there, under the id.
#[test]
fn a_deleted_user_is_nobody_and_the_books_stay() {
    let world = World::new();
    let user = world.user;
    world.sent(market("SPY", Side::Buy, 10));
    world.test.execute(&format!("UPDATE users SET display_name = 'Theodora Trader' WHERE id = {user}"));
    for statement in [
        "INSERT INTO login_places (user_id, kind, digest, first_seen_at, last_seen_at) VALUES ($, 'device', decode(repeat('01', 32), 'hex'), now(), now())",
        "INSERT INTO user_2fa (user_id, secret, enabled_at, updated_at) VALUES ($, '\\x00', now(), now())",
        "INSERT INTO outbound_hooks (user_id, id, name, url, events, state, secret, epoch, off, created_at, updated_at) VALUES ($, gen_random_uuid(), 'theodora', 'https://theodora.example/', '{}', 'active', '\\x00', gen_random_uuid(), 0, now(), now())",
        "INSERT INTO email_changes (user_id, id, new_email, new_email_folded, old_email, token_digest, created_at, expires_at) VALUES ($, gen_random_uuid(), 'theodora@new.example', 'theodora@new.example', 'trader@example.com', decode(repeat('02', 32), 'hex'), now(), now())",
    ] {
        world.test.execute(&statement.replace('$', &user.to_string()));
    }
    let unusable = PasswordHash::parse(UNUSABLE).unwrap();
    let erase = || world.db.run_blocking(|tx| admin::erase(tx, &act(), None, user, &unusable)).unwrap();
    assert_eq!(erase(), Erased::NotDisabled);
    assert_eq!(world.count("users WHERE email = 'trader@example.com'"), 1);
    set(&world.db, user, None, Some(AccountState::Disabled));
    assert_eq!(erase(), Erased::Done);
    assert_eq!(erase(), Erased::NotFound);
    assert_eq!(set(&world.db, user, None, Some(AccountState::Active)), Changed::NotFound);

    let tables = world.test.rows(
        "SELECT table_name::text AS name FROM information_schema.tables \
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE'",
    );
    for table in tables {
        let table = table["name"].as_str().unwrap().to_owned();
        let named =
            format!("\"{table}\" t WHERE t::text ILIKE '%trader@example%' OR t::text ILIKE '%theodora%'");
        assert_eq!(world.count(&named), 0, "{table}");
    }
    assert_eq!(world.count("orders"), 1);
    assert_eq!(world.count("accounts WHERE state = 'disabled'"), 1);
    assert!(world.count(&format!("audit_log WHERE chain = {user}")) >= 3, "entries are kept");
    let gone = EmailAddress::parse("trader@example.com").unwrap();
    assert_eq!(world.db.read_blocking(|tx| tx.account_by_email(&gone)).unwrap(), None);
    let report = world.db.read_blocking(|tx| tx.users(UserId(0), 10)).unwrap();
    assert!(report.is_empty(), "{report:?}");
    // the address is free again
    add_user(&world.db, "trader@example.com");
}

/// ADM-6: nobody keeps a user from being deleted by registering what deleted users are called.
#[test]
fn no_registered_address_is_in_the_way_of_a_deletion() {
    let world = World::new();
    let user = world.user;
    for address in [format!("deleted-{user}@deleted.invalid"), format!("deleted-{user}-@deleted.invalid")] {
        add_user(&world.db, &address);
    }
    set(&world.db, user, None, Some(AccountState::Disabled));
    let unusable = PasswordHash::parse(UNUSABLE).unwrap();
    let erased = world.db.run_blocking(|tx| admin::erase(tx, &act(), None, user, &unusable)).unwrap();
    assert_eq!(erased, Erased::Done);
    assert_eq!(
        world.count(&format!(
            "users WHERE id = {user} AND email = email_folded AND email ~ '^deleted-{user}-[0-9a-f]{{32}}@'"
        )),
        1
    );
    assert!(world.db.read_blocking(|tx| tx.user_by_id(user)).unwrap().is_some(), "a row that still reads");
}

/// ADM-6: disabling ends sessions, challenges and tokens in the transaction of the change.
#[test]
fn a_disabled_user_has_no_door_left() {
    let world = World::new();
    let user = world.user;
    let doors = [
        "INSERT INTO sessions (user_id, id, token_digest, created_at, last_seen_at, idle_expires_at, expires_at) VALUES ($, gen_random_uuid(), decode(repeat('01', 32), 'hex'), now(), now(), now() + interval '1 h', now() + interval '1 h')",
        "INSERT INTO login_challenges (user_id, id, token_digest, transport, created_at, expires_at) VALUES ($, gen_random_uuid(), decode(repeat('02', 32), 'hex'), 'bearer', now(), now() + interval '1 h')",
        "INSERT INTO password_reset_tokens (user_id, id, token_digest, created_at, expires_at) VALUES ($, gen_random_uuid(), decode(repeat('03', 32), 'hex'), now(), now() + interval '1 h')",
        "INSERT INTO api_tokens (user_id, id, name, token_digest, scopes, created_at, expires_at) VALUES ($, gen_random_uuid(), 'x', decode(repeat('04', 32), 'hex'), '{read}', now(), now() + interval '1 h')",
    ];
    for door in doors {
        world.test.execute(&door.replace('$', &user.to_string()));
    }
    set(&world.db, user, None, Some(AccountState::Disabled));
    for open in [
        "sessions WHERE revoked_at IS NULL",
        "login_challenges WHERE voided_at IS NULL",
        "password_reset_tokens WHERE voided_at IS NULL",
        "api_tokens WHERE revoked_at IS NULL",
    ] {
        assert_eq!(world.count(open), 0, "{open}");
    }
}
