//! Which master keys a database needs, which ones it knows, and how a pass phrase becomes one.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::StoreError;
use plimsoll_crypto::{KeyId, KeyRing, Stretching};

use super::KeysError;
use super::columns::{SEALED_COLUMNS, SealedColumn};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// A master key as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// Its id.
    pub id: KeyId,
    /// When it was first in a ring.
    pub created_at: DateTime<Utc>,
    /// When a rotation found nothing left that needs it.
    pub retired_at: Option<DateTime<Utc>>,
}

/// What needs a master key.
#[derive(Clone, Debug)]
pub struct KeyUse {
    /// The key's id.
    pub id: KeyId,
    /// Values in each column that has some.
    pub by_column: Vec<(SealedColumn, u64)>,
    /// `None` when it never was in a ring over this database.
    pub known: Option<KnownKey>,
}

impl KeyUse {
    /// Values in all columns together.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.by_column.iter().map(|(_, rows)| rows).sum()
    }
}

#[derive(QueryableByName)]
struct KnownRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    retired_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = Text)]
    id: String,
}

#[derive(QueryableByName)]
struct Rows {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    found: bool,
}

#[derive(QueryableByName)]
struct StretchingRow {
    #[diesel(sql_type = Binary)]
    salt: Vec<u8>,
    #[diesel(sql_type = Integer)]
    iterations: i32,
}

