//! API tokens.

use std::sync::atomic::{AtomicU32, Ordering};

use chrono::TimeDelta;
use plimsoll_auth::api_tokens::{self, Scope, TokenRecord};
use plimsoll_auth::ports::ApiTokenStore;
use plimsoll_auth::sessions::AuthenticateError;
use plimsoll_auth::{AccountPolicy, Act};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::{ApiToken, TokenDigest};
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::world::{World, add_user, at};

const DAY: i64 = 86_400;

fn record(user: UserId, n: u128, days: i64) -> TokenRecord {
    TokenRecord {
        id: Uuid::from_u128(n),
        user_id: user,
        name: "robot ü".into(),
        scopes: [Scope::TradePaper, Scope::Read].into_iter().collect(),
        allowed_ips: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        created_at: at(i64::try_from(n).unwrap()),
        expires_at: at(days * DAY),
        last_used_at: None,
        last_used_ip: None,
        revoked_at: None,
        warned_at: None,
    }
}

fn digest(n: u8) -> TokenDigest {
    TokenDigest([n; 32])
}

fn insert(world: &World, n: u8, record: &TokenRecord) {
    world.db.run_blocking(|tx| tx.insert_api_token(&digest(n), record)).unwrap();
}

fn calls(world: &World, n: u8, ip: &str, second: i64) -> bool {
    let called = world.db.read_blocking(|tx| {
        match api_tokens::authenticate(tx, &digest(n), ip.parse().ok(), at(second)) {
            Ok(_) => Ok(true),
            Err(AuthenticateError::NotAuthenticated) => Ok(false),
            Err(AuthenticateError::Store(error)) => Err::<_, StoreError>(error),
        }
    });
    called.unwrap()
}

/// TOK-1, TOK-2: a token comes back as written, and only the digest of its secret is in the database.
#[test]
fn a_token_comes_back_as_written_and_its_secret_is_nowhere() {
    let world = World::new();
    let token = ApiToken::generate(&mut OsRandom);
    let new =
        api_tokens::NewToken { id: Uuid::from_u128(1), token: token.clone(), mail_id: Uuid::from_u128(2) };
    let written = record(world.user, 1, 30);
    let wanted = api_tokens::Wanted {
        name: written.name.clone(),
        scopes: written.scopes,
        expires_at: written.expires_at,
        allowed_ips: written.allowed_ips.clone(),
    };
    let (act, policy) = (Act::without_request(at(1)), AccountPolicy::default());
    let made = world
        .db
        .run_blocking(|tx| api_tokens::create(tx, &policy, &act, world.user, &new, wanted.clone()))
        .unwrap();
    assert_eq!(made.as_ref(), Ok(&written));
    let found = || world.db.read_blocking(|tx| tx.api_token_by_digest(&token.digest())).unwrap().unwrap();
    let read = found();
    assert_eq!((read.token, read.user.id, read.two_factor), (written, world.user, false));
    for (enabled_at, two_factor) in [("NULL", false), ("now()", true)] {
        world.test.execute(&format!(
            "DELETE FROM user_2fa; INSERT INTO user_2fa (user_id, secret, enabled_at, pending_secret, \
             pending_expires_at, updated_at) VALUES ({}, CASE WHEN {enabled_at} IS NOT NULL THEN '\\x00'::bytea END, \
             {enabled_at}, '\\x00', now(), now())",
            world.user
        ));
        assert_eq!(found().two_factor, two_factor, "{enabled_at}");
    }
    assert_eq!(world.count("mail_outbox WHERE kind = 'new_api_token'"), 1);

    let text = token.expose_text();
    let secret = &text.expose_secret()[4..56];
    for table in ["api_tokens", "audit_log", "mail_outbox", "jobs"] {
        assert_eq!(
            world.count(&format!("{table} t WHERE strpos(lower(t::text), '{secret}') > 0")),
            0,
            "{table}"
        );
    }
}

