//! The audit log: chained, append-only, verifiable.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use plimsoll_core_domain::audit::{AuditEntry, AuditLog, AuditOutcome};
use plimsoll_core_domain::order::Side;
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::{InstallationKey, KeyPurpose, OsRandom};
use plimsoll_storage::platform::audit::{AuditFilter, AuditReport, BadEntry};
use plimsoll_storage::platform::keys::{KeysError, PlatformKeys};
use plimsoll_storage::{Db, DbSettings, PoolKind};
use serde_json::json;
use uuid::Uuid;

use crate::world::{KEY, World, accept, add_user, at, market, ring};

fn entry(action: &str, second: i64) -> AuditEntry {
    AuditEntry {
        at: at(second),
        action: action.into(),
        outcome: AuditOutcome::Success,
        actor_id: None,
        subject_id: None,
        ip: None,
        user_agent: None,
        request_id: None,
        detail: json!({"price": "1.50", "a": [null, true]}),
    }
}

fn append(db: &Db, owner: Option<UserId>, entry: &AuditEntry) {
    db.run_blocking(|tx| AuditLog::append_audit(tx, owner, entry)).unwrap();
}

fn verify(db: &Db) -> AuditReport {
    db.read_snapshot_blocking(|tx| tx.verify_audit()).unwrap()
}

/// Carries a report out of a transaction that is rolled back.
#[derive(Debug, thiserror::Error)]
enum Found {
    #[error("{0:?}")]
    Report(AuditReport),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn world_with_entries(count: usize) -> World {
    let world = World::new();
    for n in 0..count {
        world.accept(&accept(world.user, &format!("k{n}"), market("SPY", Side::Buy, 1))).unwrap();
    }
    world
}

/// AUD-2: every kind of harm is found, and the first bad row named.
#[test]
fn an_altered_removed_or_truncated_row_is_named() {
    let world = world_with_entries(3);
    let intact = verify(&world.db);
    assert_eq!(intact, AuditReport { chains: 17, entries: 3, ..AuditReport::default() });
    // the owner can switch the trigger off; two rows change places in one statement where the key is checked at its end
    world.test.execute(
        "ALTER TABLE audit_log DISABLE TRIGGER USER; \
         ALTER TABLE audit_log DROP CONSTRAINT audit_log_pkey, ADD PRIMARY KEY (chain, seq) DEFERRABLE",
    );
    for (harm, seq, reason) in [
        ("UPDATE audit_log SET detail = '{}' WHERE seq = 2", 2, "altered"),
        ("DELETE FROM audit_log WHERE seq = 2", 2, "missing"),
        ("DELETE FROM audit_log WHERE seq = 3", 3, "truncated"),
        ("UPDATE audit_log SET outcome = 'denied' WHERE seq = 1", 1, "altered"),
        ("UPDATE audit_log SET mac = sha256(mac) WHERE seq = 3", 3, "altered"),
        ("UPDATE audit_log SET request_id = NULL WHERE seq = 2", 2, "altered"),
        ("UPDATE audit_log SET at = at + interval '1 microsecond' WHERE seq = 2", 2, "altered"),
        ("UPDATE audit_log SET seq = 5 - seq WHERE seq IN (2, 3)", 2, "altered"),
        ("TRUNCATE audit_log", 1, "truncated"),
        ("UPDATE audit_head SET seq = 2 WHERE seq = 3", 2, "head altered"),
        ("UPDATE audit_head SET mac = sha256(mac) WHERE seq = 3", 3, "head altered"),
        (
            "UPDATE audit_head h SET seq = 2, mac = l.mac FROM audit_log l WHERE h.seq = 3 AND l.seq = 2",
            3,
            "beyond the head",
        ),
        ("DELETE FROM audit_head WHERE seq = 3", 0, "no head"),
        ("DELETE FROM audit_head WHERE seq = 3; TRUNCATE audit_log", 0, "no head"),
    ] {
        let found: Result<(), Found> = world.db.run_blocking(|tx| {
            tx.execute_raw(harm)?;
            Err(Found::Report(tx.verify_audit()?)) // and undo the harm
        });
        let Err(Found::Report(report)) = found else { panic!("{harm}: {found:?}") };
        let bad = BadEntry { chain: world.user.0, seq, reason };
        assert_eq!(report.first_bad, Some(bad), "{harm}");
    }
    assert_eq!(verify(&world.db), intact, "every harm was undone");
}

/// AUD-1: a trigger refuses changes, from the owner too.
#[test]
fn the_table_refuses_changes() {
    let world = world_with_entries(1);
    for harm in ["UPDATE audit_log SET detail = '{}'", "DELETE FROM audit_log", "TRUNCATE audit_log"] {
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.test.execute(harm)));
        assert!(refused.is_err(), "{harm}");
    }
    assert_eq!(world.count("audit_log"), 1);
}

