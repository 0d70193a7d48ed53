//! A user's limits.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Jsonb, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::risk::RiskLimits;
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};

use super::limits_of;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// A user's limits as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredLimits {
    /// The limits.
    pub limits: RiskLimits,
    /// When they were last set; `None`: never.
    pub updated_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    limits: String,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
}

impl Tx<'_> {
    /// A user's limits.
    ///
    /// # Errors
    /// The store's own.
    pub fn risk_limits(&mut self, user: UserId) -> Result<StoredLimits, StoreError> {
        let row = prepared("SELECT limits::text AS limits, updated_at FROM risk_limits WHERE user_id = ?")
            .bind::<BigInt, _>(user.0)
            .get_result::<Row>(self.conn())
            .optional()
            .store()?;
        let Some(row) = row else { return Ok(StoredLimits::default()) };
        Ok(StoredLimits { limits: limits_of(user, Some(&row.limits))?, updated_at: Some(row.updated_at) })
    }

    /// As [`risk_limits`](Self::risk_limits), unchanged until the transaction ends.
    ///
    /// # Errors
    /// The store's own.
    pub fn lock_risk_limits(&mut self, user: UserId) -> Result<StoredLimits, StoreError> {
        self.lock_risk_of(user)?;
        self.risk_limits(user)
    }

    /// Sets a user's limits, for every account of the user. They hold for every order that is accepted after the commit.
    ///
    /// # Errors
    /// The store's own.
    pub fn set_risk_limits(
        &mut self,
        user: UserId,
        limits: &RiskLimits,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.lock_risk_of(user)?;
        let json = serde_json::to_value(limits)
            .map_err(|why| StoreError::new(StoreErrorKind::Other, why.to_string()))?;
        prepared(
            "INSERT INTO risk_limits (user_id, limits, updated_at) VALUES (?, ?, ?) \
             ON CONFLICT (user_id) DO UPDATE SET limits = excluded.limits, updated_at = excluded.updated_at",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Jsonb, _>(&json)
        .bind::<Timestamptz, _>(now)
        .execute(self.conn())
        .store()?;
        self.lock_accounts_of(user)?;
        prepared("UPDATE accounts SET risk_limits = ? WHERE user_id = ?")
            .bind::<Jsonb, _>(&json)
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
        self.accounts_changed(user);
        Ok(())
    }
}
