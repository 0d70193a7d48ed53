//! From the stream to deliveries with their jobs.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::outbound::{Gap, SNAPSHOT_REQUIRED, delivery_id, event_body, gap_body, gap_id};
use plimsoll_core_domain::stream::StreamId;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_reliability::jobs::job_topic;
use plimsoll_reliability::retry::Policy;
use uuid::Uuid;

use super::hooks::filter;
use super::{SEND_WEBHOOK, WEBHOOK_QUEUE};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Events of one hook that are dispatched in one transaction.
pub const EVENTS_AT_ONCE: usize = 256;
/// Messages of one hook that may wait to be posted. What happens beyond them waits in the stream.
pub const PENDING_OF_HOOK: usize = 500;
/// Messages of all hooks of one user that may wait to be posted.
pub const PENDING_OF_USER: usize = 4_000;
/// Finished messages that a hook's log keeps, the newest.
pub const LOG_OF_HOOK: usize = 5_000;
/// After so many events of the stream the log is cut to its length again.
const CUT_EVERY: i64 = 1_000;

#[derive(QueryableByName)]
struct Behind {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Array<Text>)]
    events: Vec<String>,
    #[diesel(sql_type = SqlUuid)]
    epoch: Uuid,
    #[diesel(sql_type = BigInt)]
    off: i64,
    #[diesel(sql_type = SqlUuid)]
    now_epoch: Uuid,
    #[diesel(sql_type = BigInt)]
    head: i64,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// What was dispatched of one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// Whose hook; with [`hook`](Self::hook) where the next look begins.
    pub user: UserId,
    /// Which one.
    pub hook: Uuid,
    /// Messages that were made.
    pub messages: usize,
    /// Whether the stream goes on beyond what was looked at, and there is room for more.
    pub more: bool,
    /// Whether it is time to cut the hook's log: [`cut_delivery_log`](Tx::cut_delivery_log).
    pub cut: bool,
}

/// One delivery about to be written.
struct Made {
    id: Uuid,
    event: &'static str,
    offset: i64,
    body: String,
}

/// The first active hook behind (user, hook) that lags behind its user's stream.
macro_rules! lagging {
    () => {
        "FROM outbound_hooks h JOIN stream_head s ON s.stream_id = h.user_id \
         JOIN users u ON u.id = h.user_id AND u.state = 'active' \
         WHERE h.state = 'active' AND (h.user_id, h.id) > (?, ?) AND (s.head > h.off OR s.epoch <> h.epoch) \
         ORDER BY h.user_id, h.id LIMIT 1"
    };
}

