//! Checkpoints: signed statements of where the chains stand, each signed together with the one before it.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{Array, BigInt, Binary, Nullable, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::clock::to_micros;
use plimsoll_crypto::MacChain;
use plimsoll_crypto::canonical::Encoder;

use super::mac_of;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Heads read and written at once.
const PAGE: i64 = 1000;
/// The advisory lock under which checkpoints are made, one after the other.
const LOCK: i64 = 0x706c_6d61_7564_6974; // "plmaudit"

/// A checkpoint that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Dense, from 1.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Chains that it speaks of: those that have moved since the one before.
    pub marks: u64,
    /// Chains whose heads stand before an earlier checkpoint: their ends were cut off. They get no new mark.
    pub cut_chains: u64,
    /// What to keep outside of the database.
    pub anchor: Anchor,
}

/// A checkpoint's number and signature, to be kept where nobody who writes to the database can write: with it, cut-off
/// checkpoints are found too. Text form: `12:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    pub(super) id: i64,
    pub(super) mac: [u8; 32],
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.id)?;
        self.mac.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Anchor({self})")
    }
}

impl FromStr for Anchor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "an anchor is a checkpoint's number, a colon and 64 hexadecimal digits";
        let (id, digits) = text.trim().split_once(':').ok_or(FORM)?;
        let id = id.parse().ok().filter(|id| *id > 0).ok_or(FORM)?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(FORM);
        }
        let mut mac = [0; 32];
        for (at, byte) in mac.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| FORM)?;
        }
        Ok(Self { id, mac })
    }
}

/// What a mark says of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkKind {
    /// The last row was this one.
    Head,
    /// Every row up to this one was deleted.
    Start,
}

impl MarkKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Start => "start",
        }
    }
}

/// A chain's row, as a checkpoint names it.
#[derive(QueryableByName)]
pub(super) struct Mark {
    #[diesel(sql_type = BigInt)]
    pub(super) chain: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) seq: i64,
    #[diesel(sql_type = Binary)]
    pub(super) mac: Vec<u8>,
}

/// The canonical bytes of a mark.
pub(super) fn mark_bytes(checkpoint: i64, kind: &str, mark: &Mark) -> Vec<u8> {
    Encoder::new("plimsoll audit mark v1")
        .int(checkpoint)
        .text(kind)
        .int(mark.chain)
        .int(mark.seq)
        .bytes(&mark.mac)
        .finish()
}

/// The canonical bytes of a checkpoint, which follow those of its marks.
pub(super) fn checkpoint_bytes(id: i64, at: DateTime<Utc>, marks: i64) -> Vec<u8> {
    Encoder::new("plimsoll audit checkpoint v1").int(id).int(at.timestamp_micros()).int(marks).finish()
}

#[derive(QueryableByName)]
struct Newest {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Binary)]
    mac: Vec<u8>,
}

#[derive(QueryableByName)]
struct MovedHead {
    #[diesel(embed)]
    head: Mark,
    #[diesel(sql_type = Nullable<BigInt>)]
    marked: Option<i64>,
}

/// A checkpoint in the making. Marks come by kind and then by chain: so they are read again.
pub(super) struct Signer {
    key: MacChain,
    id: i64,
    at: DateTime<Utc>,
    mac: [u8; 32],
    marks: i64,
}

impl Signer {
    /// Begins the checkpoint after the newest one; no other is begun before this transaction ends.
    pub(super) fn begin(tx: &mut Tx<'_>, now: DateTime<Utc>) -> Result<Self, StoreError> {
        prepared("SELECT pg_advisory_xact_lock(?)").bind::<BigInt, _>(LOCK).execute(tx.conn()).store()?;
        let newest = newest(tx)?;
        let (id, mac) = newest.map_or((0, MacChain::GENESIS), |anchor| (anchor.id, anchor.mac));
        Ok(Self {
            key: tx.platform_keys()?.checkpoints.clone(),
            id: id + 1,
            at: to_micros(now),
            mac,
            marks: 0,
        })
    }

