use chrono::{DateTime, Utc};
use plimsoll_core_domain::{StoreError, UserId};
use uuid::Uuid;

use super::MemoryStore;
use crate::EmailAddress;
use crate::mail::Mail;
use crate::ports::MailOutbox;

/// A mail as it was posted.
#[derive(Debug, Clone)]
pub struct PostedMail {
    /// Its id.
    pub id: Uuid,
    /// To whom.
    pub to: EmailAddress,
    /// Of which user.
    pub user: Option<UserId>,
    /// What it says.
    pub mail: Mail,
    /// When.
    pub at: DateTime<Utc>,
}

impl MailOutbox for MemoryStore {
    fn post_mail(
        &mut self,
        id: Uuid,
        to: &EmailAddress,
        user: Option<UserId>,
        mail: &Mail,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.call()?;
        if self.mails.iter().all(|posted| posted.id != id) {
            self.mails.push(PostedMail { id, to: to.clone(), user, mail: mail.clone(), at });
        }
        Ok(())
    }
}
