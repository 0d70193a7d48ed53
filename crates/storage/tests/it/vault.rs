//! The vault: data keys, credentials sealed under them, and the accounts they trade with.

use std::sync::Barrier;
use std::thread;

use plimsoll_auth::Act;
use plimsoll_auth::ports::{AccountStore, TwoFactorStore, UserAdminStore, VaultStore};
use plimsoll_auth::totp::TotpSecret;
use plimsoll_auth::two_factor::StoredSecret;
use plimsoll_auth::vault::{
    self, BrokerKeys, BrokerName, CredentialState, CredentialView, Judgement, Opened, Saved, VaultKeys,
    user_ring,
};
use plimsoll_core_domain::order::{Environment, Side};
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::sealing::sealed_with;
use plimsoll_crypto::{Aad, OsRandom, seal};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::auth::{accounts_topic, user_of_accounts_topic};
use plimsoll_storage::platform::orders::Accepted;
use secrecy::ExposeSecret;
use serde_json::Value;
use uuid::Uuid;

use crate::world::{World, accept, add_user, at, market};

const ALPACA: BrokerName = BrokerName::Alpaca;

fn run<T>(world: &World, work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> T {
    world.db.run_blocking(work).unwrap()
}

fn act(second: i64) -> Act {
    Act::without_request(at(second))
}

fn keys(key: &str) -> BrokerKeys {
    BrokerKeys::parse(key.to_owned().into(), format!("secret-of-{key}").into()).unwrap()
}

fn save(world: &World, user: UserId, environment: Environment, key: &str) -> Saved {
    let own = VaultKeys { ring: &world.keys.ring, pepper: &world.keys.pepper };
    let keys = keys(key);
    run(world, |tx| {
        vault::save(tx, own, Some(user), user, ALPACA, environment, &keys, &act(1), &mut OsRandom)
    })
}

fn saved(world: &World, user: UserId, key: &str) -> CredentialView {
    match save(world, user, Environment::Paper, key) {
        Saved::Done(view) => view,
        other => panic!("{other:?}"),
    }
}

fn open(world: &World, user: UserId) -> Opened {
    run(world, |tx| vault::open(tx, &world.keys.ring, user, ALPACA, &act(2)))
}

/// The key's id, where the credential opens.
fn key_of(world: &World, user: UserId) -> Option<String> {
    match open(world, user) {
        Opened::Keys { keys, .. } => Some(keys.api_key.expose_secret().to_owned()),
        Opened::Nothing | Opened::Undecryptable => None,
    }
}

#[test]
fn a_credential_comes_back_and_its_row_holds_nothing_readable() {
    let world = World::new();
    let (key, secret) = ("PKCANARYKEY000000001", "secret-of-PKCANARYKEY000000001");
    let view = saved(&world, world.user, key);
    assert_eq!(run(&world, |tx| vault::list(tx, world.user)), std::slice::from_ref(&view));
    match open(&world, world.user) {
        Opened::Keys { keys, version, environment } => {
            assert_eq!((keys.api_key.expose_secret(), keys.api_secret.expose_secret()), (key, secret));
            assert_eq!((version, environment), (view.version, Environment::Paper));
        }
        other => panic!("{other:?}"),
    }
    let dump = |query: &str| format!("{:?}", world.test.rows(query));
    let rows = [
        dump("SELECT *, encode(api_key, 'escape') AS a, encode(api_secret, 'escape') AS b FROM broker_credentials"),
        dump("SELECT *, encode(wrapped, 'escape') AS w FROM user_keys"),
        dump("SELECT * FROM audit_log"),
        dump("SELECT * FROM stream_event"),
    ]
    .concat();
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    for canary in ["PKCANARYKEY", "secret-of-PK", &hex("CANARYKEY")] {
        assert!(!rows.contains(canary), "{canary}");
    }
    let key_id = world.keys.ring.active().to_string();
    assert_eq!(world.count(&format!("user_keys WHERE key_id = '{key_id}'")), 1);
}

#[test]
fn versions_only_rise_and_a_late_word_about_old_keys_changes_nothing() {
    let world = World::new();
    let first = saved(&world, world.user, "PKFIRSTKEY0000000001");
    let second = saved(&world, world.user, "PKSECONDKEY000000002");
    assert!(run(&world, |tx| vault::remove(tx, Some(world.user), world.user, ALPACA, &act(2))));
    assert!(!run(&world, |tx| vault::remove(tx, Some(world.user), world.user, ALPACA, &act(2))));
    assert!(matches!(open(&world, world.user), Opened::Nothing));
    let third = saved(&world, world.user, "PKFIRSTKEY0000000001");
    assert!(first.version < second.version && second.version < third.version);
    assert_eq!(first.fingerprint, third.fingerprint);
    let judge = |version, state| {
        let judgement = Judgement { version, state, reason: Some("HTTP 401") };
        run(&world, |tx| vault::judge(tx, world.user, ALPACA, &judgement, Uuid::now_v7(), &act(3)))
    };
    assert!(!judge(first.version, CredentialState::Invalid));
    assert_eq!(run(&world, |tx| vault::list(tx, world.user))[0].state, CredentialState::Unverified);
    assert!(judge(third.version, CredentialState::Valid));
    assert!(world.events().is_empty());
    assert!(judge(third.version, CredentialState::Invalid));
    let state = world
        .test
        .rows("SELECT state, state_reason, checked_at IS NOT NULL AS checked FROM broker_credentials");
    assert_eq!(state[0]["state"], "invalid");
    assert_eq!((&state[0]["state_reason"], &state[0]["checked"]), (&"HTTP 401".into(), &Value::Bool(true)));
    assert_eq!(world.events(), ["system_alert"]);
    assert_eq!(world.count("mail_outbox WHERE kind = 'broker_keys_refused'"), 1);
    // New keys begin anew.
    assert_eq!(saved(&world, world.user, "PKFIRSTKEY0000000001").state, CredentialState::Unverified);
    assert_eq!(world.count("broker_credentials WHERE checked_at IS NULL AND state_reason IS NULL"), 1);
}

#[test]
fn two_instances_agree_on_one_data_key() {
    let world = World::new();
    for round in 0..5 {
        let (user, _) = add_user(&world.db, &format!("user{round}@example.com"));
        let barrier = Barrier::new(2);
        let ids: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let made =
                            run(&world, |tx| user_ring(tx, &world.keys.ring, user, at(0), &mut OsRandom));
                        made.unwrap().active()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(ids[0], ids[1]);
        assert_eq!(world.count(&format!("user_keys WHERE user_id = {user}")), 1);
    }
}

/// ENC-2: moved by SQL between columns, rows or users, or changed, a ciphertext never opens; put back, it does.
#[test]
fn a_moved_ciphertext_never_opens() {
    let world = World::new();
    let (bob, _) = add_user(&world.db, "bob@example.com");
    let ann = world.user;
    saved(&world, ann, "PKOFANN0000000000001");
    saved(&world, bob, "PKOFBOB0000000000002");
    world.test.execute("CREATE TABLE kept AS SELECT * FROM broker_credentials; CREATE TABLE kept_keys AS SELECT * FROM user_keys");
    let put_back = || {
        world.test.execute(
            "UPDATE broker_credentials c SET api_key = k.api_key, api_secret = k.api_secret FROM kept k \
             WHERE k.user_id = c.user_id; \
             UPDATE user_keys c SET wrapped = k.wrapped FROM kept_keys k WHERE k.user_id = c.user_id",
        );
    };
    let moves = [
        "UPDATE broker_credentials SET api_key = api_secret, api_secret = api_key",
        "UPDATE broker_credentials c SET api_key = k.api_key FROM kept k WHERE k.user_id <> c.user_id",
        "UPDATE broker_credentials c SET api_secret = k.api_secret FROM kept k WHERE k.user_id <> c.user_id",
        "UPDATE broker_credentials c SET api_key = k.api_key, api_secret = k.api_secret FROM kept k \
         WHERE k.user_id <> c.user_id",
        "UPDATE user_keys c SET wrapped = k.wrapped FROM kept_keys k WHERE k.user_id <> c.user_id",
        // The other user's key and all that it sealed: the owner is part of what was sealed.
        "UPDATE broker_credentials c SET api_key = k.api_key, api_secret = k.api_secret FROM kept k \
         WHERE k.user_id <> c.user_id; \
         UPDATE user_keys c SET wrapped = k.wrapped FROM kept_keys k WHERE k.user_id <> c.user_id",
        "UPDATE broker_credentials SET api_key = set_byte(api_key, 40, get_byte(api_key, 40) # 1)",
        "UPDATE broker_credentials SET api_secret = substring(api_secret FROM 1 FOR 30)",
        "UPDATE user_keys SET wrapped = set_byte(wrapped, 50, get_byte(wrapped, 50) # 128)",
        "DELETE FROM user_keys",
    ];
    for sql in moves {
        world.test.execute(sql);
        for user in [ann, bob] {
            assert!(matches!(open(&world, user), Opened::Undecryptable), "{sql}");
        }
        put_back();
        if sql.starts_with("DELETE") {
            world.test.execute("INSERT INTO user_keys SELECT * FROM kept_keys");
        }
        assert_eq!(key_of(&world, ann).as_deref(), Some("PKOFANN0000000000001"), "{sql}");
        assert_eq!(key_of(&world, bob).as_deref(), Some("PKOFBOB0000000000002"), "{sql}");
    }
    assert_eq!(world.count("broker_credentials"), 2, "nothing is deleted");
}

/// ENC-13: on record, told to administrators, once a minute.
#[test]
fn a_failure_to_open_is_on_record_and_told_to_administrators() {
    let world = World::new();
    let (admin, _) = add_user(&world.db, "admin@example.com");
    world.test.execute(&format!("UPDATE users SET role = 'admin' WHERE id = {admin}"));
    saved(&world, world.user, "PKOFANN0000000000001");
    world.test.execute("UPDATE broker_credentials SET api_key = api_secret");
    for _ in 0..3 {
        assert!(matches!(open(&world, world.user), Opened::Undecryptable));
    }
    let of_user = format!("audit_log WHERE chain = {} AND action = 'credential.undecryptable'", world.user);
    assert_eq!(world.count(&of_user), 1);
    let alerts = world.test.rows("SELECT stream_id, payload FROM stream_event WHERE kind = 'system_alert'");
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0]["stream_id"].as_i64(), Some(admin.0));
    assert!(alerts[0]["payload"].as_str().unwrap().contains("\"critical\""));
}

