use std::io::Read;

use diesel::PgConnection;
use plimsoll_reliability::backup::{BackupError, RestoreTarget, SequenceValue, TableShape};

use super::catalogue::tables;
use super::copy::copy_in;
use super::sql::{lines, quote_text, run};
use crate::db::quote_identifier;

/// Foreign keys, and all that is rebuilt after the rows are in: it is several times faster to build an index than to keep
/// one up.
const FOREIGN_KEYS: &str = "SELECT concat_ws(E'\\n', conrelid::regclass, quote_ident(conname), pg_get_constraintdef(oid)) \
     AS line FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype = 'f' ORDER BY 1";
const KEYS: &str = "SELECT concat_ws(E'\\n', conrelid::regclass, quote_ident(conname), pg_get_constraintdef(oid)) \
     AS line FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'u', 'x') \
     AND conrelid <> '__diesel_schema_migrations'::regclass ORDER BY 1";
const INDEXES: &str = "SELECT concat_ws(E'\\n', indexrelid::regclass, pg_get_indexdef(indexrelid)) AS line FROM pg_index i \
     JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace \
     AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x')) ORDER BY 1";

/// Loads a backup into a database that has its schema and nothing worth keeping: all in one transaction, which
/// [`finish`](Self::finish) commits.
pub(super) struct Loader {
    conn: PgConnection,
    tables: Vec<TableShape>,
    again: Vec<String>,
}

struct Constraint {
    table: String,
    name: String,
    definition: String,
}

impl Loader {
    pub(super) fn begin(mut conn: PgConnection) -> Result<Self, BackupError> {
        let tables = tables(&mut conn)?;
        let foreign_keys = constraints(&mut conn, FOREIGN_KEYS)?;
        let keys = constraints(&mut conn, KEYS)?;
        let indexes: Vec<(String, String)> = lines(&mut conn, INDEXES)?
            .iter()
            .filter_map(|row| row.split_once('\n'))
            .map(|(name, definition)| (name.to_owned(), definition.to_owned()))
            .collect();
        let names: Vec<String> =
            tables.iter().map(|table| format!("public.{}", quote_identifier(&table.name))).collect();
        let mut first =
            String::from("SET maintenance_work_mem = '256MB'; SET synchronous_commit = off; BEGIN;\n");
        let mut again = Vec::new();
        for table in &names {
            // the append-only tables refuse to be emptied, even by their owner
            first.push_str(&format!("ALTER TABLE {table} DISABLE TRIGGER USER;\n"));
        }
        for one in foreign_keys.iter().chain(&keys) {
            first.push_str(&format!("ALTER TABLE {} DROP CONSTRAINT {};\n", one.table, one.name));
        }
        for (name, _) in &indexes {
            first.push_str(&format!("DROP INDEX {name};\n"));
        }
        first.push_str(&format!("TRUNCATE {};", names.join(", ")));
        again.extend(keys.iter().map(Constraint::add));
        again.extend(indexes.into_iter().map(|(_, definition)| definition));
        again.extend(foreign_keys.iter().map(Constraint::add));
        again.extend(names.iter().map(|table| format!("ALTER TABLE {table} ENABLE TRIGGER USER")));
        run(&mut conn, &first)?;
        Ok(Self { conn, tables, again })
    }

    /// Builds keys and indexes, checks the foreign keys, and commits.
    pub(super) fn finish(mut self) -> Result<(), BackupError> {
        for statement in &self.again {
            run(&mut self.conn, statement)
                .map_err(|error| BackupError::Unsound(format!("{statement}: {error}")))?;
        }
        run(&mut self.conn, "COMMIT")?;
        Ok(run(&mut self.conn, "ANALYZE")?)
    }
}

impl Constraint {
    fn add(&self) -> String {
        format!("ALTER TABLE {} ADD CONSTRAINT {} {}", self.table, self.name, self.definition)
    }
}

fn constraints(conn: &mut PgConnection, query: &str) -> Result<Vec<Constraint>, BackupError> {
    let rows = lines(conn, query)?;
    let read = |row: &String| {
        let mut parts = row.splitn(3, '\n').map(str::to_owned);
        Some(Constraint { table: parts.next()?, name: parts.next()?, definition: parts.next()? })
    };
    Ok(rows.iter().filter_map(read).collect())
}

impl RestoreTarget for Loader {
    fn load_table(&mut self, table: &TableShape, rows: &mut dyn Read) -> Result<(), BackupError> {
        if !self.tables.iter().any(|here| here.name == table.name) {
            return Err(BackupError::Unsound(format!(
                "the backup has the table {}, which no migration of its schema makes",
                table.name
            )));
        }
        copy_in(&mut self.conn, table, rows)
    }

    fn set_sequences(&mut self, values: &[SequenceValue]) -> Result<(), BackupError> {
        for value in values {
            let name = quote_text(&format!("public.{}", quote_identifier(&value.name)));
            if let Some(last) = value.last {
                run(&mut self.conn, &format!("SELECT setval({name}::regclass, {last})"))?;
            }
        }
        Ok(())
    }
}
