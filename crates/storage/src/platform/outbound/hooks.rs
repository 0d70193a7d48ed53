//! The hooks themselves.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_auth::Act;
use plimsoll_auth::mail::Mail;
use plimsoll_auth::ports::{AccountStore, MailOutbox, ThrottleStore, VaultStore};
use plimsoll_auth::throttle::{Limit, Verdict};
use plimsoll_auth::vault::{Alert, Audience};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::outbound::EventFilter;
use plimsoll_core_domain::stream::{EventKind, StreamHead, StreamId};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::WebhookSecret;
use serde_json::json;
use uuid::Uuid;

use super::secrets::{OLD_SECRET, SECRET, sealed, unsealed};
use super::{HookState, MAX_HOOKS, OutboundHook, SECRET_OVERLAP};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// How often it is said of one hook that its secret does not open.
const UNREADABLE: Limit = Limit::new(1, TimeDelta::days(1), 1);

#[derive(QueryableByName)]
pub(super) struct HookRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    url: String,
    #[diesel(sql_type = Array<Text>)]
    events: Vec<String>,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Nullable<Text>)]
    state_reason: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    old_secret_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    failing_since: Option<DateTime<Utc>>,
    #[diesel(sql_type = Integer)]
    failures: i32,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
}

macro_rules! hook_columns {
    () => {
        "h.id, h.user_id, h.name, h.url, h.events, h.state, h.state_reason, h.old_secret_until, h.failing_since, \
         h.failures, h.created_at, h.updated_at"
    };
}

impl TryFrom<HookRow> for OutboundHook {
    type Error = StoreError;

    fn try_from(row: HookRow) -> Result<Self, StoreError> {
        let id = row.id;
        let bad = |column: &'static str, why| StoreError::inconsistent("outbound_hooks", column, id, why);
        Ok(Self {
            id,
            user_id: UserId(row.user_id),
            name: row.name,
            url: row.url,
            events: filter(&row.events).map_err(|why| bad("events", why))?,
            state: row.state.parse().map_err(|why| bad("state", why))?,
            state_reason: row.state_reason,
            old_secret_until: row.old_secret_until,
            failing_since: row.failing_since,
            failures: row.failures,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// The filter that is stored as these names.
pub(super) fn filter(names: &[String]) -> Result<EventFilter, &'static str> {
    names.iter().map(|name| name.parse::<EventKind>()).collect::<Result<_, _>>().map(EventFilter::new)
}

#[derive(QueryableByName)]
struct Sealed {
    #[diesel(sql_type = Binary)]
    secret: Vec<u8>,
}

/// A hook about to be made. Its address was found fit.
#[derive(Clone, Debug)]
pub struct NewHook {
    /// Its id.
    pub id: Uuid,
    /// What its owner calls it, 1 to 100 characters.
    pub name: String,
    /// Where messages are posted to.
    pub url: String,
    /// Which events.
    pub events: EventFilter,
    /// Signs its messages.
    pub secret: WebhookSecret,
}

/// What became of a hook that was to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there, and gets what happens from now on.
    Done(OutboundHook),
    /// The user has [`MAX_HOOKS`] already.
    TooMany,
    /// The user's data key does not open.
    Unreadable,
}

/// What is to be changed of a hook.
#[derive(Clone, Debug, Default)]
pub struct HookChange {
    /// The name.
    pub name: Option<String>,
    /// The address, which was found fit.
    pub url: Option<String>,
    /// Which events.
    pub events: Option<EventFilter>,
    /// Active or paused. What happened before a hook became active is not posted.
    pub state: Option<HookState>,
}

/// What became of a secret that was to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// Done.
    Done(OutboundHook),
    /// The user has no such hook.
    NotFound,
    /// The user's data key does not open.
    Unreadable,
}

/// Why a hook is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledFor {
    /// Its receiver answered 410.
    Gone,
    /// Nothing could be delivered for too long.
    Failing,
}