/// ENC-8: with the user goes the data key, and a copy of the rows from before opens nowhere.
#[test]
fn a_copy_of_a_deleted_users_rows_opens_nowhere() {
    let world = World::new();
    let user = world.user;
    saved(&world, user, "PKOFANN0000000000001");
    let totp = TotpSecret::from_bytes(&[7; 20]).unwrap();
    run(&world, |tx| {
        tx.set_pending_factor(user, &totp, at(600), &[], at(0))?;
        assert!(tx.activate_pending_factor(user, &totp, 1, at(0))?);
        Ok(())
    });
    world.test.execute(
        "CREATE TABLE kept AS SELECT * FROM broker_credentials; CREATE TABLE kept_2fa AS SELECT * FROM user_2fa",
    );
    run(&world, |tx| {
        tx.set_state(user, plimsoll_auth::AccountState::Disabled, at(1))?;
        let account = tx.lock_account_of(user)?.unwrap();
        tx.erase_user(user, &account.password_hash, at(2))
    });
    assert_eq!(world.count("user_keys") + world.count("broker_credentials") + world.count("user_2fa"), 0);
    world.test.execute(
        "INSERT INTO broker_credentials SELECT * FROM kept; INSERT INTO user_2fa SELECT * FROM kept_2fa",
    );
    assert!(matches!(open(&world, user), Opened::Undecryptable));
    let factor = run(&world, |tx| tx.factor_of(user)).unwrap();
    assert!(matches!(factor.secret, Some(StoredSecret::Unreadable)));
    // Nor under a key made later.
    run(&world, |tx| user_ring(tx, &world.keys.ring, user, at(3), &mut OsRandom)).unwrap();
    assert!(matches!(open(&world, user), Opened::Undecryptable));
    let factor = run(&world, |tx| tx.factor_of(user)).unwrap();
    assert!(matches!(factor.secret, Some(StoredSecret::Unreadable)));
    assert_eq!(save(&world, user, Environment::Paper, "PKOFNOBODY0000000001"), Saved::NotActive);
}

