//! Changes of addresses, and addresses that nobody has confirmed.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Binary, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::EmailAddress;
use plimsoll_auth::ports::{EmailChange, EmailChangeStore, VerificationStore};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct ChangeRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    old_email: String,
    #[diesel(sql_type = Text)]
    new_email: String,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    confirmed_at: Option<DateTime<Utc>>,
}

macro_rules! change_columns {
    () => {
        "id, user_id, old_email, new_email, created_at, expires_at, confirmed_at"
    };
}

impl TryFrom<ChangeRow> for EmailChange {
    type Error = StoreError;
    fn try_from(row: ChangeRow) -> Result<Self, StoreError> {
        let address = |column: &'static str, text: &str| {
            EmailAddress::parse(text)
                .map_err(|why| StoreError::inconsistent("email_changes", column, row.id, why.to_string()))
        };
        Ok(Self {
            id: row.id,
            user: UserId(row.user_id),
            old: address("old_email", &row.old_email)?,
            new: address("new_email", &row.new_email)?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            confirmed_at: row.confirmed_at,
        })
    }
}

impl EmailChangeStore for Tx<'_> {
    fn insert_email_change(&mut self, digest: &TokenDigest, change: &EmailChange) -> Result<(), StoreError> {
        prepared(
            "UPDATE email_changes SET cancelled_at = ? \
             WHERE user_id = ? AND confirmed_at IS NULL AND cancelled_at IS NULL",
        )
        .bind::<Timestamptz, _>(change.created_at)
        .bind::<BigInt, _>(change.user.0)
        .execute(self.conn())
        .store()?;
        prepared(
            "INSERT INTO email_changes (user_id, id, new_email, new_email_folded, old_email, token_digest, created_at, \
             expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind::<BigInt, _>(change.user.0)
        .bind::<SqlUuid, _>(change.id)
        .bind::<Text, _>(change.new.as_str())
        .bind::<Text, _>(change.new.folded())
        .bind::<Text, _>(change.old.as_str())
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(change.created_at)
        .bind::<Timestamptz, _>(change.expires_at)
        .execute(self.conn())
        .store()
        .map(|_| ())
    }

    fn open_email_change(
        &mut self,
        digest: &TokenDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<EmailChange>, StoreError> {
        prepared(concat!(
            "SELECT ",
            change_columns!(),
            " FROM email_changes \
             WHERE token_digest = ? AND confirmed_at IS NULL AND cancelled_at IS NULL AND expires_at > ?"
        ))
        .bind::<Binary, _>(digest.as_bytes().as_slice())
        .bind::<Timestamptz, _>(now)
        .get_result::<ChangeRow>(self.conn())
        .optional()
        .store()?
        .map(EmailChange::try_from)
        .transpose()
    }

    fn confirm_email_change(
        &mut self,
        user: UserId,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let confirmed = prepared(
            "UPDATE email_changes SET confirmed_at = ? \
             WHERE user_id = ? AND id = ? AND confirmed_at IS NULL AND cancelled_at IS NULL AND expires_at > ?",
        )
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(id)
        .bind::<Timestamptz, _>(now)
        .execute(self.conn())
        .store()?;
        Ok(confirmed == 1)
    }

    fn cancel_email_change(
        &mut self,
        user: UserId,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Option<EmailChange>, StoreError> {
        let found = prepared(concat!(
            "UPDATE email_changes SET cancelled_at = ? WHERE user_id = ? AND id = ? AND cancelled_at IS NULL RETURNING ",
            change_columns!()
        ))
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(id)
        .get_result::<ChangeRow>(self.conn())
        .optional()
        .store()?
        .map(EmailChange::try_from)
        .transpose()?;
        if let Some(change) = &found {
            prepared(
                "UPDATE email_changes SET cancelled_at = ? \
                 WHERE user_id = ? AND cancelled_at IS NULL AND created_at >= ?",
            )
            .bind::<Timestamptz, _>(now)
            .bind::<BigInt, _>(user.0)
            .bind::<Timestamptz, _>(change.created_at)
            .execute(self.conn())
            .store()?;
        }
        Ok(found)
    }

    fn release_unconfirmed_email(
        &mut self,
        email: &EmailAddress,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        #[derive(QueryableByName)]
        struct Released {
            #[diesel(sql_type = BigInt)]
            id: i64,
        }
        // Nobody can have registered an address that nobody can guess.
        let released = prepared(
            "UPDATE users SET email = 'released-' || id || '-' || r.salt || '@released.invalid', \
             email_folded = 'released-' || id || '-' || r.salt || '@released.invalid', updated_at = ? \
             FROM (SELECT replace(gen_random_uuid()::text, '-', '') AS salt) r \
             WHERE email_folded = ? AND email_verified_at IS NULL RETURNING id",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<Text, _>(email.folded())
        .get_result::<Released>(self.conn())
        .optional()
        .store()?;
        let Some(Released { id }) = released else { return Ok(false) };
        self.close_verifications_of(UserId(id), at)?;
        Ok(true)
    }

    fn set_email(&mut self, user: UserId, email: &EmailAddress, at: DateTime<Utc>) -> Result<(), StoreError> {
        prepared("UPDATE users SET email = ?, email_folded = ?, updated_at = ? WHERE id = ?")
            .bind::<Text, _>(email.as_str())
            .bind::<Text, _>(email.folded())
            .bind::<Timestamptz, _>(at)
            .bind::<BigInt, _>(user.0)
            .execute(self.conn())
            .store()?;
        self.logins_changed(user);
        Ok(())
    }
}
