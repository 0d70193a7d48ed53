use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use uuid::Uuid;

use crate::EmailAddress;
use crate::mail::Mail;

/// Where mails wait to be sent. They leave after the transaction, never inside it.
pub trait MailOutbox {
    /// Posts a mail under an id that the caller made; a second post under the same id is none.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn post_mail(
        &mut self,
        id: Uuid,
        to: &EmailAddress,
        user: Option<UserId>,
        mail: &Mail,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;
}
