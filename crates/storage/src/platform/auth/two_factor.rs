//! Second factors and their attempts.

mod secrets;

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, SmallInt, Text, Timestamptz};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::backup_codes::StoredCode;
use plimsoll_auth::ports::TwoFactorStore;
use plimsoll_auth::totp::TotpSecret;
use plimsoll_auth::two_factor::{AttemptRecord, Budget, Factor, Method, PendingSecret, Status};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;
use plimsoll_crypto::sealing::sealed_with;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

const TABLE: &str = "user_2fa";
const SECRET: &str = "secret";
const PENDING: &str = "pending_secret";

#[derive(QueryableByName)]
struct FactorRow {
    #[diesel(sql_type = Nullable<Binary>)]
    secret: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    pending_secret: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pending_expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    totp_disabled_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    backup_disabled_at: Option<DateTime<Utc>>,
    /// The user's data key. Without one, the secrets are of before there were any.
    #[diesel(sql_type = Nullable<Binary>)]
    wrapped: Option<Vec<u8>>,
}

#[derive(QueryableByName)]
struct SecretRow {
    #[diesel(sql_type = Nullable<Binary>)]
    secret: Option<Vec<u8>>,
}

#[derive(QueryableByName)]
struct StatusRow {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    enabled_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_used_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = BigInt)]
    remaining: i64,
}

