use plimsoll_core_domain::StoreError;
use plimsoll_crypto::DeviceId;
use plimsoll_crypto::tokens::SecretToken;
use uuid::Uuid;

use super::{LoginKeys, Place};
use crate::mail::{Circumstances, Mail, MailToken, SignInReason};
use crate::ports::{AuthStore, CancelPurpose, CancelToken};
use crate::{AccountPolicy, Act, User};

/// The random parts of what goes with a sign-in.
#[derive(Debug)]
pub struct NewArrival {
    /// Of a device not seen before.
    pub device: DeviceId,
    /// Of the link in the mail that signs out everywhere.
    pub logout_everywhere: SecretToken,
    /// Of that link.
    pub link: Uuid,
    /// Of the mail.
    pub mail: Uuid,
}

/// What goes with a sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The value of the device cookie, to be kept for [`LoginPolicy::device_cookie`](crate::LoginPolicy).
    pub device_cookie: String,
    /// Why the owner was told by mail, if so.
    pub told: Option<SignInReason>,
}

/// Remembers from where a user signed in, and tells the owner by mail when that is new or came after failures. The first
/// sign-in of all is no news.
///
/// # Errors
///
/// When the store fails.
#[expect(clippy::too_many_arguments, reason = "what the two ways of signing in have in common")]
pub fn arrive<S>(
    store: &mut S,
    policy: &AccountPolicy,
    keys: LoginKeys<'_>,
    user: &User,
    device: Option<DeviceId>,
    after_failures: bool,
    new: &NewArrival,
    act: &Act,
) -> Result<Arrival, StoreError>
where
    S: AuthStore + ?Sized,
{
    let identifier = keys.identifier(user.email.folded());
    let first = !store.has_places(user.id)?;
    // A client that keeps no cookies is known by its name.
    let agent = keys.agent(&identifier, act.client.user_agent().unwrap_or_default());
    let new_device = store.see_place(user.id, Place::Device, &agent, act.at)? && device.is_none();
    let device = device.unwrap_or(new.device);
    let new_network = match act.client.ip() {
        Some(ip) => store.see_place(user.id, Place::Network, &keys.network(ip), act.at)?,
        None => false,
    };
    let told = if after_failures {
        Some(SignInReason::AfterFailures)
    } else if !first && (new_device || new_network) {
        Some(SignInReason::NewPlace)
    } else {
        None
    };
    if let Some(reason) = told {
        let link = CancelToken {
            id: new.link,
            user: user.id,
            purpose: CancelPurpose::LogoutEverywhere,
            target: None,
            created_at: act.at,
            expires_at: act.at + policy.login.logout_link,
        };
        store.insert_cancel_token(&new.logout_everywhere.digest(), &link)?;
        let mail = Mail::NewSignIn {
            reason,
            logout_everywhere: MailToken::from(&new.logout_everywhere),
            circumstances: Circumstances::from(act),
        };
        store.post_mail(new.mail, &user.email, Some(user.id), &mail, act.at)?;
    }
    Ok(Arrival { device_cookie: keys.devices.sign(&identifier, device), told })
}
