//! The audit log: a keyed MAC chain per user, and sixteen for events without a known user.

mod checkpoint;
mod list;
mod prune;
mod verify;

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::audit::{AuditEntry, AuditLog};
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::MacChain;
use plimsoll_crypto::canonical::Encoder;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

pub use self::checkpoint::{Anchor, Checkpoint};
pub use self::list::{AuditFilter, AuditPlace, AuditRecord};
pub use self::prune::Pruned;
pub use self::verify::{AuditReport, BadEntry};

/// The canonical bytes of a row: every column but the MAC, length-prefixed.
pub(crate) fn audit_row_bytes(chain: i64, seq: i64, entry: &AuditEntry) -> Vec<u8> {
    let request_id = entry.request_id.map(|id| id.to_string());
    Encoder::new("plimsoll audit row v1")
        .int(chain)
        .int(seq)
        .int(entry.at.timestamp_micros())
        .text(&entry.action)
        .text(entry.outcome.as_str())
        .optional_int(entry.actor_id.map(|id| id.0))
        .optional_int(entry.subject_id.map(|id| id.0))
        .optional_text(entry.ip.as_deref())
        .optional_text(entry.user_agent.as_deref())
        .optional_text(request_id.as_deref())
        .text(&entry.canonical_detail())
        .finish()
}

/// The MAC of the row that follows `previous`.
pub(crate) fn next_mac(key: &MacChain, previous: &[u8], row: &[u8]) -> Result<[u8; 32], StoreError> {
    Ok(key.next(&mac_of("audit_head", 0, previous)?, row))
}

/// A stored MAC. The column's CHECK holds it to 32 bytes.
fn mac_of(table: &'static str, row: i64, mac: &[u8]) -> Result<[u8; 32], StoreError> {
    mac.try_into().map_err(|_| StoreError::inconsistent(table, "mac", row, "not 32 bytes"))
}

/// An entry's id: the user and its place in the user's chain, `12.7`; of the system's chains `system3.7`; of a
/// checkpoint `checkpoint.7`.
fn entry_id(chain: i64, seq: i64) -> String {
    match chain {
        0 => format!("checkpoint.{seq}"),
        1.. => format!("{chain}.{seq}"),
        _ => format!("system{}.{seq}", chain.unsigned_abs()),
    }
}

/// How many chains there are for events without a known user: -1 and below.
const SYSTEM_CHAINS: u8 = 16;

/// The chain of events without a known user: one of sixteen, so that they do not queue behind one lock.
fn system_chain(entry: &AuditEntry) -> i64 {
    let byte = entry.request_id.map_or(0, |id| id.as_bytes()[15]);
    -1 - i64::from(byte % SYSTEM_CHAINS)
}

#[derive(QueryableByName)]
struct Head {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Binary)]
    mac: Vec<u8>,
}

macro_rules! row_columns {
    () => {
        "seq, at, action, outcome, actor_id, subject_id, ip, user_agent, request_id, detail, mac"
    };
}
use row_columns;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    action: String,
    #[diesel(sql_type = Text)]
    outcome: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    actor_id: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    subject_id: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    ip: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    user_agent: Option<String>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    request_id: Option<Uuid>,
    #[diesel(sql_type = Text)]
    detail: String,
    #[diesel(sql_type = Binary)]
    mac: Vec<u8>,
}

impl AuditLog for Tx<'_> {
    fn append_audit(&mut self, owner: Option<UserId>, entry: &AuditEntry) -> Result<(), StoreError> {
        Tx::append_audit(self, owner, entry)
    }
}

impl Tx<'_> {
    /// Appends to the chain of `owner`; without one, to one of the system's chains.
    ///
    /// # Errors
    /// The store's own; the act must then fail too.
    pub fn append_audit(&mut self, owner: Option<UserId>, entry: &AuditEntry) -> Result<(), StoreError> {
        let entry = entry.neutral();
        let chain = owner.map_or_else(|| system_chain(&entry), |user| user.0);
        let keys = self.platform_keys()?;
        let head = prepared("SELECT seq, mac FROM audit_head WHERE chain = ? FOR NO KEY UPDATE")
            .bind::<BigInt, _>(chain)
            .get_result::<Head>(self.conn())
            .optional()
            .store()?
            .ok_or_else(|| {
                StoreError::inconsistent("audit_head", "chain", chain, "the chain's row is missing")
            })?;
        let seq = head.seq + 1;
        let mac = next_mac(&keys.audit, &head.mac, &audit_row_bytes(chain, seq, &entry))?;
        prepared(
            "WITH h AS (UPDATE audit_head SET seq = ?, mac = ? WHERE chain = ?) \
             INSERT INTO audit_log (chain, seq, at, action, outcome, actor_id, subject_id, ip, user_agent, request_id, \
             detail, mac) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind::<BigInt, _>(seq)
        .bind::<Binary, _>(mac.as_slice())
        .bind::<BigInt, _>(chain)
        .bind::<BigInt, _>(chain)
        .bind::<BigInt, _>(seq)
        .bind::<Timestamptz, _>(entry.at)
        .bind::<Text, _>(entry.action.as_str())
        .bind::<Text, _>(entry.outcome.as_str())
        .bind::<Nullable<BigInt>, _>(entry.actor_id.map(|id| id.0))
        .bind::<Nullable<BigInt>, _>(entry.subject_id.map(|id| id.0))
        .bind::<Nullable<Text>, _>(entry.ip.as_deref())
        .bind::<Nullable<Text>, _>(entry.user_agent.as_deref())
        .bind::<Nullable<SqlUuid>, _>(entry.request_id)
        .bind::<Text, _>(entry.canonical_detail())
        .bind::<Binary, _>(mac.as_slice())
        .execute(self.conn())
        .store()?;
        Ok(())
    }
}

/// [`audit_row_bytes`] of a stored row; its detail is canonical text already.
fn stored_bytes(chain: i64, row: &Row) -> Vec<u8> {
    let request_id = row.request_id.map(|id| id.to_string());
    Encoder::new("plimsoll audit row v1")
        .int(chain)
        .int(row.seq)
        .int(row.at.timestamp_micros())
        .text(&row.action)
        .text(&row.outcome)
        .optional_int(row.actor_id)
        .optional_int(row.subject_id)
        .optional_text(row.ip.as_deref())
        .optional_text(row.user_agent.as_deref())
        .optional_text(request_id.as_deref())
        .text(&row.detail)
        .finish()
}

/// The keys were not given to this handle of the database.
pub(crate) fn no_keys() -> StoreError {
    StoreError::new(StoreErrorKind::Other, "the database was opened without the installation's keys")
}
