//! COPY of tables that are known by name only. Diesel's COPY takes its table from a type, so one type stands for all of
//! them and says the name that was set for its thread a moment before.

use std::cell::RefCell;
use std::io::{BufRead, Read, Write};

use diesel::pg::{CopyFormat, CopyTarget, Pg};
use diesel::query_builder::AstPass;
use diesel::result::{Error, QueryResult};
use diesel::{ExecuteCopyFromDsl, PgConnection, copy_from, copy_to};
use plimsoll_reliability::backup::{BackupError, TableShape};

use super::sql::run;
use crate::db::errors::store_error;
use crate::db::quote_identifier;

const PIECE: usize = 128 * 1024;

diesel::table! {
    /// Stands for any table.
    any_table (id) {
        id -> Integer,
    }
}

thread_local! {
    /// The table and its columns, in SQL, of the COPY that this thread is about to begin.
    static NAMED: RefCell<String> = const { RefCell::new(String::new()) };
}

struct Named;

impl CopyTarget for Named {
    type Table = any_table::table;
    type SqlType = diesel::sql_types::Integer;

    fn walk_target(mut pass: AstPass<'_, '_, Pg>) -> QueryResult<()> {
        NAMED.with_borrow(|name| pass.push_sql(name));
        Ok(())
    }
}

fn name(table: &TableShape) {
    let columns: Vec<String> = table.columns.iter().map(|column| quote_identifier(column)).collect();
    NAMED.set(format!("public.{} ({})", quote_identifier(&table.name), columns.join(", ")));
}

/// Writes all rows of a table to `sink`. A connection that dies in the middle looks like an end: the reader of the form
/// tells.
pub(super) fn copy_out(
    conn: &mut PgConnection,
    table: &TableShape,
    sink: &mut dyn Write,
) -> Result<(), BackupError> {
    name(table);
    let failed = "copying a table";
    let mut rows = copy_to(Named).with_format(CopyFormat::Binary).load_raw(conn).map_err(store_error)?;
    loop {
        let row = rows.fill_buf().map_err(|error| BackupError::from_io(failed, error))?;
        if row.is_empty() {
            break;
        }
        sink.write_all(row).map_err(|error| BackupError::from_io(failed, error))?;
        let length = row.len();
        rows.consume(length);
    }
    drop(rows);
    // Diesel leaves the command's own result on the connection, where it is in the way of the next prepared statement; a
    // plain one takes it off
    Ok(run(conn, "SELECT 1")?)
}

/// Reads all rows of a table, which must have been emptied in this transaction.
pub(super) fn copy_in(
    conn: &mut PgConnection,
    table: &TableShape,
    rows: &mut dyn Read,
) -> Result<(), BackupError> {
    name(table);
    let source = RefCell::new((rows, vec![0; PIECE]));
    let copied = copy_from(any_table::table)
        .from_raw_data(Named, |out: &mut dyn Write| {
            let (rows, piece) = &mut *source.borrow_mut();
            loop {
                let read =
                    rows.read(piece).map_err(|error| BackupError::from_io("reading a table", error))?;
                if read == 0 {
                    return Ok(());
                }
                out.write_all(&piece[..read])
                    .map_err(|error| BackupError::from_io("loading a table", error))?;
            }
        })
        .with_format(CopyFormat::Binary)
        .with_freeze(true)
        .execute(conn);
    match copied {
        Ok(_) => Ok(()),
        Err(CopyInError::Data(error)) => Err(error),
        Err(CopyInError::Database(error)) => Err(store_error(error).into()),
    }
}

#[derive(Debug, thiserror::Error)]
enum CopyInError {
    #[error(transparent)]
    Database(#[from] Error),
    #[error(transparent)]
    Data(#[from] BackupError),
}
