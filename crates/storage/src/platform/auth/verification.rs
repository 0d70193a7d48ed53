//! Registrations, and the links that confirm addresses.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::ClientInfo;
use plimsoll_auth::ports::{
    Claim, NewRegistration, NewVerification, RegistrationStatus, UsedVerification, VerificationStore,
};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;
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

/// What a link carries, and whose it is.
#[derive(QueryableByName)]
struct LinkRow {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    registration_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    registered_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    password_hash: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    display_name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    ip: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    user_agent: Option<String>,
}

macro_rules! link_columns {
    () => {
        "user_id, id, registration_id, registered_at, password_hash, display_name, host(ip) AS ip, user_agent"
    };
}

impl LinkRow {
    fn claim(self) -> Result<Option<Claim>, StoreError> {
        let (Some(registration), Some(registered_at), Some(hash)) =
            (self.registration_id, self.registered_at, self.password_hash)
        else {
            return Ok(None);
        };
        let bad = |column: &'static str, why: String| {
            StoreError::inconsistent("email_verification_tokens", column, self.id, why)
        };
        let ip = self.ip.as_deref().map(str::parse::<IpAddr>).transpose();
        let ip = ip.map_err(|why| bad("ip", why.to_string()))?;
        Ok(Some(Claim {
            registration,
            registered_at,
            client: ClientInfo::new(ip, self.user_agent.as_deref()),
            password_hash: PasswordHash::parse(hash).map_err(|why| bad("password_hash", why.to_string()))?,
            display_name: self.display_name,
        }))
    }
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
            "SELECT (EXISTS (SELECT FROM email_verification_tokens t \
               WHERE t.registration_id = r.id AND t.used_at IS NOT NULL) \
             OR EXISTS (SELECT FROM email_verification_tokens t \
               WHERE t.user_id = r.user_id AND t.registration_id IS NULL AND t.used_at IS NOT NULL)) AS verified, \
             r.expires_at FROM registrations r WHERE r.id = ?",
        )
        .bind::<SqlUuid, _>(id)
        .get_result::<Status>(self.conn())
        .optional()
        .store()?;
        Ok(found.map(|row| RegistrationStatus { verified: row.verified, expires_at: row.expires_at }))
    }

    fn insert_verification(&mut self, link: &NewVerification) -> Result<(), StoreError> {
        let claim = link.claim.as_ref();
        let client = claim.map(|claim| &claim.client);
        prepared(
            "INSERT INTO email_verification_tokens (user_id, id, token_digest, created_at, expires_at, registration_id, \
             registered_at, password_hash, display_name, ip, user_agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?::inet, ?)",
        )
        .bind::<BigInt, _>(link.user.0)
        .bind::<SqlUuid, _>(link.id)
        .bind::<Binary, _>(link.digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(link.created_at)
        .bind::<Timestamptz, _>(link.expires_at)
        .bind::<Nullable<SqlUuid>, _>(claim.map(|claim| claim.registration))
        .bind::<Nullable<Timestamptz>, _>(claim.map(|claim| claim.registered_at))
        .bind::<Nullable<Text>, _>(claim.map(|claim| claim.password_hash.as_str()))
        .bind::<Nullable<Text>, _>(claim.and_then(|claim| claim.display_name.as_deref()))
        .bind::<Nullable<Text>, _>(client.and_then(ClientInfo::ip).map(|ip| ip.to_string()))
        .bind::<Nullable<Text>, _>(client.and_then(ClientInfo::user_agent))
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    fn last_claim_of(&mut self, user: UserId) -> Result<Option<Claim>, StoreError> {
        let newest = prepared(concat!(
            "SELECT ",
            link_columns!(),
            " FROM email_verification_tokens WHERE user_id = ? ORDER BY created_at DESC, id DESC LIMIT 1"
        ))
        .bind::<BigInt, _>(user.0)
        .get_result::<LinkRow>(self.conn())
        .optional()
        .store()?;
        newest.map_or(Ok(None), LinkRow::claim)
    }

    fn void_verifications_of(
        &mut self,
        user: UserId,
        registration: Option<Uuid>,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let changed = prepared(
            "UPDATE email_verification_tokens SET voided_at = ? \
             WHERE user_id = ? AND registration_id IS NOT DISTINCT FROM ? AND used_at IS NULL AND voided_at IS NULL",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<Nullable<SqlUuid>, _>(registration)
        .execute(self.conn())
        .store()?;
        Ok(changed as u64)
    }

    fn close_verifications_of(&mut self, user: UserId, at: DateTime<Utc>) -> Result<(), StoreError> {
        prepared(
            "UPDATE email_verification_tokens SET password_hash = NULL, display_name = NULL, \
             voided_at = CASE WHEN used_at IS NULL THEN coalesce(voided_at, ?) END WHERE user_id = ?",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .execute(self.conn())
        .store()?;
        Ok(())
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
    ) -> Result<Option<UsedVerification>, StoreError> {
        let used = prepared(concat!(
            "UPDATE email_verification_tokens SET used_at = ? \
             WHERE token_digest = ? AND used_at IS NULL AND voided_at IS NULL AND expires_at > ? RETURNING ",
            link_columns!()
        ))
        .bind::<Timestamptz, _>(at)
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(at)
        .get_result::<LinkRow>(self.conn())
        .optional()
        .store()?;
        let Some(row) = used else { return Ok(None) };
        Ok(Some(UsedVerification { user: UserId(row.user_id), claim: row.claim()? }))
    }

    fn set_email_verified(
        &mut self,
        user: UserId,
        claim: Option<&Claim>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let Some(claim) = claim else {
            prepared(
                "UPDATE users SET email_verified_at = coalesce(email_verified_at, ?), updated_at = ? WHERE id = ?",
            )
            .bind::<Timestamptz, _>(at)
            .bind::<Timestamptz, _>(at)
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
            return Ok(());
        };
        prepared(
            "UPDATE users SET email_verified_at = coalesce(email_verified_at, ?), password_hash = ?, display_name = ?, \
             updated_at = ? WHERE id = ?",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<Text, _>(claim.password_hash.as_str())
        .bind::<Nullable<Text>, _>(claim.display_name.as_deref())
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .execute(self.conn())
        .store()?;
        Ok(())
    }
}