/// AUD-5: no line end or terminal escape is stored.
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
    assert!(matches!(refused, Err(KeysError::NotInRing { none: true, .. })), "{refused:?}");
}

/// AUD-2: a row moved to another chain is found.
#[test]
fn a_row_of_another_chain_does_not_verify() {
    let world = World::new();
    let (second, _) = add_user(&world.db, "second@example.com");
    for user in [world.user, second] {
        append(&world.db, Some(user), &entry("login", 1));
    }
    assert_eq!(verify(&world.db).first_bad, None);
    // the second user's only row is replaced by the first one's, and the head follows
    world.test.execute(&format!(
        "ALTER TABLE audit_log DISABLE TRIGGER USER; DELETE FROM audit_log WHERE chain = {second}; \
         UPDATE audit_log SET chain = {second}; UPDATE audit_head h SET mac = l.mac FROM audit_log l \
         WHERE l.chain = h.chain AND h.chain = {second}"
    ));
    let range = second.0..=second.0;
    let report = world.db.read_blocking(|tx| tx.verify_audit_chains(range.clone())).unwrap();
    let bad = BadEntry { chain: second.0, seq: 1, reason: "altered" };
    assert_eq!(report, AuditReport { chains: 1, first_bad: Some(bad), ..AuditReport::default() });
}

#[test]
fn a_range_of_chains_is_verified_alone() {
    let world = world_with_entries(2);
    world.test.execute("ALTER TABLE audit_log DISABLE TRIGGER USER; UPDATE audit_log SET detail = '{}'");
    let range = |range: std::ops::RangeInclusive<i64>| {
        world.db.read_blocking(|tx| tx.verify_audit_chains(range.clone())).unwrap()
    };
    assert_eq!(range(-16..=0), AuditReport { chains: 16, ..AuditReport::default() });
    assert!(range(0..=world.user.0).first_bad.is_some());
    // rows under a chain that nobody has are found too
    world.test.execute(
        "INSERT INTO audit_log SELECT 77, seq, at, action, outcome, actor_id, subject_id, ip, user_agent, \
                        request_id, detail, mac FROM audit_log",
    );
    assert_eq!(range(50..=100).first_bad, Some(BadEntry { chain: 77, seq: 0, reason: "no head" }));
}

