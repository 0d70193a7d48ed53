//! Verifying chains: every MAC is computed again, from the first row to the head.

use std::ops::RangeInclusive;

use diesel::sql_types::{BigInt, Binary, Nullable, SmallInt};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::StoreError;
use plimsoll_crypto::MacChain;

use super::{Row, SYSTEM_CHAINS, row_columns, stored_bytes};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Rows read at once: at most 8 MiB of details.
const PAGE: i64 = 1000;

/// The first row at which a chain does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEntry {
    /// A user's id, or a negative number for one of the system's chains.
    pub chain: i64,
    /// Its place in the chain; 0 when the chain's head itself is gone.
    pub seq: i64,
    /// In which way: `altered`, `missing`, `truncated` (the head counts more rows), `beyond the head` (it counts
    /// fewer), `head altered` (it holds another MAC than the last row), `no head`.
    pub reason: &'static str,
}

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Chains read.
    pub chains: u64,
    /// Entries read and found good.
    pub entries: u64,
    /// The first bad row.
    pub first_bad: Option<BadEntry>,
}

#[derive(QueryableByName)]
struct Chain {
    #[diesel(sql_type = BigInt)]
    chain: i64,
}

#[derive(QueryableByName)]
struct HeadNow {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Binary)]
    mac: Vec<u8>,
    #[diesel(sql_type = Nullable<BigInt>)]
    beyond: Option<i64>,
}

impl Tx<'_> {
    /// Verifies every chain: [`verify_audit_chains`](Self::verify_audit_chains) over all of them.
    ///
    /// # Errors
    /// The store's own.
    pub fn verify_audit(&mut self) -> Result<AuditReport, StoreError> {
        self.verify_audit_chains(i64::MIN..=i64::MAX)
    }

    /// Reads the chains of a range from their first rows to their heads and computes every MAC again; stops at the first
    /// bad row. Writers may go on meanwhile: a chain is verified up to its head as it was when its turn came.
    ///
    /// Rows cut off the end together with a head set back to match are found only against a head kept elsewhere.
    ///
    /// # Errors
    /// The store's own.
    pub fn verify_audit_chains(&mut self, chains: RangeInclusive<i64>) -> Result<AuditReport, StoreError> {
        let mut report = AuditReport::default();
        for chain in self.audit_chains(chains)? {
            report.chains += 1;
            if let Err((seq, reason)) = self.verify_chain(chain, &mut report.entries)? {
                report.first_bad = Some(BadEntry { chain, seq, reason });
                break;
            }
        }
        Ok(report)
    }

    /// The chains there are or should be: of every head, of every row, of every user, and the system's.
    fn audit_chains(&mut self, range: RangeInclusive<i64>) -> Result<Vec<i64>, StoreError> {
        // The recursion asks the index for one chain after the other instead of reading every row.
        let rows = prepared(
            "WITH RECURSIVE written (chain) AS ( \
               SELECT (SELECT min(l.chain) FROM audit_log l) \
               UNION ALL \
               SELECT (SELECT min(l.chain) FROM audit_log l WHERE l.chain > w.chain) FROM written w \
               WHERE w.chain IS NOT NULL) \
             SELECT c.chain FROM (SELECT chain FROM audit_head UNION SELECT chain FROM written UNION SELECT id FROM users \
               UNION SELECT -n::bigint FROM generate_series(1, ?) AS n) c \
             WHERE c.chain BETWEEN ? AND ? ORDER BY c.chain",
        )
        .bind::<SmallInt, _>(i16::from(SYSTEM_CHAINS))
        .bind::<BigInt, _>(*range.start())
        .bind::<BigInt, _>(*range.end())
        .load::<Chain>(self.conn())
        .store()?;
        Ok(rows.into_iter().map(|row| row.chain).collect())
    }

    /// Counts the good rows in `entries`; `Err` inside is the first bad one.
    fn verify_chain(
        &mut self,
        chain: i64,
        entries: &mut u64,
    ) -> Result<Result<(), (i64, &'static str)>, StoreError> {
        let keys = self.platform_keys()?;
        // The head and what lies beyond it in one statement, which sees one state: a writer moves both at once.
        let head = prepared(
            "SELECT h.seq, h.mac, (SELECT min(l.seq) FROM audit_log l WHERE l.chain = h.chain AND l.seq > h.seq) AS beyond \
             FROM audit_head h WHERE h.chain = ?",
        )
        .bind::<BigInt, _>(chain)
        .get_result::<HeadNow>(self.conn())
        .optional()
        .store()?;
        let Some(head) = head else { return Ok(Err((0, "no head"))) };
        let (mut seq, mut mac) = (0, MacChain::GENESIS);
        while seq < head.seq {
            let rows = prepared(concat!(
                "SELECT ",
                row_columns!(),
                " FROM audit_log WHERE chain = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
            ))
            .bind::<BigInt, _>(chain)
            .bind::<BigInt, _>(seq)
            .bind::<BigInt, _>(head.seq)
            .bind::<BigInt, _>(PAGE)
            .load::<Row>(self.conn())
            .store()?;
            if rows.is_empty() {
                return Ok(Err((seq + 1, "truncated")));
            }
            for row in rows {
                if row.seq != seq + 1 {
                    return Ok(Err((seq + 1, "missing")));
                }
                seq = row.seq;
                mac = keys.audit.next(&mac, &stored_bytes(chain, &row));
                if row.mac != mac {
                    return Ok(Err((seq, "altered")));
                }
                *entries += 1;
            }
        }
        Ok(match head.beyond {
            _ if head.mac != mac => Err((seq, "head altered")),
            Some(beyond) => Err((beyond, "beyond the head")),
            None => Ok(()),
        })
    }
}
