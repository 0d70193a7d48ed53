//! Sealing again with the active key, batch by batch, while servers run.
//!
//! The rows themselves are all the state there is: a rotation that was killed goes on where it stopped. A batch takes the
//! rows that nobody holds; the others come in a later pass.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_auth::vault::{existing_ring, user_ring};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::sealing::reseal;
use plimsoll_crypto::{Aad, CryptoRng, KeyId, KeyRing, OpenError};

use super::columns::SealedColumn;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::db::{Db, Tx};

/// The advisory lock of the one rotation that runs.
const LOCK: i64 = 0x706c_6d6b_6579_726f; // "plmkeyro"

/// Whether a batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationMode {
    /// Values are opened and forgotten: would all of them move?
    Try,
    /// Values are sealed again.
    Write,
}

/// What moves, and how.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// Everything moves to its active key.
    pub ring: &'a KeyRing,
    /// The key whose values move.
    pub from: KeyId,
    /// Whether they do.
    pub mode: RotationMode,
    /// Values in one batch at most.
    pub limit: u32,
    /// Now.
    pub at: DateTime<Utc>,
}

/// Where a pass over a column stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(String);

/// What became of a batch.
#[derive(Clone, Debug, Default)]
pub struct Rotated {
    /// Values that were sealed again, or would be.
    pub moved: u64,
    /// Rows whose value does not open; they stay as they are.
    pub damaged: Vec<String>,
    /// Where the next batch begins; `None` when the pass is over.
    pub next: Option<Place>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    owner: Option<i64>,
    #[diesel(sql_type = Binary)]
    sealed: Vec<u8>,
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = Bool)]
    taken: bool,
}

impl Db {
    /// Runs `work` as the only rotation over this database; `None` when another one runs. A connection of this pool holds
    /// the lock meanwhile, and the lock ends with it, also when the process is killed: `work` uses another pool.
    ///
    /// # Errors
    /// The store's own, from before `work` began.
    pub fn as_the_only_rotation<T>(&self, work: impl FnOnce() -> T) -> Result<Option<T>, StoreError> {
        let mut work = Some(work);
        self.read_blocking(|tx| {
            let row = prepared("SELECT pg_try_advisory_lock(?) AS taken")
                .bind::<BigInt, _>(LOCK)
                .get_result::<Taken>(tx.conn())
                .store()?;
            let Some(work) = work.take().filter(|_| row.taken) else { return Ok(None) };
            let done = work();
            // a connection that was lost has unlocked already
            let unlocked = prepared("SELECT pg_advisory_unlock(?) AS taken")
                .bind::<BigInt, _>(LOCK)
                .get_result::<Taken>(tx.conn());
            if let Err(error) = unlocked {
                tracing::debug!(%error, "The lock of the rotation went with its connection.");
            }
            Ok(Some(done))
        })
    }
}

impl Tx<'_> {
    /// Moves up to `limit` values of a column from the key `from` to the ring's active one; where the column holds values
    /// under data keys, to the user's data key.
    ///
    /// # Errors
    /// The store's own.
    pub fn rotate_batch<R>(
        &mut self,
        column: &SealedColumn,
        rotation: &Rotation<'_>,
        after: Option<&Place>,
        rng: &mut R,
    ) -> Result<Rotated, StoreError>
    where
        R: CryptoRng + ?Sized,
    {
        let Rotation { ring, from, mode, limit, .. } = *rotation;
        let text = if mode == RotationMode::Write { column.lock } else { column.read };
        let rows = prepared(text)
            .bind::<Text, _>(from.to_string())
            .bind::<Text, _>(after.map_or(column.before_all, |place| place.0.as_str()))
            .bind::<BigInt, _>(i64::from(limit))
            .load::<Row>(self.conn())
            .store()?;
        let next = rows.last().map(|row| Place(row.key.clone()));
        let (mut keys, mut values, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
        for Row { key: row, owner, sealed } in rows {
            let aad = Aad { table: column.table, column: column.column, row: &row, owner };
            let target = match owner.filter(|_| column.holds_data_keys) {
                Some(user) => self.ring_of_user(rotation, UserId(user), rng)?.map(Cow::Owned),
                None => Ok(Cow::Borrowed(ring)),
            };
            match target.and_then(|target| reseal(&target, &aad, &sealed, rng)) {
                Ok(Some(value)) => {
                    values.push(value);
                    keys.push(row);
                }
                // the column says another key than the value: it does not need the old one
                Ok(None) => {
                    values.push(sealed);
                    keys.push(row);
                }
                Err(why) => {
                    tracing::error!(column = ?column, row, %why, "A sealed value does not open; it stays as it is.");
                    damaged.push(row);
                }
            }
        }
        let moved = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        if mode == RotationMode::Write && moved > 0 {
            prepared(column.update)
                .bind::<Array<Text>, _>(keys)
                .bind::<Array<Binary>, _>(values)
                .bind::<Text, _>(ring.active().to_string())
                .execute(self.conn())
                .store()?;
        }
        Ok(Rotated { moved, damaged, next })
    }

    /// The ring of a user's data key, which is made now where there is none; a mere try makes none.
    fn ring_of_user<R>(
        &mut self,
        rotation: &Rotation<'_>,
        user: UserId,
        rng: &mut R,
    ) -> Result<Result<KeyRing, OpenError>, StoreError>
    where
        R: CryptoRng + ?Sized,
    {
        let ring = rotation.ring;
        match rotation.mode {
            RotationMode::Write => user_ring(self, ring, user, rotation.at, rng),
            RotationMode::Try => Ok(existing_ring(self, ring, user)?.unwrap_or_else(|| Ok(ring.clone()))),
        }
    }
}
