//! The administration of users: who there is, what they may do, whether they may sign in.
//!
//! `by` is the administrator who acts; `None` is an operator at the command line. Nobody sets or sees a password here.

use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::audit::{AuditLog, AuditOutcome};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::passwords::PasswordHash;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api_tokens::admits;
use crate::ports::{AccountStore, AuthStore, SessionStore, ThrottleStore, UserAdminStore};
use crate::sessions::close_all_doors;
use crate::throttle::Verdict;
use crate::two_factor_reset::{self, NewReset, Requested};
use crate::{AccountPolicy, AccountState, Act, Role, User};

/// A user as administrators see one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The user.
    pub user: User,
    /// When the user was made.
    pub created_at: DateTime<Utc>,
    /// Whether a second factor is on.
    pub two_factor: bool,
    /// Whether the password is out of use after too many failures, until it is reset by mail.
    pub password_disabled: bool,
}

/// Which users to list; each field that is `None` lets everybody pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// A part of the address or the name, in any case.
    pub text: Option<String>,
    /// In this state.
    pub state: Option<AccountState>,
    /// With this role.
    pub role: Option<Role>,
}

/// The entry of an act of administration.
fn entry(
    act: &Act,
    action: &str,
    outcome: AuditOutcome,
    by: Option<UserId>,
    user: Option<UserId>,
    mut detail: Value,
) -> plimsoll_core_domain::audit::AuditEntry {
    if by.is_none()
        && let Value::Object(fields) = &mut detail
    {
        fields.insert("via".to_owned(), "cli".into());
    }
    act.entry(action, outcome, by, user, detail)
}

/// Whether an administrator may come into the area of administrators now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrance {
    /// Come in.
    Open,
    /// Not from this address; it is recorded.
    WrongNetwork,
    /// There were too many requests.
    TooOften {
        /// When to try again.
        retry_after: Duration,
    },
}

/// Counts a request to the area of administrators, which has a tighter limit than the rest, and looks where it comes from.
///
/// # Errors
///
/// When the store fails.
pub fn enter<S>(
    store: &mut S,
    policy: &AccountPolicy,
    act: &Act,
    admin: UserId,
) -> Result<Entrance, StoreError>
where
    S: ThrottleStore + AuditLog + ?Sized,
{
    match store.take("admin", &admin.0.to_be_bytes(), policy.admin.per_user, act.at)? {
        Verdict::Allowed => {}
        Verdict::Blocked { retry_after } => return Ok(Entrance::TooOften { retry_after }),
    }
    if admits(&policy.admin.allowed_ips, act.client.ip()) {
        return Ok(Entrance::Open);
    }
    let detail = json!({ "reason": "network" });
    let entry = act.entry("admin.enter", AuditOutcome::Denied, Some(admin), Some(admin), detail);
    store.append_audit(Some(admin), &entry)?;
    Ok(Entrance::WrongNetwork)
}

/// Lists users, newest first. Whose data was read is recorded.
///
/// # Errors
///
/// When the store fails.
pub fn list<S>(
    store: &mut S,
    act: &Act,
    by: Option<UserId>,
    filter: &Filter,
    before: Option<UserId>,
    limit: usize,
) -> Result<Vec<Listed>, StoreError>
where
    S: UserAdminStore + AuditLog + ?Sized,
{
    let listed = store.list_users(filter, before, limit)?;
    // The text searched for may be somebody's address: that it was one is enough.
    let detail = json!({
        "users": listed.iter().map(|listed| listed.user.id).collect::<Vec<_>>(),
        "searched": filter.text.is_some(),
    });
    store.append_audit(by, &entry(act, "admin.users_list", AuditOutcome::Success, by, None, detail))?;
    Ok(listed)
}

/// One user. That the data was read is recorded in the user's own log.
///
/// # Errors
///
/// When the store fails.
pub fn get<S>(
    store: &mut S,
    act: &Act,
    by: Option<UserId>,
    user: UserId,
) -> Result<Option<Listed>, StoreError>
where
    S: UserAdminStore + AuditLog + ?Sized,
{
    let Some(listed) = store.listed_user(user)? else { return Ok(None) };
    let entry = entry(act, "admin.user_read", AuditOutcome::Success, by, Some(user), json!({}));
    store.append_audit(Some(user), &entry)?;
    Ok(Some(listed))
}