/// AUD-2: appends are serialised per chain, without gaps, and verifying beside writers raises no alarm.
#[test]
fn eight_writers_make_one_dense_chain_and_verifying_meanwhile_raises_no_alarm() {
    let world = World::new();
    let db = world.test.db_with(DbSettings::new(PoolKind::Jobs, 10)).with_keys(Arc::clone(&world.keys));
    let (barrier, done) = (Barrier::new(9), AtomicBool::new(false));
    thread::scope(|scope| {
        let writers: Vec<_> = (0..8_u8)
            .map(|writer| {
                let (db, barrier, user) = (&db, &barrier, world.user);
                scope.spawn(move || {
                    barrier.wait();
                    for n in 0..25 {
                        append(db, Some(user), &entry(&format!("test.{writer}"), n));
                        let mut id = [writer; 16];
                        id[15] = writer.wrapping_mul(31).wrapping_add(u8::try_from(n).unwrap());
                        let stranger =
                            AuditEntry { request_id: Some(Uuid::from_bytes(id)), ..entry("login", n) };
                        append(db, None, &stranger);
                        let undone: Result<(), StoreError> = db.run_blocking(|tx| {
                            tx.append_audit(Some(user), &entry("undone", n))?;
                            Err(StoreError::new(StoreErrorKind::Other, "rolled back on purpose"))
                        });
                        assert_eq!(undone.unwrap_err().kind(), StoreErrorKind::Other);
                    }
                })
            })
            .collect();
        let watcher = scope.spawn(|| {
            barrier.wait();
            let mut most = 0;
            while !done.load(Ordering::Acquire) {
                let report = verify(&db);
                assert_eq!(report.first_bad, None);
                most = most.max(report.entries);
            }
            most
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Release);
        assert!(watcher.join().unwrap() > 0, "something was verified while others wrote");
    });
    let report = verify(&db);
    assert_eq!((report.chains, report.entries, report.first_bad), (17, 2 * 8 * 25, None));
    assert_eq!(world.count(&format!("audit_head WHERE chain = {} AND seq = 200", world.user)), 1);
    assert_eq!(world.count("audit_log WHERE action = 'undone'"), 0);
    let system = "(SELECT DISTINCT chain FROM audit_log WHERE chain < 0) AS system";
    assert!(world.count(system) > 8, "strangers are spread over the system's chains");
    assert_eq!(world.count("audit_log WHERE chain < -16 OR chain = 0"), 0);
}

#[test]
fn all_entries_are_listed_newest_first_page_by_page() {
    let world = World::new();
    let (second, _) = add_user(&world.db, "second@example.com");
    for n in 0..3 {
        append(&world.db, Some(world.user), &entry("login", n));
        append(&world.db, Some(second), &entry("login", n));
        append(&world.db, None, &entry("logout", n));
    }
    let all = AuditFilter::default();
    let (mut seen, mut place) = (Vec::new(), None);
    loop {
        let page = world.db.read_blocking(|tx| tx.all_audit_entries(&all, place, 2)).unwrap();
        let Some(last) = page.last() else { break };
        place = Some(last.place());
        seen.extend(page.iter().map(|record| (record.entry.at, record.chain, record.seq)));
    }
    let mut sorted = seen.clone();
    sorted.sort_unstable();
    sorted.reverse();
    assert_eq!((seen.len(), &seen), (9, &sorted));
    let filter = AuditFilter { action: Some("logout".into()), from: Some(at(1)), to: Some(at(2)), ..all };
    let found = world.db.read_blocking(|tx| tx.all_audit_entries(&filter, None, 9)).unwrap();
    assert_eq!(found.iter().map(|record| record.id()).collect::<Vec<_>>(), ["system1.2"]);
}

#[test]
fn own_entries_are_listed_newest_first_page_by_page() {
    let world = World::new();
    let (second, _) = add_user(&world.db, "second@example.com");
    append(&world.db, Some(second), &entry("login", 1));
    let full = AuditEntry {
        outcome: AuditOutcome::Denied,
        actor_id: Some(second),
        subject_id: Some(world.user),
        ip: Some("127.0.0.1".into()),
        user_agent: Some("test".into()),
        request_id: Some(Uuid::from_u128(7)),
        ..entry("login", 0)
    };
    append(&world.db, Some(world.user), &full);
    for n in 1..=5 {
        append(&world.db, Some(world.user), &entry(if n % 2 == 0 { "logout" } else { "order.create" }, n));
    }
    let list = |filter: &AuditFilter, before, limit| -> Vec<i64> {
        let found = world.db.read_blocking(|tx| tx.audit_entries(world.user, filter, before, limit)).unwrap();
        found.iter().map(|record| record.seq).collect()
    };
    let all = AuditFilter::default();
    assert_eq!(list(&all, None, 4), [6, 5, 4, 3]);
    assert_eq!(list(&all, Some(3), 4), [2, 1]);
    assert!(list(&all, Some(1), 4).is_empty());
    assert_eq!(list(&AuditFilter { action: Some("logout".into()), ..all.clone() }, None, 9), [5, 3]);
    assert_eq!(list(&AuditFilter { outcome: Some(AuditOutcome::Denied), ..all.clone() }, None, 9), [1]);
    let between = AuditFilter { from: Some(at(1)), to: Some(at(3)), ..all.clone() };
    assert_eq!(list(&between, None, 9), [3, 2], "from is included, to is not");
    let first = world.db.read_blocking(|tx| tx.audit_entries(world.user, &all, Some(2), 9)).unwrap();
    assert_eq!(first[0].id(), format!("{}.1", world.user));
    assert_eq!(first[0].entry, full, "an entry comes back as it was kept");
}

/// AUD-3: no entry, no act.
#[test]
fn an_act_whose_entry_cannot_be_written_fails() {
    let world = World::new();
    let without_keys = world.test.db();
    let error =
        without_keys.run_blocking(|tx| tx.append_audit(Some(world.user), &entry("login", 1))).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Other, "{error}");
    let error =
        world.db.run_blocking(|tx| tx.append_audit(Some(UserId(999)), &entry("login", 1))).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Inconsistent, "{error}");
    assert_eq!(world.count("audit_log"), 0);
}

