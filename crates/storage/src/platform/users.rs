//! Users.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::ports::AccountStore;
use plimsoll_auth::{Account, EmailAddress, NewUser, UnknownName, User};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// What is read of a user; the password's hash is read only where it is verified or changed.
#[derive(QueryableByName)]
pub(super) struct UserRow {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
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
}

#[derive(QueryableByName)]
struct AccountRow {
    #[diesel(embed)]
    user: UserRow,
    #[diesel(sql_type = Text)]
    password_hash: String,
}

/// The columns of [`UserRow`], of the table `u`.
macro_rules! user_columns {
    () => {
        "u.id AS user_id, u.email, u.display_name, u.role, u.state, u.email_verified_at"
    };
}
pub(super) use user_columns;

impl TryFrom<UserRow> for User {
    type Error = StoreError;
    fn try_from(row: UserRow) -> Result<Self, StoreError> {
        let id = row.user_id;
        let bad = |column: &'static str, why: String| StoreError::inconsistent("users", column, id, why);
        let unknown = |column: &'static str| move |why: UnknownName| bad(column, why.to_string());
        Ok(Self {
            id: UserId(id),
            email: EmailAddress::parse(&row.email).map_err(|why| bad("email", why.to_string()))?,
            display_name: row.display_name,
            role: row.role.parse().map_err(unknown("role"))?,
            state: row.state.parse().map_err(unknown("state"))?,
            email_verified_at: row.email_verified_at,
        })
    }
}

impl TryFrom<AccountRow> for Account {
    type Error = StoreError;
    fn try_from(row: AccountRow) -> Result<Self, StoreError> {
        let id = row.user.user_id;
        Ok(Self {
            user: row.user.try_into()?,
            password_hash: PasswordHash::parse(row.password_hash)
                .map_err(|why| StoreError::inconsistent("users", "password_hash", id, why))?,
        })
    }
}

impl Tx<'_> {
    /// The active administrator who was made first.
    ///
    /// # Errors
    /// The store's own.
    pub fn first_admin(&mut self) -> Result<Option<UserId>, StoreError> {
        #[derive(QueryableByName)]
        struct Id {
            #[diesel(sql_type = BigInt)]
            id: i64,
        }
        let row =
            prepared("SELECT id FROM users WHERE role = 'admin' AND state = 'active' ORDER BY id LIMIT 1")
                .get_result::<Id>(self.conn())
                .optional()
                .store()?;
        Ok(row.map(|row| UserId(row.id)))
    }
}

impl AccountStore for Tx<'_> {
    fn account_by_email(&mut self, email: &EmailAddress) -> Result<Option<Account>, StoreError> {
        prepared(concat!(
            "SELECT ",
            user_columns!(),
            ", u.password_hash FROM users u WHERE u.email_folded = ?"
        ))
        .bind::<Text, _>(email.folded())
        .get_result::<AccountRow>(self.conn())
        .optional()
        .store()?
        .map(Account::try_from)
        .transpose()
    }

    fn lock_account_of(&mut self, user: UserId) -> Result<Option<Account>, StoreError> {
        prepared(concat!(
            "SELECT ",
            user_columns!(),
            ", u.password_hash FROM users u WHERE u.id = ? FOR NO KEY UPDATE"
        ))
        .bind::<BigInt, _>(user.0)
        .get_result::<AccountRow>(self.conn())
        .optional()
        .store()?
        .map(Account::try_from)
        .transpose()
    }

    fn user_by_id(&mut self, user: UserId) -> Result<Option<User>, StoreError> {
        prepared(concat!("SELECT ", user_columns!(), " FROM users u WHERE u.id = ?"))
            .bind::<BigInt, _>(user.0)
            .get_result::<UserRow>(self.conn())
            .optional()
            .store()?
            .map(User::try_from)
            .transpose()
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

impl Tx<'_> {
    /// Users who were not deleted, with an id above `after`, in ascending order of their ids, at most `limit`.
    ///
    /// # Errors
    /// The store's own.
    pub fn users(&mut self, after: UserId, limit: usize) -> Result<Vec<User>, StoreError> {
        prepared(concat!(
            "SELECT ",
            user_columns!(),
            " FROM users u WHERE u.id > ? AND u.deleted_at IS NULL ORDER BY u.id LIMIT ?"
        ))
        .bind::<BigInt, _>(after.0)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<UserRow>(self.conn())
        .store()?
        .into_iter()
        .map(User::try_from)
        .collect()
    }
}
