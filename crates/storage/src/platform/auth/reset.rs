//! Links for new passwords.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::ports::{PasswordReset, ResetStore};
use plimsoll_auth::{Act, ClientInfo, EmailAddress};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use plimsoll_reliability::jobs::{JobQueue, NewJob};
use plimsoll_reliability::retry::Policy;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::mail::MAIL_QUEUE;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// The kind of jobs that write and send the mails of password resets.
pub const REQUEST_RESET: &str = "request_password_reset";

/// A request for a new password, as it waits to be looked at after its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetRequest {
    email: String,
    ip: Option<IpAddr>,
    user_agent: Option<String>,
    request_id: Option<Uuid>,
    at: DateTime<Utc>,
}

impl ResetRequest {
    /// For an address, from where `act` came.
    #[must_use]
    pub fn new(email: &EmailAddress, act: &Act) -> Self {
        Self {
            email: email.as_str().to_owned(),
            ip: act.client.ip(),
            user_agent: act.client.user_agent().map(str::to_owned),
            request_id: act.request_id,
            at: act.at,
        }
    }

    /// The address, when it is one.
    #[must_use]
    pub fn email(&self) -> Option<EmailAddress> {
        EmailAddress::parse(&self.email).ok()
    }

    /// The act, at its own time.
    #[must_use]
    pub fn act(&self) -> Act {
        let client = ClientInfo::new(self.ip, self.user_agent.as_deref());
        Act { client, request_id: self.request_id, session: None, at: self.at }
    }
}

impl Tx<'_> {
    /// Puts a request into the queue of mails.
    ///
    /// # Errors
    /// The store's own.
    pub fn enqueue_reset_request(&mut self, request: &ResetRequest) -> Result<(), StoreError> {
        let job =
            NewJob { max_attempts: Policy::MAIL.attempts, ..NewJob::new(MAIL_QUEUE, REQUEST_RESET, request) };
        self.enqueue(&job).map(|_| ())
    }
}

#[derive(QueryableByName)]
struct ResetRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Text>)]
    ip: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    requested_agent: Option<String>,
}

macro_rules! reset_columns {
    () => {
        "id, user_id, created_at, expires_at, host(requested_ip) AS ip, requested_agent"
    };
}

impl TryFrom<ResetRow> for PasswordReset {
    type Error = StoreError;
    fn try_from(row: ResetRow) -> Result<Self, StoreError> {
        let ip = row.ip.as_deref().map(str::parse::<IpAddr>).transpose().map_err(|why| {
            StoreError::inconsistent("password_reset_tokens", "requested_ip", row.id, why.to_string())
        })?;
        Ok(Self {
            id: row.id,
            user: UserId(row.user_id),
            created_at: row.created_at,
            expires_at: row.expires_at,
            requested: ClientInfo::new(ip, row.requested_agent.as_deref()),
        })
    }
}

impl ResetStore for Tx<'_> {
    fn insert_password_reset(
        &mut self,
        digest: &TokenDigest,
        reset: &PasswordReset,
    ) -> Result<(), StoreError> {
        prepared(
            "UPDATE password_reset_tokens SET voided_at = ? \
             WHERE user_id = ? AND used_at IS NULL AND voided_at IS NULL",
        )
        .bind::<Timestamptz, _>(reset.created_at)
        .bind::<BigInt, _>(reset.user.0)
        .execute(self.conn())
        .store()?;
        prepared(
            "INSERT INTO password_reset_tokens (user_id, id, token_digest, created_at, expires_at, requested_ip, \
             requested_agent) VALUES (?, ?, ?, ?, ?, ?::inet, ?)",
        )
        .bind::<BigInt, _>(reset.user.0)
        .bind::<SqlUuid, _>(reset.id)
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(reset.created_at)
        .bind::<Timestamptz, _>(reset.expires_at)
        .bind::<Nullable<Text>, _>(reset.requested.ip().map(|ip| ip.to_string()))
        .bind::<Nullable<Text>, _>(reset.requested.user_agent())
        .execute(self.conn())
        .store()
        .map(|_| ())
    }

    fn open_password_reset(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<PasswordReset>, StoreError> {
        prepared(concat!(
            "SELECT ",
            reset_columns!(),
            " FROM password_reset_tokens \
             WHERE token_digest = ? AND used_at IS NULL AND voided_at IS NULL AND expires_at > ?"
        ))
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(now)
        .get_result::<ResetRow>(self.conn())
        .optional()
        .store()?
        .map(PasswordReset::try_from)
        .transpose()
    }

    fn take_password_reset(
        &mut self,
        digest: &TokenDigest,
        used: &ClientInfo,
        now: DateTime<Utc>,
    ) -> Result<Option<PasswordReset>, StoreError> {
        prepared(concat!(
            "UPDATE password_reset_tokens SET used_at = ?, used_ip = ?::inet, used_agent = ? \
             WHERE token_digest = ? AND used_at IS NULL AND voided_at IS NULL AND expires_at > ? RETURNING ",
            reset_columns!()
        ))
        .bind::<Timestamptz, _>(now)
        .bind::<Nullable<Text>, _>(used.ip().map(|ip| ip.to_string()))
        .bind::<Nullable<Text>, _>(used.user_agent())
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(now)
        .get_result::<ResetRow>(self.conn())
        .optional()
        .store()?
        .map(PasswordReset::try_from)
        .transpose()
    }

    fn void_password_reset(
        &mut self,
        user: UserId,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let voided = prepared(
            "UPDATE password_reset_tokens SET voided_at = ? \
             WHERE user_id = ? AND id = ? AND used_at IS NULL AND voided_at IS NULL AND expires_at > ?",
        )
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(id)
        .bind::<Timestamptz, _>(now)
        .execute(self.conn())
        .store()?;
        Ok(voided == 1)
    }
}
