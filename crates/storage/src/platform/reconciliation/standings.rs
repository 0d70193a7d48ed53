//! Where accounts stand: what people and metrics ask about comparisons.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Nullable, Numeric, Text, Timestamptz};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{AccountId, StoreError, UserId};
use plimsoll_reliability::reconcile::Class;
use rust_decimal::Decimal;

use super::runs::RunRow;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Where an account's comparison stands.
#[derive(Clone, Debug)]
pub struct AccountStanding {
    /// The account.
    pub account: AccountId,
    /// Whose.
    pub user: UserId,
    /// With whose money.
    pub environment: Environment,
    /// When it was last compared to the end.
    pub reconciled_at: Option<DateTime<Utc>>,
    /// Differences that are open.
    pub open: i64,
    /// Those of them that need a human.
    pub needs_human: i64,
    /// Symbols that a difference keeps new entries out of.
    pub blocked: Vec<String>,
    /// Of what is held, the units that came from outside the platform and that nobody has claimed; negative when short.
    pub outside: Vec<(String, Decimal)>,
    /// The newest run.
    pub last_run: Option<RunRow>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    account_id: i64,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    environment: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    reconciled_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = BigInt)]
    open: i64,
    #[diesel(sql_type = BigInt)]
    needs_human: i64,
    #[diesel(sql_type = Array<Text>)]
    blocked: Vec<String>,
}

#[derive(QueryableByName)]
struct OutsideRow {
    #[diesel(sql_type = BigInt)]
    account_id: i64,
    #[diesel(sql_type = Text)]
    symbol: String,
    #[diesel(sql_type = Numeric)]
    qty: Decimal,
}

impl Tx<'_> {
    /// Where the comparisons of a user's accounts stand, or of everybody's that are traded with: those that need a human
    /// first, then those that were compared the longest ago, at most 500. To be read in one snapshot.
    ///
    /// # Errors
    /// The store's own.
    pub fn account_standings(
        &mut self,
        user: Option<UserId>,
        account: Option<AccountId>,
    ) -> Result<Vec<AccountStanding>, StoreError> {
        let rows = prepared(
            "SELECT a.id AS account_id, a.user_id, a.environment, a.reconciled_at, d.open, d.needs_human, d.blocked \
             FROM accounts a CROSS JOIN LATERAL (SELECT count(*) AS open, \
               count(*) FILTER (WHERE d.class = ?) AS needs_human, \
               coalesce(array_agg(DISTINCT d.symbol ORDER BY d.symbol) FILTER (WHERE d.blocks AND d.symbol IS NOT NULL), \
                 '{}') AS blocked \
               FROM discrepancies d WHERE d.account_id = a.id AND d.resolved_at IS NULL) d \
             WHERE a.state <> 'inactive' AND (?::bigint IS NULL OR a.user_id = ?) AND (?::bigint IS NULL OR a.id = ?) \
             ORDER BY d.needs_human DESC, a.reconciled_at NULLS FIRST, a.id LIMIT 500",
        )
        .bind::<Text, _>(Class::NeedsHuman.as_str())
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .bind::<Nullable<BigInt>, _>(account.map(|account| account.0))
        .bind::<Nullable<BigInt>, _>(account.map(|account| account.0))
        .load::<Row>(self.conn())
        .store()?;
        let ids: Vec<i64> = rows.iter().map(|row| row.account_id).collect();
        let mut last = self.last_runs(&ids)?;
        let mut outside = self.outside_units(&ids)?;
        rows.into_iter()
            .map(|row| {
                let account = AccountId(row.account_id);
                Ok(AccountStanding {
                    account,
                    user: UserId(row.user_id),
                    environment: environment(account, &row.environment)?,
                    reconciled_at: row.reconciled_at,
                    open: row.open,
                    needs_human: row.needs_human,
                    blocked: row.blocked,
                    outside: outside.remove(&row.account_id).unwrap_or_default(),
                    last_run: last.remove(&row.account_id),
                })
            })
            .collect()
    }

    fn last_runs(&mut self, accounts: &[i64]) -> Result<HashMap<i64, RunRow>, StoreError> {
        let rows = prepared(
            "SELECT r.id, r.account_id, r.trigger, r.status, r.started_at, r.finished_at, r.scanned, r.fixed, \
             '[]' AS found, r.error FROM unnest(?) AS t(id) CROSS JOIN LATERAL (SELECT * FROM reconciliation_runs r \
             WHERE r.account_id = t.id ORDER BY r.started_at DESC, r.id DESC LIMIT 1) r",
        )
        .bind::<Array<BigInt>, _>(accounts)
        .load::<RunRow>(self.conn())
        .store()?;
        Ok(rows.into_iter().map(|row| (row.account_id, row)).collect())
    }

    fn outside_units(
        &mut self,
        accounts: &[i64],
    ) -> Result<HashMap<i64, Vec<(String, Decimal)>>, StoreError> {
        let rows = prepared(
            "SELECT account_id, symbol, outside_qty AS qty FROM positions WHERE account_id = ANY(?) \
             AND outside_qty <> 0 ORDER BY account_id, symbol",
        )
        .bind::<Array<BigInt>, _>(accounts)
        .load::<OutsideRow>(self.conn())
        .store()?;
        let mut by_account: HashMap<i64, Vec<(String, Decimal)>> = HashMap::new();
        for row in rows {
            by_account.entry(row.account_id).or_default().push((row.symbol, row.qty));
        }
        Ok(by_account)
    }
}

fn environment(account: AccountId, word: &str) -> Result<Environment, StoreError> {
    word.parse().map_err(|why| StoreError::inconsistent("accounts", "environment", account, why))
}
