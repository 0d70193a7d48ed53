//! The links that confirm addresses.

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::Pepper;
use plimsoll_crypto::tokens::{SecretToken, TokenDigest};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{is_waiting, record};
use crate::mail::{Circumstances, Mail};
use crate::ports::{AuthStore, Claim, NewVerification};
use crate::sessions::close_all_doors;
use crate::throttle::{Limit, Verdict, address_key, network_key};
use crate::{AccountPolicy, Act, EmailAddress, User};

/// The random parts of a link that is mailed.
#[derive(Debug)]
pub struct NewLink {
    /// Names the link's row.
    pub id: Uuid,
    /// Names the mail.
    pub mail: Uuid,
    /// Goes by mail; only its digest is stored.
    pub token: SecretToken,
}

/// What came of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// The address of this user is confirmed.
    Verified(UserId),
    /// The link has expired, was used, was voided by a newer one, or never existed: a client cannot tell which.
    Invalid,
}

/// Uses a link up, notes that the address is confirmed, and gives the account what the link's registration chose. Every
/// other link ends, and so does whatever could have been opened or bound before; a welcome goes out under the id
/// `welcome`. All in one transaction.
///
/// # Errors
///
/// When the store fails.
pub fn verify_email<S>(
    store: &mut S,
    digest: &TokenDigest,
    welcome: Uuid,
    act: &Act,
) -> Result<VerifyOutcome, StoreError>
where
    S: AuthStore + ?Sized,
{
    // Whose it is comes first: the user is locked before anything of the user.
    let Some(owner) = store.verification_owner(digest)? else { return Ok(VerifyOutcome::Invalid) };
    let Some(account) = store.lock_account_of(owner)? else { return Ok(VerifyOutcome::Invalid) };
    if account.user.email_verified_at.is_some() {
        return Ok(VerifyOutcome::Invalid);
    }
    let Some(used) = store.use_verification(digest, act.at)? else { return Ok(VerifyOutcome::Invalid) };
    let (user, claim) = (used.user, used.claim);
    store.close_verifications_of(user, act.at)?;
    store.set_email_verified(user, claim.as_ref(), act.at)?;
    // There should be nothing of it: an unconfirmed account opens no door and binds no factor.
    close_all_doors(store, user, None, true, act)?;
    store.remove_factor(user)?;
    store.clear_password_failures(user)?;
    let User { email, display_name, .. } = account.user;
    let (display_name, replaced) = match claim {
        Some(claim) => (claim.display_name, claim.password_hash != account.password_hash),
        None => (display_name, false),
    };
    store.post_mail(welcome, &email, Some(user), &Mail::Welcome { display_name }, act.at)?;
    // Somebody else had registered the address before.
    let detail = if replaced { json!({ "password_replaced": true }) } else { Value::Null };
    record(store, act, "email.verify", AuditOutcome::Success, user, detail)?;
    Ok(VerifyOutcome::Verified(user))
}

/// Mails a new link, with what was last registered, to an address that waits for its confirmation, and voids the older
/// ones of that registration. Another registration's links stay: whoever asks may not take them away. For any other
/// address, and within the cool-down or over the cap of an address, nothing is sent; the caller cannot tell. `Blocked` is
/// for the network alone.
///
/// # Errors
///
/// When the store fails.
pub fn resend<S>(
    store: &mut S,
    policy: &AccountPolicy,
    pepper: &Pepper,
    email: &EmailAddress,
    link: &NewLink,
    act: &Act,
) -> Result<Verdict, StoreError>
where
    S: AuthStore + ?Sized,
{
    let network = network_key(pepper, act.client.ip());
    let verdict = store.take("resend.network", &network, policy.registration.resend_per_ip, act.at)?;
    if verdict != Verdict::Allowed {
        return Ok(verdict);
    }
    let key = address_key(pepper, email);
    let within = within(store, &key, link_limits(policy), act)?;
    let found = store.account_by_email(email)?.filter(|account| within && is_waiting(&account.user));
    let Some(found) = found else { return Ok(Verdict::Allowed) };
    let locked = store.lock_account_of(found.user.id)?.filter(|account| is_waiting(&account.user));
    let Some(User { id, email, .. }) = locked.map(|account| account.user) else {
        return Ok(Verdict::Allowed);
    };
    let claim = store.last_claim_of(id)?;
    store.void_verifications_of(id, claim.as_ref().map(|claim| claim.registration), act.at)?;
    let expires_at = act.at + policy.registration.verification;
    send_link(store, (id, &email), link, claim, expires_at, true, act)?;
    record(store, act, "email.resend", AuditOutcome::Success, id, Value::Null)?;
    Ok(Verdict::Allowed)
}

pub(super) fn link_limits(policy: &AccountPolicy) -> [(&'static str, Limit); 2] {
    let cool_down = Limit::new(1, policy.registration.resend_cool_down, 1);
    [("verification.cool_down", cool_down), ("verification.address", policy.registration.resend_per_address)]
}

/// Whether both limits allow it. The second one counts only what the first one let through.
pub(super) fn within<S>(
    store: &mut S,
    key: &[u8; 32],
    limits: [(&'static str, Limit); 2],
    act: &Act,
) -> Result<bool, StoreError>
where
    S: AuthStore + ?Sized,
{
    for (kind, limit) in limits {
        if store.take(kind, key, limit, act.at)? != Verdict::Allowed {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Stores a link and, where that is due, mails it; a link that is not mailed only keeps what it carries.
pub(super) fn send_link<S>(
    store: &mut S,
    (user, email): (UserId, &EmailAddress),
    link: &NewLink,
    claim: Option<Claim>,
    expires_at: DateTime<Utc>,
    mailed: bool,
    act: &Act,
) -> Result<(), StoreError>
where
    S: AuthStore + ?Sized,
{
    let circumstances = claim.as_ref().map_or_else(|| act.into(), Circumstances::from);
    store.insert_verification(&NewVerification {
        id: link.id,
        user,
        digest: link.token.digest(),
        created_at: act.at,
        expires_at,
        claim,
    })?;
    if mailed {
        let circumstances = Some(circumstances);
        let mail = Mail::VerifyEmail { token: (&link.token).into(), expires_at, circumstances };
        store.post_mail(link.mail, email, Some(user), &mail, act.at)?;
    }
    Ok(())
}
