//! Tickets that open one WebSocket each.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::User;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use super::super::users::{UserRow, user_columns};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// The most tickets of one user that wait to be used.
pub const MAX_WAITING: i64 = 100;

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = SqlUuid)]
    session_id: Uuid,
    #[diesel(embed)]
    user: UserRow,
}

impl Tx<'_> {
    /// Keeps a ticket of a session of the user's. `false`, and nothing is kept, when [`MAX_WAITING`] of the user's wait.
    ///
    /// # Errors
    /// The store's own.
    pub fn insert_ws_ticket(
        &mut self,
        digest: &TokenDigest,
        (user, session): (UserId, Uuid),
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let made = prepared(
            "INSERT INTO ws_tickets (ticket_digest, user_id, session_id, created_at, expires_at) SELECT ?, ?, ?, ?, ? \
             WHERE (SELECT count(*) FROM ws_tickets WHERE user_id = ? AND expires_at > ?) < ?",
        )
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(session)
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(expires_at)
        .bind::<BigInt, _>(user.0)
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(MAX_WAITING)
        .execute(self.conn())
        .store()?;
        Ok(made == 1)
    }

    /// Uses a ticket up, whatever comes of it. `None` when there is none, when its time is over, or when its session or
    /// its user may not sign in any more; else whose it is, and the session.
    ///
    /// # Errors
    /// The store's own.
    pub fn take_ws_ticket(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<(User, Uuid)>, StoreError> {
        let taken = prepared(concat!(
            "WITH taken AS (DELETE FROM ws_tickets WHERE ticket_digest = ? RETURNING user_id, session_id, expires_at) \
             SELECT s.id AS session_id, ",
            user_columns!(),
            " FROM taken t JOIN sessions s ON s.user_id = t.user_id AND s.id = t.session_id \
             JOIN users u ON u.id = t.user_id WHERE t.expires_at > ? AND s.revoked_at IS NULL AND s.expires_at > ? \
             AND s.idle_expires_at > ? AND u.state = 'active' AND u.email_verified_at IS NOT NULL"
        ))
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now)
        .get_result::<Taken>(self.conn())
        .optional()
        .store()?;
        taken.map(|taken| Ok((taken.user.try_into()?, taken.session_id))).transpose()
    }
}