#[test]
fn a_totp_secret_of_before_data_keys_opens_and_moves_under_one_when_it_is_used() {
    let world = World::new();
    let (user, row) = (world.user, world.user.to_string());
    let totp = TotpSecret::from_bytes(&[7; 20]).unwrap();
    let aad = Aad { table: "user_2fa", column: "secret", row: &row, owner: Some(user.0) };
    let sealed = seal(&world.keys.ring, &aad, totp.expose_bytes(), &mut OsRandom);
    let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
    world.test.execute(&format!(
        "INSERT INTO user_2fa (user_id, secret, enabled_at, updated_at) VALUES ({user}, '\\x{hex}', now(), now())"
    ));
    let readable = || {
        let factor = run(&world, |tx| tx.factor_of(user)).unwrap();
        matches!(factor.secret, Some(StoredSecret::Readable(secret)) if *secret.expose_bytes() == [7; 20])
    };
    let sealer = || {
        let rows =
            world.test.rows("SELECT encode(substring(secret FROM 2 FOR 8), 'hex') AS id FROM user_2fa");
        rows[0]["id"].as_str().unwrap().to_owned()
    };
    let installation = world.keys.ring.active().to_string();
    assert!(readable());
    assert_eq!((sealer(), world.count("user_keys")), (installation.clone(), 0));
    // A data key that is made for something else does not keep the old value from opening.
    run(&world, |tx| user_ring(tx, &world.keys.ring, user, at(0), &mut OsRandom)).unwrap();
    assert!(readable());
    assert!(run(&world, |tx| tx.use_totp_step(user, 10, at(1))));
    assert!(!run(&world, |tx| tx.use_totp_step(user, 10, at(1))));
    let moved = sealer();
    assert_ne!(moved, installation);
    assert!(readable());
    assert!(run(&world, |tx| tx.use_totp_step(user, 11, at(2))));
    assert_eq!(sealer(), moved);
    // What is set up now is sealed under it from the start.
    run(&world, |tx| tx.set_pending_factor(user, &totp, at(600), &[], at(0)));
    let pending =
        world.test.rows("SELECT encode(substring(pending_secret FROM 2 FOR 8), 'hex') AS id FROM user_2fa");
    assert_eq!(pending[0]["id"].as_str().unwrap(), moved);
    let wrapped = run(&world, |tx| tx.wrapped_key(user)).unwrap();
    assert_eq!(sealed_with(&wrapped).unwrap(), world.keys.ring.active());
}