impl Tx<'_> {
    /// Checks that the ring opens whatever is stored, by the ids of keys: a few steps in an index for each column,
    /// however many rows there are.
    ///
    /// # Errors
    /// [`KeysError::NotInRing`], or the store's own.
    pub fn check_key_ring(&mut self, ring: &KeyRing) -> Result<(), KeysError> {
        let in_use = self.key_ids_in_use()?;
        let missing: Vec<KeyId> = in_use.iter().copied().filter(|id| !ring.contains(*id)).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(KeysError::NotInRing { none: missing.len() == in_use.len(), missing }),
        }
    }

    /// Remembers the ring's keys by their ids.
    ///
    /// # Errors
    /// The store's own.
    pub(super) fn register_keys(&mut self, ring: &KeyRing) -> Result<(), StoreError> {
        let ids: Vec<String> = ring.ids().map(|id| id.to_string()).collect();
        prepared(
            "INSERT INTO encryption_keys (id, created_at) SELECT id, now() FROM unnest(?) AS t (id) ORDER BY id \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind::<Array<Text>, _>(ids)
        .execute(self.conn())
        .store()?;
        prepared("UPDATE encryption_keys SET retired_at = NULL WHERE id = ? AND retired_at IS NOT NULL")
            .bind::<Text, _>(ring.active().to_string())
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    /// Notes that nothing needs these keys any more.
    ///
    /// # Errors
    /// The store's own.
    pub fn retire_keys(&mut self, ids: &[KeyId], at: DateTime<Utc>) -> Result<(), StoreError> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        prepared("UPDATE encryption_keys SET retired_at = ? WHERE id = ANY (?) AND retired_at IS NULL")
            .bind::<Timestamptz, _>(at)
            .bind::<Array<Text>, _>(ids)
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    /// Master keys that were in a ring over this database.
    ///
    /// # Errors
    /// The store's own.
    pub fn known_keys(&mut self) -> Result<Vec<KnownKey>, StoreError> {
        prepared("SELECT id, created_at, retired_at FROM encryption_keys ORDER BY created_at, id")
            .load::<KnownRow>(self.conn())
            .store()?
            .into_iter()
            .map(|row| {
                let wrong = |_| StoreError::inconsistent("encryption_keys", "id", &row.id, "no key id");
                let id = row.id.parse().map_err(wrong)?;
                Ok(KnownKey { id, created_at: row.created_at, retired_at: row.retired_at })
            })
            .collect()
    }

    /// Ids of the master keys that stored values need. An id that stands in sealed bytes alone counts when it is that of
    /// a known master key: any other is of a data key, or of a damaged value, and whoever reads that finds out.
    fn key_ids_in_use(&mut self) -> Result<BTreeSet<KeyId>, StoreError> {
        let (naming, others): (Vec<&SealedColumn>, Vec<&SealedColumn>) =
            SEALED_COLUMNS.iter().partition(|column| column.names_its_key);
        let mut ids = BTreeSet::new();
        for column in naming {
            let found = prepared(column.distinct_ids).load::<Id>(self.conn()).store()?;
            ids.extend(found.iter().filter_map(|row| row.id.parse::<KeyId>().ok()));
        }
        let mut known: BTreeSet<KeyId> = self.known_keys()?.into_iter().map(|key| key.id).collect();
        known.extend(&ids);
        for id in known.difference(&ids.clone()) {
            for column in &others {
                let found = prepared(column.any)
                    .bind::<Text, _>(id.to_string())
                    .get_result::<Found>(self.conn())
                    .store()?;
                ids.extend(found.found.then_some(*id));
            }
        }
        Ok(ids)
    }

    /// What needs each master key: those in use, those of the ring and those that are known, the oldest first.
    ///
    /// # Errors
    /// The store's own.
    pub fn key_uses(&mut self, ring: &KeyRing) -> Result<Vec<KeyUse>, StoreError> {
        let known: BTreeMap<KeyId, KnownKey> =
            self.known_keys()?.into_iter().map(|key| (key.id, key)).collect();
        let mut ids = self.key_ids_in_use()?;
        ids.extend(known.keys().copied().chain(ring.ids()));
        let mut uses = Vec::with_capacity(ids.len());
        for id in ids {
            let mut by_column = Vec::new();
            for column in SEALED_COLUMNS {
                let rows = self.values_sealed_by(column, id)?;
                if rows > 0 {
                    by_column.push((*column, rows));
                }
            }
            uses.push(KeyUse { id, by_column, known: known.get(&id).cloned() });
        }
        // a key that no ring registered yet is the newest
        uses.sort_by_key(|it| {
            (it.known.as_ref().map_or(DateTime::<Utc>::MAX_UTC, |key| key.created_at), it.id)
        });
        Ok(uses)
    }

    fn values_sealed_by(&mut self, column: &SealedColumn, id: KeyId) -> Result<u64, StoreError> {
        let row =
            prepared(column.count).bind::<Text, _>(id.to_string()).get_result::<Rows>(self.conn()).store()?;
        Ok(u64::try_from(row.rows).unwrap_or(0))
    }

    /// How this database makes a key of a pass phrase, where that was settled.
    ///
    /// # Errors
    /// The store's own.
    pub fn stretching(&mut self) -> Result<Option<Stretching>, StoreError> {
        let row = prepared("SELECT salt, iterations FROM encryption_stretching")
            .get_result::<StretchingRow>(self.conn())
            .optional()
            .store()?;
        let Some(row) = row else { return Ok(None) };
        let iterations = u32::try_from(row.iterations).unwrap_or(0);
        Stretching::new(row.salt, iterations)
            .map(Some)
            .map_err(|why| StoreError::inconsistent("encryption_stretching", "salt", "only_row", why))
    }

    /// Settles how a pass phrase becomes a key, unless it is settled: then `proposed` is forgotten. Instances that start
    /// at once agree on one.
    ///
    /// # Errors
    /// The store's own.
    pub fn settle_stretching(&mut self, proposed: &Stretching) -> Result<Stretching, StoreError> {
        prepared(
            "INSERT INTO encryption_stretching (salt, iterations) VALUES (?, ?) ON CONFLICT (only_row) DO NOTHING",
        )
        .bind::<Binary, _>(proposed.salt())
        .bind::<Integer, _>(i32::try_from(proposed.iterations()).unwrap_or(i32::MAX))
        .execute(self.conn())
        .store()?;
        self.stretching()?.ok_or_else(|| {
            StoreError::inconsistent("encryption_stretching", "only_row", true, "gone after its insert")
        })
    }
}
