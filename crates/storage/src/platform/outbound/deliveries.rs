//! Deliveries: what is due, and what became of it.

use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::{KeyRing, WebhookSecret};
use serde_json::Value;
use uuid::Uuid;

use super::HookState;
use super::secrets::{OLD_SECRET, SECRET, Unreadable, unsealed};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be sent, or to be sent again.
    Pending,
    /// The receiver has it.
    Delivered,
    /// Given up.
    Failed,
    /// The hook was paused or disabled before it could be sent.
    Canceled,
}

impl DeliveryState {
    /// The stored and transmitted name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

impl FromStr for DeliveryState {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Pending, Self::Delivered, Self::Failed, Self::Canceled]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or("a delivery is pending, delivered, failed or canceled")
    }
}

/// A delivery as its owner sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its id.
    pub id: Uuid,
    /// The type of the message.
    pub event: String,
    /// Of the event in the user's stream.
    pub offset: Option<i64>,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: i32,
    /// The last answer's status.
    pub status: Option<i32>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// The beginning of the last answer.
    pub response: Option<String>,
    /// How long the last attempt took, in milliseconds.
    pub duration_ms: Option<i32>,
    /// When it was last tried.
    pub attempted_at: Option<DateTime<Utc>>,
    /// The last ten attempts: `[{"at","status","error","duration_ms"}]`.
    pub log: Value,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was delivered or given up.
    pub finished_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct DeliveryRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    event: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    off: Option<i64>,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<Integer>)]
    status: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    error: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    response: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    duration_ms: Option<i32>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    attempted_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Jsonb)]
    log: Value,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    finished_at: Option<DateTime<Utc>>,
}

impl TryFrom<DeliveryRow> for Delivery {
    type Error = StoreError;

    fn try_from(row: DeliveryRow) -> Result<Self, StoreError> {
        let state = row
            .state
            .parse()
            .map_err(|why| StoreError::inconsistent("outbound_deliveries", "state", row.id, why))?;
        Ok(Self {
            id: row.id,
            event: row.event,
            offset: row.off,
            state,
            attempts: row.attempts,
            status: row.status,
            error: row.error,
            response: row.response,
            duration_ms: row.duration_ms,
            attempted_at: row.attempted_at,
            log: row.log,
            created_at: row.created_at,
            finished_at: row.finished_at,
        })
    }
}

/// What is needed to send a message to a hook.
#[derive(Debug)]
pub struct DueDelivery {
    /// To which hook.
    pub hook: Uuid,
    /// Where to.
    pub url: String,
    /// Whether the hook gets anything at present.
    pub hook_state: HookState,
    /// Where the delivery stands.
    pub state: DeliveryState,
    /// What is posted.
    pub body: String,
    /// Every secret that signs, the newest first; `None`: one does not open.
    pub secrets: Option<Vec<WebhookSecret>>,
}

#[derive(QueryableByName)]
struct DueRow {
    #[diesel(sql_type = SqlUuid)]
    hook_id: Uuid,
    #[diesel(sql_type = Text)]
    url: String,
    #[diesel(sql_type = Text)]
    hook_state: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Text)]
    body: String,
    #[diesel(sql_type = Binary)]
    secret: Vec<u8>,
    #[diesel(sql_type = Nullable<Binary>)]
    old_secret: Option<Vec<u8>>,
}

/// One attempt, as it is noted.
#[derive(Clone, Debug, Default)]
pub struct AttemptNote {
    /// The answer's status.
    pub status: Option<u16>,
    /// Why it failed, as a word.
    pub error: Option<&'static str>,
    /// The beginning of the answer, without secrets.
    pub response: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// How a hook fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Attempts since then.
    pub failures: i32,
}

/// Every secret that signs at a time, the newest first.
fn signing(
    ring: Result<KeyRing, Unreadable>,
    user: UserId,
    hook: Uuid,
    secret: &[u8],
    old: Option<&[u8]>,
) -> Option<Vec<WebhookSecret>> {
    let ring = ring.ok()?;
    let mut secrets = vec![unsealed(&ring, user, hook, SECRET, secret).ok()?];
    // The one before is for receivers that have not changed yet; without it the new one is enough.
    secrets.extend(old.and_then(|old| unsealed(&ring, user, hook, OLD_SECRET, old).ok()));
    Some(secrets)
}