#[test]
fn the_environment_changes_with_the_keys_and_histories_stay_apart() {
    let world = World::new();
    let (user, paper) = (world.user, world.account);
    saved(&world, user, "PKOFANN0000000000001");
    let order = world.sent(market("SPY", Side::Buy, 1));
    assert_eq!(save(&world, user, Environment::Live, "AKOFANN0000000000001"), Saved::OrdersOpen);
    assert_eq!(run(&world, |tx| tx.account_of_user(user)).unwrap().id, paper);
    assert_eq!(run(&world, |tx| vault::list(tx, user))[0].environment, Environment::Paper);
    world.test.execute("UPDATE orders SET status = 'canceled', closed_at = now()");
    assert!(matches!(save(&world, user, Environment::Live, "AKOFANN0000000000001"), Saved::Done(_)));
    let live = run(&world, |tx| tx.account_of_user(user)).unwrap();
    assert!(live.active && !live.live_enabled && live.id != paper);
    assert_eq!(live.environment, Environment::Live);
    assert_eq!(run(&world, |tx| tx.active_accounts()).len(), 1);
    assert_eq!(run(&world, |tx| tx.accounts_of_user(user)).len(), 2);
    // What was done with play money is found by its id and stands in no list of real money.
    assert_eq!(run(&world, |tx| tx.account_with_order(user, order)), Some(paper));
    assert_eq!(run(&world, |tx| tx.account_with_order(UserId(999), order)), None);
    assert!(run(&world, |tx| tx.order(paper, order)).is_some());
    assert!(run(&world, |tx| tx.order_list(user, &Default::default())).is_empty());
    // And back: the same account as before.
    saved(&world, user, "PKOFANN0000000000001");
    assert_eq!(run(&world, |tx| tx.account_of_user(user)).unwrap().id, paper);
    assert_eq!(world.count("accounts WHERE state = 'active'"), 1);
    let second = world.db.run_blocking(|tx| tx.insert_account(user, Environment::Live, at(5)));
    assert_eq!(second.unwrap_err().kind(), StoreErrorKind::Duplicate);
}

#[test]
fn orders_with_real_money_need_their_owners_word() {
    let world = World::new();
    let user = world.user;
    assert!(matches!(save(&world, user, Environment::Live, "AKOFANN0000000000001"), Saved::Done(_)));
    let wanted = |key: &str| accept(user, key, market("SPY", Side::Buy, 1));
    assert!(matches!(world.accept(&wanted("a")).unwrap(), Accepted::LiveDisabled));
    assert_eq!(world.count("orders") + world.count("idempotency_keys") + world.count("jobs"), 0);
    let allow = |enabled| run(&world, |tx| tx.set_live_enabled(user, ALPACA, enabled, at(2)));
    assert!(allow(true));
    assert!(!allow(true));
    assert!(matches!(world.accept(&wanted("a")).unwrap(), Accepted::New { .. }));
    assert!(allow(false));
    assert!(!allow(false));
    assert!(matches!(world.accept(&wanted("b")).unwrap(), Accepted::LiveDisabled));
    // Play money needs none.
    world.test.execute("UPDATE orders SET status = 'canceled', closed_at = now()");
    saved(&world, user, "PKOFANN0000000000001");
    assert!(matches!(world.accept(&wanted("c")).unwrap(), Accepted::New { .. }));
}