/// What to change of a user; `None` leaves it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// The role.
    pub role: Option<Role>,
    /// The state.
    pub state: Option<AccountState>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The user as it is now; unchanged where it was so before.
    Done(Listed),
    /// Refused: there would be no active administrator left. That it was tried is recorded.
    LastAdmin,
    /// Refused: whoever cannot sign in yet, the address being unconfirmed, does not become an administrator. That it was
    /// tried is recorded.
    Unverified,
    /// There is no such user.
    NotFound,
}

/// Changes role or state. Another role, and being disabled, ends everything that was opened before: sessions, challenges,
/// reset links, API tokens. The last active administrator stays one, whatever else happens at the same time.
///
/// # Errors
///
/// When the store fails.
pub fn change<S>(
    store: &mut S,
    act: &Act,
    by: Option<UserId>,
    user: UserId,
    change: Change,
) -> Result<Changed, StoreError>
where
    S: UserAdminStore + SessionStore + AuditLog + ?Sized,
{
    let admins = store.lock_admins_and(user)?;
    let Some(mut listed) = store.listed_user(user)? else { return Ok(Changed::NotFound) };
    let (old_role, old_state) = (listed.user.role, listed.user.state);
    let (role, state) = (change.role.unwrap_or(old_role), change.state.unwrap_or(old_state));
    if role != old_role && role == Role::Admin && listed.user.email_verified_at.is_none() {
        let detail = json!({ "reason": "unverified", "role": role.as_str() });
        let entry = entry(act, "user.change", AuditOutcome::Denied, by, Some(user), detail);
        store.append_audit(Some(user), &entry)?;
        return Ok(Changed::Unverified);
    }
    let rules = |role, state| role == Role::Admin && state == AccountState::Active;
    if rules(old_role, old_state) && !rules(role, state) && admins.iter().all(|admin| *admin == user) {
        let detail = json!({ "reason": "last_admin", "role": role.as_str(), "state": state.as_str() });
        let entry = entry(act, "user.change", AuditOutcome::Denied, by, Some(user), detail);
        store.append_audit(Some(user), &entry)?;
        return Ok(Changed::LastAdmin);
    }
    if role != old_role {
        store.set_role(user, role, act.at)?;
    }
    if state != old_state {
        store.set_state(user, state, act.at)?;
    }
    let mut ended = 0;
    if role != old_role || (state != old_state && state == AccountState::Disabled) {
        ended = close_all_doors(store, user, None, true, act)?;
    }
    if role != old_role {
        let detail = json!({ "from": old_role.as_str(), "to": role.as_str(), "sessions_ended": ended });
        let entry = entry(act, "user.role_change", AuditOutcome::Success, by, Some(user), detail);
        store.append_audit(Some(user), &entry)?;
    }
    if state != old_state {
        let action = match state {
            AccountState::Active => "user.enable",
            AccountState::Disabled => "user.disable",
        };
        let detail = json!({ "sessions_ended": ended });
        let entry = entry(act, action, AuditOutcome::Success, by, Some(user), detail);
        store.append_audit(Some(user), &entry)?;
    }
    (listed.user.role, listed.user.state) = (role, state);
    Ok(Changed::Done(listed))
}

/// Gives a user another role; see [`change`].
///
/// # Errors
///
/// When the store fails.
pub fn set_role<S>(
    store: &mut S,
    act: &Act,
    by: Option<UserId>,
    user: UserId,
    role: Role,
) -> Result<Changed, StoreError>
where
    S: UserAdminStore + SessionStore + AuditLog + ?Sized,
{
    change(store, act, by, user, Change { role: Some(role), state: None })
}

/// Disables a user, or lets one in again; see [`change`].
///
/// # Errors
///
/// When the store fails.
pub fn set_state<S>(
    store: &mut S,
    act: &Act,
    by: Option<UserId>,
    user: UserId,
    state: AccountState,
) -> Result<Changed, StoreError>
where
    S: UserAdminStore + SessionStore + AuditLog + ?Sized,
{
    change(store, act, by, user, Change { role: None, state: Some(state) })
}

