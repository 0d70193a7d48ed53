//! The administration of users.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::admin::{Filter, Listed};
use plimsoll_auth::ports::UserAdminStore;
use plimsoll_auth::{AccountState, Role};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::platform::users::{UserRow, user_columns};

#[derive(QueryableByName)]
struct ListedRow {
    #[diesel(embed)]
    user: UserRow,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Bool)]
    two_factor: bool,
    #[diesel(sql_type = Bool)]
    password_disabled: bool,
}

impl TryFrom<ListedRow> for Listed {
    type Error = StoreError;
    fn try_from(row: ListedRow) -> Result<Self, StoreError> {
        Ok(Self {
            user: row.user.try_into()?,
            created_at: row.created_at,
            two_factor: row.two_factor,
            password_disabled: row.password_disabled,
        })
    }
}

macro_rules! listed_users {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            user_columns!(),
            ", u.created_at, f.enabled_at IS NOT NULL AS two_factor, \
             u.password_disabled_at IS NOT NULL AS password_disabled \
             FROM users u LEFT JOIN user_2fa f ON f.user_id = u.id WHERE u.deleted_at IS NULL AND ",
            $condition
        )
    };
}

/// What is destroyed with a user: whatever belongs to signing in, or could name the person.
const PERSONAL: &[&str] = &[
    "DELETE FROM sessions WHERE user_id = ?",
    "DELETE FROM api_tokens WHERE user_id = ?",
    "DELETE FROM login_challenges WHERE user_id = ?",
    "DELETE FROM password_reset_tokens WHERE user_id = ?",
    "DELETE FROM email_verification_tokens WHERE user_id = ?",
    "DELETE FROM registrations WHERE user_id = ?",
    "DELETE FROM user_2fa_backup_codes WHERE user_id = ?",
    "DELETE FROM user_2fa WHERE user_id = ?",
    "DELETE FROM two_factor_resets WHERE user_id = ?",
    "DELETE FROM email_changes WHERE user_id = ?",
    "DELETE FROM cancel_tokens WHERE user_id = ?",
    "DELETE FROM login_places WHERE user_id = ?",
    "DELETE FROM login_attempts WHERE user_id = ?",
    "DELETE FROM user_2fa_attempts WHERE user_id = ?",
    "DELETE FROM mail_outbox WHERE user_id = ?",
    "DELETE FROM broker_credentials WHERE user_id = ?",
    "DELETE FROM signal_keys WHERE user_id = ?",
    "DELETE FROM signals WHERE user_id = ?",
    "DELETE FROM inbound_hooks WHERE user_id = ?",
    // Reasons are free text. What was halted stays so on the accounts' rows.
    "DELETE FROM risk_halts WHERE user_id = ?",
    "DELETE FROM risk_limits WHERE user_id = ?",
    // With its deliveries.
    "DELETE FROM outbound_hooks WHERE user_id = ?",
    // Whatever was sealed for the user opens nowhere after this.
    "DELETE FROM user_keys WHERE user_id = ?",
];