#[test]
fn the_word_may_come_before_the_account() {
    let world = World::new();
    let user = world.user;
    assert!(run(&world, |tx| tx.set_live_enabled(user, ALPACA, true, at(1))));
    assert_eq!(run(&world, |tx| tx.account_of_user(user)).unwrap().id, world.account);
    assert!(matches!(save(&world, user, Environment::Live, "AKOFANN0000000000001"), Saved::Done(_)));
    assert!(run(&world, |tx| tx.account_of_user(user)).unwrap().live_enabled);
}

#[test]
fn only_accounts_with_keys_for_their_environment_are_to_be_connected() {
    let world = World::new();
    let (bob, of_bob) = add_user(&world.db, "bob@example.com");
    let trading = || -> Vec<_> {
        let accounts = run(&world, |tx| tx.trading_accounts());
        accounts.into_iter().map(|it| (it.account.id, it.credential_version, it.state)).collect()
    };
    assert!(trading().is_empty());
    let ann = saved(&world, world.user, "PKOFANN0000000000001");
    let second = saved(&world, bob, "PKOFBOB0000000000002");
    let unverified = CredentialState::Unverified;
    assert_eq!(trading(), [(world.account, ann.version, unverified), (of_bob, second.version, unverified)]);
    world.test.execute(&format!("UPDATE users SET state = 'disabled' WHERE id = {bob}"));
    assert_eq!(trading(), [(world.account, ann.version, unverified)]);
    world.test.execute("UPDATE accounts SET environment = 'live'");
    assert!(trading().is_empty(), "keys for play money open no account with real money");
}

/// ADM-6: what a disabled user has at the broker is followed to its end.
#[test]
fn a_disabled_users_open_orders_are_followed() {
    let world = World::new();
    let user = world.user;
    saved(&world, user, "PKOFANN0000000000001");
    world.accept(&accept(user, "k", market("SPY", Side::Buy, 1))).unwrap();
    world.test.execute("UPDATE users SET state = 'disabled'");
    assert_eq!(run(&world, |tx| tx.trading_accounts()).len(), 1);
    world.test.execute("UPDATE orders SET status = 'canceled', closed_at = now()");
    assert!(run(&world, |tx| tx.trading_accounts()).is_empty());
}

/// An order that comes in while its user changes the environment is taken for one of the two, or has to be sent again.
#[test]
fn orders_and_a_change_of_environment_wait_for_each_other() {
    let world = World::new();
    let user = world.user;
    assert!(run(&world, |tx| tx.set_live_enabled(user, ALPACA, true, at(0))));
    for round in 0..10 {
        let environment = if round % 2 == 0 { Environment::Live } else { Environment::Paper };
        let barrier = Barrier::new(2);
        let (switched, accepted) = thread::scope(|scope| {
            let switch = scope.spawn(|| {
                barrier.wait();
                save(&world, user, environment, "PKOFANN0000000000001")
            });
            barrier.wait();
            let accepted = world.accept(&accept(user, &format!("k{round}"), market("SPY", Side::Buy, 1)));
            (switch.join().unwrap(), accepted)
        });
        match accepted {
            Ok(Accepted::New { order, .. }) => {
                let moved = matches!(switched, Saved::Done(_));
                assert_eq!(order.environment == environment, moved, "{round}: {switched:?}");
            }
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::Unavailable);
                assert!(matches!(switched, Saved::Done(_)));
            }
            Ok(other) => panic!("{other:?}"),
        }
        world
            .test
            .execute("UPDATE orders SET status = 'canceled', closed_at = now() WHERE closed_at IS NULL");
        assert!(matches!(save(&world, user, environment, "PKOFANN0000000000001"), Saved::Done(_)));
    }
}

#[test]
fn topics_of_accounts_read_back() {
    assert_eq!(user_of_accounts_topic(&accounts_topic(UserId(42))), Some(UserId(42)));
    assert_eq!(user_of_accounts_topic("logins:42"), None);
}