impl DisabledFor {
    /// The stored and transmitted word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

impl Tx<'_> {
    fn head_of(&mut self, user: UserId) -> Result<StreamHead, StoreError> {
        let stream = StreamId::User(user);
        let heads = self.stream_heads(&[stream])?;
        heads.into_iter().next().map(|(_, head)| head).ok_or_else(|| {
            StoreError::inconsistent("stream_head", "stream_id", stream, "the stream's row is missing")
        })
    }

    /// Makes a hook. It gets what happens from now on. Locks the user's row.
    ///
    /// # Errors
    /// The store's own.
    pub fn create_outbound_hook(
        &mut self,
        user: UserId,
        new: &NewHook,
        at: DateTime<Utc>,
    ) -> Result<Created, StoreError> {
        self.lock_account_of(user)?;
        if self.outbound_hooks_of(user)?.len() >= MAX_HOOKS {
            return Ok(Created::TooMany);
        }
        let Ok(ring) = self.ring_of(user, at)? else { return Ok(Created::Unreadable) };
        let secret = sealed(&ring, user, new.id, SECRET, &new.secret);
        let head = self.head_of(user)?;
        let row = prepared(concat!(
            "INSERT INTO outbound_hooks AS h (user_id, id, name, url, events, state, secret, epoch, off, created_at, \
             updated_at) VALUES (?, ?, ?, ?, ?, 'active', ?, ?, ?, ?, ?) RETURNING ",
            hook_columns!()
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(new.id)
        .bind::<Text, _>(new.name.as_str())
        .bind::<Text, _>(new.url.as_str())
        .bind::<Array<Text>, _>(new.events.names())
        .bind::<Binary, _>(secret)
        .bind::<SqlUuid, _>(head.epoch)
        .bind::<BigInt, _>(head.head)
        .bind::<Timestamptz, _>(at)
        .bind::<Timestamptz, _>(at)
        .get_result::<HookRow>(self.conn())
        .store()?;
        row.try_into().map(Created::Done)
    }

    /// The user's hooks, newest first: at most [`MAX_HOOKS`].
    ///
    /// # Errors
    /// The store's own.
    pub fn outbound_hooks_of(&mut self, user: UserId) -> Result<Vec<OutboundHook>, StoreError> {
        prepared(concat!(
            "SELECT ",
            hook_columns!(),
            " FROM outbound_hooks h WHERE h.user_id = ? ORDER BY h.created_at DESC, h.id DESC"
        ))
        .bind::<BigInt, _>(user.0)
        .load::<HookRow>(self.conn())
        .store()?
        .into_iter()
        .map(OutboundHook::try_from)
        .collect()
    }

    /// One of the user's hooks.
    ///
    /// # Errors
    /// The store's own.
    pub fn outbound_hook(&mut self, user: UserId, hook: Uuid) -> Result<Option<OutboundHook>, StoreError> {
        prepared(concat!(
            "SELECT ",
            hook_columns!(),
            " FROM outbound_hooks h WHERE h.user_id = ? AND h.id = ?"
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .get_result::<HookRow>(self.conn())
        .optional()
        .store()?
        .map(OutboundHook::try_from)
        .transpose()
    }

    fn lock_outbound_hook(&mut self, user: UserId, hook: Uuid) -> Result<Option<OutboundHook>, StoreError> {
        prepared(concat!(
            "SELECT ",
            hook_columns!(),
            " FROM outbound_hooks h WHERE h.user_id = ? AND h.id = ? FOR UPDATE"
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .get_result::<HookRow>(self.conn())
        .optional()
        .store()?
        .map(OutboundHook::try_from)
        .transpose()
    }

    /// Changes a hook, and answers how it was and how it is; `None` when the user has no such one. One that becomes active
    /// begins at the end of the stream, with its failures forgotten.
    ///
    /// # Errors
    /// The store's own.
    pub fn change_outbound_hook(
        &mut self,
        user: UserId,
        hook: Uuid,
        change: &HookChange,
        at: DateTime<Utc>,
    ) -> Result<Option<(OutboundHook, OutboundHook)>, StoreError> {
        let Some(before) = self.lock_outbound_hook(user, hook)? else { return Ok(None) };
        let wakes = before.state != HookState::Active && change.state == Some(HookState::Active);
        let head = self.head_of(user)?;
        // A disabled hook that is only renamed stays disabled, with its reason.
        let state = change.state.unwrap_or(before.state);
        let row = prepared(concat!(
            "UPDATE outbound_hooks AS h SET name = coalesce(?, name), url = coalesce(?, url), \
             events = coalesce(?, events), state = ?, \
             state_reason = CASE WHEN ? = 'disabled' THEN state_reason END, \
             epoch = CASE WHEN ? THEN ? ELSE epoch END, off = CASE WHEN ? THEN ? ELSE off END, \
             failing_since = CASE WHEN ? THEN NULL ELSE failing_since END, \
             failures = CASE WHEN ? THEN 0 ELSE failures END, updated_at = ? \
             WHERE h.user_id = ? AND h.id = ? RETURNING ",
            hook_columns!()
        ))
        .bind::<Nullable<Text>, _>(change.name.as_deref())
        .bind::<Nullable<Text>, _>(change.url.as_deref())
        .bind::<Nullable<Array<Text>>, _>(change.events.as_ref().map(EventFilter::names))
        .bind::<Text, _>(state.as_str())
        .bind::<Text, _>(state.as_str())
        .bind::<Bool, _>(wakes)
        .bind::<SqlUuid, _>(head.epoch)
        .bind::<Bool, _>(wakes)
        .bind::<BigInt, _>(head.head)
        .bind::<Bool, _>(wakes)
        .bind::<Bool, _>(wakes)
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .get_result::<HookRow>(self.conn())
        .store()?;
        Ok(Some((before, row.try_into()?)))
    }

    /// Deletes a hook with its deliveries, and returns what it was.
    ///
    /// # Errors
    /// The store's own.
    pub fn delete_outbound_hook(
        &mut self,
        user: UserId,
        hook: Uuid,
    ) -> Result<Option<OutboundHook>, StoreError> {
        prepared(concat!(
            "DELETE FROM outbound_hooks h WHERE h.user_id = ? AND h.id = ? RETURNING ",
            hook_columns!()
        ))
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .get_result::<HookRow>(self.conn())
        .optional()
        .store()?
        .map(OutboundHook::try_from)
        .transpose()
    }

    /// Gives a hook a new secret. The one before signs too for [`SECRET_OVERLAP`]; an older one is gone.
    ///
    /// # Errors
    /// The store's own.
    pub fn rotate_outbound_secret(
        &mut self,
        user: UserId,
        hook: Uuid,
        secret: &WebhookSecret,
        at: DateTime<Utc>,
    ) -> Result<Rotated, StoreError> {
        if self.lock_outbound_hook(user, hook)?.is_none() {
            return Ok(Rotated::NotFound);
        }
        let Ok(ring) = self.ring_of(user, at)? else { return Ok(Rotated::Unreadable) };
        let stored = prepared("SELECT secret FROM outbound_hooks WHERE user_id = ? AND id = ?")
            .bind::<BigInt, _>(user.0)
            .bind::<SqlUuid, _>(hook)
            .get_result::<Sealed>(self.conn())
            .store()?
            .secret;
        // One that does not open is replaced all the same: that is what its owner is told to do.
        let old = unsealed(&ring, user, hook, SECRET, &stored)
            .ok()
            .map(|old| sealed(&ring, user, hook, OLD_SECRET, &old));
        let until = old.as_ref().map(|_| at + SECRET_OVERLAP);
        let row = prepared(concat!(
            "UPDATE outbound_hooks AS h SET secret = ?, old_secret = ?, old_secret_until = ?, updated_at = ? \
             WHERE h.user_id = ? AND h.id = ? RETURNING ",
            hook_columns!()
        ))
        .bind::<Binary, _>(sealed(&ring, user, hook, SECRET, secret))
        .bind::<Nullable<Binary>, _>(old)
        .bind::<Nullable<Timestamptz>, _>(until)
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .get_result::<HookRow>(self.conn())
        .store()?;
        row.try_into().map(Rotated::Done)
    }

    /// Disables an active hook. `None` when there is no such active one. Its owner is not told yet:
    /// [`tell_of_disabled_hook`](Self::tell_of_disabled_hook), once the job is settled.
    ///
    /// # Errors
    /// The store's own.
    pub fn disable_outbound_hook(
        &mut self,
        user: UserId,
        hook: Uuid,
        why: DisabledFor,
        at: DateTime<Utc>,
    ) -> Result<Option<OutboundHook>, StoreError> {
        prepared(concat!(
            "UPDATE outbound_hooks AS h SET state = 'disabled', state_reason = ?, updated_at = ? \
             WHERE h.user_id = ? AND h.id = ? AND h.state = 'active' RETURNING ",
            hook_columns!()
        ))
        .bind::<Text, _>(why.as_str())
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .get_result::<HookRow>(self.conn())
        .optional()
        .store()?
        .map(OutboundHook::try_from)
        .transpose()
    }

    /// Tells the owner by mail that events are posted to a new address: of a new hook, or of one that was `moved`. `mail` is
    /// the mail's id.
    ///
    /// # Errors
    /// The store's own.
    pub fn tell_of_webhook(
        &mut self,
        hook: &OutboundHook,
        host: &str,
        moved: bool,
        mail: Uuid,
        act: &Act,
    ) -> Result<(), StoreError> {
        let text = Mail::WebhookAdded {
            name: hook.name.clone(),
            host: host.to_owned(),
            moved,
            circumstances: act.into(),
        };
        let Some(owner) = self.user_by_id(hook.user_id)? else { return Ok(()) };
        self.post_mail(mail, &owner.email, Some(hook.user_id), &text, act.at)
    }

    /// Tells the owner, by mail and by an event, that a hook was disabled, and records it. `host` is the host of its
    /// address, `mail` the mail's id.
    ///
    /// # Errors
    /// The store's own.
    pub fn tell_of_disabled_hook(
        &mut self,
        hook: &OutboundHook,
        why: DisabledFor,
        host: &str,
        mail: Uuid,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let user = hook.user_id;
        if let Some(owner) = self.user_by_id(user)? {
            let text = Mail::WebhookDisabled {
                name: hook.name.clone(),
                host: host.to_owned(),
                gone: why == DisabledFor::Gone,
                at,
            };
            self.post_mail(mail, &owner.email, Some(user), &text, at)?;
        }
        let message = match why {
            DisabledFor::Gone => format!(
                "The webhook {} was disabled: its receiver answered that it wants nothing any more.",
                hook.name
            ),
            DisabledFor::Failing => {
                format!("The webhook {} was disabled: nothing could be delivered for a long time.", hook.name)
            }
        };
        self.alert(Audience::User(user), &Alert { message, severity: "warning" }, at)?;
        let detail = json!({ "hook_id": hook.id, "name": hook.name, "host": host, "reason": why.as_str() });
        let act = Act::without_request(at);
        let entry = act.entry("webhook.disable", AuditOutcome::Failure, None, Some(user), detail);
        self.append_audit(Some(user), &entry)
    }

    /// Records that a secret of a hook does not open, and tells the administrators, once a day. `true` when it did: then its
    /// owner is to be told, in a transaction of its own, since heads of streams are locked in their order.
    ///
    /// # Errors
    /// The store's own.
    pub fn outbound_secret_unreadable(
        &mut self,
        user: UserId,
        hook: Uuid,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        if self.take("webhook.unreadable", hook.as_bytes(), UNREADABLE, at)? != Verdict::Allowed {
            return Ok(false);
        }
        let message = format!(
            "The sealed secret of the webhook {hook} of user {user} does not open, and nothing is posted to it. See the \
             audit log."
        );
        self.alert(Audience::Administrators, &Alert { message, severity: "critical" }, at)?;
        let detail = json!({ "table": "outbound_hooks", "hook_id": hook });
        let act = Act::without_request(at);
        let entry = act.entry("secret.unreadable", AuditOutcome::Failure, None, Some(user), detail);
        self.append_audit(Some(user), &entry)?;
        Ok(true)
    }
}
