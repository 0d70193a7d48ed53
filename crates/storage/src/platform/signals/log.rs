//! The decision log: one row per delivery to a hook.

use chrono::{DateTime, Utc};
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, Nullable, Numeric, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::signals::{Reason, Refusal};
use plimsoll_core_domain::{OrderId, StoreError, StoreErrorKind, Symbol, UserId};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::{Prepared, prepared};
use crate::platform::orders::Opened;

/// Places for deliveries to hooks that are not there.
const STRAY_SLOTS: u16 = 1024;

/// What was made of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalVerdict {
    /// It is followed, or there was nothing to do.
    Accepted,
    /// It came before.
    Duplicate,
    /// It is not followed.
    Refused,
}

impl SignalVerdict {
    /// The word in answers and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
        }
    }
}

impl std::str::FromStr for SignalVerdict {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Accepted, Self::Duplicate, Self::Refused]
            .into_iter()
            .find(|verdict| verdict.as_str() == text)
            .ok_or("not a verdict")
    }
}

/// What arrived, by its outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The row's id, should there be one: a UUIDv7.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// Bytes of the body, as far as it was read or announced.
    pub size: i64,
    /// Of the body, as far as it was read.
    pub sha256: [u8; 32],
    /// From where.
    pub ip: Option<String>,
}

/// A key by which a signal is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalKey {
    /// A hash.
    pub key: [u8; 32],
    /// Until when; `None`: for ever.
    pub until: Option<DateTime<Utc>>,
}

/// A signal of the sender that its hook is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSignal {
    /// Whose hook.
    pub user: UserId,
    /// The hook.
    pub hook: Uuid,
    /// Its outside.
    pub delivery: Delivery,
    /// The JSON text without secrets.
    pub body: String,
    /// The symbol, or what stands where one should.
    pub symbol: Option<String>,
    /// The action's word.
    pub action: Option<&'static str>,
    /// When the sender sent it.
    pub sent_at: Option<DateTime<Utc>>,
    /// The position after it, as stated.
    pub stated_target: Option<Decimal>,
    /// The position before it, as stated.
    pub stated_previous: Option<Decimal>,
    /// Why it is not followed; `None`: it is to be decided.
    pub refusal: Option<Refusal>,
}

/// What became of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is the first one.
    Fresh,
    /// It came before.
    Duplicate {
        /// As this one.
        first: Uuid,
        /// The first one's order.
        order: Option<OrderId>,
        /// Why the first one was not followed.
        refused: Option<Reason>,
    },
}

/// How a decision ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Why it is not followed, or not further.
    pub refusal: Option<Refusal>,
    /// What to say of one that is followed.
    pub note: Option<Reason>,
    /// Something is still to come.
    pub pending: bool,
    /// The position that it leads to.
    pub target: Option<Decimal>,
    /// Its order.
    pub order: Option<OrderId>,
    /// The second order of a reversal.
    pub next_order: Option<OrderId>,
}

#[derive(QueryableByName)]
struct First {
    #[diesel(sql_type = SqlUuid)]
    first: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    order_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    refused: Option<String>,
}

impl From<First> for Begun {
    fn from(row: First) -> Self {
        let refused = row.refused.and_then(|reason| reason.parse().ok());
        Self::Duplicate { first: row.first, order: row.order_id.map(OrderId), refused }
    }
}

/// Claims a signal's keys and keeps its row; `c` says how many of the keys nobody had.
macro_rules! kept_signal {
    () => {
        "WITH k AS (INSERT INTO signal_keys (user_id, hook_id, key, signal_id, expires_at) \
           SELECT ?, ?, t.key, ?, t.until FROM unnest(?, ?) AS t (key, until) \
           ON CONFLICT (user_id, hook_id, key) DO UPDATE SET signal_id = excluded.signal_id, \
             expires_at = excluded.expires_at WHERE signal_keys.expires_at <= ? RETURNING 1), \
         c AS MATERIALIZED (SELECT count(*) AS claimed FROM k), \
         s AS (INSERT INTO signals (user_id, id, hook_id, received_at, verdict, reason, detail, pending, genuine, \
           size_bytes, sha256, body, ip, symbol, action, sent_at, stated_target, stated_previous, decided_at) \
           SELECT ?, ?, ?, ?, CASE WHEN c.claimed < ? THEN 'duplicate' ELSE ? END, \
             CASE WHEN c.claimed < ? THEN 'duplicate' ELSE ? END, CASE WHEN c.claimed < ? THEN NULL ELSE ? END, \
             c.claimed >= ? AND NOT ?, true, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
             CASE WHEN c.claimed >= ? AND NOT ? THEN NULL ELSE ?::timestamptz END FROM c)"
    };
}
pub(crate) use kept_signal;