/// Ends every session of a user, with what was about to become one, and returns how many. `None` when there is no such
/// user.
///
/// # Errors
///
/// When the store fails.
pub fn logout<S>(
    store: &mut S,
    act: &Act,
    by: Option<UserId>,
    user: UserId,
) -> Result<Option<u64>, StoreError>
where
    S: AccountStore + UserAdminStore + SessionStore + AuditLog + ?Sized,
{
    store.lock_account_of(user)?;
    if store.listed_user(user)?.is_none() {
        return Ok(None);
    }
    let ended = close_all_doors(store, user, None, false, act)?;
    let detail = json!({ "sessions_ended": ended });
    let entry = entry(act, "user.logout", AuditOutcome::Success, by, Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(Some(ended))
}

/// Users signed out in one transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignedOut {
    /// How many users had a session.
    pub users: usize,
    /// How many sessions ended.
    pub sessions: u64,
    /// Where the next transaction goes on; `None`: nobody is left.
    pub next: Option<UserId>,
}

/// Ends the sessions of at most `limit` users with an id above `after`, with what was about to become one, as [`logout`]
/// does for each: called again and again, of everybody. The session `keep`, that of whoever asks, stays.
///
/// # Errors
///
/// When the store fails.
pub fn logout_everybody<S>(
    store: &mut S,
    act: &Act,
    by: Option<UserId>,
    keep: Option<Uuid>,
    after: Option<UserId>,
    limit: usize,
) -> Result<SignedOut, StoreError>
where
    S: AccountStore + UserAdminStore + SessionStore + AuditLog + ?Sized,
{
    let users = store.signed_in_users(after, limit)?;
    let next = (users.len() == limit).then(|| users.last().copied()).flatten();
    let mut done = SignedOut { next, ..SignedOut::default() };
    for user in &users {
        store.lock_account_of(*user)?;
    }
    // The chains' heads are the last locks, so every session ends before the first entry is written.
    let mut ended = Vec::with_capacity(users.len());
    for user in users {
        let sessions = close_all_doors(store, user, keep, false, act)?;
        if sessions > 0 {
            ended.push((user, sessions));
        }
    }
    for (user, sessions) in ended {
        let detail = json!({ "sessions_ended": sessions, "everybody": true });
        let entry = entry(act, "user.logout", AuditOutcome::Success, by, Some(user), detail);
        store.append_audit(Some(user), &entry)?;
        done.users += 1;
        done.sessions += sessions;
    }
    Ok(done)
}

/// Starts the reset of a lost second factor, which its owner may stop until it is due: see [`two_factor_reset::request`].
///
/// # Errors
///
/// When the store fails.
pub fn request_two_factor_reset<S>(
    store: &mut S,
    policy: &AccountPolicy,
    act: &Act,
    by: Option<UserId>,
    user: UserId,
    new: &NewReset,
    ids: &mut dyn FnMut() -> Uuid,
) -> Result<Requested, StoreError>
where
    S: AuthStore + ?Sized,
{
    store.lock_account_of(user)?;
    if store.listed_user(user)?.is_none() {
        return Ok(Requested::NoSuchUser);
    }
    two_factor_reset::request(store, policy, by, user, new, act, ids)
}

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    /// The user is nobody any more.
    Done,
    /// Refused: only a disabled user is deleted. Disabling is the first of the two steps.
    NotDisabled,
    /// There is no such user.
    NotFound,
}

/// Deletes a disabled user: address and name are overwritten, everything that belongs to signing in is destroyed, orders
/// and audit entries stay under the id, which names nobody any more. `unusable` is the hash of what nobody knows.
///
/// # Errors
///
/// When the store fails.
pub fn erase<S>(
    store: &mut S,
    act: &Act,
    by: Option<UserId>,
    user: UserId,
    unusable: &PasswordHash,
) -> Result<Erased, StoreError>
where
    S: AccountStore + UserAdminStore + SessionStore + AuditLog + ?Sized,
{
    store.lock_account_of(user)?;
    let Some(listed) = store.listed_user(user)? else { return Ok(Erased::NotFound) };
    if listed.user.state != AccountState::Disabled {
        return Ok(Erased::NotDisabled);
    }
    close_all_doors(store, user, None, true, act)?;
    store.erase_user(user, unusable, act.at)?;
    let entry = entry(act, "user.delete", AuditOutcome::Success, by, Some(user), json!({}));
    store.append_audit(Some(user), &entry)?;
    Ok(Erased::Done)
}

#[cfg(test)]
mod tests;
