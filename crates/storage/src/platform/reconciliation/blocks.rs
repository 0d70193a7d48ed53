//! Entries that are not accepted: of symbols with an open difference that leaves unclear what is held, and of all symbols
//! until an account was compared once more.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::{AccountId, OrderId, StoreError};
use plimsoll_reliability::reconcile::Trigger;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// What there is to compare of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueComparison {
    /// It has open orders.
    pub open: bool,
    /// Orders whose fate is not known since long.
    pub unknown: HashSet<OrderId>,
    /// It takes no entries until it was compared, for this reason.
    pub waits: Option<Trigger>,
    /// A comparison was asked for, and has not ended.
    pub asked: bool,
}

impl Tx<'_> {
    /// Locks an account: no order of it is accepted meanwhile.
    pub(crate) fn lock_account(&mut self, account: AccountId) -> Result<(), StoreError> {
        prepared("SELECT id FROM accounts WHERE id = ? FOR NO KEY UPDATE")
            .bind::<BigInt, _>(account.0)
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    /// Writes down of which symbols entries are not accepted, by the open differences. A complete comparison that `began`
    /// after the account was told to wait for one ends that. Under the account's lock.
    pub(super) fn block_entries(
        &mut self,
        account: AccountId,
        began: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        prepared(
            "UPDATE accounts a SET entries_blocked = b.symbols, \
               compare_after = CASE WHEN a.compare_after <= ? THEN NULL ELSE a.compare_after END, \
               compare_for = CASE WHEN a.compare_after <= ? THEN NULL ELSE a.compare_for END \
             FROM (SELECT array_agg(DISTINCT replace(symbol, '/', '') ORDER BY replace(symbol, '/', '')) AS symbols \
               FROM discrepancies WHERE account_id = ? AND resolved_at IS NULL AND blocks AND symbol IS NOT NULL) b \
             WHERE a.id = ? AND (a.entries_blocked IS DISTINCT FROM b.symbols OR a.compare_after <= ?)",
        )
        .bind::<Nullable<Timestamptz>, _>(began)
        .bind::<Nullable<Timestamptz>, _>(began)
        .bind::<BigInt, _>(account.0)
        .bind::<BigInt, _>(account.0)
        .bind::<Nullable<Timestamptz>, _>(began)
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    /// Makes every account that was ever compared wait for a comparison before it takes entries; the instances that have
    /// them make it. One that was never compared waits anyway. Answers how many wait.
    ///
    /// # Errors
    /// The store's own.
    pub fn compare_first(&mut self, trigger: Trigger, now: DateTime<Utc>) -> Result<usize, StoreError> {
        prepared("SELECT id FROM accounts ORDER BY id FOR NO KEY UPDATE").execute(self.conn()).store()?;
        prepared("UPDATE accounts SET compare_after = ?, compare_for = ? WHERE reconciled_at IS NOT NULL")
            .bind::<Timestamptz, _>(now)
            .bind::<Text, _>(trigger.as_str())
            .execute(self.conn())
            .store()
    }

    /// Names the history that the database's log is on: another one after a standby took over, or a copy was restored to a
    /// point in time. `None` while it does not take writes.
    ///
    /// # Errors
    /// The store's own.
    pub fn database_timeline(&mut self) -> Result<Option<String>, StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Nullable<Text>)]
            timeline: Option<String>,
        }
        prepared(
            "SELECT CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END \
             AS timeline",
        )
        .get_result::<Row>(self.conn())
        .store()
        .map(|row| row.timeline)
    }

    /// What there is to compare of an account. `unknown_before`: the fate of orders that were sent before is to be known.
    ///
    /// # Errors
    /// The store's own.
    pub fn due_comparison(
        &mut self,
        account: AccountId,
        unknown_before: DateTime<Utc>,
    ) -> Result<DueComparison, StoreError> {
        #[derive(QueryableByName)]
        struct Due {
            #[diesel(sql_type = Bool)]
            open: bool,
            #[diesel(sql_type = Array<SqlUuid>)]
            unknown: Vec<Uuid>,
            #[diesel(sql_type = Nullable<Text>)]
            compare_for: Option<String>,
            #[diesel(sql_type = Bool)]
            asked: bool,
        }
        let due = prepared(
            "SELECT EXISTS (SELECT FROM orders o WHERE o.account_id = a.id AND o.closed_at IS NULL) AS open, \
             ARRAY(SELECT o.id FROM orders o WHERE o.account_id = a.id AND o.closed_at IS NULL \
               AND o.status = 'unknown' AND coalesce(o.submit_started_at, o.updated_at) < ?) AS unknown, \
             CASE WHEN a.compare_after IS NOT NULL THEN coalesce(a.compare_for, '') END AS compare_for, \
             EXISTS (SELECT FROM reconciliation_runs r WHERE r.account_id = a.id \
               AND r.status IN ('queued', 'running')) AS asked FROM accounts a WHERE a.id = ?",
        )
        .bind::<Timestamptz, _>(unknown_before)
        .bind::<BigInt, _>(account.0)
        .get_result::<Due>(self.conn())
        .store()?;
        Ok(DueComparison {
            open: due.open,
            unknown: due.unknown.into_iter().map(OrderId).collect(),
            waits: due.compare_for.map(|word| word.parse().unwrap_or(Trigger::Demand)),
            asked: due.asked,
        })
    }
}
