//! Reading the books back at a start.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, Binary, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use plimsoll_core_domain::StoreError;
use plimsoll_paper_exchange::Record;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{ApiKey, Books, Watchlist};
use crate::Tx;
use crate::db::errors::StoreResult;

#[derive(QueryableByName)]
struct RecordRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    record: String,
}

#[derive(QueryableByName)]
struct KeyRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = Text)]
    key_id: String,
    #[diesel(sql_type = Binary)]
    secret_sha256: Vec<u8>,
}

#[derive(QueryableByName)]
struct WatchlistRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Array<Text>)]
    symbols: Vec<String>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
}

impl Tx<'_> {
    /// Reads everything; meant for a start, in one snapshot or as the writer.
    ///
    /// # Errors
    /// `Inconsistent` for a row that this build cannot read; the store's own.
    pub fn load_paper_books(&mut self) -> Result<Books, StoreError> {
        let mut records = Vec::new();
        let exchange = self.records("exchange", "seq::text", "only_row")?;
        for row in exchange {
            records.push(Record::Exchange(parse("exchange", &row)?));
        }
        for row in self.records("accounts", "account_id::text", "seq")? {
            records.push(Record::Account(parse("accounts", &row)?));
        }
        for row in self.records("orders", "id::text", "seq")? {
            records.push(Record::Order(parse("orders", &row)?));
        }
        for row in self.records("executions", "id::text", "seq")? {
            records.push(Record::Execution(parse("executions", &row)?));
        }
        let clock: Vec<RecordRow> =
            sql_query("SELECT 'clock' AS id, state::text AS record FROM exchange_clock")
                .load(self.conn())
                .store()?;
        let clock = clock.first().map(|row| parse("exchange_clock", row)).transpose()?;
        Ok(Books { records, clock, keys: self.keys()?, watchlists: self.watchlists()? })
    }

    fn records(&mut self, table: &str, id: &str, order: &str) -> Result<Vec<RecordRow>, StoreError> {
        sql_query(format!("SELECT {id} AS id, record::text AS record FROM {table} ORDER BY {order}"))
            .load(self.conn())
            .store()
    }

    fn keys(&mut self) -> Result<Vec<ApiKey>, StoreError> {
        let rows: Vec<KeyRow> =
            sql_query("SELECT account_id, key_id, secret_sha256 FROM api_keys ORDER BY created_at")
                .load(self.conn())
                .store()?;
        rows.into_iter()
            .map(|row| {
                let secret_sha256 = row.secret_sha256.try_into().map_err(|_| {
                    StoreError::inconsistent("api_keys", "secret_sha256", &row.key_id, "is not 32 bytes long")
                })?;
                Ok(ApiKey { key_id: row.key_id, account: row.account_id, secret_sha256 })
            })
            .collect()
    }

    fn watchlists(&mut self) -> Result<Vec<Watchlist>, StoreError> {
        let rows: Vec<WatchlistRow> = sql_query(
            "SELECT account_id, id, name, symbols, created_at, updated_at FROM watchlists ORDER BY created_at, id",
        )
        .load(self.conn())
        .store()?;
        let list = |row: WatchlistRow| Watchlist {
            id: row.id,
            account: row.account_id,
            name: row.name,
            symbols: row.symbols,
            created_at: row.created_at,
            updated_at: row.updated_at,
        };
        Ok(rows.into_iter().map(list).collect())
    }
}

fn parse<T: DeserializeOwned>(table: &str, row: &RecordRow) -> Result<T, StoreError> {
    serde_json::from_str(&row.record)
        .map_err(|error| StoreError::inconsistent(table, "record", &row.id, error))
}
