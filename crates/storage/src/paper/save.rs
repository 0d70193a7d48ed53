//! Writing a batch: one statement for what every order touches, further ones only for what is seldom written.

use diesel::sql_types::{
    Array, BigInt, Binary, Jsonb, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_paper_exchange::record::{AccountRecord, Execution, OrderRecord};
use serde::Serialize;

use super::{Batch, SaveError, WatchlistChange, WriterToken};
use crate::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// Locks the writer's row against a successor until the commit, and writes only while the token is the newest.
/// Executions never change; writing one twice is a repetition after a lost commit.
const SAVE: &str = "
WITH fence AS MATERIALIZED (SELECT token FROM exchange_writer WHERE token = ? FOR SHARE),
x AS (
    INSERT INTO exchange (seq, simulator_time, record)
    SELECT u.seq, u.simulator_time, u.record::jsonb
    FROM unnest(?::bigint[], ?::timestamptz[], ?::text[]) AS u (seq, simulator_time, record), fence
    ON CONFLICT (only_row) DO UPDATE
    SET seq = excluded.seq, simulator_time = excluded.simulator_time, record = excluded.record
),
o AS (
    INSERT INTO orders (account_id, id, seq, client_order_id, symbol, side, status, qty, filled_qty, submitted_at, record)
    SELECT u.account_id, u.id, u.seq, u.client_order_id, u.symbol, u.side, u.status, u.qty, u.filled_qty, u.submitted_at,
           u.record::jsonb
    FROM unnest(?::uuid[], ?::uuid[], ?::bigint[], ?::text[], ?::text[], ?::text[], ?::text[], ?::numeric[],
                ?::numeric[], ?::timestamptz[], ?::text[])
         AS u (account_id, id, seq, client_order_id, symbol, side, status, qty, filled_qty, submitted_at, record), fence
    ON CONFLICT (account_id, id) DO UPDATE
    SET seq = excluded.seq, status = excluded.status, qty = excluded.qty, filled_qty = excluded.filled_qty,
        record = excluded.record
),
e AS (
    INSERT INTO executions (account_id, seq, id, order_id, symbol, side, qty, price, cum_qty, at, record)
    SELECT u.account_id, u.seq, u.id, u.order_id, u.symbol, u.side, u.qty, u.price, u.cum_qty, u.at, u.record::jsonb
    FROM unnest(?::uuid[], ?::bigint[], ?::uuid[], ?::uuid[], ?::text[], ?::text[], ?::numeric[],
                ?::numeric[], ?::numeric[], ?::timestamptz[], ?::text[])
         AS u (account_id, seq, id, order_id, symbol, side, qty, price, cum_qty, at, record), fence
    ON CONFLICT (account_id, seq) DO NOTHING
)
SELECT count(*) AS fences FROM fence";

#[derive(QueryableByName)]
struct Fences {
    #[diesel(sql_type = BigInt)]
    fences: i64,
}

#[derive(QueryableByName)]
struct Token {
    #[diesel(sql_type = BigInt)]
    token: i64,
}

impl Tx<'_> {
    /// Becomes the writer of the books; every earlier token is void from the commit on.
    ///
    /// # Errors
    /// The store's.
    pub fn take_paper_writer(&mut self) -> Result<WriterToken, StoreError> {
        let row: Token =
            sql_query("UPDATE exchange_writer SET token = token + 1, taken_at = now() RETURNING token")
                .get_result(self.conn())
                .store()?;
        Ok(WriterToken(row.token))
    }

    /// Writes a batch. To be called once in a transaction of its own.
    ///
    /// # Errors
    /// [`SaveError::TakenOver`] when another process became the writer; roll back then.
    pub fn save_paper_batch(&mut self, writer: WriterToken, batch: &Batch) -> Result<(), SaveError> {
        self.save_accounts(batch.accounts.values())?;
        self.save_seldom_written(batch)?;
        let exchange = batch.exchange.iter();
        let (seqs, (times, records)): (Vec<i64>, (Vec<_>, Vec<String>)) = exchange
            .map(|row| Ok((seq(row.seq)?, (row.now, json(row)?))))
            .collect::<Result<Vec<_>, StoreError>>()?
            .into_iter()
            .unzip();
        let orders: Vec<&OrderRecord> = batch.orders.values().collect();
        let fills: Vec<&Execution> = batch.executions.iter().collect();
        let row: Fences = prepared(SAVE)
            .bind::<BigInt, _>(writer.0)
            .bind::<Array<BigInt>, _>(seqs)
            .bind::<Array<Timestamptz>, _>(times)
            .bind::<Array<Text>, _>(records)
            .bind::<Array<SqlUuid>, _>(column(&orders, |row| row.account))
            .bind::<Array<SqlUuid>, _>(column(&orders, |row| row.order.id))
            .bind::<Array<BigInt>, _>(try_column(&orders, |row| seq(row.seq))?)
            .bind::<Array<Text>, _>(column(&orders, |row| row.order.client_order_id.as_str()))
            .bind::<Array<Text>, _>(column(&orders, |row| row.order.symbol.as_str()))
            .bind::<Array<Text>, _>(column(&orders, |row| row.order.side.as_str()))
            .bind::<Array<Text>, _>(column(&orders, |row| row.order.status.as_str()))
            .bind::<Array<Nullable<Numeric>>, _>(column(&orders, |row| row.order.qty))
            .bind::<Array<Numeric>, _>(column(&orders, |row| row.order.filled_qty))
            .bind::<Array<Timestamptz>, _>(column(&orders, |row| row.order.submitted_at))
            .bind::<Array<Text>, _>(try_column(&orders, json)?)
            .bind::<Array<SqlUuid>, _>(column(&fills, |row| row.account))
            .bind::<Array<BigInt>, _>(try_column(&fills, |row| seq(row.seq))?)
            .bind::<Array<SqlUuid>, _>(column(&fills, |row| row.id))
            .bind::<Array<SqlUuid>, _>(column(&fills, |row| row.order_id))
            .bind::<Array<Text>, _>(column(&fills, |row| row.symbol.as_str()))
            .bind::<Array<Text>, _>(column(&fills, |row| row.side.as_str()))
            .bind::<Array<Numeric>, _>(column(&fills, |row| row.qty))
            .bind::<Array<Numeric>, _>(column(&fills, |row| row.price))
            .bind::<Array<Numeric>, _>(column(&fills, |row| row.cum_qty))
            .bind::<Array<Timestamptz>, _>(column(&fills, |row| row.at))
            .bind::<Array<Text>, _>(try_column(&fills, json)?)
            .get_result(self.conn())
            .store()?;
        if row.fences == 1 { Ok(()) } else { Err(SaveError::TakenOver) }
    }

    fn save_accounts<'r>(&mut self, rows: impl Iterator<Item = &'r AccountRecord>) -> Result<(), StoreError> {
        for row in rows {
            sql_query(
                "INSERT INTO accounts (account_id, seq, number, deposit, created_at, record) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (account_id) DO UPDATE SET seq = excluded.seq, record = excluded.record",
            )
            .bind::<SqlUuid, _>(row.id)
            .bind::<BigInt, _>(seq(row.seq)?)
            .bind::<Text, _>(&row.number)
            .bind::<Numeric, _>(row.deposit)
            .bind::<Timestamptz, _>(row.created_at)
            .bind::<Jsonb, _>(serde_json::to_value(row).map_err(unwritable)?)
            .execute(self.conn())
            .store()?;
        }
        Ok(())
    }

    fn save_seldom_written(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for (account, key_id) in &batch.revoked {
            sql_query("DELETE FROM api_keys WHERE account_id = $1 AND key_id = $2")
                .bind::<SqlUuid, _>(account)
                .bind::<Text, _>(key_id)
                .execute(self.conn())
                .store()?;
        }
        for key in &batch.keys {
            sql_query(
                "INSERT INTO api_keys (account_id, key_id, secret_sha256) VALUES ($1, $2, $3) \
                 ON CONFLICT (account_id, key_id) DO UPDATE SET secret_sha256 = excluded.secret_sha256",
            )
            .bind::<SqlUuid, _>(key.account)
            .bind::<Text, _>(&key.key_id)
            .bind::<Binary, _>(&key.secret_sha256[..])
            .execute(self.conn())
            .store()?;
        }
        if let Some(state) = &batch.clock {
            sql_query(
                "INSERT INTO exchange_clock (state) VALUES ($1) \
                 ON CONFLICT (only_row) DO UPDATE SET state = excluded.state, updated_at = now()",
            )
            .bind::<Jsonb, _>(serde_json::to_value(state).map_err(unwritable)?)
            .execute(self.conn())
            .store()?;
        }
        for (id, change) in &batch.watchlists {
            match change {
                WatchlistChange::Save(list) => sql_query(
                    "INSERT INTO watchlists (account_id, id, name, symbols, created_at, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account_id, id) DO UPDATE \
                     SET name = excluded.name, symbols = excluded.symbols, updated_at = excluded.updated_at",
                )
                .bind::<SqlUuid, _>(list.account)
                .bind::<SqlUuid, _>(id)
                .bind::<Text, _>(&list.name)
                .bind::<Array<Text>, _>(&list.symbols)
                .bind::<Timestamptz, _>(list.created_at)
                .bind::<Timestamptz, _>(list.updated_at)
                .execute(self.conn()),
                WatchlistChange::Delete(account) => {
                    sql_query("DELETE FROM watchlists WHERE account_id = $1 AND id = $2")
                        .bind::<SqlUuid, _>(account)
                        .bind::<SqlUuid, _>(id)
                        .execute(self.conn())
                }
            }
            .store()?;
        }
        Ok(())
    }
}

fn column<'r, R, T>(rows: &[&'r R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

fn try_column<'r, R, T>(
    rows: &[&'r R],
    value: impl Fn(&'r R) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    rows.iter().map(|row| value(row)).collect()
}

fn seq(seq: u64) -> Result<i64, StoreError> {
    i64::try_from(seq)
        .map_err(|_| StoreError::new(StoreErrorKind::Other, format!("counter {seq} is out of range")))
}

fn json(row: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(row).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Other, "a row of the books has no JSON form").caused_by(error)
}
