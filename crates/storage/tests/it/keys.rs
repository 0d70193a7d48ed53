//! Master keys over a database: which ones are needed, which ones are missing, and moving everything to another one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use plimsoll_auth::EmailAddress;
use plimsoll_auth::mail::Mail;
use plimsoll_auth::ports::{MailOutbox, TwoFactorStore};
use plimsoll_auth::totp::TotpSecret;
use plimsoll_auth::two_factor::StoredSecret;
use plimsoll_core_domain::StoreErrorKind;
use plimsoll_crypto::{Aad, KeyId, KeyRing, MasterKey, OsRandom, Stretching, seal};
use plimsoll_storage::Db;
use plimsoll_storage::platform::keys::{
    KeysError, NOT_SEALED_BY_THE_RING, PlatformKeys, Rotation, RotationMode, SEALED_COLUMNS, SealedColumn,
};
use plimsoll_testkit::TestDb;
use uuid::Uuid;

use crate::world::{KEY, World, add_user, at, ring};

const NEW: &str = "11fd7a9d2e4b6053f1e2d3c4b5a697887766554433221100ffeeddccbbaa9988";
const OTHER: &str = "22fd7a9d2e4b6053f1e2d3c4b5a697887766554433221100ffeeddccbbaa9988";

fn master(text: &str) -> MasterKey {
    MasterKey::parse(text, &Stretching::new([7; 16].to_vec(), 600_000).unwrap()).unwrap()
}

/// The ring in which [`NEW`] is active.
fn rotating() -> KeyRing {
    KeyRing::new(&master(NEW)).with_old(&master(KEY)).unwrap()
}

fn rows(db: &Db, ring: &KeyRing, id: KeyId) -> u64 {
    let uses = db.read_blocking(|tx| tx.key_uses(ring)).unwrap();
    uses.iter().find(|it| it.id == id).map_or(0, |it| it.rows())
}

