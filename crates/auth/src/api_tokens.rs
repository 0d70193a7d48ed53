//! API tokens: what programs sign in with. They have scopes, an end, and where the owner wishes a list of addresses.
//!
//! A token never opens the account itself: it cannot make tokens or change password, factors or address. Routes see to
//! that by asking for a session.

mod scopes;

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::audit::{AuditLog, AuditOutcome};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::tokens::{ApiToken, TokenDigest};
use serde_json::json;
use uuid::Uuid;

use crate::mail::Mail;
use crate::ports::{AccountStore, ApiTokenStore, AuthStore, FoundToken, MailOutbox, TwoFactorStore};
use crate::sessions::AuthenticateError;
use crate::{AccountPolicy, AccountState, Act, IpNetwork, Role, User, two_factor};

pub use scopes::{Scope, Scopes};

/// Most characters of a token's name.
pub const MAX_NAME_CHARS: usize = 100;
/// Most addresses and networks that a token may be bound to.
pub const MAX_ALLOWED_IPS: usize = 32;
/// A use is noted unless one was noted less than this ago.
const TOUCH_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// An API token as it is kept: everything but the token itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Names the token in lists and audit entries; it opens nothing.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: UserId,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// From where it may be used; empty: from anywhere.
    pub allowed_ips: Vec<IpNetwork>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends in any case.
    pub expires_at: DateTime<Utc>,
    /// When it was last used, to within a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// From where.
    pub last_used_ip: Option<IpAddr>,
    /// When it was ended early.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When its owner was told that it ends soon.
    pub warned_at: Option<DateTime<Utc>>,
}

impl TokenRecord {
    /// Whether it may be used at `now`. At the very instant of its end it may not.
    #[must_use]
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }
}

/// Whether a list of networks lets an address in; an empty one lets everybody in, any other nobody unknown.
#[must_use]
pub fn admits(allowed: &[IpNetwork], ip: Option<IpAddr>) -> bool {
    allowed.is_empty() || ip.is_some_and(|ip| allowed.iter().any(|network| network.contains(ip)))
}

/// Who calls with an API token, all as stored now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiCaller {
    /// The owner, active.
    pub user: User,
    /// The token's id.
    pub token_id: Uuid,
    /// What the token may do; `admin` only while the owner is an administrator, `trade_live` only while the owner has a
    /// second factor.
    pub scopes: Scopes,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// From where it may be used: whoever keeps the caller for a while asks [`admits`] again for each request.
    pub allowed_ips: Vec<IpNetwork>,
}

/// Finds who an API token belongs to, and notes its use. Unknown, revoked and expired tokens, a wrong address and a
/// disabled owner are alike to the caller.
///
/// One read; a write at most once a minute.
///
/// # Errors
///
/// See [`AuthenticateError`].
pub fn authenticate<S>(
    store: &mut S,
    digest: &TokenDigest,
    ip: Option<IpAddr>,
    now: DateTime<Utc>,
) -> Result<ApiCaller, AuthenticateError>
where
    S: ApiTokenStore + ?Sized,
{
    let found = store.api_token_by_digest(digest)?.ok_or(AuthenticateError::NotAuthenticated)?;
    let FoundToken { token, user, two_factor } = found;
    let usable = token.is_live(now)
        && admits(&token.allowed_ips, ip)
        && user.state == AccountState::Active
        && user.email_verified_at.is_some();
    if !usable {
        return Err(AuthenticateError::NotAuthenticated);
    }
    if token.last_used_at.is_none_or(|last| now - last >= TOUCH_INTERVAL) {
        store.touch_api_token(user.id, token.id, ip, now)?;
    }
    // What the owner may not grant any more, the token may not do any more.
    let scopes = match user.role {
        Role::Admin => token.scopes,
        Role::User => token.scopes.without(Scope::Admin),
    };
    let scopes = if two_factor { scopes } else { scopes.without(Scope::TradeLive) };
    Ok(ApiCaller {
        user,
        token_id: token.id,
        scopes,
        expires_at: token.expires_at,
        allowed_ips: token.allowed_ips,
    })
}

