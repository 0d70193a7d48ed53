//! `key generate|list|rotate`.

use std::sync::Arc;

use plimsoll_auth::Act;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{Clock, StoreError, SystemClock};
use plimsoll_crypto::{KeyId, KeyRing, OsRandom};
use plimsoll_storage::platform::keys::{KeyUse, PlatformKeys, RotationMode};
use plimsoll_storage::{Db, PoolKind};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::rotation::{self, Outcome, Progress, grouped};
use super::user_admin::refuse_another_schema;
use crate::bootstrap::{Databases, Settle, StartError, generate_key, key_ring, prepare};
use crate::config::{Environment, Settings};

/// An earlier key is still needed.
const NEEDED: u8 = 3;

/// Prints a new key, which is kept nowhere.
pub(super) fn generate(as_json: bool) {
    let key = generate_key(&mut OsRandom);
    if as_json {
        println!("{}", json!({ "key": key.expose_secret() }));
    } else {
        println!("{}", key.expose_secret());
    }
}

/// A database that is looked at, and the ring of the settings.
struct Opened {
    databases: Databases,
    db: Db,
    ring: KeyRing,
}

impl Opened {
    /// Leaves the database as it is: neither a migration nor anything else is done to it.
    fn as_it_is(settings: &Settings, environment: &Environment) -> Result<Self, StartError> {
        let data_dir = prepare(&settings.data_dir)?;
        let databases = Databases::open_beside(settings, environment)?;
        refuse_another_schema(&databases)?;
        let db = databases.pool(PoolKind::Jobs, 2)?;
        let ring = key_ring(&settings.keys, &data_dir, &db, Settle::Never, &mut OsRandom)?;
        Ok(Self { databases, db, ring })
    }

    /// Brought to this release's schema, with the installation's keys.
    fn to_change(settings: &Settings, environment: &Environment) -> Result<Self, StartError> {
        let data_dir = prepare(&settings.data_dir)?;
        let databases = Databases::open_beside(settings, environment)?;
        databases.migrate()?;
        let db = databases.pool(PoolKind::Jobs, 2)?;
        let ring = key_ring(&settings.keys, &data_dir, &db, Settle::Now, &mut OsRandom)?;
        if db.read_blocking(|tx| tx.known_keys())?.iter().all(|key| key.id != ring.active()) {
            eprintln!(
                "plimsoll: no server was started with ENCRYPTION_KEY as it is now. Servers that run without it cannot \
                 open what is sealed from here on: give it to all of them first"
            );
        }
        let keys = PlatformKeys::load_or_create(&db, &ring, &mut OsRandom)?;
        let db = db.with_keys(Arc::new(keys));
        Ok(Self { databases, db, ring })
    }

    fn uses(&self) -> Result<Vec<KeyUse>, StoreError> {
        self.db.read_snapshot_blocking(|tx| tx.key_uses(&self.ring))
    }
}

/// Prints the master keys by their ids; works beside running servers.
///
/// # Errors
/// The database cannot be used.
pub(super) fn list(settings: &Settings, environment: &Environment, as_json: bool) -> Result<u8, StartError> {
    let opened = Opened::as_it_is(settings, environment)?;
    let uses: Vec<KeyUse> = opened.uses()?.into_iter().filter(|it| is_shown(it, &opened.ring)).collect();
    if as_json {
        println!("{}", pretty(&in_json(&uses, &opened.ring)));
    } else {
        uses.iter().for_each(|it| println!("{}", in_words(it, &opened.ring)));
    }
    Ok(0)
}

/// A key that no ring has and nothing needs is history.
fn is_shown(it: &KeyUse, ring: &KeyRing) -> bool {
    it.rows() > 0 || ring.contains(it.id)
}

fn in_json(uses: &[KeyUse], ring: &KeyRing) -> Value {
    let row = |it: &KeyUse| {
        json!({
            "id": it.id.to_string(),
            "rows": it.rows(),
            "active": it.id == ring.active(),
            "created_at": it.known.as_ref().map(|key| key.created_at),
        })
    };
    uses.iter().map(row).collect()
}

fn in_words(it: &KeyUse, ring: &KeyRing) -> String {
    let role = match (it.id == ring.active(), ring.contains(it.id), it.rows()) {
        (true, ..) => "active",
        (_, true, 0) => "no longer needed: remove it from ENCRYPTION_KEYS_OLD",
        (_, true, _) => "needed; `plimsoll key rotate` moves its rows to the active key",
        (_, false, _) => "needed AND MISSING: add it to ENCRYPTION_KEYS_OLD",
    };
    let since =
        it.known.as_ref().map_or("new".to_owned(), |key| format!("since {}", key.created_at.date_naive()));
    let mut text = format!("{}  {} rows  {since}  {role}", it.id, grouped(it.rows()));
    for (column, rows) in &it.by_column {
        text.push_str(&format!("\n    {:<32} {}", format!("{column:?}"), grouped(*rows)));
    }
    text
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("texts and numbers serialise")
}