fn count(keys: &[SignalKey]) -> i64 {
    i64::try_from(keys.len()).unwrap_or(i64::MAX)
}

/// Binds what [`kept_signal`] asks for.
pub(crate) fn bind_kept<'a>(
    statement: Prepared<'a>,
    signal: &'a NewSignal,
    keys: &[SignalKey],
) -> Prepared<'a> {
    // In one order, so that two signals with the same keys never wait for each other.
    let mut keys = keys.to_vec();
    keys.sort_unstable_by_key(|key| key.key);
    let (delivery, all, refused) = (&signal.delivery, count(&keys), signal.refusal.is_some());
    statement
        .bind::<BigInt, _>(signal.user.0)
        .bind::<SqlUuid, _>(signal.hook)
        .bind::<SqlUuid, _>(delivery.id)
        .bind::<Array<Binary>, _>(keys.iter().map(|key| key.key.to_vec()).collect::<Vec<_>>())
        .bind::<Array<Nullable<Timestamptz>>, _>(keys.iter().map(|key| key.until).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(delivery.at)
        .bind::<BigInt, _>(signal.user.0)
        .bind::<SqlUuid, _>(delivery.id)
        .bind::<SqlUuid, _>(signal.hook)
        .bind::<Timestamptz, _>(delivery.at)
        .bind::<BigInt, _>(all)
        .bind::<Text, _>(if refused { SignalVerdict::Refused } else { SignalVerdict::Accepted }.as_str())
        .bind::<BigInt, _>(all)
        .bind::<Nullable<Text>, _>(signal.refusal.as_ref().map(|refusal| refusal.reason.as_str()))
        .bind::<BigInt, _>(all)
        .bind::<Nullable<Text>, _>(signal.refusal.as_ref().map(|refusal| refusal.detail.as_str()))
        .bind::<BigInt, _>(all)
        .bind::<Bool, _>(refused)
        .bind::<BigInt, _>(delivery.size)
        .bind::<Binary, _>(delivery.sha256.as_slice())
        .bind::<Text, _>(signal.body.as_str())
        .bind::<Nullable<Text>, _>(delivery.ip.as_deref())
        .bind::<Nullable<Text>, _>(signal.symbol.as_deref())
        .bind::<Nullable<Text>, _>(signal.action)
        .bind::<Nullable<Timestamptz>, _>(signal.sent_at)
        .bind::<Nullable<Numeric>, _>(signal.stated_target)
        .bind::<Nullable<Numeric>, _>(signal.stated_previous)
        .bind::<BigInt, _>(all)
        .bind::<Bool, _>(refused)
        .bind::<Timestamptz, _>(delivery.at)
}

