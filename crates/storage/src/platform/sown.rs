//! Which keys the server was given and has saved for a user.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Text, Timestamptz};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_auth::vault::BrokerName;
use plimsoll_core_domain::{StoreError, UserId};

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    found: bool,
}

impl Tx<'_> {
    /// Whether the keys with this fingerprint were ever saved for anybody.
    ///
    /// # Errors
    /// The store's own.
    pub fn was_sown(&mut self, broker: BrokerName, fingerprint: &str) -> Result<bool, StoreError> {
        let row = prepared(
            "SELECT EXISTS (SELECT FROM sown_credentials WHERE broker = ? AND fingerprint = ?) AS found",
        )
        .bind::<Text, _>(broker.as_str())
        .bind::<Text, _>(fingerprint)
        .get_result::<Found>(self.conn())
        .store()?;
        Ok(row.found)
    }

    /// Whether this version of a user's credential was saved by the server itself, and not by its owner.
    ///
    /// # Errors
    /// The store's own.
    pub fn is_sown(&mut self, user: UserId, broker: BrokerName, version: i64) -> Result<bool, StoreError> {
        let row = prepared(
            "SELECT EXISTS (SELECT FROM sown_credentials WHERE user_id = ? AND broker = ? AND version = ?) AS found",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Text, _>(broker.as_str())
        .bind::<BigInt, _>(version)
        .get_result::<Found>(self.conn())
        .store()?;
        Ok(row.found)
    }

    /// Notes that the server has saved these keys.
    ///
    /// # Errors
    /// The store's own.
    pub fn note_sown(
        &mut self,
        user: UserId,
        broker: BrokerName,
        fingerprint: &str,
        version: i64,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        prepared(
            "INSERT INTO sown_credentials (broker, fingerprint, user_id, version, sown_at) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (broker, fingerprint) DO UPDATE SET user_id = excluded.user_id, version = excluded.version, \
             sown_at = excluded.sown_at",
        )
        .bind::<Text, _>(broker.as_str())
        .bind::<Text, _>(fingerprint)
        .bind::<BigInt, _>(user.0)
        .bind::<BigInt, _>(version)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        Ok(())
    }
}