impl Tx<'_> {
    /// A delivery with all that sending it needs, without a lock; `None` when it is gone.
    ///
    /// # Errors
    /// The store's own.
    pub fn due_delivery(
        &mut self,
        user: UserId,
        delivery: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Option<DueDelivery>, StoreError> {
        let row = prepared(
            // Of a user who is disabled nothing is posted either.
            "SELECT d.hook_id, h.url, CASE WHEN u.state = 'active' THEN h.state ELSE 'paused' END AS hook_state, d.state, \
             d.body, h.secret, CASE WHEN h.old_secret_until > ? THEN h.old_secret END AS old_secret \
             FROM outbound_deliveries d JOIN outbound_hooks h ON h.user_id = d.user_id AND h.id = d.hook_id \
             JOIN users u ON u.id = d.user_id WHERE d.user_id = ? AND d.id = ?",
        )
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(delivery)
        .get_result::<DueRow>(self.conn())
        .optional()
        .store()?;
        let Some(row) = row else { return Ok(None) };
        let bad = |column: &'static str, why| {
            StoreError::inconsistent("outbound_deliveries", column, delivery, why)
        };
        let ring = self.present_ring_of(user)?;
        Ok(Some(DueDelivery {
            hook: row.hook_id,
            url: row.url,
            hook_state: row.hook_state.parse().map_err(|why| bad("hook_id", why))?,
            state: row.state.parse().map_err(|why| bad("state", why))?,
            body: row.body,
            secrets: signing(ring, user, row.hook_id, &row.secret, row.old_secret.as_deref()),
        }))
    }

    /// The secrets that sign for a hook, the newest first, for a message outside the queue. The inner `None`: one does
    /// not open.
    ///
    /// # Errors
    /// The store's own.
    pub fn outbound_secrets(
        &mut self,
        user: UserId,
        hook: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Option<Option<Vec<WebhookSecret>>>, StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Binary)]
            secret: Vec<u8>,
            #[diesel(sql_type = Nullable<Binary>)]
            old_secret: Option<Vec<u8>>,
        }
        let row = prepared(
            "SELECT secret, CASE WHEN old_secret_until > ? THEN old_secret END AS old_secret FROM outbound_hooks \
             WHERE user_id = ? AND id = ?",
        )
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .get_result::<Row>(self.conn())
        .optional()
        .store()?;
        let Some(row) = row else { return Ok(None) };
        let ring = self.present_ring_of(user)?;
        Ok(Some(signing(ring, user, hook, &row.secret, row.old_secret.as_deref())))
    }

    /// Keeps a message outside the queue, before its one attempt is noted. `false` when the hook is gone.
    ///
    /// # Errors
    /// The store's own.
    pub fn insert_test_delivery(
        &mut self,
        user: UserId,
        hook: Uuid,
        delivery: Uuid,
        event: &str,
        body: &str,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let inserted = prepared(
            "INSERT INTO outbound_deliveries (user_id, id, hook_id, event, body, state, created_at) \
             SELECT h.user_id, ?, h.id, ?, ?, 'pending', ? FROM outbound_hooks h \
             WHERE h.user_id = ? AND h.id = ? FOR KEY SHARE",
        )
        .bind::<SqlUuid, _>(delivery)
        .bind::<Text, _>(event)
        .bind::<Text, _>(body)
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .execute(self.conn())
        .store()?;
        Ok(inserted == 1)
    }

    /// Notes an attempt, after which the delivery stands where `state` says.
    ///
    /// # Errors
    /// The store's own.
    pub fn note_delivery_attempt(
        &mut self,
        user: UserId,
        delivery: Uuid,
        note: &AttemptNote,
        state: DeliveryState,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let (status, duration) =
            (note.status.map(i32::from), i32::try_from(note.duration_ms).unwrap_or(i32::MAX));
        prepared(
            "UPDATE outbound_deliveries SET state = n.state, attempts = attempts + 1, status = n.status, \
             error = n.error, response = ?, duration_ms = n.duration_ms, attempted_at = n.at, \
             finished_at = CASE WHEN n.state <> 'pending' THEN n.at END, \
             log = CASE WHEN jsonb_array_length(log) >= 10 THEN log - 0 ELSE log END || jsonb_build_object(\
               'at', to_char(n.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), 'status', n.status, \
               'error', n.error, 'duration_ms', n.duration_ms) \
             FROM (SELECT ?::text AS state, ?::integer AS status, ?::text AS error, ?::integer AS duration_ms, \
               ?::timestamptz AS at) AS n \
             WHERE user_id = ? AND id = ?",
        )
        .bind::<Nullable<Text>, _>(note.response.as_deref())
        .bind::<Text, _>(state.as_str())
        .bind::<Nullable<Integer>, _>(status)
        .bind::<Nullable<Text>, _>(note.error)
        .bind::<Integer, _>(duration)
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(delivery)
        .execute(self.conn())
        .store()
        .map(drop)
    }

    /// Notes that a delivery will not be sent, without an attempt.
    ///
    /// # Errors
    /// The store's own.
    pub fn end_delivery(
        &mut self,
        user: UserId,
        delivery: Uuid,
        state: DeliveryState,
        why: &str,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        prepared(
            "UPDATE outbound_deliveries SET state = ?, error = ?, finished_at = ? WHERE user_id = ? AND id = ?",
        )
        .bind::<Text, _>(state.as_str())
        .bind::<Text, _>(why)
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(delivery)
        .execute(self.conn())
        .store()
        .map(drop)
    }

    /// Notes that an attempt at a hook failed; `None` when the hook is gone. Locks the hook.
    ///
    /// # Errors
    /// The store's own.
    pub fn outbound_hook_failed(
        &mut self,
        user: UserId,
        hook: Uuid,
        at: DateTime<Utc>,
    ) -> Result<Option<Failing>, StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Timestamptz)]
            failing_since: DateTime<Utc>,
            #[diesel(sql_type = Integer)]
            failures: i32,
        }
        let row = prepared(
            "UPDATE outbound_hooks SET failing_since = coalesce(failing_since, ?), \
             failures = least(failures, 1000000) + 1 WHERE user_id = ? AND id = ? RETURNING failing_since, failures",
        )
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .get_result::<Row>(self.conn())
        .optional()
        .store()?;
        Ok(row.map(|row| Failing { since: row.failing_since, failures: row.failures }))
    }

    /// Forgets a hook's failures: something was delivered. Writes nothing to one that had none.
    ///
    /// # Errors
    /// The store's own.
    pub fn outbound_hook_recovered(&mut self, user: UserId, hook: Uuid) -> Result<(), StoreError> {
        prepared(
            "UPDATE outbound_hooks SET failing_since = NULL, failures = 0 \
             WHERE user_id = ? AND id = ? AND failing_since IS NOT NULL",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .execute(self.conn())
        .store()
        .map(drop)
    }

    /// The deliveries of a hook, newest first, at most `limit`, in one state or in every one.
    ///
    /// # Errors
    /// The store's own.
    pub fn deliveries_of_hook(
        &mut self,
        user: UserId,
        hook: Uuid,
        state: Option<DeliveryState>,
        after: Option<(DateTime<Utc>, Uuid)>,
        limit: i64,
    ) -> Result<Vec<Delivery>, StoreError> {
        let (before, id) = after.unzip();
        prepared(
            "SELECT id, event, off, state, attempts, status, error, response, duration_ms, attempted_at, log, \
             created_at, finished_at FROM outbound_deliveries WHERE user_id = ? AND hook_id = ? \
             AND state = coalesce(?, state) AND (? OR (created_at, id) < (?, ?)) \
             ORDER BY created_at DESC, id DESC LIMIT ?",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .bind::<Nullable<Text>, _>(state.map(DeliveryState::as_str))
        .bind::<Bool, _>(before.is_none())
        .bind::<Nullable<Timestamptz>, _>(before)
        .bind::<Nullable<SqlUuid>, _>(id)
        .bind::<BigInt, _>(limit)
        .load::<DeliveryRow>(self.conn())
        .store()?
        .into_iter()
        .map(Delivery::try_from)
        .collect()
    }

    /// Deletes finished deliveries, at most `limit` of each kind: delivered and canceled ones of at least age
    /// `keep_delivered`, given up ones of at least age `keep_failed`.
    ///
    /// # Errors
    /// The store's own.
    pub fn prune_deliveries(
        &mut self,
        keep_delivered: TimeDelta,
        keep_failed: TimeDelta,
        limit: i64,
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        prepared(
            "WITH good AS (SELECT user_id, id FROM outbound_deliveries WHERE finished_at <= ? \
               AND state IN ('delivered', 'canceled') ORDER BY finished_at LIMIT ? FOR UPDATE SKIP LOCKED), \
             bad AS (SELECT user_id, id FROM outbound_deliveries WHERE finished_at <= ? \
               AND state = 'failed' ORDER BY finished_at LIMIT ? FOR UPDATE SKIP LOCKED) \
             DELETE FROM outbound_deliveries d USING (SELECT * FROM good UNION ALL SELECT * FROM bad) AS old \
             WHERE d.user_id = old.user_id AND d.id = old.id",
        )
        .bind::<Timestamptz, _>(now - keep_delivered)
        .bind::<BigInt, _>(limit)
        .bind::<Timestamptz, _>(now - keep_failed)
        .bind::<BigInt, _>(limit)
        .execute(self.conn())
        .store()
    }
}
