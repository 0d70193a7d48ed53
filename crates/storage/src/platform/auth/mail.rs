//! Mails, sealed until they are sent.

use chrono::{DateTime, Utc};
use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Binary, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use plimsoll_auth::EmailAddress;
use plimsoll_auth::mail::Mail;
use plimsoll_auth::ports::MailOutbox;
use plimsoll_core_domain::{StoreError, StoreErrorKind, UserId};
use plimsoll_crypto::{Aad, OsRandom, seal};
use plimsoll_reliability::jobs::{JobQueue, NewJob};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

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
            let job = NewJob::new(MAIL_QUEUE, SEND_MAIL, &SendMail { mail: id }).dedup(row);
            self.enqueue(&job)?;
        }
        Ok(())
    }
}
