//! Users.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::ports::AccountStore;
use plimsoll_auth::{Account, EmailAddress, NewUser, User};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
pub(super) struct UserRow {
    #[diesel(sql_type = BigInt)]
    pub(super) user_id: i64,
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Nullable<Text>)]
    display_name: Option<String>,
    #[diesel(sql_type = Text)]
    role: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    email_verified_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Text)]
    password_hash: String,
}

impl UserRow {
    pub(super) fn into_account(self) -> Result<Account, StoreError> {
        let id = self.user_id;
        let bad = |column: &'static str, why: String| StoreError::inconsistent("users", column, id, why);
        Ok(Account {
            user: User {
                id: UserId(id),
                email: EmailAddress::parse(&self.email).map_err(|why| bad("email", why.to_string()))?,
                display_name: self.display_name,
                role: self
                    .role
                    .parse()
                    .map_err(|why: plimsoll_auth::UnknownName| bad("role", why.to_string()))?,
                state: self
                    .state
                    .parse()
                    .map_err(|why: plimsoll_auth::UnknownName| bad("state", why.to_string()))?,
                email_verified_at: self.email_verified_at,
            },
            password_hash: PasswordHash::parse(self.password_hash)
                .map_err(|why| bad("password_hash", why.to_string()))?,
        })
    }
}

impl AccountStore for Tx<'_> {
    fn account_by_email(&mut self, email: &EmailAddress) -> Result<Option<Account>, StoreError> {
        prepared(
            "SELECT id AS user_id, email, display_name, role, state, email_verified_at, password_hash FROM users \
             WHERE email_folded = ?",
        )
        .bind::<Text, _>(email.folded())
        .get_result::<UserRow>(self.conn())
        .optional()
        .store()?
        .map(UserRow::into_account)
        .transpose()
    }

    fn lock_account_of(&mut self, user: UserId) -> Result<Option<Account>, StoreError> {
        prepared(
            "SELECT id AS user_id, email, display_name, role, state, email_verified_at, password_hash FROM users \
             WHERE id = ? FOR NO KEY UPDATE",
        )
        .bind::<BigInt, _>(user.0)
        .get_result::<UserRow>(self.conn())
        .optional()
        .store()?
        .map(UserRow::into_account)
        .transpose()
    }

    fn user_by_id(&mut self, user: UserId) -> Result<Option<User>, StoreError> {
        let row = prepared(
            "SELECT id AS user_id, email, display_name, role, state, email_verified_at, password_hash FROM users \
             WHERE id = ?",
        )
        .bind::<BigInt, _>(user.0)
        .get_result::<UserRow>(self.conn())
        .optional()
        .store()?;
        Ok(row.map(UserRow::into_account).transpose()?.map(|account| account.user))
    }

    fn insert_user(&mut self, user: &NewUser) -> Result<UserId, StoreError> {
        #[derive(QueryableByName)]
        struct Id {
            #[diesel(sql_type = BigInt)]
            id: i64,
        }
        // A user's stream and audit chain begin with the user, so that no transaction ever has to make them.
        let row = prepared(
            "WITH u AS (INSERT INTO users (email, email_folded, display_name, password_hash, role, email_verified_at, \
               created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id), \
             s AS (INSERT INTO stream_head (stream_id, epoch) SELECT id, gen_random_uuid() FROM u), \
             a AS (INSERT INTO audit_head (chain, mac) SELECT id, decode(repeat('00', 32), 'hex') FROM u) \
             SELECT id FROM u",
        )
        .bind::<Text, _>(user.email.as_str())
        .bind::<Text, _>(user.email.folded())
        .bind::<Nullable<Text>, _>(user.display_name.as_deref())
        .bind::<Text, _>(user.password_hash.as_str())
        .bind::<Text, _>(user.role.as_str())
        .bind::<Nullable<Timestamptz>, _>(user.email_verified_at)
        .bind::<Timestamptz, _>(user.created_at)
        .bind::<Timestamptz, _>(user.created_at)
        .get_result::<Id>(self.conn())
        .store()?;
        Ok(UserId(row.id))
    }

    fn set_password_hash(
        &mut self,
        user: UserId,
        hash: &PasswordHash,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        prepared("UPDATE users SET password_hash = ?, updated_at = ? WHERE id = ?")
            .bind::<Text, _>(hash.as_str())
            .bind::<Timestamptz, _>(at)
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
        Ok(())
    }
}
