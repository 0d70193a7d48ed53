//! The peer: pgbench on the same database, each statement by itself and prepared.

use std::fs;
use std::path::{Path, PathBuf};

use plimsoll_core_domain::{Clock, SystemClock};

use super::figures::median;
use super::http_load::Kind;
use super::platform::Platform;
use super::{Result, Workload};

/// What an accepted order writes and reads, as single statements in one transaction. Ids ascend, as ours do.
const PLACE: &str = r"\set uid random(:first, :last)
\set n :n + 1
BEGIN;
INSERT INTO idempotency_keys (user_id, key, route, fingerprint, order_id, in_flight_until, expires_at)
  VALUES (:uid, 'peer-' || {id}::text, 'POST /orders', {digest}, {id}, now() + interval '5 seconds', now() + interval '7 days')
  ON CONFLICT (user_id, key) DO NOTHING;
SELECT id AS account, environment AS env, state AS st FROM accounts WHERE user_id = :uid AND broker = 'alpaca' FOR NO KEY UPDATE \gset
UPDATE stream_head SET head = head + 1 WHERE stream_id = :uid RETURNING epoch AS epoch, head AS head \gset
SELECT seq AS seq, mac AS mac FROM audit_head WHERE chain = :uid FOR NO KEY UPDATE \gset
INSERT INTO orders (account_id, id, user_id, client_order_id, symbol, side, type, time_in_force, order_class, qty,
    limit_price, extended_hours, role, status, filled_qty, filled_value, source_kind, environment, submit_attempts,
    submit_deadline, probe_count, created_at, updated_at, version)
  VALUES (:account, {id}, :uid, {client}, 'SPY', 'buy', 'limit', 'day', 'simple', 10, 512.25, false, 'entry',
    'pending_submit', 0, 0, 'api', :env, 0, now() + interval '5 minutes', 0, now(), now(), 1);
INSERT INTO order_history (account_id, order_id, version, at, to_status, cause)
  VALUES (:account, {id}, 1, now(), 'pending_submit', 'accepted');
INSERT INTO jobs (queue, kind, max_attempts, dedup_key, payload)
  VALUES ('peer', {kind}, {attempts}, {id}::text, {job}::jsonb);
INSERT INTO stream_event (stream_id, off, epoch, kind, payload, at)
  VALUES (:uid, :head, :epoch, 'order_created', {payload}, now());
INSERT INTO audit_log (chain, seq, at, action, outcome, actor_id, subject_id, ip, request_id, detail, mac)
  VALUES (:uid, :seq::bigint + 1, now(), 'order.create', 'success', :uid, :uid, '127.0.0.1', {id}, {detail}, {digest});
UPDATE audit_head SET seq = :seq::bigint + 1, mac = {digest} WHERE chain = :uid;
UPDATE idempotency_keys SET status = 202, body = {body} WHERE user_id = :uid AND key = 'peer-' || {id}::text;
COMMIT;
";

/// A page of a user's orders, by the account's id.
const LIST: &str = r"\set uid random(:first, :last)
SELECT account_id, id, user_id, client_order_id, broker_order_id, symbol, side, type, time_in_force, order_class, qty,
    notional, limit_price, stop_price, trail_price, trail_percent, extended_hours, take_profit_limit, stop_loss_stop,
    stop_loss_limit, parent_id, role, status, status_reason, filled_qty, filled_value, broker_status,
    broker_updated_at, broker_filled_qty, source_kind, source_id, environment, replaces, replaced_by, submit_attempts,
    submit_deadline, submit_started_at, probe_count, created_at, submitted_at, updated_at, closed_at, version
  FROM orders WHERE account_id = :uid AND parent_id IS NULL ORDER BY id DESC LIMIT 51;
";

/// How a run went.
pub(crate) struct Figures {
    /// Transactions a second.
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// pgbench and its scripts.
pub(crate) struct Peer<'a> {
    platform: &'a Platform,
    place: PathBuf,
    list: PathBuf,
    round_trips: usize,
}

