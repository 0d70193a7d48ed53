//! Registrations, and the links that confirm addresses.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::ports::{NewRegistration, NewVerification, RegistrationStatus, VerificationStore};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct Status {
    #[diesel(sql_type = Bool)]
    verified: bool,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Owner {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
}

impl VerificationStore for Tx<'_> {
    fn insert_registration(&mut self, registration: &NewRegistration) -> Result<(), StoreError> {
        prepared("INSERT INTO registrations (id, user_id, created_at, expires_at) VALUES (?, ?, ?, ?)")
            .bind::<SqlUuid, _>(registration.id)
            .bind::<Nullable<BigInt>, _>(registration.user.map(|user| user.0))
            .bind::<Timestamptz, _>(registration.created_at)
            .bind::<Timestamptz, _>(registration.expires_at)
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    fn registration_status(&mut self, id: Uuid) -> Result<Option<RegistrationStatus>, StoreError> {
        let found = prepared(
            "SELECT (u.email_verified_at IS NOT NULL) AS verified, r.expires_at \
             FROM registrations r LEFT JOIN users u ON u.id = r.user_id WHERE r.id = ?",
        )
        .bind::<SqlUuid, _>(id)
        .get_result::<Status>(self.conn())
        .optional()
        .store()?;
        Ok(found.map(|row| RegistrationStatus { verified: row.verified, expires_at: row.expires_at }))
    }

    fn insert_verification(&mut self, link: &NewVerification) -> Result<(), StoreError> {
        prepared(
            "INSERT INTO email_verification_tokens (user_id, id, token_digest, created_at, expires_at, ip, user_agent) \
             VALUES (?, ?, ?, ?, ?, ?::inet, ?)",
        )
        .bind::<BigInt, _>(link.user.0)
        .bind::<SqlUuid, _>(link.id)
        .bind::<Binary, _>(link.digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(link.created_at)
        .bind::<Timestamptz, _>(link.expires_at)
        .bind::<Nullable<Text>, _>(link.client.ip().map(|ip| ip.to_string()))
        .bind::<Nullable<Text>, _>(link.client.user_agent())
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    fn void_verifications_of(&mut self, user: UserId, at: DateTime<Utc>) -> Result<u64, StoreError> {
        let changed = prepared(
            "UPDATE email_verification_tokens SET voided_at = ? \
             WHERE user_id = ? AND used_at IS NULL AND voided_at IS NULL",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .execute(self.conn())
        .store()?;
        Ok(changed as u64)
    }

    fn verification_owner(&mut self, digest: &TokenDigest) -> Result<Option<UserId>, StoreError> {
        let found = prepared("SELECT user_id FROM email_verification_tokens WHERE token_digest = ?")
            .bind::<Binary, _>(digest.as_bytes().as_slice())
            .get_result::<Owner>(self.conn())
            .optional()
            .store()?;
        Ok(found.map(|row| UserId(row.user_id)))
    }

    fn use_verification(
        &mut self,
        digest: &TokenDigest,
        at: DateTime<Utc>,
    ) -> Result<Option<UserId>, StoreError> {
        let used = prepared(
            "UPDATE email_verification_tokens SET used_at = ? \
             WHERE token_digest = ? AND used_at IS NULL AND voided_at IS NULL AND expires_at > ? RETURNING user_id",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(at)
        .get_result::<Owner>(self.conn())
        .optional()
        .store()?;
        Ok(used.map(|row| UserId(row.user_id)))
    }

    fn set_email_verified(&mut self, user: UserId, at: DateTime<Utc>) -> Result<(), StoreError> {
        prepared(
            "UPDATE users SET email_verified_at = coalesce(email_verified_at, ?), updated_at = ? WHERE id = ?",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .execute(self.conn())
        .store()?;
        Ok(())
    }
}
