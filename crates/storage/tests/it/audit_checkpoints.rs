//! Checkpoints of the audit log, what they find, and the retention that they allow.

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_storage::migrate::{MigrationSet, grant_application_role};
use plimsoll_storage::platform::audit::{Anchor, AuditReport, BadEntry, Checkpoint, Pruned};
use plimsoll_storage::testing::RawConnection;

use crate::world::{World, add_user};

/// Long before anybody's now: old enough to be deleted.
fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_500_000_000 + second, 0).unwrap()
}

fn append(world: &World, owner: Option<UserId>, count: i64) {
    for n in 0..count {
        let entry = AuditEntry {
            at: at(n),
            action: "login".into(),
            outcome: AuditOutcome::Success,
            actor_id: owner,
            subject_id: owner,
            ip: None,
            user_agent: None,
            request_id: None,
            detail: serde_json::json!({ "n": n }),
        };
        world.db.run_blocking(|tx| tx.append_audit(owner, &entry)).unwrap();
    }
}

fn checkpoint(world: &World, second: i64) -> Checkpoint {
    world.db.run_blocking(|tx| tx.audit_checkpoint(at(second))).unwrap()
}

fn verify(world: &World) -> AuditReport {
    world.db.read_snapshot_blocking(|tx| tx.verify_audit()).unwrap()
}

fn prune(world: &World, before: i64, most: usize) -> Pruned {
    world.db.run_blocking(|tx| tx.prune_audit(at(before), most, at(40_000_000))).unwrap()
}