/// What a new token should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What its owner calls it: 1 to [`MAX_NAME_CHARS`] characters, none of them a control character.
    pub name: String,
    /// What it may do; at least one thing.
    pub scopes: Scopes,
    /// When it ends; at most the policy's longest life from now.
    pub expires_at: DateTime<Utc>,
    /// From where it may be used; empty: from anywhere.
    pub allowed_ips: Vec<IpNetwork>,
}

/// A new token with its id, and the id of the mail that tells of it.
#[derive(Debug)]
pub struct NewToken {
    /// Names it.
    pub id: Uuid,
    /// The token itself.
    pub token: ApiToken,
    /// Of the mail to its owner.
    pub mail_id: Uuid,
}

/// Why a token is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CreateRefusal {
    /// The name is empty, too long, or has control characters.
    #[error("must have 1 to {MAX_NAME_CHARS} characters and no control characters")]
    Name,
    /// It could do nothing.
    #[error("must name at least one scope")]
    NoScope,
    /// It would be over already.
    #[error("must be in the future")]
    ExpiryPast,
    /// It would live too long.
    #[error("must be at most a year away")]
    ExpiryTooFar,
    /// Too many addresses.
    #[error("at most {MAX_ALLOWED_IPS} addresses or networks")]
    AllowedIps,
    /// Only an administrator's token may administrate.
    #[error("only administrators may grant the scope admin")]
    AdminScope,
    /// The owner may not trade with real money.
    #[error("the scope trade_live needs a second factor")]
    LiveScope,
    /// There are enough.
    #[error("there are too many tokens; revoke one first")]
    TooMany,
    /// The owner is no active user any more.
    #[error("no such user")]
    NoUser,
}

impl CreateRefusal {
    /// A stable name for audit entries and problems.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Name => "invalid_name",
            Self::NoScope => "no_scope",
            Self::ExpiryPast => "expiry_past",
            Self::ExpiryTooFar => "expiry_too_far",
            Self::AllowedIps => "too_many_allowed_ips",
            Self::AdminScope => "admin_scope",
            Self::LiveScope => "live_scope",
            Self::TooMany => "too_many_tokens",
            Self::NoUser => "no_user",
        }
    }
}

