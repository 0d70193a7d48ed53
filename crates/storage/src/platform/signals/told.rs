//! What owners of hooks are told by mail.

use plimsoll_auth::Act;
use plimsoll_auth::mail::Mail;
use plimsoll_auth::ports::{AccountStore, MailOutbox};
use plimsoll_core_domain::StoreError;
use uuid::Uuid;

use super::InboundHook;
use crate::db::Tx;

impl Tx<'_> {
    /// Tells a hook's owner that there is one more. `mail` is the mail's id.
    ///
    /// # Errors
    /// The store's own.
    pub fn tell_of_hook(&mut self, hook: &InboundHook, mail: Uuid, act: &Act) -> Result<(), StoreError> {
        let text = Mail::SignalHookAdded {
            name: hook.settings.name.clone(),
            environment: hook.settings.environment.as_str().to_owned(),
            circumstances: act.into(),
        };
        let Some(owner) = self.user_by_id(hook.user)? else { return Ok(()) };
        self.post_mail(mail, &owner.email, Some(hook.user), &text, act.at)
    }
}
