//! What a database is made of: which tables a backup takes, and what it would miss.

use diesel::PgConnection;
use plimsoll_core_domain::StoreError;
use plimsoll_reliability::backup::{SequenceValue, TableShape};

use super::sql::{line, lines, number};
use crate::db::quote_identifier;
use crate::migrate::MigrationSet;

/// Diesel's own bookkeeping: the copy gets its own from its migrations.
const BOOKKEEPING: &str = "__diesel_schema_migrations";

const TABLES: &str = "SELECT concat_ws(E'\\n', c.relname, string_agg(a.attname, E'\\n' ORDER BY a.attnum)) AS line \
     FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     AND a.attgenerated = '' \
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> '__diesel_schema_migrations' \
     GROUP BY c.oid, c.relname ORDER BY c.relname COLLATE \"C\"";

/// All definitions of the schema `public`, one line each.
const FINGERPRINT: &str = "SELECT encode(sha256(convert_to(coalesce(string_agg(l, E'\\n' ORDER BY l COLLATE \"C\"), ''), \
     'UTF8')), 'hex') AS line FROM ( \
     SELECT concat_ws(' ', 'relation', c.relname, c.relkind, c.reloptions::text) AS l FROM pg_class c \
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind <> 'i' \
     UNION ALL SELECT concat_ws(' ', 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
     a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid)) FROM pg_attribute a \
     JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
     WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v') \
     UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public' \
     UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid)) \
     FROM pg_constraint WHERE connamespace = 'public'::regnamespace \
     UNION ALL SELECT 'trigger ' || pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
     WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal \
     UNION ALL SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace \
     AND prokind IN ('f', 'p') \
     UNION ALL SELECT concat_ws(' ', 'view', viewname, definition) FROM pg_views WHERE schemaname = 'public') AS all_lines (l)";

/// What no migration makes.
const STRANGERS: &str = "SELECT 'extension ' || extname AS line FROM pg_extension WHERE extname <> 'plpgsql' \
     UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_' \
     AND nspname NOT IN ('public', 'information_schema') \
     UNION ALL SELECT 'foreign table ' || oid::regclass FROM pg_class WHERE relkind = 'f' \
     UNION ALL SELECT 'partitioned table ' || oid::regclass FROM pg_class WHERE relkind = 'p' \
     UNION ALL SELECT 'materialized view ' || oid::regclass FROM pg_class WHERE relkind = 'm' \
     UNION ALL SELECT count(*) || ' large objects' FROM pg_largeobject_metadata HAVING count(*) > 0 ORDER BY 1";

/// The tables of the schema, by name, with their columns in order, without generated ones.
pub(super) fn tables(conn: &mut PgConnection) -> Result<Vec<TableShape>, StoreError> {
    let rows = lines(conn, TABLES)?;
    let shapes = rows.iter().map(|row| {
        let mut names = row.split('\n').map(str::to_owned);
        TableShape { name: names.next().unwrap_or_default(), columns: names.collect() }
    });
    Ok(shapes.collect())
}

/// SHA-256 over all definitions, in hexadecimal digits. Two servers of one major version say the same of one schema.
pub(super) fn fingerprint(conn: &mut PgConnection) -> Result<String, StoreError> {
    line(conn, FINGERPRINT)
}

/// Versions of the migrations that were applied, ascending.
pub(super) fn migrations(conn: &mut PgConnection) -> Result<Vec<String>, StoreError> {
    lines(conn, &format!("SELECT version AS line FROM {BOOKKEEPING} ORDER BY version COLLATE \"C\""))
}

/// What is there although no migration makes it, so that a restore lacks it.
pub(super) fn foreign_objects(
    conn: &mut PgConnection,
    tables: &[TableShape],
) -> Result<Vec<String>, StoreError> {
    let mut found = lines(conn, STRANGERS)?;
    let unknown = tables.iter().filter(|table| !MigrationSet::Platform.makes_table(&table.name));
    found.extend(unknown.map(|table| format!("table {}", table.name)));
    Ok(found)
}

/// Where the sequences stand. They are not part of any snapshot: what they say is at least what the rows have used.
pub(super) fn sequences(conn: &mut PgConnection) -> Result<Vec<SequenceValue>, StoreError> {
    let names = lines(
        conn,
        "SELECT relname AS line FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S' \
         ORDER BY relname COLLATE \"C\"",
    )?;
    let value = |name: String| {
        let quoted = quote_identifier(&name);
        let last = number(
            conn,
            &format!("SELECT CASE WHEN is_called THEN last_value ELSE -1 END AS number FROM public.{quoted}"),
        )?;
        Ok(SequenceValue { name, last: (last >= 0).then_some(last) })
    };
    names.into_iter().map(value).collect()
}