/// Seals everything again with the active key; works while servers run. Answers 0 when no earlier key is needed any more,
/// else 3.
///
/// # Errors
/// The ring lacks a key that is needed, another rotation runs, or the database cannot be used.
pub(super) fn rotate(
    settings: &Settings,
    environment: &Environment,
    dry_run: bool,
    as_json: bool,
) -> Result<u8, StartError> {
    if dry_run {
        let opened = Opened::as_it_is(settings, environment)?;
        opened.db.read_blocking(|tx| tx.check_key_ring(&opened.ring))?;
        let before = opened.uses()?;
        let total = earlier_rows(&before, &opened.ring);
        let mode = RotationMode::Try;
        let outcome = rotation::run(&opened.db, &opened.ring, mode, total, &mut Progress::new(as_json))?;
        let report =
            Report { ring: &opened.ring, dry_run, before: &before, after: &before, outcome: &outcome };
        report.print(as_json);
        return Ok(if outcome.damaged.is_empty() { 0 } else { NEEDED });
    }
    let opened = Opened::to_change(settings, environment)?;
    // a pool of its own: a connection keeps the lock while batches run on the others
    let lock = opened.databases.pool(PoolKind::Control, 1)?;
    let rotated = lock.as_the_only_rotation(|| rotate_alone(&opened, as_json))?;
    rotated.unwrap_or_else(|| Err(StartError::Refused("another `plimsoll key rotate` is running".to_owned())))
}

fn rotate_alone(opened: &Opened, as_json: bool) -> Result<u8, StartError> {
    let Opened { db, ring, .. } = opened;
    let before = opened.uses()?;
    let total = earlier_rows(&before, ring);
    record(db, ring, "begun", AuditOutcome::Success, json!({ "rows": total }), &[])?;
    let outcome = rotation::run(db, ring, RotationMode::Write, total, &mut Progress::new(as_json))?;
    let after = opened.uses()?;
    let report = Report { ring, dry_run: false, before: &before, after: &after, outcome: &outcome };
    let (retirable, needed) = (report.retirable(), report.needed());
    let ended = if needed.is_empty() { AuditOutcome::Success } else { AuditOutcome::Failure };
    let detail = json!({
        "moved": outcome.moved, "left": earlier_rows(&after, ring), "damaged": outcome.damaged.len(),
        "retirable": texts(&retirable), "needed": texts(&needed),
    });
    record(db, ring, "ended", ended, detail, &retirable)?;
    report.print(as_json);
    Ok(if needed.is_empty() { 0 } else { NEEDED })
}

/// An entry of the audit log; with the last one goes what became of the keys.
fn record(
    db: &Db,
    ring: &KeyRing,
    phase: &str,
    outcome: AuditOutcome,
    mut detail: Value,
    retired: &[KeyId],
) -> Result<(), StoreError> {
    detail["via"] = "cli".into();
    detail["phase"] = phase.into();
    detail["active"] = ring.active().to_string().into();
    let now = SystemClock.now();
    let entry = Act::without_request(now).entry("key.rotate", outcome, None, None, detail);
    db.run_blocking(|tx| {
        tx.retire_keys(retired, now)?;
        tx.append_audit(None, &entry)
    })
}

fn earlier_rows(uses: &[KeyUse], ring: &KeyRing) -> u64 {
    uses.iter().filter(|it| it.id != ring.active()).map(KeyUse::rows).sum()
}

fn texts(ids: &[KeyId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

struct Report<'a> {
    ring: &'a KeyRing,
    dry_run: bool,
    before: &'a [KeyUse],
    after: &'a [KeyUse],
    outcome: &'a Outcome,
}

impl Report<'_> {
    /// Earlier keys that nothing needs any more, as far as the ring has them.
    fn retirable(&self) -> Vec<KeyId> {
        let is_free =
            |it: &&KeyUse| it.rows() == 0 && it.id != self.ring.active() && self.ring.contains(it.id);
        self.after.iter().filter(is_free).map(|it| it.id).collect()
    }

    /// Earlier keys that something still needs.
    fn needed(&self) -> Vec<KeyId> {
        self.after.iter().filter(|it| it.rows() > 0 && it.id != self.ring.active()).map(|it| it.id).collect()
    }

    fn print(&self, as_json: bool) {
        if as_json { println!("{}", pretty(&self.in_json())) } else { self.print_words() }
    }

    fn in_json(&self) -> Value {
        let shown = |uses: &[KeyUse]| {
            let shown: Vec<KeyUse> = uses.iter().filter(|it| is_shown(it, self.ring)).cloned().collect();
            in_json(&shown, self.ring)
        };
        json!({
            "active": self.ring.active().to_string(),
            "dry_run": self.dry_run,
            "moved": self.outcome.moved,
            "damaged": self.outcome.damaged,
            "took_ms": u64::try_from(self.outcome.took.as_millis()).unwrap_or(u64::MAX),
            "rows_per_second": self.outcome.rate(),
            "before": shown(self.before),
            "after": shown(self.after),
            "retirable": texts(&self.retirable()),
            "needed": texts(&self.needed()),
        })
    }

    fn print_words(&self) {
        let Outcome { moved, took, damaged } = self.outcome;
        let verb = if self.dry_run { "would be sealed again" } else { "sealed again" };
        println!("before:");
        self.before
            .iter()
            .filter(|it| is_shown(it, self.ring))
            .for_each(|it| println!("  {}  {} rows", it.id, grouped(it.rows())));
        let (rows, rate) = (grouped(*moved), grouped(self.outcome.rate()));
        println!(
            "{rows} rows {verb} with {}, in {:.1} s ({rate} rows/s)",
            self.ring.active(),
            took.as_secs_f64()
        );
        for place in damaged {
            println!("does not open, stays as it is: {place}");
        }
        if self.dry_run {
            return;
        }
        println!("after:");
        self.after
            .iter()
            .filter(|it| is_shown(it, self.ring))
            .for_each(|it| println!("  {}  {} rows", it.id, grouped(it.rows())));
        for id in self.retirable() {
            println!("{id} is needed by nothing any more: remove it from ENCRYPTION_KEYS_OLD");
        }
        for id in self.needed() {
            println!(
                "{id} IS STILL NEEDED: keep it in ENCRYPTION_KEYS_OLD, and run this again when no server seals with it"
            );
        }
    }
}
