use std::fmt;
use std::io::Write;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Binary, Integer, Timestamptz};
use diesel::{OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query};
use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_reliability::backup::{
    BackupError, SequenceValue, SnapshotFacts, SnapshotSource, StretchingFacts, TableShape,
};

use super::catalogue::{fingerprint, foreign_objects, migrations, sequences, tables};
use super::copy::copy_out;
use super::sql::{connect, line, number, run};
use crate::db::errors::StoreResult;
use crate::db::quote_identifier;
use crate::migrate::LOCK_KEY;

/// A table that somebody holds is waited for this long, so often: a backup that queued longer would hold up everybody
/// behind it.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const TRIES: u32 = 3;

/// One moment of a database, as long as this lives. Nobody can migrate meanwhile, nor truncate or rewrite a table; rows are
/// read and written as ever.
pub struct Snapshot {
    conn: PgConnection,
    facts: SnapshotFacts,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("facts", &self.facts).finish_non_exhaustive()
    }
}

#[derive(QueryableByName)]
struct Moment {
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Stretched {
    #[diesel(sql_type = Binary)]
    salt: Vec<u8>,
    #[diesel(sql_type = Integer)]
    iterations: i32,
}

impl Snapshot {
    /// Holds the present moment. `url` should be the owner's.
    ///
    /// # Errors
    /// Migrations are running, a table stays locked by somebody for six seconds, or the database is not to be reached.
    pub fn open(url: &str) -> Result<Self, BackupError> {
        let mut conn = connect(url, LOCK_WAIT)?;
        if number(
            &mut conn,
            &format!("SELECT pg_try_advisory_lock_shared({LOCK_KEY})::int::bigint AS number"),
        )? == 0
        {
            return Err(busy("the database is being migrated"));
        }
        let server = Server::of(&mut conn);
        for _ in 0..TRIES {
            if let Some(facts) = begin(&mut conn, &server)? {
                return Ok(Self { conn, facts });
            }
            run(&mut conn, "ROLLBACK")?;
        }
        Err(busy("a table is locked, or its definition is being changed"))
    }
}

fn busy(what: &str) -> BackupError {
    StoreError::new(StoreErrorKind::Contention, what).into()
}

/// What the server says of itself. A managed one may not: then it is empty.
struct Server {
    system_identifier: String,
    timeline: u32,
}

impl Server {
    fn of(conn: &mut PgConnection) -> Self {
        let system = line(conn, "SELECT system_identifier::text AS line FROM pg_control_system()");
        let timeline = number(conn, "SELECT timeline_id::bigint AS number FROM pg_control_checkpoint()");
        Self {
            system_identifier: system.unwrap_or_default(),
            timeline: timeline.ok().and_then(|timeline| timeline.try_into().ok()).unwrap_or(0),
        }
    }
}

/// Begins the transaction: all tables are locked before its snapshot is taken, and are still all there are afterwards.
/// `None`: not now.
fn begin(conn: &mut PgConnection, server: &Server) -> Result<Option<SnapshotFacts>, BackupError> {
    let before = tables(conn)?;
    if before.is_empty() {
        return Err(BackupError::Refused("the database has no tables: nothing to back up".to_owned()));
    }
    let names: Vec<String> =
        before.iter().map(|table| format!("public.{}", quote_identifier(&table.name))).collect();
    run(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    match run(conn, &format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "))) {
        Ok(()) => {}
        Err(error) if error.kind() == StoreErrorKind::Contention => return Ok(None),
        // a table that was dropped a moment ago
        Err(error) if error.to_string().contains("does not exist") => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let tables = tables(conn)?;
    if tables != before {
        return Ok(None);
    }
    let moment: Moment = sql_query("SELECT clock_timestamp() AS at").get_result(conn).store()?;
    let stretched: Option<Stretched> = sql_query("SELECT salt, iterations FROM encryption_stretching")
        .get_result(conn)
        .optional()
        .store()?;
    let table_bytes = number(
        conn,
        "SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint AS number FROM pg_class \
         WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'",
    )?;
    Ok(Some(SnapshotFacts {
        at: moment.at,
        lsn: line(
            conn,
            "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text \
             AS line",
        )?,
        system_identifier: server.system_identifier.clone(),
        timeline: server.timeline,
        server_version: line(conn, "SELECT current_setting('server_version') AS line")?,
        database: line(conn, "SELECT current_database()::text AS line")?,
        migrations: migrations(conn)?,
        catalogue: fingerprint(conn)?,
        foreign_objects: foreign_objects(conn, &tables)?,
        tables,
        table_bytes: table_bytes.unsigned_abs(),
        stretching: stretched
            .map(|row| StretchingFacts { salt: hex(&row.salt), iterations: row.iterations.unsigned_abs() }),
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl SnapshotSource for Snapshot {
    fn facts(&self) -> &SnapshotFacts {
        &self.facts
    }

    fn copy_table(&mut self, table: &TableShape, sink: &mut dyn Write) -> Result<(), BackupError> {
        copy_out(&mut self.conn, table, sink)
    }

    fn sequences(&mut self) -> Result<Vec<SequenceValue>, BackupError> {
        Ok(sequences(&mut self.conn)?)
    }
}
