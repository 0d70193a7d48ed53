//! Reading entries: a user's own, or everybody's.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::{StoreError, UserId};

use super::{Row, entry_id, row_columns};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Later than any entry: the first day of the year 9999.
const LAST: DateTime<Utc> = match DateTime::from_timestamp(253_370_764_800, 0) {
    Some(time) => time,
    None => DateTime::<Utc>::MAX_UTC,
};

/// Which entries to list; each field that is `None` lets everything pass.
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

/// Where a list over all chains ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditPlace {
    /// The entry's time.
    pub at: DateTime<Utc>,
    /// Its chain.
    pub chain: i64,
    /// Its place in the chain.
    pub seq: i64,
}

/// An entry with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRecord {
    /// A user's id, or a negative number for one of the system's chains.
    pub chain: i64,
    /// Its place in the chain, from 1: with the chain it names the entry, and it is the cursor of a list.
    pub seq: i64,
    /// The entry as it was kept.
    pub entry: AuditEntry,
}

impl AuditRecord {
    /// Names the entry for ever.
    #[must_use]
    pub fn id(&self) -> String {
        entry_id(self.chain, self.seq)
    }

    /// Its place among all entries.
    #[must_use]
    pub fn place(&self) -> AuditPlace {
        AuditPlace { at: self.entry.at, chain: self.chain, seq: self.seq }
    }
}

#[derive(QueryableByName)]
struct ChainRow {
    #[diesel(sql_type = BigInt)]
    chain: i64,
    #[diesel(embed)]
    stored: Row,
}

impl Row {
    fn into_record(self, chain: i64) -> Result<AuditRecord, StoreError> {
        let bad =
            |column, why| StoreError::inconsistent("audit_log", column, format!("{chain}/{}", self.seq), why);
        Ok(AuditRecord {
            chain,
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
    /// Entries of all chains, newest first, at most `limit`; with `before`, only those after that place of the list. It
    /// reads and does not verify.
    ///
    /// # Errors
    /// As [`audit_entries`](Self::audit_entries).
    pub fn all_audit_entries(
        &mut self,
        filter: &AuditFilter,
        before: Option<AuditPlace>,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let before = before.unwrap_or(AuditPlace { at: LAST, chain: i64::MAX, seq: i64::MAX });
        prepared(concat!(
            "SELECT chain, ",
            row_columns!(),
            " FROM audit_log WHERE (at, chain, seq) < (?, ?, ?) AND action = coalesce(?, action) \
             AND outcome = coalesce(?, outcome) AND at >= coalesce(?, '-infinity') AND at < coalesce(?, 'infinity') \
             ORDER BY at DESC, chain DESC, seq DESC LIMIT ?"
        ))
        .bind::<Timestamptz, _>(before.at)
        .bind::<BigInt, _>(before.chain)
        .bind::<BigInt, _>(before.seq)
        .bind::<Nullable<Text>, _>(filter.action.as_deref())
        .bind::<Nullable<Text>, _>(filter.outcome.map(AuditOutcome::as_str))
        .bind::<Nullable<Timestamptz>, _>(filter.from)
        .bind::<Nullable<Timestamptz>, _>(filter.to)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<ChainRow>(self.conn())
        .store()?
        .into_iter()
        .map(|row| row.stored.into_record(row.chain))
        .collect()
    }
}