impl<'a> Peer<'a> {
    /// Takes what it writes from an order that was accepted before, so that rows have the same size on both sides.
    pub(crate) fn new(platform: &'a Platform) -> Result<Self> {
        let newest = |column: &str, table: &str, by: &str| -> Result<String> {
            platform.query(&format!("SELECT {column} FROM {table} ORDER BY {by} DESC LIMIT 1"))
        };
        let texts = [
            ("{payload}", literal(&newest("payload", "stream_event", "at")?)),
            ("{detail}", literal(&newest("detail", "audit_log", "at")?)),
            ("{body}", format!("convert_to({}, 'UTF8')", literal(&newest("payload", "stream_event", "at")?))),
            ("{job}", literal(&newest("payload", "jobs", "id")?)),
            ("{kind}", literal(&newest("kind", "jobs", "id")?)),
            ("{attempts}", newest("max_attempts", "jobs", "id")?),
            ("{client}", "'peer-' || {id}::text".to_owned()),
            ("{digest}", format!("decode('{}', 'hex')", "5a".repeat(32))),
            (
                "{id}",
                "(lpad(to_hex(:base::bigint + :n::bigint), 16, '0') || lpad(to_hex(:client_id::bigint), 16, '0'))::uuid"
                    .to_owned(),
            ),
        ];
        let place = texts.iter().fold(PLACE.to_owned(), |script, (name, text)| script.replace(name, text));
        let round_trips = PLACE.matches(";\n").count() + PLACE.matches("\\gset").count();
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = platform.folder().join(name);
            fs::write(&path, text)?;
            Ok(path)
        };
        Ok(Self { platform, place: write("place.sql", &place)?, list: write("list.sql", LIST)?, round_trips })
    }

    pub(crate) fn round_trips(&self) -> usize {
        self.round_trips
    }

    /// Runs the peer of a workload.
    pub(crate) fn run(&self, workload: &Workload, seconds: u64) -> Result<Figures> {
        let log = tempfile::Builder::new().prefix("pgbench-").tempdir_in(self.platform.folder())?;
        let script = match workload.kind {
            Kind::Place => &self.place,
            Kind::List => &self.list,
        };
        let first = self.platform.first_user;
        let last = first + i64::try_from(workload.users)? - 1;
        // The upper half of an ascending id: milliseconds and a counter, as in a UUID of version 7.
        let base = SystemClock.now().timestamp_millis() << 16;
        let mut command = self.platform.pgbench()?;
        command
            .args(["-n", "-M", "prepared", "-j", &workload.connections.min(2).to_string()])
            .args(["-c", &workload.connections.to_string(), "-T", &seconds.to_string()])
            .args(["-D", &format!("first={first}"), "-D", &format!("last={last}")])
            .args(["-D", &format!("base={base}"), "-D", "n=0", "-l"])
            .arg(format!("--log-prefix={}", log.path().join("transactions").display()))
            .arg("-f")
            .arg(script);
        let output = command.output()?;
        let text = String::from_utf8(output.stdout)?;
        let found = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        match (output.status.success(), found("number of failed transactions: "), found("tps = ")) {
            (true, None | Some(0.0), Some(rate)) => {
                let mut times = times(log.path())?;
                let p50_ms = median(&mut times);
                let p99_ms = times.get(times.len() * 99 / 100).copied().unwrap_or(f64::NAN);
                Ok(Figures { rate, p50_ms, p99_ms })
            }
            _ => Err(format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }
}

/// Milliseconds of each transaction, from pgbench's log (`client transaction microseconds …`).
fn times(folder: &Path) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for file in fs::read_dir(folder)? {
        for line in fs::read_to_string(file?.path())?.lines() {
            let micros = line.split(' ').nth(2).ok_or("a line of pgbench's log without a time")?;
            times.push(micros.parse::<f64>()? / 1_000.0);
        }
    }
    Ok(times)
}

/// A text as SQL writes it, without the colons that pgbench would take for its variables.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace(':', "\\x3A"))
}