impl Tx<'_> {
    /// Notes a delivery that could not be read or was not from the sender: with the hook's signals where there is such a
    /// hook, else among the strays. One statement, and a write either way.
    ///
    /// # Errors
    /// The store's own.
    pub fn note_refused(
        &mut self,
        hook: Option<Uuid>,
        delivery: &Delivery,
        reason: Reason,
    ) -> Result<(), StoreError> {
        let [.., high, low] = *delivery.id.as_bytes();
        // spread by chance, so that two strays seldom meet on one row, however alike they are
        let slot = i16::try_from(u16::from_be_bytes([high, low]) % STRAY_SLOTS).unwrap_or(0);
        prepared(
            "WITH d AS (SELECT ?::uuid AS hook_id, ?::uuid AS id, ?::timestamptz AS at, ?::text AS reason, \
               ?::bigint AS size, ?::bytea AS sha256, ?::text AS ip, ?::smallint AS slot), \
             h AS (SELECT user_id, h.id FROM inbound_hooks h JOIN d ON h.id = d.hook_id WHERE deleted_at IS NULL), \
             s AS (INSERT INTO signals (user_id, id, hook_id, received_at, verdict, reason, genuine, size_bytes, sha256, \
               ip, decided_at) \
               SELECT h.user_id, d.id, h.id, d.at, 'refused', d.reason, false, d.size, d.sha256, d.ip, d.at FROM h, d) \
             INSERT INTO stray_signals (slot, received_at, hook_id, reason, size_bytes, sha256, ip) \
               SELECT slot, at, hook_id, reason, size, sha256, ip FROM d WHERE NOT EXISTS (SELECT FROM h) \
             ON CONFLICT (slot) DO UPDATE SET received_at = excluded.received_at, hook_id = excluded.hook_id, \
               reason = excluded.reason, size_bytes = excluded.size_bytes, sha256 = excluded.sha256, ip = excluded.ip",
        )
        .bind::<Nullable<SqlUuid>, _>(hook)
        .bind::<SqlUuid, _>(delivery.id)
        .bind::<Timestamptz, _>(delivery.at)
        .bind::<Text, _>(reason.as_str())
        .bind::<BigInt, _>(delivery.size)
        .bind::<Binary, _>(delivery.sha256.as_slice())
        .bind::<Nullable<Text>, _>(delivery.ip.as_deref())
        .bind::<SmallInt, _>(slot)
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    /// Keeps a signal under its keys. A twin that is being kept at this moment is waited for.
    ///
    /// # Errors
    /// Kind `Contention` when the twin takes too long; the store's own.
    pub fn begin_signal(&mut self, signal: &NewSignal, keys: &[SignalKey]) -> Result<Begun, StoreError> {
        #[derive(QueryableByName)]
        struct Claimed {
            #[diesel(sql_type = BigInt)]
            claimed: i64,
        }
        let statement = prepared(concat!(kept_signal!(), " SELECT claimed FROM c"));
        let claimed = bind_kept(statement, signal, keys).get_result::<Claimed>(self.conn()).store()?.claimed;
        self.begun(signal, keys, claimed)
    }

    /// Keeps a signal as [`begin_signal`](Self::begin_signal) does, and locks and reads what its order would need: with
    /// [`accept_order_of_signal`](Self::accept_order_of_signal) that is two statements for a signal and its order.
    ///
    /// # Errors
    /// As [`begin_signal`](Self::begin_signal).
    pub fn open_signal(
        &mut self,
        signal: &NewSignal,
        keys: &[SignalKey],
        symbol: &Symbol,
    ) -> Result<(Begun, Opened), StoreError> {
        let opened = self.read_for_signal(signal, keys, symbol)?;
        let begun = self.begun(signal, keys, opened.read.fresh)?;
        Ok((begun, opened))
    }

    fn begun(&mut self, signal: &NewSignal, keys: &[SignalKey], claimed: i64) -> Result<Begun, StoreError> {
        if claimed >= count(keys) { Ok(Begun::Fresh) } else { self.first_of(signal, keys) }
    }

    /// Keeps a delivery of a signal that has come before, where every key of it has been claimed, in one statement. `None`:
    /// it is to be kept as any other.
    ///
    /// # Errors
    /// The store's own.
    pub fn keep_repeat(
        &mut self,
        signal: &NewSignal,
        keys: &[SignalKey],
    ) -> Result<Option<Begun>, StoreError> {
        let delivery = &signal.delivery;
        let row = prepared(
            "WITH f AS MATERIALIZED (SELECT count(*) OVER () AS claimed, coalesce(s.duplicate_of, k.signal_id) AS first \
               FROM signal_keys k LEFT JOIN signals s ON s.user_id = k.user_id AND s.id = k.signal_id \
               WHERE k.user_id = ? AND k.hook_id = ? AND k.key = ANY(?) AND (k.expires_at > ? OR k.expires_at IS NULL) \
               LIMIT 1), \
             r AS (INSERT INTO signals (user_id, id, hook_id, received_at, verdict, reason, pending, genuine, size_bytes, \
               sha256, body, ip, symbol, action, sent_at, stated_target, stated_previous, duplicate_of, decided_at) \
               SELECT ?, ?, ?, d.at, 'duplicate', 'duplicate', false, true, ?, ?, ?, ?, ?, ?, ?, ?, ?, f.first, d.at \
               FROM f, (SELECT ?::timestamptz AS at) d WHERE f.claimed = ? ON CONFLICT (user_id, id) DO NOTHING) \
             SELECT f.first, s.order_id, CASE WHEN s.verdict = 'refused' THEN s.reason END AS refused \
             FROM f LEFT JOIN signals s ON s.user_id = ? AND s.id = f.first WHERE f.claimed = ?",
        )
        .bind::<BigInt, _>(signal.user.0)
        .bind::<SqlUuid, _>(signal.hook)
        .bind::<Array<Binary>, _>(keys.iter().map(|key| key.key.to_vec()).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(delivery.at)
        .bind::<BigInt, _>(signal.user.0)
        .bind::<SqlUuid, _>(delivery.id)
        .bind::<SqlUuid, _>(signal.hook)
        .bind::<BigInt, _>(delivery.size)
        .bind::<Binary, _>(delivery.sha256.as_slice())
        .bind::<Text, _>(signal.body.as_str())
        .bind::<Nullable<Text>, _>(delivery.ip.as_deref())
        .bind::<Nullable<Text>, _>(signal.symbol.as_deref())
        .bind::<Nullable<Text>, _>(signal.action)
        .bind::<Nullable<Timestamptz>, _>(signal.sent_at)
        .bind::<Nullable<Numeric>, _>(signal.stated_target)
        .bind::<Nullable<Numeric>, _>(signal.stated_previous)
        .bind::<Timestamptz, _>(delivery.at)
        .bind::<BigInt, _>(count(keys))
        .bind::<BigInt, _>(signal.user.0)
        .bind::<BigInt, _>(count(keys))
        .get_result::<First>(self.conn())
        .optional()
        .store()?;
        Ok(row.map(First::into))
    }

    /// The signal that has one of these keys. In a statement of its own: the claim's does not see a twin that committed
    /// after it began.
    fn first_of(&mut self, signal: &NewSignal, keys: &[SignalKey]) -> Result<Begun, StoreError> {
        let first = prepared(
            "WITH f AS (SELECT coalesce(s.duplicate_of, k.signal_id) AS first FROM signal_keys k \
               LEFT JOIN signals s ON s.user_id = k.user_id AND s.id = k.signal_id \
               WHERE k.user_id = ? AND k.hook_id = ? AND k.key = ANY(?) AND k.signal_id <> ? LIMIT 1), \
             u AS (UPDATE signals SET duplicate_of = f.first FROM f WHERE user_id = ? AND id = ?) \
             SELECT f.first, s.order_id, CASE WHEN s.verdict = 'refused' THEN s.reason END AS refused \
             FROM f LEFT JOIN signals s ON s.user_id = ? AND s.id = f.first",
        )
        .bind::<BigInt, _>(signal.user.0)
        .bind::<SqlUuid, _>(signal.hook)
        .bind::<Array<Binary>, _>(keys.iter().map(|key| key.key.to_vec()).collect::<Vec<_>>())
        .bind::<SqlUuid, _>(signal.delivery.id)
        .bind::<BigInt, _>(signal.user.0)
        .bind::<SqlUuid, _>(signal.delivery.id)
        .bind::<BigInt, _>(signal.user.0)
        .get_result::<First>(self.conn())
        .optional()
        .store()?;
        let gone = || StoreError::new(StoreErrorKind::Contention, "the signal's twin was deleted meanwhile");
        first.map(First::into).ok_or_else(gone)
    }

    /// Writes how a decision on a signal ended.
    ///
    /// # Errors
    /// The store's own.
    pub fn settle_signal(
        &mut self,
        user: UserId,
        signal: Uuid,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let has_order = outcome.order.is_some() || outcome.next_order.is_some();
        let refusal = outcome.refusal.as_ref();
        let reason = refusal.map(|refusal| refusal.reason).or(outcome.note);
        prepared(
            // What has an order was followed, whatever came after it.
            "UPDATE signals SET verdict = CASE WHEN ? AND NOT ? AND order_id IS NULL THEN 'refused' ELSE 'accepted' END, \
               reason = ?, detail = ?, pending = ?, target = coalesce(?, target), order_id = coalesce(order_id, ?), \
               next_order_id = ?, decided_at = coalesce(decided_at, ?) \
             WHERE user_id = ? AND id = ?",
        )
        .bind::<Bool, _>(refusal.is_some())
        .bind::<Bool, _>(has_order)
        .bind::<Nullable<Text>, _>(reason.map(Reason::as_str))
        .bind::<Nullable<Text>, _>(refusal.map(|refusal| refusal.detail.as_str()))
        .bind::<Bool, _>(outcome.pending)
        .bind::<Nullable<Numeric>, _>(outcome.target)
        .bind::<Nullable<SqlUuid>, _>(outcome.order.map(|order| order.0))
        .bind::<Nullable<SqlUuid>, _>(outcome.next_order.map(|order| order.0))
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(signal)
        .execute(self.conn())
        .store()?;
        Ok(())
    }
}
