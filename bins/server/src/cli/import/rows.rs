//! The rows of an export: CSV with a head line, or an SQLite file with a table that has the columns.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::bootstrap::StartError;

/// The columns of an export; others are left alone.
const COLUMNS: [&str; 5] = ["email", "broker", "environment", "api_key", "api_secret"];
const SQLITE: &[u8; 16] = b"SQLite format 3\0";

/// One row as it stands in the file. The last two are tokens.
pub(super) struct Row {
    /// The line of a CSV file, or the number of a table's row, both from 1.
    pub(super) line: u64,
    pub(super) email: String,
    pub(super) broker: String,
    pub(super) environment: String,
    pub(super) api_key: String,
    pub(super) api_secret: String,
}

/// A row that cannot be read.
pub(super) struct BadRow {
    pub(super) line: u64,
    pub(super) why: String,
}

/// Gives every row of the file to `take`, in the file's order. `table` chooses one where several of an SQLite file fit.
///
/// # Errors
/// The file cannot be read or has not the columns; or what `take` answers.
pub(super) fn each(
    path: &Path,
    table: Option<&str>,
    take: impl FnMut(Result<Row, BadRow>) -> Result<(), StartError>,
) -> Result<(), StartError> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(StartError::file(path))?;
    file.take(16).read_to_end(&mut start).map_err(StartError::file(path))?;
    if start == SQLITE { each_of_sqlite(path, table, take) } else { each_of_csv(path, take) }
}

fn content(path: &Path, what: impl Into<String>) -> StartError {
    StartError::Content { path: path.to_owned(), what: what.into() }
}

fn each_of_csv(
    path: &Path,
    mut take: impl FnMut(Result<Row, BadRow>) -> Result<(), StartError>,
) -> Result<(), StartError> {
    let file = File::open(path).map_err(StartError::file(path))?;
    // a CR before the LF is trimmed away; as a line's end of its own it would spoil the count of lines
    let mut reader = csv::ReaderBuilder::new()
        .terminator(csv::Terminator::Any(b'\n'))
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(file);
    let heads = reader.byte_headers().map_err(|why| content(path, format!("is no CSV: {why}")))?;
    let heads: Vec<String> = heads
        .iter()
        .map(|head| String::from_utf8_lossy(head).trim_start_matches('\u{feff}').trim().to_ascii_lowercase())
        .collect();
    let mut places = [0; COLUMNS.len()];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        let mut found = heads.iter().enumerate().filter(|(_, head)| *head == column).map(|(at, _)| at);
        *place = match (found.next(), found.next()) {
            (Some(at), None) => at,
            (None, _) => return Err(content(path, format!("has no column {column} in its first line"))),
            (Some(_), Some(_)) => return Err(content(path, format!("has the column {column} twice"))),
        };
    }
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line();
        let read = reader.read_record(&mut record);
        let line = record.position().map_or(line, csv::Position::line);
        match read {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let cells: Option<Vec<&str>> = places.iter().map(|at| record.get(*at)).collect();
                take(row(line, cells).ok_or_else(|| bad(line, "has fewer columns than the first line")))?;
            }
            Err(error) if error.is_io_error() => {
                return Err(content(path, format!("cannot be read to its end: {error}")));
            }
            Err(error) => {
                let line = error.position().map_or(line, csv::Position::line);
                take(Err(bad(line, "is not UTF-8")))?;
            }
        }
    }
}

fn bad(line: u64, why: &str) -> BadRow {
    BadRow { line, why: why.to_owned() }
}

fn row<T: Into<String>>(line: u64, cells: Option<Vec<T>>) -> Option<Row> {
    let [email, broker, environment, api_key, api_secret] =
        <[T; COLUMNS.len()]>::try_from(cells?).ok()?.map(Into::into);
    Some(Row { line, email, broker, environment, api_key, api_secret })
}