/// What verifying finds after harm that is undone again.
fn found_after(world: &World, anchor: Option<Anchor>, harm: &str) -> Option<BadEntry> {
    #[derive(Debug, thiserror::Error)]
    enum Found {
        #[error("{0:?}")]
        Report(Box<AuditReport>),
        #[error(transparent)]
        Store(#[from] StoreError),
    }
    let found: Result<(), Found> = world.db.run_blocking(|tx| {
        tx.execute_raw(harm)?;
        let report = match &anchor {
            Some(anchor) => tx.verify_audit_anchored(anchor)?,
            None => tx.verify_audit()?,
        };
        Err(Found::Report(Box::new(report)))
    });
    match found {
        Err(Found::Report(report)) => report.first_bad,
        other => panic!("{harm}: {other:?}"),
    }
}

/// AUD-2: a checkpoint knows where every chain stood, so an end that was cut off together with its head is missed, and
/// stays missed when the chain grows again.
#[test]
fn an_end_cut_off_together_with_its_head_is_found() {
    let world = World::new();
    append(&world, Some(world.user), 5);
    append(&world, None, 2);
    let first = checkpoint(&world, 100);
    assert_eq!((first.id, first.marks, first.cut_chains), (1, 2, 0));
    append(&world, Some(world.user), 2);
    let second = checkpoint(&world, 3700);
    assert_eq!((second.id, second.marks), (2, 1), "only what has moved");
    assert_eq!(checkpoint(&world, 7300).marks, 0, "nothing has");
    let good = verify(&world);
    assert_eq!((good.entries, good.checkpoints, good.first_bad), (9, 3, None));

    let user = world.user;
    let cut = format!(
        "ALTER TABLE audit_log DISABLE TRIGGER USER; DELETE FROM audit_log WHERE chain = {user} AND seq > 4; \
         UPDATE audit_head SET seq = 4, mac = (SELECT mac FROM audit_log WHERE chain = {user} AND seq = 4) \
         WHERE chain = {user}"
    );
    let bad = |seq, reason| Some(BadEntry { chain: user.0, seq, reason });
    assert_eq!(found_after(&world, None, &cut), bad(5, "truncated"));
    let all_gone = format!(
        "ALTER TABLE audit_log DISABLE TRIGGER USER; DELETE FROM audit_log WHERE chain = {user}; \
         UPDATE audit_head SET seq = 0, mac = decode(repeat('00', 32), 'hex') WHERE chain = {user}"
    );
    assert_eq!(found_after(&world, None, &all_gone), bad(1, "truncated"));

    // the chain grows over the cut: neither the next checkpoint nor the new rows hide it
    world.test.execute(&cut);
    let third = checkpoint(&world, 10_900);
    assert_eq!((third.marks, third.cut_chains), (0, 1), "a cut chain is told of and gets no new mark");
    append(&world, Some(user), 8);
    checkpoint(&world, 14_500);
    assert_eq!(verify(&world).first_bad, bad(5, "rewritten"));
}

/// AUD-2, AUD-8: a mark that nobody signed, added to a checkpoint that has none of its own, lets rows go and is found.
#[test]
fn a_mark_slipped_into_an_empty_checkpoint_is_found() {
    let world = World::new();
    append(&world, Some(world.user), 10);
    checkpoint(&world, 1);
    assert_eq!(checkpoint(&world, 2).marks, 0);
    assert_eq!(verify(&world).first_bad, None);
    let user = world.user;
    let slipped = format!(
        "INSERT INTO audit_checkpoint_marks SELECT chain, 'start', seq, mac, 2 FROM audit_log WHERE chain = {user} AND seq = 5"
    );
    assert_eq!(
        found_after(&world, None, &slipped),
        Some(BadEntry { chain: 0, seq: 2, reason: "altered" }),
        "before and after the rows are gone"
    );
}

/// AUD-2: checkpoints are signed and chained themselves; without the key none can be altered, added or left out.
#[test]
fn a_checkpoint_that_was_altered_removed_or_forged_is_found() {
    let world = World::new();
    for second in 1..=3 {
        append(&world, Some(world.user), 2);
        checkpoint(&world, second);
    }
    let anchor = checkpoint(&world, 4).anchor;
    let off = "ALTER TABLE audit_checkpoints DISABLE TRIGGER USER; \
               ALTER TABLE audit_checkpoint_marks DISABLE TRIGGER USER; SET CONSTRAINTS ALL IMMEDIATE; ";
    let bad = |seq, reason| Some(BadEntry { chain: 0, seq, reason });
    for (harm, expected) in [
        ("UPDATE audit_checkpoints SET at = at + interval '1 microsecond' WHERE id = 2", bad(2, "altered")),
        ("UPDATE audit_checkpoints SET mac = sha256(mac) WHERE id = 3", bad(3, "altered")),
        ("UPDATE audit_checkpoint_marks SET seq = 3 WHERE checkpoint = 2", bad(2, "altered")),
        ("UPDATE audit_checkpoint_marks SET mac = sha256(mac) WHERE checkpoint = 1", bad(1, "altered")),
        ("UPDATE audit_checkpoint_marks SET chain = -1 WHERE checkpoint = 1", bad(1, "altered")),
        ("DELETE FROM audit_checkpoint_marks WHERE checkpoint = 3", bad(3, "altered")),
        (
            "INSERT INTO audit_checkpoint_marks SELECT -1, 'head', 1, mac, 2 FROM audit_checkpoint_marks LIMIT 1",
            bad(2, "altered"),
        ),
        (
            "DELETE FROM audit_checkpoint_marks WHERE checkpoint = 2; DELETE FROM audit_checkpoints WHERE id = 2",
            bad(2, "missing"),
        ),
        ("INSERT INTO audit_checkpoints VALUES (5, now(), 0, sha256('guessed'))", bad(5, "altered")),
        ("INSERT INTO audit_checkpoints VALUES (9, now(), 0, sha256('guessed'))", bad(5, "missing")),
        (
            "ALTER TABLE audit_checkpoint_marks DROP CONSTRAINT audit_checkpoint_marks_checkpoint_fkey; \
             UPDATE audit_checkpoint_marks SET checkpoint = 7 WHERE checkpoint = 3; \
             UPDATE audit_checkpoints SET marks = 0 WHERE id = 3",
            bad(3, "altered"),
        ),
    ] {
        assert_eq!(found_after(&world, None, &format!("{off}{harm}")), expected, "{harm}");
    }
    // the newest ones cut off: what is left verifies, and the noted anchor tells
    let cut = format!(
        "{off}DELETE FROM audit_checkpoint_marks WHERE checkpoint > 2; DELETE FROM audit_checkpoints WHERE id > 2"
    );
    assert_eq!(found_after(&world, None, &cut), None);
    assert_eq!(found_after(&world, Some(anchor), &cut), bad(4, "missing"));
    assert_eq!(found_after(&world, Some(anchor), "SELECT 1"), None);
    let other: Anchor = format!("4:{}", "ab".repeat(32)).parse().unwrap();
    assert_eq!(found_after(&world, Some(other), "SELECT 1"), bad(4, "not the anchored one"));
    assert_eq!(anchor.to_string().parse(), Ok(anchor));
    for text in ["", "4", "4:", "4:zz", "0:", "x:00", &anchor.to_string()[..60]] {
        assert!(text.parse::<Anchor>().is_err(), "{text}");
    }
}

/// AUD-8: rows that are old and covered by a checkpoint go; what is left verifies, and nothing else can be deleted.
#[test]
fn old_rows_go_up_to_a_checkpoint_and_the_rest_verifies() {
    let world = World::new();
    let (second, _) = add_user(&world.db, "second@example.com");
    append(&world, Some(world.user), 10);
    append(&world, Some(second), 3);
    assert_eq!(prune(&world, 100, 1000), Pruned::default(), "no checkpoint covers anything");
    checkpoint(&world, 200);
    append(&world, Some(world.user), 2); // at(0) and at(1), but after the checkpoint
    let done = prune(&world, 6, 1000);
    // the user's rows 1 to 6 are before at(6); the second user's three are
    assert_eq!((done.rows, done.bad_chains), (9, 0));
    let left = verify(&world);
    assert_eq!((left.entries, left.checkpoints, left.first_bad.clone()), (6, 2, None));
    assert_eq!(prune(&world, 6, 1000), Pruned::default());
    append(&world, Some(second), 1);
    checkpoint(&world, 300);
    assert_eq!(prune(&world, 1000, 1000).rows, 7, "the others, up to where the newest checkpoint saw them");
    let empty = verify(&world);
    assert_eq!((empty.entries, empty.first_bad), (0, None));
    append(&world, Some(world.user), 1);
    assert_eq!(verify(&world).entries, 1, "a chain without rows goes on where it was");

    // what was deleted may neither come back nor be cut further
    let user = world.user;
    let again = format!(
        "INSERT INTO audit_log (chain, seq, at, action, outcome, detail, mac) \
         SELECT chain, 2, at, action, outcome, detail, mac FROM audit_log WHERE chain = {user} LIMIT 1"
    );
    let bad = |seq, reason| Some(BadEntry { chain: user.0, seq, reason });
    assert_eq!(found_after(&world, None, &again), bad(2, "deleted before"));
    let more =
        format!("ALTER TABLE audit_log DISABLE TRIGGER USER; DELETE FROM audit_log WHERE chain = {user}");
    assert_eq!(found_after(&world, None, &more), bad(13, "truncated"));
}

/// AUD-8: pruning goes on in batches, and keeps what does not verify.
#[test]
fn pruning_is_done_in_batches_and_never_hides_tampering() {
    let world = World::new();
    append(&world, Some(world.user), 10);
    checkpoint(&world, 200);
    assert_eq!(prune(&world, 100, 4).rows, 4);
    assert_eq!(verify(&world).entries, 6);
    world.test.execute(
        "ALTER TABLE audit_log DISABLE TRIGGER USER; UPDATE audit_log SET detail = '{}' WHERE seq = 6; \
         ALTER TABLE audit_log ENABLE TRIGGER USER",
    );
    let kept = prune(&world, 100, 4);
    assert_eq!((kept.rows, kept.bad_chains, kept.checkpoint), (0, 1, None));
    assert_eq!(verify(&world).first_bad.map(|bad| (bad.seq, bad.reason)), Some((6, "altered")));
}

/// AUD-1, AUD-8: the rule holds for the owner too: without marks that cover them, rows that are young, or rows beyond
/// the mark, stay.
#[test]
fn the_trigger_lets_nothing_go_that_is_not_covered() {
    let world = World::new();
    append(&world, Some(world.user), 5);
    let mut owner = world.test.raw();
    let user = world.user;
    let mark = |kind: &str, seq: i64, checkpoint: i64| {
        format!(
            "INSERT INTO audit_checkpoint_marks VALUES ({user}, '{kind}', {seq}, sha256('x'), {checkpoint})"
        )
    };
    let checkpoint = |id: i64| format!("INSERT INTO audit_checkpoints VALUES ({id}, now(), 1, sha256('x'))");
    let refused = |owner: &mut RawConnection, what: &str| {
        let error = owner.execute(what).unwrap_err();
        assert!(error.to_string().contains("append-only"), "{what}: {error}");
    };
    let delete = |seq: i64| format!("DELETE FROM audit_log WHERE chain = {user} AND seq = {seq}");
    refused(&mut owner, &delete(1));
    owner.execute(&format!("{};{}", checkpoint(1), mark("start", 2, 1))).unwrap();
    refused(&mut owner, &delete(1)); // no head was seen before
    owner.execute(&format!("{};{}", checkpoint(2), mark("head", 4, 2))).unwrap();
    refused(&mut owner, &delete(1)); // it was seen after
    owner.execute(&format!("{};{}", checkpoint(3), mark("start", 3, 3))).unwrap();
    refused(&mut owner, &delete(4)); // beyond the start
    refused(&mut owner, "UPDATE audit_log SET action = 'x' WHERE seq = 1");
    refused(&mut owner, "TRUNCATE audit_log");
    for table in ["audit_checkpoints", "audit_checkpoint_marks"] {
        refused(&mut owner, &format!("DELETE FROM {table}"));
        refused(&mut owner, &format!("UPDATE {table} SET mac = sha256(mac)"));
        refused(&mut owner, &format!("TRUNCATE {table} CASCADE"));
    }
    owner.execute(&delete(1)).unwrap();
    // the same for a young row
    owner
        .execute(
            "INSERT INTO audit_log (chain, seq, at, action, outcome, detail, mac) VALUES \
             (-1, 1, now() - interval '6 days', 'x', 'success', '{}', sha256('x')); \
             INSERT INTO audit_checkpoint_marks VALUES (-1, 'head', 5, sha256('x'), 2), \
             (-1, 'start', 5, sha256('x'), 3)",
        )
        .unwrap();
    refused(&mut owner, "DELETE FROM audit_log WHERE chain = -1");
    // forged marks allow no more than that, and verifying tells of them
    assert_eq!(verify(&world).first_bad.map(|bad| (bad.chain, bad.seq)), Some((0, 1)));
}

/// AUD-1: the application's role appends, makes checkpoints and prunes by the rule, and has no other right to change or
/// delete anything of the log.
#[test]
fn the_application_role_appends_and_prunes_by_the_rule_only() {
    let world = World::new();
    append(&world, Some(world.user), 5);
    let role = format!("app_{}", world.test.name());
    world.test.execute(&format!("CREATE ROLE {role} LOGIN"));
    grant_application_role(world.test.url(), MigrationSet::Platform, &role).unwrap();
    let acting = format!("SET LOCAL ROLE {role}");
    let as_role = |what: &str| -> Result<(), StoreError> {
        let statements = format!("{acting}; {what}");
        world.db.run_blocking(|tx| tx.execute_raw(&statements))
    };
    for table in ["audit_log", "audit_checkpoints", "audit_checkpoint_marks"] {
        for change in [
            format!("UPDATE {table} SET mac = sha256(mac)"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table} CASCADE"),
            format!("ALTER TABLE {table} DISABLE TRIGGER USER"),
            format!("DROP TABLE {table} CASCADE"),
        ] {
            let error = as_role(&change).unwrap_err().to_string();
            assert!(
                error.contains("permission denied") || error.contains("must be owner"),
                "{change}: {error}"
            );
        }
    }
    for change in ["DELETE FROM audit_head", "TRUNCATE audit_head"] {
        assert!(as_role(change).unwrap_err().to_string().contains("permission denied"), "{change}");
    }
    let made: Checkpoint = world
        .db
        .run_blocking(|tx| {
            tx.execute_raw(&acting)?;
            tx.audit_checkpoint(at(100))
        })
        .unwrap();
    assert_eq!(made.marks, 1);
    let pruned: Pruned = world
        .db
        .run_blocking(|tx| {
            tx.execute_raw(&acting)?;
            tx.prune_audit(at(3), 100, at(40_000_000))
        })
        .unwrap();
    assert_eq!(pruned.rows, 3);
    assert_eq!(verify(&world).entries, 2);
    // the function itself gives it nothing that the rule does not allow
    as_role("SELECT audit_log_prune(1)").unwrap();
    assert_eq!(world.count("audit_log"), 2);
    let stranger = format!("{role}_other");
    world.test.execute(&format!("CREATE ROLE {stranger}"));
    let denied: Result<(), StoreError> = world
        .db
        .run_blocking(|tx| tx.execute_raw(&format!("SET LOCAL ROLE {stranger}; SELECT audit_log_prune(1)")));
    assert!(denied.unwrap_err().to_string().contains("permission denied"));
    world.test.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}; DROP ROLE {stranger}"));
}

/// AUD-2: two checkpoints asked for at once come one after the other.
#[test]
fn checkpoints_are_made_one_after_the_other() {
    let world = World::new();
    append(&world, Some(world.user), 3);
    std::thread::scope(|scope| {
        for second in 0..4 {
            let world = &world;
            scope.spawn(move || {
                world.db.run_retrying_blocking(second, |tx| tx.audit_checkpoint(at(1))).unwrap()
            });
        }
    });
    let report = verify(&world);
    assert_eq!((report.checkpoints, report.first_bad), (4, None));
    assert_eq!(world.count("audit_checkpoint_marks"), 1);
}
