//! Mails, sealed until they are sent.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{BigInt, Binary, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::mail::Mail;
use plimsoll_auth::ports::{MailOutbox, ThrottleStore, VaultStore};
use plimsoll_auth::throttle::{Limit, Verdict};
use plimsoll_auth::vault::{Alert, Audience};
use plimsoll_auth::{Act, EmailAddress};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::{Aad, KeyRing, OsRandom, open, seal};
use plimsoll_reliability::jobs::{JobQueue, NewJob};
use plimsoll_reliability::retry::Policy;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

#[derive(QueryableByName)]
struct Owner {
    #[diesel(sql_type = Nullable<BigInt>)]
    user_id: Option<i64>,
}

/// How often it is said of one mail that it does not open.
const UNREADABLE: Limit = Limit::new(1, TimeDelta::days(1), 1);

/// The queue of jobs that send mails.
pub const MAIL_QUEUE: &str = "mail";
/// The kind of those jobs.
pub const SEND_MAIL: &str = "send_mail";

/// The payload of a job that sends a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendMail {
    /// Which mail.
    pub mail: Uuid,
}

/// What is sealed of a mail.
#[derive(Serialize, Deserialize)]
struct Content {
    to: String,
    mail: Mail,
}

/// A mail as it was posted.
#[derive(Debug)]
pub struct StoredMail {
    /// Its id.
    pub id: Uuid,
    /// To whom; with the mail itself `None` once it was sent, or when it does not open.
    pub content: Option<(EmailAddress, Mail)>,
    /// When it was posted.
    pub created_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct MailRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<BigInt>)]
    user_id: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

impl MailRow {
    fn open(self, ring: &KeyRing) -> Result<StoredMail, StoreError> {
        let row = self.id.to_string();
        let aad = Aad { table: "mail_outbox", column: "sealed", row: &row, owner: self.user_id };
        let content = self
            .sealed
            .map(|sealed| {
                let bad = |why: String| StoreError::inconsistent("mail_outbox", "sealed", &row, why);
                let plain = open(ring, &aad, &sealed).map_err(|why| bad(why.to_string()))?;
                // What the parser says may quote the mail.
                let content: Content = serde_json::from_slice(plain.expose_secret())
                    .map_err(|_| bad("is no mail of this release".to_owned()))?;
                let to = EmailAddress::parse(&content.to).map_err(|why| bad(why.to_string()))?;
                Ok::<_, StoreError>((to, content.mail))
            })
            .transpose()?;
        Ok(StoredMail { id: self.id, content, created_at: self.created_at })
    }
}

impl Tx<'_> {
    /// A mail that was neither sent nor given up.
    ///
    /// # Errors
    /// The store's own; `Other` when it does not open.
    pub fn waiting_mail(&mut self, id: Uuid) -> Result<Option<StoredMail>, StoreError> {
        let keys = self.platform_keys()?;
        prepared(
            "SELECT id, user_id, sealed, created_at FROM mail_outbox \
             WHERE id = ? AND sent_at IS NULL AND given_up_at IS NULL AND sealed IS NOT NULL",
        )
        .bind::<SqlUuid, _>(id)
        .get_result::<MailRow>(self.conn())
        .optional()
        .store()?
        .map(|row| row.open(&keys.ring))
        .transpose()
    }

    /// Notes that a mail was sent; its content is gone with that.
    ///
    /// # Errors
    /// The store's own.
    pub fn mail_sent(&mut self, id: Uuid, at: DateTime<Utc>) -> Result<(), StoreError> {
        prepared("UPDATE mail_outbox SET sent_at = ?, sealed = NULL WHERE id = ? AND sent_at IS NULL")
            .bind::<Timestamptz, _>(at)
            .bind::<SqlUuid, _>(id)
            .execute(self.conn())
            .store()
            .map(|_| ())
    }

    /// Notes that a mail will not be sent any more.
    ///
    /// # Errors
    /// The store's own.
    pub fn mail_given_up(&mut self, id: Uuid, at: DateTime<Utc>) -> Result<(), StoreError> {
        prepared("UPDATE mail_outbox SET given_up_at = ? WHERE id = ? AND sent_at IS NULL")
            .bind::<Timestamptz, _>(at)
            .bind::<SqlUuid, _>(id)
            .execute(self.conn())
            .store()
            .map(|_| ())
    }

    /// Records that a waiting mail does not open, and tells the administrators, once a day: it was damaged, moved from another row, or
    /// sealed by a key that is missing. The mail stays as it is.
    ///
    /// # Errors
    /// The store's own.
    pub fn mail_unreadable(&mut self, id: Uuid, at: DateTime<Utc>) -> Result<(), StoreError> {
        if self.take("mail.unreadable", id.as_bytes(), UNREADABLE, at)? != Verdict::Allowed {
            return Ok(());
        }
        let owner = prepared("SELECT user_id FROM mail_outbox WHERE id = ?")
            .bind::<SqlUuid, _>(id)
            .get_result::<Owner>(self.conn())
            .optional()
            .store()?
            .and_then(|row| row.user_id.map(UserId));
        let message = format!("The sealed mail {id} does not open and is not sent. See the audit log.");
        self.alert(Audience::Administrators, &Alert { message, severity: "critical" }, at)?;
        let detail = serde_json::json!({ "table": "mail_outbox", "mail": id });
        let act = Act::without_request(at);
        let entry = act.entry("secret.unreadable", AuditOutcome::Failure, None, owner, detail);
        self.append_audit(owner, &entry)
    }

    /// The newest mails that still have their content.
    ///
    /// # Errors
    /// The store's own; `Other` when one does not open.
    pub fn newest_mails(&mut self, limit: usize) -> Result<Vec<StoredMail>, StoreError> {
        let keys = self.platform_keys()?;
        prepared(
            "SELECT id, user_id, sealed, created_at FROM mail_outbox WHERE sealed IS NOT NULL \
             ORDER BY created_at DESC, id DESC LIMIT ?",
        )
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load::<MailRow>(self.conn())
        .store()?
        .into_iter()
        .map(|row| row.open(&keys.ring))
        .collect()
    }
}

impl MailOutbox for Tx<'_> {
    fn post_mail(
        &mut self,
        id: Uuid,
        to: &EmailAddress,
        user: Option<UserId>,
        mail: &Mail,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let fault = |why: serde_json::Error| StoreError::new(StoreErrorKind::Other, why.to_string());
        let content = Content { to: to.as_str().to_owned(), mail: mail.clone() };
        let value = serde_json::to_value(&content).map_err(fault)?;
        let kind = value["mail"]["kind"].as_str().unwrap_or_default().to_owned();
        let plaintext = value.to_string();
        let row = id.to_string();
        let aad = Aad { table: "mail_outbox", column: "sealed", row: &row, owner: user.map(|user| user.0) };
        let keys = self.platform_keys()?;
        let sealed = seal(&keys.ring, &aad, plaintext.as_bytes(), &mut OsRandom);
        let inserted = prepared(
            "INSERT INTO mail_outbox (id, user_id, kind, sealed, created_at) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .bind::<Text, _>(kind)
        .bind::<Binary, _>(sealed)
        .bind::<Timestamptz, _>(at)
        .execute(self.conn())
        .store()?;
        if inserted == 1 {
            let job = NewJob {
                max_attempts: Policy::MAIL.attempts,
                ..NewJob::new(MAIL_QUEUE, SEND_MAIL, &SendMail { mail: id }).dedup(row)
            };
            self.enqueue(&job)?;
        }
        Ok(())
    }
}