/// AUD-5: lengths are capped.
#[test]
fn the_longest_entry_fits_and_the_next_byte_is_left_out() {
    let world = World::new();
    for length in [8_190, 8_191] {
        let long = AuditEntry { detail: json!("x".repeat(length)), ..entry(&"é".repeat(99), 1) };
        append(&world.db, Some(world.user), &long);
    }
    let rows = world.test.rows("SELECT length(action) AS action, detail FROM audit_log ORDER BY seq");
    assert_eq!(rows[0]["action"], 64);
    assert_eq!(rows[0]["detail"].as_str().unwrap().len(), 8_192);
    assert_eq!(rows[1]["detail"], "{\"omitted_bytes\":8193}");
    assert_eq!(verify(&world.db).first_bad, None);
}

#[test]
fn instances_that_start_at_once_agree_on_the_keys() {
    let world = World::new();
    world.test.execute("DELETE FROM installation_keys");
    let db = world.test.db_with(DbSettings::new(PoolKind::Control, 8));
    let barrier = Barrier::new(8);
    let keys: Vec<InstallationKey> = thread::scope(|scope| {
        let starts: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    db.run_blocking(|tx| tx.installation_key(&ring(KEY), KeyPurpose::Pepper, &mut OsRandom))
                        .unwrap()
                })
            })
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0] && key.purpose() == KeyPurpose::Pepper));
    assert_eq!(world.count("installation_keys"), 1);
}

#[test]
fn a_wrong_key_makes_no_keys_and_a_damaged_one_is_called_so() {
    let world = World::new();
    let db = world.test.db();
    world.test.execute("DELETE FROM installation_keys WHERE name = 'audit_mac'");
    let other = ring(&KEY.replace('8', "7"));
    let refused = PlatformKeys::load_or_create(&db, &other, &mut OsRandom);
    assert!(matches!(refused, Err(KeysError::NotInRing { none: true, .. })), "{refused:?}");
    let kept = KeyPurpose::ALL.len() - 1;
    assert_eq!(
        world.count("installation_keys"),
        i64::try_from(kept).unwrap(),
        "nothing sealed with the wrong key is left behind"
    );
    world.test.execute(
        "UPDATE installation_keys SET sealed = set_byte(sealed, length(sealed) - 1, \
         get_byte(sealed, length(sealed) - 1) # 1)",
    );
    let refused = PlatformKeys::load_or_create(&db, &ring(KEY), &mut OsRandom);
    assert!(matches!(refused, Err(KeysError::Damaged { name: "order_id", .. })), "{refused:?}");
}
