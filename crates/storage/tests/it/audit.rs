//! The audit log: chained, append-only, verifiable.

use plimsoll_core_domain::order::Side;
use plimsoll_crypto::OsRandom;
use plimsoll_storage::platform::keys::{KeysError, PlatformKeys};

use crate::world::{KEY, World, accept, market, ring};

fn world_with_entries(count: usize) -> World {
    let world = World::new();
    for n in 0..count {
        world.accept(&accept(world.user, &format!("k{n}"), market("SPY", Side::Buy, 1))).unwrap();
    }
    world
}

#[test]
fn an_altered_removed_or_truncated_row_is_named() {
    for (harm, seq, reason) in [
        ("UPDATE audit_log SET detail = '{}' WHERE seq = 2", 2, "altered"),
        ("DELETE FROM audit_log WHERE seq = 2", 2, "missing"),
        ("DELETE FROM audit_log WHERE seq = 3", 3, "truncated"),
        ("UPDATE audit_log SET outcome = 'denied' WHERE seq = 1", 1, "altered"),
    ] {
        let world = world_with_entries(3);
        let report = world.db.read_blocking(|tx| tx.verify_audit()).unwrap();
        assert_eq!((report.entries, report.first_bad), (3, None));
        world.test.execute("ALTER TABLE audit_log DISABLE TRIGGER USER");
        world.test.execute(harm);
        let bad = world.db.read_blocking(|tx| tx.verify_audit()).unwrap().first_bad.unwrap();
        assert_eq!((bad.chain, bad.seq, bad.reason), (world.user.0, seq, reason), "{harm}");
    }
}

#[test]
fn the_table_refuses_changes() {
    let world = world_with_entries(1);
    for harm in ["UPDATE audit_log SET detail = '{}'", "DELETE FROM audit_log", "TRUNCATE audit_log"] {
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.test.execute(harm)));
        assert!(refused.is_err(), "{harm}");
    }
    assert_eq!(world.count("audit_log"), 1);
}

#[test]
fn control_characters_do_not_reach_the_log() {
    let world = world_with_entries(1);
    let rows = world.test.rows("SELECT user_agent FROM audit_log");
    assert_eq!(rows[0]["user_agent"], "test   [31m");
}

#[test]
fn another_master_key_is_told_apart_at_once() {
    let world = World::new();
    let db = world.test.db();
    assert!(PlatformKeys::load_or_create(&db, &ring(KEY), &mut OsRandom).is_ok());
    let other = KEY.replace('8', "7");
    let refused = PlatformKeys::load_or_create(&db, &ring(&other), &mut OsRandom);
    assert!(matches!(refused, Err(KeysError::WrongKey(_))), "{refused:?}");
}
