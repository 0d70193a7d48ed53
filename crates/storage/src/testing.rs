//! Raw statements for tests: on a connection of one's own, or inside a [`Tx`]. Nothing of the product uses it.

use diesel::connection::{Connection, SimpleConnection};
use diesel::sql_types::Text;
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};
use plimsoll_core_domain::StoreError;
use serde_json::Value;

use crate::db::Tx;
use crate::db::errors::{StoreResult, connect_error, store_error};

/// One direct connection, not of any pool.
pub struct RawConnection(PgConnection);

impl RawConnection {
    /// Connects with exactly this connection string.
    ///
    /// # Errors
    /// `Unavailable` when that fails.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        PgConnection::establish(url).map(Self).map_err(connect_error)
    }

    /// Runs one or several statements and forgets what they return.
    ///
    /// # Errors
    /// The server's, mapped as everywhere.
    pub fn execute(&mut self, sql: &str) -> Result<(), StoreError> {
        self.0.batch_execute(sql).store()
    }

    /// The rows of one query, each as a JSON object. Numbers keep their digits only as far as JSON's do: cast money
    /// to text in the query.
    ///
    /// # Errors
    /// The server's, mapped as everywhere.
    pub fn rows(&mut self, query: &str) -> Result<Vec<Value>, StoreError> {
        rows(&mut self.0, query)
    }
}

impl std::fmt::Debug for RawConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RawConnection")
    }
}

impl Tx<'_> {
    /// Runs one or several statements and forgets what they return.
    ///
    /// # Errors
    /// The server's, mapped as everywhere.
    pub fn execute_raw(&mut self, sql: &str) -> Result<(), StoreError> {
        self.conn().batch_execute(sql).store()
    }

    /// The rows of one query, each as a JSON object; see [`RawConnection::rows`].
    ///
    /// # Errors
    /// The server's, mapped as everywhere.
    pub fn rows_raw(&mut self, query: &str) -> Result<Vec<Value>, StoreError> {
        rows(self.conn(), query)
    }
}

fn rows(conn: &mut PgConnection, query: &str) -> Result<Vec<Value>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        row: String,
    }
    let rows: Vec<Row> =
        sql_query(format!("SELECT to_jsonb(q)::text AS row FROM ({query}) q")).load(conn).store()?;
    rows.iter()
        .map(|row| serde_json::from_str(&row.row))
        .collect::<Result<_, _>>()
        .map_err(|error| store_error(diesel::result::Error::DeserializationError(Box::new(error))))
}
