//! Reading a user's own entries.

use chrono::{DateTime, Utc};
use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::{StoreError, UserId};

use super::{Row, row_columns};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Which entries of a chain to list; each field that is `None` lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Exactly this action.
    pub action: Option<String>,
    /// Exactly this outcome.
    pub outcome: Option<AuditOutcome>,
    /// Not before this time.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub to: Option<DateTime<Utc>>,
}

/// An entry with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRecord {
    /// Its place in the chain, from 1: with the chain it names the entry, and it is the cursor of a list.
    pub seq: i64,
    /// The entry as it was kept.
    pub entry: AuditEntry,
}

impl Row {
    fn into_record(self, chain: i64) -> Result<AuditRecord, StoreError> {
        let bad =
            |column, why| StoreError::inconsistent("audit_log", column, format!("{chain}/{}", self.seq), why);
        Ok(AuditRecord {
            seq: self.seq,
            entry: AuditEntry {
                at: self.at,
                outcome: self.outcome.parse().map_err(|why: &str| bad("outcome", why.to_owned()))?,
                detail: serde_json::from_str(&self.detail).map_err(|why| bad("detail", why.to_string()))?,
                action: self.action,
                actor_id: self.actor_id.map(UserId),
                subject_id: self.subject_id.map(UserId),
                ip: self.ip,
                user_agent: self.user_agent,
                request_id: self.request_id,
            },
        })
    }
}

impl Tx<'_> {
    /// Entries of a user's own chain, newest first, at most `limit`; with `before`, only those with a smaller `seq`.
    /// It reads and does not verify.
    ///
    /// # Errors
    /// The store's own; kind `Inconsistent` for a row that is none of ours.
    pub fn audit_entries(
        &mut self,
        user: UserId,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        prepared(concat!(
            "SELECT ",
            row_columns!(),
            " FROM audit_log WHERE chain = ? AND seq < ? AND action = coalesce(?, action) \
             AND outcome = coalesce(?, outcome) AND at >= coalesce(?, '-infinity') AND at < coalesce(?, 'infinity') \
             ORDER BY seq DESC LIMIT ?"
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<BigInt, _>(before.unwrap_or(i64::MAX))
        .bind::<Nullable<Text>, _>(filter.action.as_deref())
        .bind::<Nullable<Text>, _>(filter.outcome.map(AuditOutcome::as_str))
        .bind::<Nullable<Timestamptz>, _>(filter.from)
        .bind::<Nullable<Timestamptz>, _>(filter.to)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Row>(self.conn())
        .store()?
        .into_iter()
        .map(|row| row.into_record(user.0))
        .collect()
    }
}
