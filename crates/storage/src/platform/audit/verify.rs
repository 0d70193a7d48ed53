//! Verifying: every MAC is computed again, of the checkpoints and of the chains, from the first row to the head.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Binary, Nullable, SmallInt, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::StoreError;
use plimsoll_crypto::MacChain;

use super::checkpoint::{Anchor, Mark, checkpoint_bytes, mark_bytes};
use super::{Row, SYSTEM_CHAINS, entry_id, mac_of, row_columns, stored_bytes};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Rows read at once: at most 8 MiB of details.
const PAGE: i64 = 1000;
/// Chains looked at in one statement.
const CHAINS: i64 = 500;

/// The first row at which the log does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEntry {
    /// A user's id, or a negative number for one of the system's chains; 0 for the checkpoints.
    pub chain: i64,
    /// Its place in the chain; 0 when the chain's head itself is gone. Of checkpoints, the number.
    pub seq: i64,
    /// In which way: `altered`, `missing`, `truncated` (the head, or a checkpoint, counts more rows), `beyond the head`
    /// (it counts fewer), `head altered` (it holds another MAC than the last row), `no head`, `rewritten` (a checkpoint
    /// saw another row here), `deleted before` (a row is there again); of a checkpoint, `altered`, `missing` or
    /// `not the anchored one`.
    pub reason: &'static str,
}

impl BadEntry {
    /// The user whose chain it is; `None` for the system's chains and for checkpoints.
    #[must_use]
    pub fn user_id(&self) -> Option<i64> {
        (self.chain > 0).then_some(self.chain)
    }

    /// The entry's id, as lists show it.
    #[must_use]
    pub fn entry_id(&self) -> String {
        entry_id(self.chain, self.seq)
    }
}

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Chains read.
    pub chains: u64,
    /// Entries read and found good.
    pub entries: u64,
    /// Checkpoints read and found good.
    pub checkpoints: u64,
    /// The newest of them.
    pub newest: Option<Anchor>,
    /// The first bad row.
    pub first_bad: Option<BadEntry>,
}

/// Where a chain that is read so far stands.
type Place = (i64, [u8; 32]);
/// The first bad row of a chain, and what is wrong with it.
type Bad = (i64, &'static str);

#[derive(QueryableByName)]
struct Chain {
    #[diesel(sql_type = BigInt)]
    chain: i64,
}

#[derive(QueryableByName)]
struct ChainNow {
    #[diesel(sql_type = BigInt)]
    chain: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    seq: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    mac: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    first: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    beyond: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    start: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    start_mac: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    marked: Option<i64>,
}

#[derive(QueryableByName)]
struct WalkedRow {
    #[diesel(embed)]
    stored: Row,
    #[diesel(sql_type = Nullable<Binary>)]
    mark: Option<Vec<u8>>,
}

#[derive(QueryableByName)]
struct CheckpointRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    marks: i64,
    #[diesel(sql_type = Binary)]
    mac: Vec<u8>,
}

#[derive(QueryableByName)]
struct KindMark {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(embed)]
    mark: Mark,
}

#[derive(QueryableByName)]
struct Most {
    #[diesel(sql_type = Nullable<BigInt>)]
    most: Option<i64>,
}