impl UserAdminStore for Tx<'_> {
    fn list_users(
        &mut self,
        filter: &Filter,
        before: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let text = filter.text.as_deref().map(str::to_lowercase);
        prepared(listed_users!(
            "u.id < ? AND u.state = coalesce(?, u.state) AND u.role = coalesce(?, u.role) \
             AND (?::text IS NULL OR strpos(u.email_folded, ?) > 0 OR strpos(lower(u.display_name), ?) > 0) \
             ORDER BY u.id DESC LIMIT ?"
        ))
        .bind::<BigInt, _>(before.map_or(i64::MAX, |user| user.0))
        .bind::<Nullable<Text>, _>(filter.state.map(AccountState::as_str))
        .bind::<Nullable<Text>, _>(filter.role.map(Role::as_str))
        .bind::<Nullable<Text>, _>(text.clone())
        .bind::<Nullable<Text>, _>(text.clone())
        .bind::<Nullable<Text>, _>(text)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<ListedRow>(self.conn())
        .store()?
        .into_iter()
        .map(Listed::try_from)
        .collect()
    }

    fn listed_user(&mut self, user: UserId) -> Result<Option<Listed>, StoreError> {
        prepared(listed_users!("u.id = ?"))
            .bind::<BigInt, _>(user.0)
            .get_result::<ListedRow>(self.conn())
            .optional()
            .store()?
            .map(Listed::try_from)
            .transpose()
    }

    fn lock_admins_and(&mut self, user: UserId) -> Result<Vec<UserId>, StoreError> {
        #[derive(QueryableByName)]
        struct Locked {
            #[diesel(sql_type = BigInt)]
            id: i64,
            #[diesel(sql_type = Bool)]
            rules: bool,
        }
        // A row that changed while this waited for it is looked at again: who was demoted meanwhile is no administrator.
        let locked = prepared(
            "SELECT id, role = 'admin' AND state = 'active' AND email_verified_at IS NOT NULL AS rules FROM users \
             WHERE (role = 'admin' AND state = 'active') OR id = ? ORDER BY id FOR NO KEY UPDATE",
        )
        .bind::<BigInt, _>(user.0)
        .load::<Locked>(self.conn())
        .store()?;
        Ok(locked.into_iter().filter(|row| row.rules).map(|row| UserId(row.id)).collect())
    }

    fn signed_in_users(&mut self, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StoreError> {
        #[derive(QueryableByName)]
        struct Id {
            #[diesel(sql_type = BigInt)]
            user_id: i64,
        }
        let rows = prepared(
            "SELECT DISTINCT user_id FROM sessions WHERE user_id > ? AND revoked_at IS NULL ORDER BY user_id LIMIT ?",
        )
        .bind::<BigInt, _>(after.map_or(i64::MIN, |after| after.0))
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<Id>(self.conn())
        .store()?;
        Ok(rows.into_iter().map(|row| UserId(row.user_id)).collect())
    }

    fn set_role(&mut self, user: UserId, role: Role, at: DateTime<Utc>) -> Result<(), StoreError> {
        prepared("UPDATE users SET role = ?, updated_at = ? WHERE id = ?")
            .bind::<Text, _>(role.as_str())
            .bind::<Timestamptz, _>(at)
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
        self.logins_changed(user);
        Ok(())
    }

    fn set_state(&mut self, user: UserId, state: AccountState, at: DateTime<Utc>) -> Result<(), StoreError> {
        prepared("UPDATE users SET state = ?, updated_at = ? WHERE id = ?")
            .bind::<Text, _>(state.as_str())
            .bind::<Timestamptz, _>(at)
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
        self.logins_changed(user);
        self.accounts_changed(user);
        Ok(())
    }

    fn erase_user(
        &mut self,
        user: UserId,
        unusable: &PasswordHash,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        for statement in PERSONAL {
            prepared(statement).bind::<BigInt, _>(user.0).execute(self.conn()).store()?;
        }
        // Nobody can have registered an address that nobody can guess.
        prepared(
            "UPDATE users SET email = 'deleted-' || id || '-' || r.salt || '@deleted.invalid', \
             email_folded = 'deleted-' || id || '-' || r.salt || '@deleted.invalid', display_name = NULL, \
             password_hash = ?, role = 'user', email_verified_at = NULL, password_failures = 0, \
             password_disabled_at = NULL, deleted_at = ?, updated_at = ? \
             FROM (SELECT replace(gen_random_uuid()::text, '-', '') AS salt) r WHERE id = ? AND state = 'disabled'",
        )
        .bind::<Text, _>(unusable.as_str())
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .execute(self.conn())
        .store()?;
        prepared(
            "UPDATE accounts SET state = 'disabled', updated_at = ? WHERE user_id = ? AND state = 'active'",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .execute(self.conn())
        .store()?;
        self.logins_changed(user);
        self.accounts_changed(user);
        Ok(())
    }
}