fn each_of_sqlite(
    path: &Path,
    table: Option<&str>,
    mut take: impl FnMut(Result<Row, BadRow>) -> Result<(), StartError>,
) -> Result<(), StartError> {
    let failed = |error: rusqlite::Error| content(path, format!("cannot be read as SQLite: {error}"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let export = Connection::open_with_flags(path, flags).map_err(failed)?;
    let fitting = fitting_tables(&export).map_err(failed)?;
    let table = match (table, fitting.as_slice()) {
        (Some(table), all) => all.iter().find(|name| *name == table),
        (None, [one]) => Some(one),
        (None, []) => None,
        (None, several) => {
            let names = several.join(", ");
            return Err(content(
                path,
                format!("has several tables with the columns: --table one of {names}"),
            ));
        }
    };
    let wanted = || content(path, format!("has no such table with the columns {}", COLUMNS.join(", ")));
    let table = table.ok_or_else(wanted)?.replace('"', "\"\"");
    let sql = format!("SELECT {} FROM \"{table}\"", COLUMNS.map(|name| format!("\"{name}\"")).join(", "));
    let mut statement = export.prepare(&sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut line = 0;
    while let Some(found) = rows.next().map_err(failed)? {
        line += 1;
        let mut cells = Some(Vec::with_capacity(COLUMNS.len()));
        for at in 0..COLUMNS.len() {
            let text = match found.get_ref(at).map_err(failed)? {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                    str::from_utf8(bytes).ok().map(str::to_owned)
                }
                _ => None,
            };
            cells = cells.zip(text).map(|(mut cells, text)| {
                cells.push(text);
                cells
            });
        }
        take(row(line, cells).ok_or_else(|| bad(line, "has a value that is no text")))?;
    }
    Ok(())
}

/// Tables and views that have all columns.
fn fitting_tables(export: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = export.prepare(
        "SELECT m.name FROM sqlite_master m WHERE m.type IN ('table', 'view') AND (SELECT count(DISTINCT lower(c.name)) \
         FROM pragma_table_info(m.name) c WHERE lower(c.name) IN (?1, ?2, ?3, ?4, ?5)) = 5 ORDER BY m.name",
    )?;
    statement.query_map(COLUMNS, |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<Vec<Result<String, String>>, StartError> {
        let mut all = Vec::new();
        each(path, None, |row| {
            all.push(match row {
                Ok(row) => Ok(format!(
                    "{} {} {} {} {} {}",
                    row.line, row.email, row.broker, row.environment, row.api_key, row.api_secret
                )),
                Err(bad) => Err(format!("{} {}", bad.line, bad.why)),
            });
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn columns_are_found_by_name_and_lines_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("export.csv");
        let text = "\u{feff}id,API_KEY,email,broker,environment,api_secret\r\n1,k1,a@b.c,alpaca,paper,s1\r\n\
                    2,\"k,2\",\"x\ny\",alpaca,live,s2\r\n3,k3\r\n";
        std::fs::write(&path, text).unwrap();
        let rows = read(&path).unwrap();
        assert_eq!(rows[0], Ok("2 a@b.c alpaca paper k1 s1".to_owned()));
        assert_eq!(rows[1], Ok("3 x\ny alpaca live k,2 s2".to_owned()));
        assert_eq!(rows[2], Err("5 has fewer columns than the first line".to_owned()));
    }

    #[test]
    fn what_is_no_export_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("export.csv");
        for (text, word) in [
            ("", "no column email"),
            ("email,broker,environment,api_key\n", "no column api_secret"),
            ("email,broker,environment,api_key,api_secret,EMAIL\n", "email twice"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        std::fs::write(&path, [SQLITE, b"and nothing more".as_slice()].concat()).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("SQLite"));
        assert_eq!(read(&folder.path().join("none")).unwrap_err().exit_code(), 2);
        std::fs::write(&path, b"email,broker,environment,api_key,api_secret\n\xff,b,c,d,e\n").unwrap();
        assert_eq!(read(&path).unwrap(), [Err("2 is not UTF-8".to_owned())]);
    }

    #[test]
    fn a_table_is_found_by_its_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("export.db");
        let export = Connection::open(&path).unwrap();
        export
            .execute_batch(
                "CREATE TABLE other (email text); CREATE TABLE \"broker \"\"keys\" (id integer, email text, \
                 broker text, environment text, api_key blob, api_secret text); INSERT INTO \"broker \"\"keys\" VALUES \
                 (1, 'a@b.c', 'alpaca', 'paper', x'6b', 's'), (2, 'a@b.c', 'alpaca', 'paper', NULL, 's')",
            )
            .unwrap();
        let rows = read(&path).unwrap();
        assert_eq!(rows[0], Ok("1 a@b.c alpaca paper k s".to_owned()));
        assert_eq!(rows[1], Err("2 has a value that is no text".to_owned()));
        export.execute_batch("CREATE VIEW v AS SELECT * FROM \"broker \"\"keys\"").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("--table"));
    }
}
