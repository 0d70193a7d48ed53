//! Connections and plain queries of backups.

use std::time::Duration;

use diesel::connection::{Connection, SimpleConnection};
use diesel::sql_types::{BigInt, Text};
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};
use plimsoll_core_domain::StoreError;

use crate::db::errors::{StoreResult, connect_error};
use crate::db::settings::network;
use crate::db::url::{with_database, with_extras};

/// The database from which others are made, renamed and dropped.
const MAINTENANCE: &str = "postgres";

/// A connection for long work: no statement has a limit, the caller's meter has.
pub(super) fn connect(url: &str, lock_timeout: Duration) -> Result<PgConnection, StoreError> {
    let mut extras = network(Duration::from_secs(3), "plimsoll-backup");
    extras.settings = vec![
        ("statement_timeout", "0".to_owned()),
        ("idle_in_transaction_session_timeout", "0".to_owned()),
        ("lock_timeout", lock_timeout.as_millis().to_string()),
    ];
    PgConnection::establish(&with_extras(url, &extras)).map_err(connect_error)
}

/// A connection to the maintenance database of the same server.
pub(super) fn maintenance(url: &str) -> Result<PgConnection, StoreError> {
    connect(&with_database(url, MAINTENANCE), Duration::from_secs(5))
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// The rows of a query with one column `line`.
pub(super) fn lines(conn: &mut PgConnection, query: &str) -> Result<Vec<String>, StoreError> {
    let rows: Vec<Line> = sql_query(query).load(conn).store()?;
    Ok(rows.into_iter().map(|row| row.line).collect())
}

/// The one row of a query with one column `line`.
pub(super) fn line(conn: &mut PgConnection, query: &str) -> Result<String, StoreError> {
    let row: Line = sql_query(query).get_result(conn).store()?;
    Ok(row.line)
}

/// The one row of a query with one column `number`.
pub(super) fn number(conn: &mut PgConnection, query: &str) -> Result<i64, StoreError> {
    let row: Number = sql_query(query).get_result(conn).store()?;
    Ok(row.number)
}

pub(super) fn run(conn: &mut PgConnection, statements: &str) -> Result<(), StoreError> {
    conn.batch_execute(statements).store()
}

/// A text for use inside a statement.
pub(super) fn quote_text(text: &str) -> String {
    let text = text.replace('\'', "''");
    // a backslash is itself only with standard_conforming_strings, which an operator may have switched off
    if text.contains('\\') { format!("E'{}'", text.replace('\\', "\\\\")) } else { format!("'{text}'") }
}