/// TOK-2: what may not be used is refused by the database's own rows.
#[test]
fn tokens_end_and_belong_to_their_networks() {
    let world = World::new();
    insert(&world, 1, &record(world.user, 1, 1));
    assert!(calls(&world, 1, "192.0.2.77", 5) && calls(&world, 1, "2001:db8::1", 5));
    assert!(!calls(&world, 1, "192.0.3.1", 5) && !calls(&world, 1, "none", 5));
    assert!(!calls(&world, 1, "192.0.2.77", DAY) && !calls(&world, 2, "192.0.2.77", 5));
    world.test.execute("UPDATE users SET state = 'disabled'");
    assert!(!calls(&world, 1, "192.0.2.77", 6));
}

/// TOK-2: the last use stands with its address, written at most once a minute, and never goes back.
#[test]
fn the_last_use_is_kept() {
    let world = World::new();
    insert(&world, 1, &record(world.user, 1, 1));
    for (second, ip) in [(10, "192.0.2.1"), (69, "192.0.2.2")] {
        assert!(calls(&world, 1, ip, second));
    }
    let row = &world.test.rows("SELECT host(last_used_ip) AS ip, last_used_at FROM api_tokens")[0];
    assert_eq!(row["ip"], "192.0.2.1");
    assert!(calls(&world, 1, "2001:db8::1", 70));
    assert!(calls(&world, 1, "192.0.2.3", 30), "a clock behind");
    let row = &world.test.rows("SELECT host(last_used_ip) AS ip FROM api_tokens")[0];
    assert_eq!(row["ip"], "2001:db8::1");
}

/// ADM-2: nobody ends or lists another's token.
#[test]
fn tokens_are_their_owners() {
    let world = World::new();
    let (other, _) = add_user(&world.db, "other@example.com");
    for n in 1..=3 {
        insert(&world, n, &record(world.user, n.into(), 1));
    }
    let act = Act::without_request(at(5));
    let revoke =
        |user, n| world.db.run_blocking(|tx| api_tokens::revoke(tx, &act, user, Uuid::from_u128(n))).unwrap();
    assert!(!revoke(other, 1) && !revoke(other, 99));
    assert!(revoke(world.user, 2) && !revoke(world.user, 2));
    let ids = |user, after, limit| {
        let page = world.db.read_blocking(|tx| api_tokens::list(tx, user, after, limit, at(5))).unwrap();
        page.iter().map(|token| token.id.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(ids(world.user, None, 10), [3, 1]);
    assert_eq!(ids(world.user, None, 1), [3]);
    assert_eq!(ids(world.user, Some((at(3), Uuid::from_u128(3))), 10), [1]);
    assert!(ids(other, None, 10).is_empty());
    assert!(calls(&world, 1, "192.0.2.1", 6) && !calls(&world, 2, "192.0.2.1", 6));
    assert_eq!(world.count("audit_log WHERE action = 'api_token.revoke'"), 1);
}

/// TOK-5: fifty parallel notices of one token are one mail.
#[test]
fn an_end_is_told_of_once() {
    let world = World::new();
    insert(&world, 1, &record(world.user, 1, 7));
    insert(&world, 2, &record(world.user, 2, 8));
    let policy = AccountPolicy::default();
    let due = world.db.read_blocking(|tx| api_tokens::due_notices(tx, &policy, 10, at(0))).unwrap();
    assert_eq!(due.iter().map(|notice| notice.token.id.as_u128()).collect::<Vec<_>>(), [1]);
    let told = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for n in 0..50_u128 {
            let (world, due, told) = (&world, &due, &told);
            scope.spawn(move || {
                let mail = Uuid::from_u128(1000 + n);
                let given = world.db.run_blocking(|tx| api_tokens::give_notice(tx, &due[0], mail, at(0)));
                told.fetch_add(u32::from(given.unwrap()), Ordering::Relaxed);
            });
        }
    });
    assert_eq!(told.into_inner(), 1);
    assert_eq!(world.count("mail_outbox WHERE kind = 'api_token_expires'"), 1);
    let later = at(0) + TimeDelta::days(1);
    let due = world.db.read_blocking(|tx| api_tokens::due_notices(tx, &policy, 10, later)).unwrap();
    assert_eq!(due.iter().map(|notice| notice.token.id.as_u128()).collect::<Vec<_>>(), [2]);
}