/// Makes a token for `user`, records it and mails its owner. The caller has seen a fresh factor. A refusal is recorded
/// where it is one of authority, and changes nothing else.
///
/// # Errors
///
/// When the store fails.
pub fn create<S>(
    store: &mut S,
    policy: &AccountPolicy,
    act: &Act,
    user: UserId,
    new: &NewToken,
    wanted: Wanted,
) -> Result<Result<TokenRecord, CreateRefusal>, StoreError>
where
    S: AuthStore + ?Sized,
{
    if let Some(refusal) = shape_refusal(policy, act.at, &wanted) {
        return Ok(Err(refusal));
    }
    let account = store.lock_account_of(user)?;
    let Some(owner) = account.map(|account| account.user).filter(|user| user.state == AccountState::Active)
    else {
        return Ok(Err(CreateRefusal::NoUser));
    };
    if let Some(refusal) = authority_refusal(store, policy, act.at, &owner, wanted.scopes)? {
        let detail = json!({ "reason": refusal.code(), "scopes": wanted.scopes.names() });
        let entry = act.entry("api_token.create", AuditOutcome::Denied, Some(user), Some(user), detail);
        store.append_audit(Some(user), &entry)?;
        return Ok(Err(refusal));
    }
    // A token that lives no longer than the warning time is told of once: now.
    let brief = wanted.expires_at - act.at <= policy.api_tokens.warn_before;
    let record = TokenRecord {
        id: new.id,
        user_id: user,
        name: wanted.name,
        scopes: wanted.scopes,
        allowed_ips: wanted.allowed_ips,
        created_at: act.at,
        expires_at: wanted.expires_at,
        last_used_at: None,
        last_used_ip: None,
        revoked_at: None,
        warned_at: brief.then_some(act.at),
    };
    store.insert_api_token(&new.token.digest(), &record)?;
    let mail = Mail::NewApiToken {
        name: record.name.clone(),
        scopes: record.scopes.iter().map(|scope| scope.to_string()).collect(),
        expires_at: record.expires_at,
        circumstances: act.into(),
    };
    store.post_mail(new.mail_id, &owner.email, Some(user), &mail, act.at)?;
    let detail = json!({
        "token_id": record.id,
        "name": record.name,
        "scopes": record.scopes.names(),
        "expires_at": record.expires_at.to_rfc3339(),
        "allowed_ips": record.allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    let entry = act.entry("api_token.create", AuditOutcome::Success, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(Ok(record))
}

/// What is wrong with a wish whoever makes it.
fn shape_refusal(policy: &AccountPolicy, now: DateTime<Utc>, wanted: &Wanted) -> Option<CreateRefusal> {
    let name = &wanted.name;
    if name.trim().is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        return Some(CreateRefusal::Name);
    }
    if wanted.scopes.is_empty() {
        return Some(CreateRefusal::NoScope);
    }
    if wanted.expires_at <= now {
        return Some(CreateRefusal::ExpiryPast);
    }
    if wanted.expires_at - now > policy.api_tokens.longest {
        return Some(CreateRefusal::ExpiryTooFar);
    }
    (wanted.allowed_ips.len() > MAX_ALLOWED_IPS).then_some(CreateRefusal::AllowedIps)
}

/// What this owner may not grant.
fn authority_refusal<S>(
    store: &mut S,
    policy: &AccountPolicy,
    now: DateTime<Utc>,
    owner: &User,
    scopes: Scopes,
) -> Result<Option<CreateRefusal>, StoreError>
where
    S: ApiTokenStore + TwoFactorStore + ?Sized,
{
    if scopes.has(Scope::Admin) && owner.role != Role::Admin {
        return Ok(Some(CreateRefusal::AdminScope));
    }
    if scopes.has(Scope::TradeLive) && !two_factor::is_enabled(store, owner.id)? {
        return Ok(Some(CreateRefusal::LiveScope));
    }
    let live = store.live_api_tokens_of(owner.id, None, policy.api_tokens.max_per_user, now)?;
    Ok((live.len() >= policy.api_tokens.max_per_user).then_some(CreateRefusal::TooMany))
}

/// Where a page of [`list`] ended: the last token's time and id.
pub type After = (DateTime<Utc>, Uuid);

/// The user's live tokens, newest first, at most `limit`.
///
/// # Errors
///
/// When the store fails.
pub fn list<S>(
    store: &mut S,
    user: UserId,
    after: Option<After>,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Vec<TokenRecord>, StoreError>
where
    S: ApiTokenStore + ?Sized,
{
    store.live_api_tokens_of(user, after, limit, now)
}

/// Ends a token of the user's. `false` when the user has no such live one: unknown, another's, expired and revoked ones
/// are alike, and leave no trace.
///
/// # Errors
///
/// When the store fails.
pub fn revoke<S>(store: &mut S, act: &Act, user: UserId, token: Uuid) -> Result<bool, StoreError>
where
    S: AccountStore + ApiTokenStore + AuditLog + ?Sized,
{
    store.lock_account_of(user)?;
    if !store.revoke_api_token(user, token, act.at)? {
        return Ok(false);
    }
    let detail = json!({ "token_id": token });
    let entry = act.entry("api_token.revoke", AuditOutcome::Success, Some(user), Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(true)
}

/// A token whose owner is to be told that it ends soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueNotice {
    /// The owner, active.
    pub user: User,
    /// The token.
    pub token: TokenRecord,
}

/// Live tokens of active users that end within the warning time and whose owners were not told, the earliest first.
///
/// # Errors
///
/// When the store fails.
pub fn due_notices<S>(
    store: &mut S,
    policy: &AccountPolicy,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Vec<DueNotice>, StoreError>
where
    S: ApiTokenStore + ?Sized,
{
    store.api_tokens_ending(now, now + policy.api_tokens.warn_before, limit)
}

/// Tells the owner of a due token, once: `false` when that was done before, or the token has ended meanwhile.
///
/// # Errors
///
/// When the store fails.
pub fn give_notice<S>(
    store: &mut S,
    notice: &DueNotice,
    mail_id: Uuid,
    now: DateTime<Utc>,
) -> Result<bool, StoreError>
where
    S: ApiTokenStore + MailOutbox + ?Sized,
{
    let (user, token) = (&notice.user, &notice.token);
    if !store.mark_api_token_warned(user.id, token.id, now)? {
        return Ok(false);
    }
    let mail = Mail::ApiTokenExpires { name: token.name.clone(), expires_at: token.expires_at };
    store.post_mail(mail_id, &user.email, Some(user.id), &mail, now)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