/// One pass over everything; gives what moved and what does not open.
fn rotate(db: &Db, ring: &KeyRing, mode: RotationMode, limit: u32) -> (u64, Vec<String>) {
    let (mut moved, mut damaged) = (0, Vec::new());
    for column in SEALED_COLUMNS {
        for from in ring.ids().filter(|id| *id != ring.active()) {
            let mut after = None;
            loop {
                let batch = db
                    .run_blocking(|tx| {
                        tx.rotate_batch(
                            column,
                            &Rotation { ring, from, mode, limit, at: at(0) },
                            after.as_ref(),
                            &mut OsRandom,
                        )
                    })
                    .unwrap();
                moved += batch.moved;
                damaged.extend(batch.damaged.into_iter().map(|row| format!("{column:?} {row}")));
                match batch.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
    }
    (moved, damaged)
}

fn mail(world: &World, n: u128) {
    let to = EmailAddress::parse("ann@example.com").unwrap();
    let mail = Mail::Welcome { display_name: None };
    world
        .db
        .run_blocking(|tx| tx.post_mail(Uuid::from_u128(n), &to, Some(world.user), &mail, at(0)))
        .unwrap();
}

/// ENC-7: whatever the catalogue has of sealed bytes is rotated, or has its reason not to be.
#[test]
fn every_sealed_column_is_rotated_or_explained() {
    let test = TestDb::platform();
    let columns: BTreeSet<String> = test
        .rows(
            "SELECT table_name || '.' || column_name AS name FROM information_schema.columns \
             WHERE table_schema = 'public' AND data_type = 'bytea' \
             AND column_name ~ '(seal|secret|wrap|cipher|encrypt|private|api_key|password|token$|_key$)'",
        )
        .iter()
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect();
    let rotated: BTreeSet<String> = SEALED_COLUMNS.iter().map(|column| format!("{column:?}")).collect();
    let explained: BTreeSet<String> =
        NOT_SEALED_BY_THE_RING.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert!(rotated.is_disjoint(&explained));
    let known: BTreeSet<String> = rotated.union(&explained).cloned().collect();
    assert_eq!(columns.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "neither nor");
    assert_eq!(known.difference(&columns).collect::<Vec<_>>(), Vec::<&String>::new(), "no such columns");
}

/// ENC-5: a ring without a key that something needs is refused by the key's id, before anything is made.
#[test]
fn a_missing_key_is_named_by_its_id() {
    let world = World::new();
    let old = ring(KEY).active();
    let refused = PlatformKeys::load_or_create(&world.test.db(), &ring(NEW), &mut OsRandom).unwrap_err();
    assert!(
        matches!(&refused, KeysError::NotInRing { missing, none: true } if *missing == [old]),
        "{refused:?}"
    );
    let text = refused.to_string();
    assert!(text.contains(&old.to_string()) && text.contains("ENCRYPTION_KEYS_OLD"), "{text}");
    assert!(!text.contains(KEY) && !text.contains(NEW));
    assert_eq!(world.count("encryption_keys"), 1, "a refused ring is not remembered");

    // the installation's keys have moved, a mail has not
    PlatformKeys::load_or_create(&world.test.db(), &rotating(), &mut OsRandom).unwrap();
    mail(&world, 1);
    let installation: SealedColumn = *SEALED_COLUMNS.last().unwrap();
    let both = rotating();
    let rotation = Rotation { ring: &both, from: old, mode: RotationMode::Write, limit: 10, at: at(0) };
    let moved =
        world.db.run_blocking(|tx| tx.rotate_batch(&installation, &rotation, None, &mut OsRandom)).unwrap();
    assert_eq!((moved.moved, installation.table), (4, "installation_keys"));
    let refused = PlatformKeys::load_or_create(&world.test.db(), &ring(NEW), &mut OsRandom).unwrap_err();
    assert!(matches!(&refused, KeysError::NotInRing { none: false, .. }), "{refused:?}");
    assert!(refused.to_string().contains("`plimsoll key list`"), "{refused}");
}

/// ENC-7: trying changes nothing; writing moves everything, again and again without harm; what was sealed opens.
#[test]
fn everything_moves_to_the_active_key() {
    let world = World::new();
    let ring = rotating();
    let (old, new) = (self::ring(KEY).active(), ring.active());
    let secret = TotpSecret::generate(&mut OsRandom);
    (1..=7).for_each(|n| mail(&world, n));
    let before = rows(&world.db, &ring, old);
    assert!(before >= 11, "{before}");
    let digest = digest(&world.test);
    assert_eq!(rotate(&world.db, &ring, RotationMode::Try, 3), (before, Vec::new()));
    assert_eq!(self::digest(&world.test), digest, "a try changes nothing");

    assert_eq!(rotate(&world.db, &ring, RotationMode::Write, 3), (before, Vec::new()));
    assert_eq!((rows(&world.db, &ring, old), rows(&world.db, &ring, new)), (0, before));
    assert_eq!(rotate(&world.db, &ring, RotationMode::Write, 3), (0, Vec::new()));

    let alone = KeyRing::new(&master(NEW));
    let fresh = PlatformKeys::load_or_create(&world.test.db(), &alone, &mut OsRandom).unwrap();
    assert_eq!(
        fresh.pepper.digest("x", "y", b"z"),
        world.keys.pepper.digest("x", "y", b"z"),
        "the installation's keys are the same"
    );
    let db = world.test.db().with_keys(std::sync::Arc::new(fresh));
    let mails = db.read_blocking(|tx| tx.newest_mails(100)).unwrap();
    assert_eq!(mails.iter().filter(|mail| mail.content.is_some()).count(), 7);
    let expires = at(1_000_000);
    db.run_blocking(|tx| tx.set_pending_factor(world.user, &secret, expires, &[], at(0))).unwrap();
    let factor = db.read_blocking(|tx| tx.factor_of(world.user)).unwrap().unwrap();
    assert!(matches!(factor.pending.unwrap().secret, StoredSecret::Readable(_)));
    let known = db.read_blocking(|tx| tx.known_keys()).unwrap();
    assert_eq!(known.iter().map(|key| key.id).collect::<BTreeSet<_>>(), BTreeSet::from([old, new]));
}

/// A digest of everything in the database.
fn digest(test: &TestDb) -> Vec<String> {
    let tables = test.rows("SELECT relname::text AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1");
    let one = |name: &str| {
        let rows = test.rows(&format!(
            "SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) AS d FROM \"{name}\" t"
        ));
        format!("{name} {}", rows[0]["d"].as_str().unwrap())
    };
    tables.iter().map(|row| one(row["name"].as_str().unwrap())).collect()
}

/// Secrets of before their user had a data key: they stand in the same column as those under data keys.
#[test]
fn a_second_factor_sealed_by_an_old_key_moves_and_one_under_a_data_key_stays() {
    let world = World::new();
    let ring = rotating();
    let old = self::ring(KEY).active();
    let (other, _) = add_user(&world.db, "other@example.com");
    let secret = TotpSecret::generate(&mut OsRandom);
    let put = |user: i64, by: &KeyRing| {
        let row = user.to_string();
        let aad = Aad { table: "user_2fa", column: "secret", row: &row, owner: Some(user) };
        let sealed = seal(by, &aad, secret.expose_bytes(), &mut OsRandom);
        let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        world.test.execute(&format!(
            "INSERT INTO user_2fa (user_id, secret, enabled_at, updated_at) VALUES ({user}, '\\x{hex}', now(), now())"
        ));
        hex
    };
    put(world.user.0, &self::ring(KEY));
    let strange = put(other.0, &self::ring(OTHER)); // as a data key's: no id that the database knows
    let (moved, damaged) = rotate(&world.db, &ring, RotationMode::Write, 100);
    assert_eq!((moved, damaged), (5, Vec::new()));
    assert_eq!(rows(&world.db, &ring, old), 0);
    let moved = format!(
        "user_keys k JOIN user_2fa f USING (user_id) WHERE user_id = {} AND k.key_id = '{}' \
         AND encode(substring(f.secret FROM 2 FOR 8), 'hex') NOT IN (SELECT id FROM encryption_keys)",
        world.user,
        ring.active()
    );
    assert_eq!(world.count(&moved), 1, "under a data key of its user, made now");
    let stays = format!("user_2fa WHERE user_id = {other} AND encode(secret, 'hex') = '{strange}'");
    assert_eq!(world.count(&stays), 1);
    let alone =
        PlatformKeys::load_or_create(&world.test.db(), &KeyRing::new(&master(NEW)), &mut OsRandom).unwrap();
    let db = world.test.db().with_keys(std::sync::Arc::new(alone));
    let factor = db.read_blocking(|tx| tx.factor_of(world.user)).unwrap().unwrap();
    assert!(
        matches!(factor.secret, Some(StoredSecret::Readable(found)) if found.expose_bytes() == secret.expose_bytes())
    );
}

/// What does not open is named, stays, and keeps its key needed; what somebody holds is left for a later pass.
#[test]
fn damaged_and_held_rows_stay() {
    let world = World::new();
    let ring = rotating();
    let old = self::ring(KEY).active();
    (1..=3).for_each(|n| mail(&world, n));
    let damaged = Uuid::from_u128(2);
    world.test.execute(&format!(
        "UPDATE mail_outbox SET sealed = set_byte(sealed, length(sealed) - 1, get_byte(sealed, length(sealed) - 1) # 1) \
         WHERE id = '{damaged}'"
    ));
    let mut holder = world.test.raw();
    holder
        .execute(&format!("BEGIN; UPDATE mail_outbox SET kind = 'x' WHERE id = '{}'", Uuid::from_u128(3)))
        .unwrap();
    let began = Instant::now();
    let (moved, named) = rotate(&world.db, &ring, RotationMode::Write, 2);
    assert!(began.elapsed() < Duration::from_secs(2), "nobody is waited for");
    assert_eq!((moved, named), (5, vec![format!("mail_outbox.sealed {damaged}")]));
    assert_eq!(rows(&world.db, &ring, old), 2);
    holder.execute("COMMIT").unwrap();
    assert_eq!(rotate(&world.db, &ring, RotationMode::Write, 2).0, 1);
    assert_eq!(rows(&world.db, &ring, old), 1, "the damaged one");
}

/// Of two rotations one runs, and its lock ends with its connection.
#[test]
fn one_rotation_runs_at_a_time() {
    let test = TestDb::platform();
    let (first, second) = (test.db(), test.db());
    let inner = first.as_the_only_rotation(|| second.as_the_only_rotation(|| 1).unwrap()).unwrap();
    assert_eq!(inner, Some(None));
    assert_eq!(second.as_the_only_rotation(|| 2).unwrap(), Some(2));
}

/// ENC-5: all instances stretch a pass phrase alike, whoever was first.
#[test]
fn the_salt_of_pass_phrases_is_settled_once() {
    let test = TestDb::platform();
    let db = test.db();
    assert_eq!(db.read_blocking(|tx| tx.stretching()).unwrap(), None);
    let settled: BTreeSet<Vec<u8>> = std::thread::scope(|scope| {
        let settle = |n: u8| {
            let db = test.db();
            scope.spawn(move || {
                let proposed = Stretching::new([n; 32], 1_000_000).unwrap();
                db.run_blocking(|tx| tx.settle_stretching(&proposed)).unwrap().salt().to_vec()
            })
        };
        let running: Vec<_> = (1..=4).map(settle).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(settled.len(), 1);
    let kept = db.read_blocking(|tx| tx.stretching()).unwrap().unwrap();
    assert_eq!((kept.salt(), kept.iterations()), (settled.first().unwrap().as_slice(), 1_000_000));
}

/// ENC-5: a start looks at a few entries of an index, however many rows there are.
#[test]
fn the_check_of_a_start_does_not_read_every_row() {
    let world = World::new();
    world.test.execute(
        "INSERT INTO mail_outbox (id, kind, sealed, created_at) SELECT gen_random_uuid(), 'x', \
         (SELECT sealed FROM installation_keys LIMIT 1), now() FROM generate_series(1, 20000); ANALYZE mail_outbox",
    );
    let reads = world
        .db
        .run_blocking(|tx| {
            tx.check_key_ring(&ring(KEY))?;
            let counts = "SELECT seq_tup_read::bigint AS seq, idx_tup_fetch::bigint AS idx \
                          FROM pg_stat_xact_user_tables WHERE relname = 'mail_outbox'";
            Ok::<_, KeysError>(tx.rows_raw(counts)?)
        })
        .unwrap();
    assert_eq!(reads[0]["seq"], 0, "{reads:?}");
    assert!(reads[0]["idx"].as_i64().unwrap() < 20, "{reads:?}");
}

/// ENC-5: one damaged mail, whose bytes name a key that never was, stops no start; a mail of a known key that is missing does.
#[test]
fn a_damaged_mail_stops_no_start() {
    let world = World::new();
    mail(&world, 1);
    world.test.execute("UPDATE mail_outbox SET sealed = set_byte(sealed, 3, get_byte(sealed, 3) # 1)");
    PlatformKeys::load_or_create(&world.test.db(), &ring(KEY), &mut OsRandom).unwrap();
    let uses = world.db.read_blocking(|tx| tx.key_uses(&ring(KEY))).unwrap();
    assert_eq!(uses.len(), 1, "{uses:?}");
    let error = world.db.run_blocking(|tx| tx.waiting_mail(Uuid::from_u128(1))).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Inconsistent, "{error}");
    // ENC-13: it is on record, and administrators are told, once.
    world.test.execute("UPDATE users SET role = 'admin'");
    for second in [1, 2] {
        world.db.run_blocking(|tx| tx.mail_unreadable(Uuid::from_u128(1), at(second))).unwrap();
    }
    let said =
        |from: &str| world.test.rows(&format!("SELECT count(*)::bigint AS n FROM {from}"))[0]["n"].clone();
    assert_eq!(said("audit_log WHERE action = 'secret.unreadable' AND outcome = 'failure'"), 1);
    assert_eq!(said("stream_event WHERE kind = 'system_alert'"), 1);
}