impl Tx<'_> {
    /// Verifies the checkpoints and every chain: [`verify_audit_chains`](Self::verify_audit_chains) over all of them.
    ///
    /// # Errors
    /// The store's own.
    pub fn verify_audit(&mut self) -> Result<AuditReport, StoreError> {
        self.verify_audit_chains(i64::MIN..=i64::MAX)
    }

    /// As [`verify_audit`](Self::verify_audit), and a checkpoint that was noted outside of the database must be there as
    /// it was.
    ///
    /// # Errors
    /// The store's own.
    pub fn verify_audit_anchored(&mut self, anchor: &Anchor) -> Result<AuditReport, StoreError> {
        let report = self.verify_audit()?;
        if report.first_bad.is_some() {
            return Ok(report);
        }
        let kept = prepared("SELECT id, at, marks, mac FROM audit_checkpoints WHERE id = ?")
            .bind::<BigInt, _>(anchor.id)
            .get_result::<CheckpointRow>(self.conn())
            .optional()
            .store()?;
        let reason = match kept {
            Some(row) if row.mac == anchor.mac => return Ok(report),
            Some(_) => "not the anchored one",
            None => "missing",
        };
        Ok(AuditReport { first_bad: Some(BadEntry { chain: 0, seq: anchor.id, reason }), ..report })
    }

    /// Verifies the checkpoints, then reads the chains of a range from where they start to their heads and computes every
    /// MAC again; stops at the first bad row. Memory stays bounded, whatever the log's length.
    ///
    /// Run it in a snapshot ([`Db::read_snapshot`](crate::Db::read_snapshot)): then neither writers nor pruning change
    /// what it sees.
    ///
    /// Rows cut off the end are found when a checkpoint has seen them; checkpoints cut off as well, by an anchor only.
    ///
    /// # Errors
    /// The store's own.
    pub fn verify_audit_chains(&mut self, chains: RangeInclusive<i64>) -> Result<AuditReport, StoreError> {
        let mut report = AuditReport::default();
        if let Err((seq, reason)) = self.verify_checkpoints(&mut report)? {
            report.first_bad = Some(BadEntry { chain: 0, seq, reason });
            return Ok(report);
        }
        let mut from = *chains.start();
        loop {
            let page = self.audit_chains(from, *chains.end())?;
            for now in self.chains_now(&page)? {
                report.chains += 1;
                let chain = now.chain;
                if let Err((seq, reason)) = self.verify_chain(&now, &mut report.entries)? {
                    report.first_bad = Some(BadEntry { chain, seq, reason });
                    return Ok(report);
                }
            }
            match page.last().and_then(|last| last.checked_add(1)) {
                Some(next) if next <= *chains.end() => from = next,
                _ => return Ok(report),
            }
        }
    }

    /// The next chains there are or should be: of every head, of every row, of every mark, of every user, and the system's.
    fn audit_chains(&mut self, from: i64, to: i64) -> Result<Vec<i64>, StoreError> {
        // The recursions ask the index for one chain after the other instead of reading every row.
        let rows = prepared(
            "WITH RECURSIVE written (chain) AS ( \
               SELECT (SELECT min(l.chain) FROM audit_log l WHERE l.chain >= ?) \
               UNION ALL \
               SELECT (SELECT min(l.chain) FROM audit_log l WHERE l.chain > w.chain) FROM written w \
               WHERE w.chain IS NOT NULL), \
             marked (chain) AS ( \
               SELECT (SELECT min(m.chain) FROM audit_checkpoint_marks m WHERE m.chain >= ?) \
               UNION ALL \
               SELECT (SELECT min(m.chain) FROM audit_checkpoint_marks m WHERE m.chain > k.chain) FROM marked k \
               WHERE k.chain IS NOT NULL) \
             SELECT c.chain FROM ( \
               (SELECT chain FROM audit_head WHERE chain >= ? ORDER BY chain LIMIT ?) \
               UNION (SELECT chain FROM written WHERE chain IS NOT NULL LIMIT ?) \
               UNION (SELECT chain FROM marked WHERE chain IS NOT NULL LIMIT ?) \
               UNION (SELECT id FROM users WHERE id >= ? ORDER BY id LIMIT ?) \
               UNION SELECT -n::bigint FROM generate_series(1, ?) AS n) c \
             WHERE c.chain BETWEEN ? AND ? ORDER BY c.chain LIMIT ?",
        )
        .bind::<BigInt, _>(from)
        .bind::<BigInt, _>(from)
        .bind::<BigInt, _>(from)
        .bind::<BigInt, _>(CHAINS)
        .bind::<BigInt, _>(CHAINS)
        .bind::<BigInt, _>(CHAINS)
        .bind::<BigInt, _>(from)
        .bind::<BigInt, _>(CHAINS)
        .bind::<SmallInt, _>(i16::from(SYSTEM_CHAINS))
        .bind::<BigInt, _>(from)
        .bind::<BigInt, _>(to)
        .bind::<BigInt, _>(CHAINS)
        .load::<Chain>(self.conn())
        .store()?;
        Ok(rows.into_iter().map(|row| row.chain).collect())
    }

    /// What chains should be like, all read in one statement, which sees one state: a writer moves rows and head at once.
    fn chains_now(&mut self, chains: &[i64]) -> Result<Vec<ChainNow>, StoreError> {
        prepared(
            "SELECT c.chain, h.seq, h.mac, s.seq AS start, s.mac AS start_mac, \
               (SELECT min(l.seq) FROM audit_log l WHERE l.chain = c.chain) AS first, \
               (SELECT min(l.seq) FROM audit_log l WHERE l.chain = c.chain AND l.seq > h.seq) AS beyond, \
               (SELECT max(m.seq) FROM audit_checkpoint_marks m WHERE m.chain = c.chain AND m.kind = 'head') AS marked \
             FROM unnest(?) AS c (chain) LEFT JOIN audit_head h ON h.chain = c.chain \
             LEFT JOIN LATERAL (SELECT k.seq, k.mac FROM audit_checkpoint_marks k \
               WHERE k.chain = c.chain AND k.kind = 'start' ORDER BY k.seq DESC LIMIT 1) s ON true \
             ORDER BY c.chain",
        )
        .bind::<Array<BigInt>, _>(chains)
        .load(self.conn())
        .store()
    }

    /// Counts the good rows in `entries`; `Err` inside is the first bad one.
    fn verify_chain(&mut self, now: &ChainNow, entries: &mut u64) -> Result<Result<(), Bad>, StoreError> {
        let (Some(head), Some(head_mac)) = (now.seq, &now.mac) else { return Ok(Err((0, "no head"))) };
        let start = match (now.start, &now.start_mac) {
            (Some(seq), Some(mac)) => (seq, mac_of("audit_checkpoint_marks", seq, mac)?),
            _ => (0, MacChain::GENESIS),
        };
        if let Some(first) = now.first.filter(|first| *first <= start.0) {
            return Ok(Err((first, "deleted before")));
        }
        let mac = match self.walk_chain(now.chain, start, head, entries)? {
            Ok(mac) => mac,
            Err(bad) => return Ok(Err(bad)),
        };
        Ok(match now.beyond {
            _ if *head_mac != mac => Err((head, "head altered")),
            Some(beyond) => Err((beyond, "beyond the head")),
            None if head < now.marked.unwrap_or(0).max(start.0) => Err((head + 1, "truncated")),
            None => Ok(()),
        })
    }

    /// Reads a chain's rows after `from` up to the one at `to`, and gives the last one's MAC. `Err` inside is the first
    /// row that does not follow from the one before, or that a checkpoint saw otherwise.
    pub(super) fn walk_chain(
        &mut self,
        chain: i64,
        from: Place,
        to: i64,
        entries: &mut u64,
    ) -> Result<Result<[u8; 32], Bad>, StoreError> {
        let keys = self.platform_keys()?;
        let (mut seq, mut mac) = from;
        while seq < to {
            let rows = prepared(concat!(
                "SELECT ",
                row_columns!(),
                ", (SELECT m.mac FROM audit_checkpoint_marks m WHERE m.chain = audit_log.chain AND m.kind = 'head' \
                 AND m.seq = audit_log.seq) AS mark \
                 FROM audit_log WHERE chain = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
            ))
            .bind::<BigInt, _>(chain)
            .bind::<BigInt, _>(seq)
            .bind::<BigInt, _>(to)
            .bind::<BigInt, _>(PAGE)
            .load::<WalkedRow>(self.conn())
            .store()?;
            if rows.is_empty() {
                return Ok(Err((seq + 1, "truncated")));
            }
            for WalkedRow { stored: row, mark } in rows {
                if row.seq != seq + 1 {
                    return Ok(Err((seq + 1, "missing")));
                }
                seq = row.seq;
                mac = keys.audit.next(&mac, &stored_bytes(chain, &row));
                if row.mac != mac {
                    return Ok(Err((seq, "altered")));
                }
                if mark.is_some_and(|mark| mark != mac) {
                    return Ok(Err((seq, "rewritten")));
                }
                *entries += 1;
            }
        }
        Ok(Ok(mac))
    }

    /// Reads every checkpoint with its marks. `Err` inside is the first bad one.
    fn verify_checkpoints(&mut self, report: &mut AuditReport) -> Result<Result<(), Bad>, StoreError> {
        let key = self.platform_keys()?.checkpoints.clone();
        let (mut id, mut mac) = (0, MacChain::GENESIS);
        loop {
            let page =
                prepared("SELECT id, at, marks, mac FROM audit_checkpoints WHERE id > ? ORDER BY id LIMIT ?")
                    .bind::<BigInt, _>(id)
                    .bind::<BigInt, _>(PAGE)
                    .load::<CheckpointRow>(self.conn())
                    .store()?;
            if page.is_empty() {
                break;
            }
            for row in page {
                if row.id != id + 1 {
                    return Ok(Err((id + 1, "missing")));
                }
                id = row.id;
                let Some(over_marks) = self.fold_marks(&key, &row, mac)? else {
                    return Ok(Err((id, "altered")));
                };
                mac = key.next(&over_marks, &checkpoint_bytes(id, row.at, row.marks));
                if row.mac != mac {
                    return Ok(Err((id, "altered")));
                }
                report.checkpoints += 1;
                report.newest = Some(Anchor { id, mac });
            }
        }
        let most = prepared("SELECT max(checkpoint) AS most FROM audit_checkpoint_marks")
            .get_result::<Most>(self.conn())
            .store()?;
        Ok(if most.most.unwrap_or(0) > id { Err((id + 1, "missing")) } else { Ok(()) })
    }

    /// The MAC over a checkpoint's marks, from that of the checkpoint before; `None` when there are not exactly as many as it
    /// says: one too many is signed by nobody, and would let entries go.
    fn fold_marks(
        &mut self,
        key: &MacChain,
        checkpoint: &CheckpointRow,
        before: [u8; 32],
    ) -> Result<Option<[u8; 32]>, StoreError> {
        let (mut mac, mut count, mut last) = (before, 0, (String::new(), i64::MIN));
        loop {
            let page = prepared(
                "SELECT kind, chain, seq, mac FROM audit_checkpoint_marks \
                 WHERE checkpoint = ? AND (kind, chain) > (?, ?) ORDER BY kind, chain LIMIT ?",
            )
            .bind::<BigInt, _>(checkpoint.id)
            .bind::<Text, _>(&last.0)
            .bind::<BigInt, _>(last.1)
            .bind::<BigInt, _>(PAGE)
            .load::<KindMark>(self.conn())
            .store()?;
            let Some(end) = page.last() else { break };
            last = (end.kind.clone(), end.mark.chain);
            for KindMark { kind, mark } in &page {
                mac = key.next(&mac, &mark_bytes(checkpoint.id, kind, mark));
                count += 1;
            }
            if count > checkpoint.marks {
                break;
            }
        }
        Ok((count == checkpoint.marks).then_some(mac))
    }
}