#[derive(QueryableByName)]
struct CodeRow {
    #[diesel(sql_type = SmallInt)]
    slot: i16,
    #[diesel(sql_type = Text)]
    hash: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    used_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct At {
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

#[derive(QueryableByName)]
struct DisabledNow {
    #[diesel(sql_type = Bool)]
    disabled_now: bool,
}

impl Tx<'_> {
    /// Writes the ten hashes of one set, which must not be there.
    fn insert_backup_codes(
        &mut self,
        user: UserId,
        pending: bool,
        codes: &[PasswordHash],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let hashes: Vec<&str> = codes.iter().map(PasswordHash::as_str).collect();
        prepared(
            "INSERT INTO user_2fa_backup_codes (user_id, pending, slot, hash, created_at) \
             SELECT ?, ?, n - 1, hash, ? FROM unnest(?) WITH ORDINALITY AS c (hash, n)",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Bool, _>(pending)
        .bind::<Timestamptz, _>(at)
        .bind::<diesel::sql_types::Array<Text>, _>(hashes)
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    fn delete_backup_codes(&mut self, user: UserId, pending: bool) -> Result<(), StoreError> {
        prepared("DELETE FROM user_2fa_backup_codes WHERE user_id = ? AND pending = ?")
            .bind::<BigInt, _>(user.0)
            .bind::<Bool, _>(pending)
            .execute(self.conn())
            .store()?;
        Ok(())
    }
}

impl TwoFactorStore for Tx<'_> {
    fn factor_of(&mut self, user: UserId) -> Result<Option<Factor>, StoreError> {
        let row = prepared(
            "SELECT f.secret, f.pending_secret, f.pending_expires_at, f.totp_disabled_at, f.backup_disabled_at, k.wrapped \
             FROM user_2fa f LEFT JOIN user_keys k ON k.user_id = f.user_id WHERE f.user_id = ?",
        )
        .bind::<BigInt, _>(user.0)
        .get_result::<FactorRow>(self.conn())
        .optional()
        .store()?;
        let Some(row) = row else { return Ok(None) };
        let wrapped = row.wrapped.as_deref();
        let secret = row.secret.map(|sealed| self.open_totp(user, SECRET, &sealed, wrapped)).transpose()?;
        let pending = match (row.pending_secret, row.pending_expires_at) {
            (Some(sealed), Some(expires_at)) => {
                Some(PendingSecret { secret: self.open_totp(user, PENDING, &sealed, wrapped)?, expires_at })
            }
            _ => None,
        };
        Ok(Some(Factor {
            secret,
            pending,
            totp_disabled_at: row.totp_disabled_at,
            backup_disabled_at: row.backup_disabled_at,
        }))
    }

    fn two_factor_status(&mut self, user: UserId) -> Result<Status, StoreError> {
        let row = prepared(
            "SELECT f.enabled_at, f.last_used_at, (SELECT count(*) FROM user_2fa_backup_codes c \
             WHERE c.user_id = f.user_id AND NOT c.pending AND c.used_at IS NULL) AS remaining \
             FROM user_2fa f WHERE f.user_id = ?",
        )
        .bind::<BigInt, _>(user.0)
        .get_result::<StatusRow>(self.conn())
        .optional()
        .store()?;
        Ok(row.map_or_else(Status::default, |row| Status {
            enabled_at: row.enabled_at,
            backup_codes_remaining: usize::try_from(row.remaining).unwrap_or(0),
            last_used_at: row.last_used_at,
        }))
    }

    fn set_pending_factor(
        &mut self,
        user: UserId,
        secret: &TotpSecret,
        expires_at: DateTime<Utc>,
        codes: &[PasswordHash],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let sealed = self.seal_totp(user, PENDING, secret, at)?;
        prepared(
            "INSERT INTO user_2fa (user_id, pending_secret, pending_expires_at, updated_at) VALUES (?, ?, ?, ?) \
             ON CONFLICT (user_id) DO UPDATE SET pending_secret = excluded.pending_secret, \
             pending_expires_at = excluded.pending_expires_at, updated_at = excluded.updated_at",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Binary, _>(sealed)
        .bind::<Timestamptz, _>(expires_at)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        self.delete_backup_codes(user, true)?;
        self.insert_backup_codes(user, true, codes, at)
    }

    fn activate_pending_factor(
        &mut self,
        user: UserId,
        secret: &TotpSecret,
        step: i64,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        // another column, so another seal
        let sealed = self.seal_totp(user, SECRET, secret, at)?;
        let changed = prepared(
            "UPDATE user_2fa SET secret = ?, enabled_at = ?, pending_secret = NULL, pending_expires_at = NULL, \
             last_step = ?, last_used_at = ?, totp_failures = 0, totp_disabled_at = NULL, backup_failures = 0, \
             backup_disabled_at = NULL, updated_at = ? WHERE user_id = ? AND pending_expires_at > ?",
        )
        .bind::<Binary, _>(sealed)
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(step)
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        if changed != 1 {
            return Ok(false);
        }
        self.delete_backup_codes(user, false)?;
        prepared("UPDATE user_2fa_backup_codes SET pending = false WHERE user_id = ? AND pending")
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
        Ok(true)
    }

    fn use_totp_step(&mut self, user: UserId, step: i64, at: DateTime<Utc>) -> Result<bool, StoreError> {
        let used = prepared(
            "UPDATE user_2fa SET last_step = ?, last_used_at = ?, totp_failures = 0, updated_at = ? \
             WHERE user_id = ? AND secret IS NOT NULL AND totp_disabled_at IS NULL AND last_step < ? RETURNING secret",
        )
        .bind::<BigInt, _>(step)
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<BigInt, _>(step)
        .get_result::<SecretRow>(self.conn())
        .optional()
        .store()?;
        let Some(used) = used else { return Ok(false) };
        if let Some(sealed) = used.secret
            && let Ok(key) = sealed_with(&sealed)
            && self.platform_keys()?.ring.contains(key)
        {
            self.move_under_data_key(user, &sealed, at)?;
        }
        Ok(true)
    }

    fn backup_codes_of(&mut self, user: UserId) -> Result<Vec<StoredCode>, StoreError> {
        prepared(
            "SELECT slot, hash, used_at FROM user_2fa_backup_codes WHERE user_id = ? AND NOT pending ORDER BY slot",
        )
        .bind::<BigInt, _>(user.0)
        .load::<CodeRow>(self.conn())
        .store()?
        .into_iter()
        .map(|row| {
            let hash = PasswordHash::parse(row.hash)
                .map_err(|why| StoreError::inconsistent("user_2fa_backup_codes", "hash", user, why))?;
            Ok(StoredCode { slot: row.slot, hash, used_at: row.used_at })
        })
        .collect()
    }

    fn use_backup_code(
        &mut self,
        user: UserId,
        slot: i16,
        hash: &PasswordHash,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let changed = prepared(
            "WITH c AS (UPDATE user_2fa_backup_codes SET used_at = ? WHERE user_id = ? AND NOT pending AND slot = ? \
             AND hash = ? AND used_at IS NULL AND EXISTS (SELECT 1 FROM user_2fa f WHERE f.user_id = ? \
             AND f.secret IS NOT NULL AND f.backup_disabled_at IS NULL) RETURNING user_id) \
             UPDATE user_2fa f SET last_used_at = ?, backup_failures = 0, updated_at = ? FROM c \
             WHERE f.user_id = c.user_id",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SmallInt, _>(slot)
        .bind::<Text, _>(hash.as_str())
        .bind::<BigInt, _>(user.0)
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        Ok(changed == 1)
    }

    fn replace_backup_codes(
        &mut self,
        user: UserId,
        codes: &[PasswordHash],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.delete_backup_codes(user, false)?;
        self.insert_backup_codes(user, false, codes, at)?;
        prepared(
            "UPDATE user_2fa SET backup_failures = 0, backup_disabled_at = NULL, updated_at = ? WHERE user_id = ?",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    fn remove_factor(&mut self, user: UserId) -> Result<bool, StoreError> {
        self.delete_backup_codes(user, false)?;
        self.delete_backup_codes(user, true)?;
        let removed = prepared("DELETE FROM user_2fa WHERE user_id = ?")
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
        Ok(removed == 1)
    }

    fn count_wrong_code(
        &mut self,
        user: UserId,
        method: Method,
        limit: u32,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let text = match method {
            Method::BackupCode => {
                "UPDATE user_2fa SET backup_failures = backup_failures + 1, backup_disabled_at = CASE \
                 WHEN backup_failures + 1 >= ? THEN coalesce(backup_disabled_at, ?) ELSE backup_disabled_at END, \
                 updated_at = ? WHERE user_id = ? RETURNING backup_failures = ? AS disabled_now"
            }
            Method::Totp | Method::Password => {
                "UPDATE user_2fa SET totp_failures = totp_failures + 1, totp_disabled_at = CASE \
                 WHEN totp_failures + 1 >= ? THEN coalesce(totp_disabled_at, ?) ELSE totp_disabled_at END, \
                 updated_at = ? WHERE user_id = ? RETURNING totp_failures = ? AS disabled_now"
            }
        };
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let row = prepared(text)
            .bind::<Integer, _>(limit)
            .bind::<Timestamptz, _>(at)
            .bind::<Timestamptz, _>(at)
            .bind::<BigInt, _>(user.0)
            .bind::<Integer, _>(limit)
            .get_result::<DisabledNow>(self.conn())
            .optional()
            .store()?;
        Ok(row.is_some_and(|row| row.disabled_now))
    }

    fn failed_attempts_since(
        &mut self,
        user: UserId,
        budget: Budget,
        since: DateTime<Utc>,
        most: u32,
    ) -> Result<Vec<DateTime<Utc>>, StoreError> {
        let rows = prepared(
            "SELECT at FROM user_2fa_attempts WHERE user_id = ? AND at > ? AND (method = 'password') = ? \
             AND outcome NOT IN ('accepted', 'throttled') ORDER BY at DESC LIMIT ?",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Timestamptz, _>(since)
        .bind::<Bool, _>(budget == Budget::Passwords)
        .bind::<BigInt, _>(i64::from(most))
        .load::<At>(self.conn())
        .store()?;
        Ok(rows.into_iter().map(|row| row.at).collect())
    }

    fn insert_factor_attempt(&mut self, user: UserId, attempt: &AttemptRecord) -> Result<i64, StoreError> {
        let row = prepared(
            "INSERT INTO user_2fa_attempts (user_id, at, method, purpose, outcome, ip, user_agent) \
             VALUES (?, ?, ?, ?, ?, ?::inet, ?) RETURNING id",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<Timestamptz, _>(attempt.at)
        .bind::<Text, _>(attempt.method.as_str())
        .bind::<Text, _>(attempt.purpose.as_str())
        .bind::<Text, _>(attempt.outcome)
        .bind::<Nullable<Text>, _>(attempt.client.ip().map(|ip| ip.to_string()))
        .bind::<Nullable<Text>, _>(attempt.client.user_agent())
        .get_result::<Id>(self.conn())
        .store()?;
        Ok(row.id)
    }

    fn finish_factor_attempt(
        &mut self,
        user: UserId,
        attempt: i64,
        outcome: &str,
        step_offset: Option<i16>,
    ) -> Result<(), StoreError> {
        prepared("UPDATE user_2fa_attempts SET outcome = ?, step_offset = ? WHERE user_id = ? AND id = ?")
            .bind::<Text, _>(outcome)
            .bind::<Nullable<SmallInt>, _>(step_offset)
            .bind::<BigInt, _>(user.0)
            .bind::<BigInt, _>(attempt)
            .execute(self.conn())
            .store()?;
        Ok(())
    }
}
