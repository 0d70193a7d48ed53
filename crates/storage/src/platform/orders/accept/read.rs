//! The first statement: it claims the key, and locks and reads everything that the second one needs. Of a signal it also
//! keeps the signal.

use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Numeric, Text, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::{AccountId, StoreError, Symbol};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{AcceptKey, AcceptOrder};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::{Prepared, prepared};
use crate::platform::signals::{Ground, NewSignal, SignalKey, bind_kept, kept_signal};

/// What it found; the heads and the account are locked.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub(crate) struct Read {
    /// How many keys were claimed, and not before.
    #[diesel(sql_type = BigInt)]
    pub(crate) fresh: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(crate) account_id: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) environment: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) state: Option<String>,
    #[diesel(sql_type = Nullable<Bool>)]
    pub(super) live_enabled: Option<bool>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) risk_limits: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) halt_user: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) halt_global: Option<String>,
    #[diesel(sql_type = Nullable<Array<Text>>)]
    pub(super) entries_blocked: Option<Vec<String>>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub(super) epoch: Option<Uuid>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) head: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) seq: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    pub(super) mac: Option<Vec<u8>>,
}

macro_rules! locked {
    ([$($fresh:tt)+], $more:literal) => {
        concat!(
            $($fresh)+,
            "a AS MATERIALIZED (SELECT id, environment, state, live_enabled, risk_limits::text AS risk_limits, \
               halt_user, halt_global, \
               CASE WHEN compare_after IS NULL THEN entries_blocked ELSE ARRAY['*'] END AS entries_blocked FROM accounts \
               WHERE user_id = ? AND broker = 'alpaca' AND state <> 'inactive' FOR NO KEY UPDATE), \
             h AS MATERIALIZED (SELECT epoch, head FROM stream_head WHERE stream_id = ? FOR NO KEY UPDATE), \
             m AS MATERIALIZED (SELECT seq, mac FROM audit_head WHERE chain = ? FOR NO KEY UPDATE) \
             SELECT f.fresh, a.id AS account_id, a.environment, a.state, a.live_enabled, \
             a.risk_limits, a.halt_user, a.halt_global, a.entries_blocked, h.epoch, h.head, m.seq, m.mac",
            $more,
            " FROM f LEFT JOIN a ON true LEFT JOIN h ON true LEFT JOIN m ON true"
        )
    };
}

const OF_REQUEST: &str = locked!(
    ["WITH k AS ( \
       INSERT INTO idempotency_keys (user_id, key, route, fingerprint, order_id, in_flight_until, expires_at) \
       VALUES (?, ?, ?, ?, ?, now() + ? * interval '1 millisecond', now() + interval '7 days') \
       ON CONFLICT (user_id, key) DO NOTHING RETURNING 1), \
     f AS MATERIALIZED (SELECT count(*) AS fresh FROM k), "],
    ""
);

const INTERNAL: &str = locked!(["WITH f AS MATERIALIZED (SELECT 1::bigint AS fresh), "], "");

const OF_SIGNAL: &str = locked!(
    [kept_signal!(), ", f AS MATERIALIZED (SELECT claimed AS fresh FROM c), "],
    ", (SELECT p.qty FROM positions p WHERE p.account_id = a.id AND p.symbol = ?) AS held"
);

/// Binds what names the rows that are locked.
fn of_user(statement: Prepared<'_>, user: i64) -> Prepared<'_> {
    statement.bind::<BigInt, _>(user).bind::<BigInt, _>(user).bind::<BigInt, _>(user)
}

/// What an order stands on whose signal was kept a moment ago, in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Opened {
    #[diesel(embed)]
    pub(crate) read: Read,
    #[diesel(sql_type = Nullable<Numeric>)]
    pub(crate) held: Option<Decimal>,
}

impl Opened {
    /// How things stand for an order that does not look at what else is under way; `None` without an account.
    ///
    /// # Errors
    /// A row that cannot be read.
    pub fn ground(&self) -> Result<Option<Ground>, StoreError> {
        let Some((id, environment)) = self.read.account_id.zip(self.read.environment.as_ref()) else {
            return Ok(None);
        };
        let bad = |why| StoreError::inconsistent("accounts", "environment", id, why);
        Ok(Some(Ground {
            account: AccountId(id),
            environment: environment.parse().map_err(bad)?,
            held: self.held.unwrap_or_default().normalize(),
            under_way: 0,
            last: None,
        }))
    }
}

impl Tx<'_> {
    pub(super) fn read_for_order(&mut self, accept: &AcceptOrder) -> Result<Read, StoreError> {
        let user = accept.user.0;
        let statement = match &accept.key {
            AcceptKey::Request(request) => prepared(OF_REQUEST)
                .bind::<BigInt, _>(user)
                .bind::<Text, _>(request.key.as_str())
                .bind::<Text, _>(request.route)
                .bind::<Binary, _>(request.fingerprint.0.as_slice())
                .bind::<SqlUuid, _>(accept.id.0)
                .bind::<BigInt, _>(request.in_flight.num_milliseconds()),
            AcceptKey::Internal(_) => prepared(INTERNAL),
        };
        of_user(statement, user).get_result::<Read>(self.conn()).store()
    }

    /// Keeps a signal under its keys, as [`begin_signal`](Tx::begin_signal) does, and locks and reads what an order of its
    /// sender's would need: where the signal is the first one, its order needs one statement more. What is held of
    /// the symbol is read beside it.
    pub(crate) fn read_for_signal(
        &mut self,
        signal: &NewSignal,
        keys: &[SignalKey],
        symbol: &Symbol,
    ) -> Result<Opened, StoreError> {
        let statement = of_user(bind_kept(prepared(OF_SIGNAL), signal, keys), signal.user.0);
        statement.bind::<Text, _>(symbol.as_str()).get_result::<Opened>(self.conn()).store()
    }
}
