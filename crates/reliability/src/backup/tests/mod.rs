mod container;
mod folder;
mod keeping;

use std::io::{Read, Write};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_crypto::{KeyRing, MasterKey, SecretKey};

use super::*;

pub(super) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000, 0).unwrap()
}

pub(super) fn days_ago(days: i64) -> DateTime<Utc> {
    now() - TimeDelta::days(days)
}

pub(super) fn ring(seed: u8) -> KeyRing {
    KeyRing::new(&master(seed))
}

pub(super) fn master(seed: u8) -> MasterKey {
    MasterKey::from_key(SecretKey::from_bytes(std::array::from_fn(|i| seed.wrapping_add(i as u8 + 1))))
        .unwrap()
}

/// Bytes that no compressor makes shorter.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// Rows in binary COPY form. A field is `None` for NULL.
pub(super) fn copy_form(rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
    let mut out = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in rows {
        out.extend((row.len() as u16).to_be_bytes());
        for field in row {
            match field {
                None => out.extend((-1_i32).to_be_bytes()),
                Some(value) => {
                    out.extend((value.len() as u32).to_be_bytes());
                    out.extend(value);
                }
            }
        }
    }
    out.extend((-1_i16).to_be_bytes());
    out
}

/// A database in memory: each table with its columns and its rows in COPY form.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) facts: SnapshotFacts,
    pub(super) rows: Vec<Vec<u8>>,
    pub(super) sequences: Vec<SequenceValue>,
    /// The table that fails, after half of its rows.
    pub(super) fails_at: Option<usize>,
    /// Bytes of one piece that it gives.
    pub(super) piece: usize,
}

impl Memory {
    pub(super) fn new(rows: Vec<(&str, usize, Vec<u8>)>) -> Self {
        let tables = rows
            .iter()
            .map(|(name, columns, _)| TableShape {
                name: (*name).to_owned(),
                columns: (0..*columns).map(|at| format!("c{at}")).collect(),
            })
            .collect();
        let facts = SnapshotFacts {
            at: now(),
            lsn: "0/15D6F10".to_owned(),
            system_identifier: "7400000000000000001".to_owned(),
            timeline: 1,
            server_version: "15.8".to_owned(),
            database: "plimsoll".to_owned(),
            migrations: vec!["20261124000100".to_owned()],
            catalogue: "00".repeat(32),
            foreign_objects: Vec::new(),
            tables,
            table_bytes: 400_000,
            stretching: Some(StretchingFacts { salt: "07".repeat(32), iterations: 600_000 }),
        };
        let sequences = vec![
            SequenceValue { name: "orders_id_seq".to_owned(), last: Some(i64::MAX) },
            SequenceValue { name: "unused".to_owned(), last: None },
        ];
        Self {
            facts,
            rows: rows.into_iter().map(|(_, _, rows)| rows).collect(),
            sequences,
            fails_at: None,
            piece: 7_001,
        }
    }

    /// Three tables, one of them empty; more than two chunks of content.
    pub(super) fn usual() -> Self {
        let orders: Vec<_> =
            (0..40).map(|at| vec![Some(noise(at, 4_000)), None, Some(Vec::new()), Some(vec![7])]).collect();
        Self::new(vec![
            ("orders", 4, copy_form(&orders)),
            ("fills", 2, copy_form(&[])),
            ("users", 1, copy_form(&[vec![Some(b"ada".to_vec())], vec![None]])),
        ])
    }
}

impl SnapshotSource for Memory {
    fn facts(&self) -> &SnapshotFacts {
        &self.facts
    }

    fn copy_table(&mut self, table: &TableShape, sink: &mut dyn Write) -> Result<(), BackupError> {
        let place = self.facts.tables.iter().position(|one| one == table).unwrap();
        let rows = &self.rows[place];
        let until = if self.fails_at == Some(place) { rows.len() / 2 } else { rows.len() };
        for piece in rows[..until].chunks(self.piece) {
            sink.write_all(piece).map_err(|error| BackupError::from_io("copying", error))?;
        }
        if self.fails_at == Some(place) {
            return Err(BackupError::Refused("the connection was lost".to_owned()));
        }
        Ok(())
    }

    fn sequences(&mut self) -> Result<Vec<SequenceValue>, BackupError> {
        Ok(self.sequences.clone())
    }
}

/// What a restore gave, table by table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) rows: Vec<(String, Vec<u8>)>,
    pub(super) sequences: Vec<SequenceValue>,
}

impl RestoreTarget for Taken {
    fn load_table(&mut self, table: &TableShape, rows: &mut dyn Read) -> Result<(), BackupError> {
        let mut all = Vec::new();
        rows.read_to_end(&mut all).map_err(|error| BackupError::from_io("loading", error))?;
        self.rows.push((table.name.clone(), all));
        Ok(())
    }

    fn set_sequences(&mut self, values: &[SequenceValue]) -> Result<(), BackupError> {
        self.sequences = values.to_vec();
        Ok(())
    }
}

pub(super) fn meter() -> Meter {
    Meter::new(std::time::Instant::now(), None)
}
