//! Retention: the oldest rows go, and a checkpoint says so.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{BigInt, Binary, Nullable, Timestamptz};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::StoreError;
use plimsoll_crypto::MacChain;

use super::checkpoint::{Checkpoint, Mark, MarkKind, Signer};
use super::mac_of;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Younger rows never go: the database's own rule, with an hour for clocks that differ.
const YOUNGEST: TimeDelta = TimeDelta::hours(7 * 24 + 1);

/// What pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rows deleted.
    pub rows: u64,
    /// Chains left alone because their old rows do not verify.
    pub bad_chains: u64,
    /// The checkpoint that says so; `None` when nothing was deleted.
    pub checkpoint: Option<Checkpoint>,
}

#[derive(QueryableByName)]
struct Due {
    #[diesel(sql_type = BigInt)]
    chain: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    start: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    start_mac: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    old: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    covered: Option<i64>,
}

#[derive(QueryableByName)]
struct Deleted {
    #[diesel(sql_type = BigInt)]
    deleted: i64,
}

impl Tx<'_> {
    /// Deletes about `most` rows at most that are older than `before` and a week, from the beginnings of their chains
    /// and no further than an earlier checkpoint saw them. A new checkpoint signs where each chain starts now. Rows are
    /// verified before they go: a chain that does not verify keeps them, as evidence.
    ///
    /// # Errors
    /// The store's own; `Contention` while a checkpoint is made elsewhere.
    pub fn prune_audit(
        &mut self,
        before: DateTime<Utc>,
        most: usize,
        now: DateTime<Utc>,
    ) -> Result<Pruned, StoreError> {
        let before = before.min(now - YOUNGEST);
        let mut signer = Signer::begin(self, now)?;
        let (mut starts, mut rows, mut pruned) = (Vec::new(), 0, Pruned::default());
        for due in self.due_chains(before, most)? {
            let from = match (due.start, &due.start_mac) {
                (Some(seq), Some(mac)) => (seq, mac_of("audit_checkpoint_marks", seq, mac)?),
                _ => (0, MacChain::GENESIS),
            };
            let upto = due.old.unwrap_or(0).min(due.covered.unwrap_or(0));
            if upto <= from.0 || rows >= most as u64 {
                continue;
            }
            match self.walk_chain(due.chain, from, upto, &mut rows)? {
                Ok(mac) => starts.push(Mark { chain: due.chain, seq: upto, mac: mac.to_vec() }),
                Err((seq, reason)) => {
                    tracing::error!(
                        audit.chain = due.chain,
                        audit.seq = seq,
                        reason,
                        "Old audit entries do not verify and are kept."
                    );
                    pruned.bad_chains += 1;
                }
            }
        }
        if starts.is_empty() {
            return Ok(pruned);
        }
        signer.add(self, MarkKind::Start, &starts)?;
        let checkpoint = signer.end(self, 0)?;
        let row = prepared("SELECT audit_log_prune(?) AS deleted")
            .bind::<BigInt, _>(checkpoint.id)
            .get_result::<Deleted>(self.conn())
            .store()?;
        pruned.rows = u64::try_from(row.deleted).unwrap_or_default();
        pruned.checkpoint = Some(checkpoint);
        Ok(pruned)
    }

    /// The chains of the oldest rows, in order, each with the last of its leading old rows.
    fn due_chains(&mut self, before: DateTime<Utc>, most: usize) -> Result<Vec<Due>, StoreError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        prepared(
            "WITH due AS (SELECT DISTINCT o.chain FROM \
               (SELECT chain FROM audit_log WHERE at < ? ORDER BY at LIMIT ?) o) \
             SELECT d.chain, s.seq AS start, s.mac AS start_mac, \
               (SELECT max(y.seq) FROM (SELECT x.seq, bool_and(x.at < ?) OVER (ORDER BY x.seq) AS old FROM \
                 (SELECT seq, at FROM audit_log WHERE chain = d.chain ORDER BY seq LIMIT ?) x) y WHERE y.old) AS old, \
               (SELECT max(h.seq) FROM audit_checkpoint_marks h WHERE h.chain = d.chain AND h.kind = 'head') AS covered \
             FROM due d LEFT JOIN LATERAL (SELECT k.seq, k.mac FROM audit_checkpoint_marks k \
               WHERE k.chain = d.chain AND k.kind = 'start' ORDER BY k.seq DESC LIMIT 1) s ON true \
             ORDER BY d.chain",
        )
        .bind::<Timestamptz, _>(before)
        .bind::<BigInt, _>(most)
        .bind::<Timestamptz, _>(before)
        .bind::<BigInt, _>(most)
        .load(self.conn())
        .store()
    }
}
