//! Whether a restored copy is sound: level V2.

use std::time::Duration;

use diesel::PgConnection;
use plimsoll_crypto::{CryptoRng, KeyRing};
use plimsoll_reliability::backup::{BackupError, Totals};

use super::sql::{connect, lines, number};
use crate::db::quote_identifier;
use crate::platform::keys::PlatformKeys;
use crate::{Db, DbSettings, PoolKind};

/// Each finds what must not be.
const RULES: &[(&str, &str)] = &[
    (
        "an order's filled quantity is the sum of its fills",
        "SELECT o.id::text AS line FROM orders o LEFT JOIN (SELECT account_id, order_id, sum(qty) AS qty FROM fills \
         GROUP BY 1, 2) f ON f.account_id = o.account_id AND f.order_id = o.id \
         WHERE o.filled_qty <> coalesce(f.qty, 0) ORDER BY 1 LIMIT 3",
    ),
    (
        "a fill has its order",
        "SELECT f.id::text AS line FROM fills f WHERE NOT EXISTS (SELECT FROM orders o WHERE o.account_id = f.account_id \
         AND o.id = f.order_id) ORDER BY 1 LIMIT 3",
    ),
    (
        "a stream is dense up to its head",
        "SELECT e.stream_id::text AS line FROM stream_event e JOIN stream_head h USING (stream_id) GROUP BY e.stream_id, h.head \
         HAVING max(e.off) <> h.head OR max(e.off) - min(e.off) + 1 <> count(*) ORDER BY 1 LIMIT 3",
    ),
    (
        "a stream has its head",
        "SELECT DISTINCT e.stream_id::text AS line FROM stream_event e WHERE NOT EXISTS (SELECT FROM stream_head h \
         WHERE h.stream_id = e.stream_id) ORDER BY 1 LIMIT 3",
    ),
];

/// Looks at a copy right after its rows are in: their numbers, the sums that must hold between tables, and the whole audit
/// log. Foreign keys and checks were enforced when it was loaded.
///
/// # Errors
/// [`BackupError::Unsound`] with the first thing that does not hold, or the database's own.
pub fn check<R>(url: &str, totals: &Totals, ring: &KeyRing, rng: &mut R) -> Result<(), BackupError>
where
    R: CryptoRng + ?Sized,
{
    let mut conn: PgConnection = connect(url, Duration::from_secs(5))?;
    for table in &totals.tables {
        let query = format!("SELECT count(*) AS number FROM public.{}", quote_identifier(&table.name));
        let rows = number(&mut conn, &query)?;
        if rows.unsigned_abs() != table.rows {
            return unsound(format!("{} has {rows} rows instead of {}", table.name, table.rows));
        }
    }
    for (rule, exceptions) in RULES {
        let found = lines(&mut conn, exceptions)?;
        if !found.is_empty() {
            return unsound(format!("{rule}, but not {}", found.join(", ")));
        }
    }
    drop(conn);
    audit(url, ring, rng)
}

fn audit<R>(url: &str, ring: &KeyRing, rng: &mut R) -> Result<(), BackupError>
where
    R: CryptoRng + ?Sized,
{
    let mut settings = DbSettings::new(PoolKind::Jobs, 1);
    settings.statement_timeout = Duration::from_secs(600);
    let db = Db::open(url, settings)?;
    // a copy without keys has written nothing yet; what this would make is taken back
    let keys = PlatformKeys::load_or_pretend(&db, ring, rng)
        .map_err(|error| BackupError::Unsound(error.to_string()))?;
    let report = db.with_keys(keys.into()).read_snapshot_blocking(|tx| tx.verify_audit())?;
    match report.first_bad {
        None => Ok(()),
        Some(bad) => {
            unsound(format!("entry {} of the audit log does not verify: {}", bad.entry_id(), bad.reason))
        }
    }
}

fn unsound(what: String) -> Result<(), BackupError> {
    Err(BackupError::Unsound(what))
}