impl Tx<'_> {
    /// Whether there is any hook that wants anything.
    ///
    /// # Errors
    /// The store's own.
    pub fn any_active_outbound_hook(&mut self) -> Result<bool, StoreError> {
        #[derive(QueryableByName)]
        struct Any {
            #[diesel(sql_type = Bool)]
            any: bool,
        }
        let row = prepared("SELECT EXISTS (SELECT 1 FROM outbound_hooks WHERE state = 'active') AS any")
            .get_result::<Any>(self.conn())
            .store()?;
        Ok(row.any)
    }

    /// The first hook behind (user, hook) that lags behind its user's stream.
    ///
    /// # Errors
    /// The store's own.
    pub fn lagging_outbound_hook(
        &mut self,
        behind: (UserId, Uuid),
    ) -> Result<Option<(UserId, Uuid)>, StoreError> {
        #[derive(QueryableByName)]
        struct Hook {
            #[diesel(sql_type = BigInt)]
            user_id: i64,
            #[diesel(sql_type = SqlUuid)]
            id: Uuid,
        }
        let hook = prepared(concat!("SELECT h.user_id, h.id ", lagging!()))
            .bind::<BigInt, _>(behind.0.0)
            .bind::<SqlUuid, _>(behind.1)
            .get_result::<Hook>(self.conn())
            .optional()
            .store()?;
        Ok(hook.map(|hook| (UserId(hook.user_id), hook.id)))
    }

    /// Dispatches what has happened for the first hook behind (user, hook) that lags behind its user's stream and that
    /// nobody else is at: deliveries and jobs are written, and the hook's place moves, together. `None` when there is no
    /// such hook. What is missing from the stream is told by a message of its own. While [`PENDING_OF_HOOK`] messages of the
    /// hook or [`PENDING_OF_USER`] of its owner wait, its place stays.
    ///
    /// # Errors
    /// The store's own.
    pub fn dispatch_outbound(
        &mut self,
        behind: (UserId, Uuid),
        policy: &Policy,
        at: DateTime<Utc>,
    ) -> Result<Option<Dispatched>, StoreError> {
        let Some(hook) = prepared(concat!(
            "SELECT h.user_id, h.id, h.events, h.epoch, h.off, s.epoch AS now_epoch, s.head ",
            lagging!(),
            " FOR UPDATE OF h SKIP LOCKED"
        ))
        .bind::<BigInt, _>(behind.0.0)
        .bind::<SqlUuid, _>(behind.1)
        .get_result::<Behind>(self.conn())
        .optional()
        .store()?
        else {
            return Ok(None);
        };
        let (user, stream) = (UserId(hook.user_id), StreamId::User(UserId(hook.user_id)));
        let epoch = hook.now_epoch;
        let room = self.room_for_deliveries(user, hook.id)?;
        if room == 0 {
            return Ok(Some(Dispatched { user, hook: hook.id, messages: 0, more: false, cut: false }));
        }
        let mut made = Vec::new();
        let mut gap = |upto: i64, gap: Gap| {
            made.push(Made {
                id: gap_id(hook.id, epoch, upto),
                event: SNAPSHOT_REQUIRED,
                offset: upto,
                body: gap_body(stream, epoch, upto, gap, at),
            });
        };
        let upto = if hook.epoch == epoch {
            let wanted = filter(&hook.events)
                .map_err(|why| StoreError::inconsistent("outbound_hooks", "events", hook.id, why))?;
            let events = self.stream_events(stream, hook.off, EVENTS_AT_ONCE.min(room))?;
            let first = events.first().map_or(hook.head + 1, |event| event.offset);
            if first > hook.off + 1 {
                gap(first - 1, Gap::TooOld { from: hook.off + 1, to: first - 1 });
            }
            made.extend(events.iter().filter(|event| wanted.takes(event.kind)).map(|event| Made {
                id: delivery_id(hook.id, epoch, event.offset),
                event: event.kind.as_str(),
                offset: event.offset,
                body: event_body(event),
            }));
            events.last().map_or(hook.head, |event| event.offset)
        } else {
            gap(hook.head, Gap::EpochChanged);
            hook.head
        };
        let messages = self.insert_deliveries(user, hook.id, epoch, &made, policy, at)?;
        prepared("UPDATE outbound_hooks SET epoch = ?, off = ? WHERE user_id = ? AND id = ?")
            .bind::<SqlUuid, _>(epoch)
            .bind::<BigInt, _>(upto)
            .bind::<BigInt, _>(user.0)
            .bind::<SqlUuid, _>(hook.id)
            .execute(self.conn())
            .store()?;
        let cut = hook.epoch != epoch || upto / CUT_EVERY != hook.off / CUT_EVERY;
        Ok(Some(Dispatched { user, hook: hook.id, messages, more: upto < hook.head, cut }))
    }

    /// How many more messages of a hook may wait.
    fn room_for_deliveries(&mut self, user: UserId, hook: Uuid) -> Result<usize, StoreError> {
        #[derive(QueryableByName)]
        struct Waiting {
            #[diesel(sql_type = BigInt)]
            of_hook: i64,
            #[diesel(sql_type = BigInt)]
            of_user: i64,
        }
        let most = |most: usize| i64::try_from(most).unwrap_or(i64::MAX);
        let waiting = prepared(
            "SELECT (SELECT count(*) FROM (SELECT FROM outbound_deliveries \
               WHERE user_id = ? AND hook_id = ? AND state = 'pending' LIMIT ?) h) AS of_hook, \
             (SELECT count(*) FROM (SELECT FROM outbound_deliveries \
               WHERE user_id = ? AND state = 'pending' LIMIT ?) u) AS of_user",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .bind::<BigInt, _>(most(PENDING_OF_HOOK))
        .bind::<BigInt, _>(user.0)
        .bind::<BigInt, _>(most(PENDING_OF_USER))
        .get_result::<Waiting>(self.conn())
        .store()?;
        let left = (most(PENDING_OF_HOOK) - waiting.of_hook).min(most(PENDING_OF_USER) - waiting.of_user);
        Ok(usize::try_from(left).unwrap_or(0))
    }

    /// Deletes the oldest finished deliveries of a hook beyond the newest `keep` deliveries, at most `limit`. Answers how
    /// many went.
    ///
    /// # Errors
    /// The store's own.
    pub fn cut_delivery_log(
        &mut self,
        user: UserId,
        hook: Uuid,
        keep: usize,
        limit: usize,
    ) -> Result<usize, StoreError> {
        prepared(
            "DELETE FROM outbound_deliveries WHERE ctid = ANY(ARRAY(SELECT d.ctid FROM outbound_deliveries d, \
               (SELECT created_at, id FROM outbound_deliveries WHERE user_id = ? AND hook_id = ? \
                 ORDER BY created_at DESC, id DESC OFFSET ? LIMIT 1) AS oldest \
               WHERE d.user_id = ? AND d.hook_id = ? AND (d.created_at, d.id) <= (oldest.created_at, oldest.id) \
                 AND d.state <> 'pending' ORDER BY d.created_at, d.id LIMIT ? FOR UPDATE OF d SKIP LOCKED))",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .bind::<BigInt, _>(i64::try_from(keep).unwrap_or(i64::MAX))
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .execute(self.conn())
        .store()
    }

    fn insert_deliveries(
        &mut self,
        user: UserId,
        hook: Uuid,
        epoch: Uuid,
        made: &[Made],
        policy: &Policy,
        at: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        if made.is_empty() {
            return Ok(0);
        }
        let inserted = prepared(
            "INSERT INTO outbound_deliveries (user_id, id, hook_id, event, epoch, off, body, state, created_at) \
             SELECT ?, d.id, ?, d.event, ?, d.off, d.body, 'pending', ? \
             FROM unnest(?, ?, ?, ?) AS d (id, event, off, body) ON CONFLICT (user_id, id) DO NOTHING RETURNING id",
        )
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(hook)
        .bind::<Nullable<SqlUuid>, _>(Some(epoch))
        .bind::<Timestamptz, _>(at)
        .bind::<Array<SqlUuid>, _>(made.iter().map(|made| made.id).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(made.iter().map(|made| made.event).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(made.iter().map(|made| made.offset).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(made.iter().map(|made| made.body.as_str()).collect::<Vec<_>>())
        .load::<Id>(self.conn())
        .store()?;
        if inserted.is_empty() {
            return Ok(0);
        }
        let ids: Vec<Uuid> =
            made.iter().map(|made| made.id).filter(|id| inserted.iter().any(|row| row.id == *id)).collect();
        prepared(
            "INSERT INTO jobs (queue, kind, max_attempts, dedup_key, payload) \
             SELECT ?, ?, ?, d.id::text, jsonb_build_object('user', ?::bigint, 'delivery', d.id) \
             FROM unnest(?) WITH ORDINALITY AS d (id, place) ORDER BY d.place \
             ON CONFLICT (kind, dedup_key) WHERE state IN ('ready', 'leased', 'held') DO NOTHING",
        )
        .bind::<Text, _>(WEBHOOK_QUEUE)
        .bind::<Text, _>(SEND_WEBHOOK)
        .bind::<Integer, _>(i32::try_from(policy.attempts.max(1)).unwrap_or(i32::MAX))
        .bind::<BigInt, _>(user.0)
        .bind::<Array<SqlUuid>, _>(ids)
        .execute(self.conn())
        .store()?;
        self.wake(job_topic(WEBHOOK_QUEUE));
        Ok(inserted.len())
    }
}