    pub(super) fn add(&mut self, tx: &mut Tx<'_>, kind: MarkKind, marks: &[Mark]) -> Result<(), StoreError> {
        for mark in marks {
            self.mac = self.key.next(&self.mac, &mark_bytes(self.id, kind.as_str(), mark));
            self.marks += 1;
        }
        prepared(
            "INSERT INTO audit_checkpoint_marks (chain, kind, seq, mac, checkpoint) \
             SELECT m.chain, ?, m.seq, m.mac, ? FROM unnest(?, ?, ?) AS m (chain, seq, mac)",
        )
        .bind::<Text, _>(kind.as_str())
        .bind::<BigInt, _>(self.id)
        .bind::<Array<BigInt>, _>(marks.iter().map(|mark| mark.chain).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(marks.iter().map(|mark| mark.seq).collect::<Vec<_>>())
        .bind::<Array<Binary>, _>(marks.iter().map(|mark| mark.mac.as_slice()).collect::<Vec<_>>())
        .execute(tx.conn())
        .store()?;
        Ok(())
    }

    pub(super) fn end(self, tx: &mut Tx<'_>, cut_chains: u64) -> Result<Checkpoint, StoreError> {
        let mac = self.key.next(&self.mac, &checkpoint_bytes(self.id, self.at, self.marks));
        prepared("INSERT INTO audit_checkpoints (id, at, marks, mac) VALUES (?, ?, ?, ?)")
            .bind::<BigInt, _>(self.id)
            .bind::<Timestamptz, _>(self.at)
            .bind::<BigInt, _>(self.marks)
            .bind::<Binary, _>(mac.as_slice())
            .execute(tx.conn())
            .store()?;
        Ok(Checkpoint {
            id: self.id,
            at: self.at,
            marks: u64::try_from(self.marks).unwrap_or_default(),
            cut_chains,
            anchor: Anchor { id: self.id, mac },
        })
    }
}

/// The newest checkpoint's number and signature.
pub(super) fn newest(tx: &mut Tx<'_>) -> Result<Option<Anchor>, StoreError> {
    let row = prepared("SELECT id, mac FROM audit_checkpoints ORDER BY id DESC LIMIT 1")
        .get_result::<Newest>(tx.conn())
        .optional()
        .store()?;
    row.map(|row| Ok(Anchor { id: row.id, mac: mac_of("audit_checkpoints", row.id, &row.mac)? })).transpose()
}

impl Tx<'_> {
    /// Whether the newest checkpoint is as old as `every`, or there is none.
    ///
    /// # Errors
    /// The store's own.
    pub fn audit_checkpoint_due(&mut self, every: TimeDelta, now: DateTime<Utc>) -> Result<bool, StoreError> {
        #[derive(QueryableByName)]
        struct Newest {
            #[diesel(sql_type = Timestamptz)]
            at: DateTime<Utc>,
        }
        let newest = prepared("SELECT at FROM audit_checkpoints ORDER BY id DESC LIMIT 1")
            .get_result::<Newest>(self.conn())
            .optional()
            .store()?;
        Ok(newest.is_none_or(|newest| now - newest.at >= every))
    }

    /// Makes a checkpoint over the heads of all chains that have moved since the last one. Writers go on meanwhile.
    ///
    /// A head that stands before an earlier checkpoint is not marked anew, so that verifying goes on to find it.
    ///
    /// # Errors
    /// The store's own; `Contention` while another checkpoint is made.
    pub fn audit_checkpoint(&mut self, now: DateTime<Utc>) -> Result<Checkpoint, StoreError> {
        let mut signer = Signer::begin(self, now)?;
        let (mut after, mut cut) = (i64::MIN, 0);
        loop {
            let moved = prepared(
                "SELECT h.chain, h.seq, h.mac, m.seq AS marked FROM audit_head h \
                 LEFT JOIN LATERAL (SELECT k.seq FROM audit_checkpoint_marks k \
                   WHERE k.chain = h.chain AND k.kind = 'head' ORDER BY k.seq DESC LIMIT 1) m ON true \
                 WHERE h.chain > ? AND h.seq <> coalesce(m.seq, 0) ORDER BY h.chain LIMIT ?",
            )
            .bind::<BigInt, _>(after)
            .bind::<BigInt, _>(PAGE)
            .load::<MovedHead>(self.conn())
            .store()?;
            let Some(last) = moved.last() else { break };
            after = last.head.chain;
            let (good, behind): (Vec<_>, Vec<_>) =
                moved.into_iter().partition(|moved| moved.head.seq > moved.marked.unwrap_or(0));
            for moved in &behind {
                tracing::error!(
                    audit.chain = moved.head.chain,
                    audit.seq = moved.head.seq,
                    "The audit log was cut: a chain ends before a checkpoint. Run `plimsoll audit verify`."
                );
            }
            cut += behind.len() as u64;
            let heads: Vec<Mark> = good.into_iter().map(|moved| moved.head).collect();
            if !heads.is_empty() {
                signer.add(self, MarkKind::Head, &heads)?;
            }
        }
        signer.end(self, cut)
    }
}
