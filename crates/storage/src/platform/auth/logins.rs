//! Whether a login, be it a session or an API token, still stands.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::Role;
use plimsoll_core_domain::{StoreError, UserId};
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

impl Tx<'_> {
    /// The role of an active user whose session or API token `login` may still be used; `None` when it may not.
    ///
    /// # Errors
    /// The store's own.
    pub fn role_of_live_login(
        &mut self,
        user: UserId,
        login: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Option<Role>, StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            role: String,
        }
        let row = prepared(
            "SELECT u.role FROM users u WHERE u.id = ? AND u.state = 'active' AND (\
             EXISTS (SELECT 1 FROM sessions s WHERE s.user_id = u.id AND s.id = ? AND s.revoked_at IS NULL \
             AND s.expires_at > ? AND s.idle_expires_at > ?) \
             OR EXISTS (SELECT 1 FROM api_tokens t WHERE t.user_id = u.id AND t.id = ? AND t.revoked_at IS NULL \
             AND t.expires_at > ?))",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(login)
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now)
        .bind::<SqlUuid, _>(login)
        .bind::<Timestamptz, _>(now)
        .get_result::<Row>(self.conn())
        .optional()
        .store()?;
        row.map(|row| row.role.parse().map_err(|why| StoreError::inconsistent("users", "role", user, why)))
            .transpose()
    }
}
