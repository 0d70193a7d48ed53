//! Bringing a database to the schema of this build.

use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::{Connection, SimpleConnection};
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel::sql_types::{BigInt, Bool};
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use plimsoll_core_domain::{StoreError, StoreErrorKind};

use crate::db::errors::{StoreResult, connect_error};
use crate::db::settings::network;
use crate::db::url::with_extras;

#[cfg(feature = "platform")]
const PLATFORM: EmbeddedMigrations = embed_migrations!("../../migrations/platform");
#[cfg(feature = "paper")]
const PAPER: EmbeddedMigrations = embed_migrations!("../../migrations/paper");

/// The advisory lock that migrations hold; backups take it shared.
pub const LOCK_KEY: i64 = 0x706c_696d_736f_6c6c; // "plimsoll"

/// Another instance that migrates is waited for this long.
const LOCK_WAIT: Duration = Duration::from_secs(120);

/// Which schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationSet {
    /// The platform's own database.
    #[cfg(feature = "platform")]
    Platform,
    /// The paper broker's books.
    #[cfg(feature = "paper")]
    Paper,
}

impl MigrationSet {
    fn migrations(self) -> Result<Vec<Box<dyn Migration<Pg>>>, MigrateError> {
        let source: &EmbeddedMigrations = match self {
            #[cfg(feature = "platform")]
            Self::Platform => &PLATFORM,
            #[cfg(feature = "paper")]
            Self::Paper => &PAPER,
        };
        let mut all = source.migrations().map_err(MigrateError::failed("reading the embedded migrations"))?;
        all.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
        Ok(all)
    }

    /// A name that changes whenever the set's list of migrations does: for caches of migrated databases.
    pub fn fingerprint(self) -> String {
        let texts = self.texts();
        let hash = texts
            .iter()
            .flat_map(|text| text.bytes().chain([0]))
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("{}_{hash:016x}", self.name())
    }

    /// Whether one of the set's migrations makes a table of this name.
    #[cfg(feature = "platform")]
    pub(crate) fn makes_table(self, table: &str) -> bool {
        let makes = |text: &str| {
            text.match_indices("CREATE TABLE ").any(|(at, verb)| {
                let name = text[at + verb.len()..].trim_start_matches("IF NOT EXISTS ");
                name.strip_prefix(table).is_some_and(|rest| rest.starts_with([' ', '(', '\n']))
            })
        };
        self.texts().iter().any(|text| makes(text))
    }

    /// `platform` or `paper`.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "platform")]
            Self::Platform => "platform",
            #[cfg(feature = "paper")]
            Self::Paper => "paper",
        }
    }

    /// Tables whose rows are never changed or deleted.
    fn append_only(self) -> &'static [&'static str] {
        match self {
            #[cfg(feature = "platform")]
            Self::Platform => &["audit_log", "audit_checkpoints", "audit_checkpoint_marks"],
            #[cfg(feature = "paper")]
            Self::Paper => &[],
        }
    }

    /// What else the application's role may and may not do, for a role's quoted name.
    #[cfg_attr(not(feature = "platform"), expect(unused_variables, reason = "the paper broker has one role"))]
    fn grants(self, role: &str) -> String {
        match self {
            // A chain's head moves with its rows and goes never; old rows go by the function's rule alone.
            #[cfg(feature = "platform")]
            Self::Platform => format!(
                "REVOKE DELETE, TRUNCATE ON audit_head FROM {role};
                 GRANT EXECUTE ON FUNCTION audit_log_prune(bigint) TO {role};"
            ),
            #[cfg(feature = "paper")]
            Self::Paper => String::new(),
        }
    }

    /// Names and statements of all migrations, in order.
    fn texts(self) -> &'static [&'static str] {
        match self {
            #[cfg(feature = "platform")]
            Self::Platform => include!(concat!(env!("OUT_DIR"), "/platform.in")),
            #[cfg(feature = "paper")]
            Self::Paper => include!(concat!(env!("OUT_DIR"), "/paper.in")),
        }
    }
}

/// What a migration did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The migrations' names, in order.
    pub applied: Vec<String>,
}

/// Why a database was not migrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The database has migrations that this build does not know.
    #[error("the database's schema is newer than this program (it has {}); start a newer version", unknown.join(", "))]
    SchemaNewer {
        /// The versions this build does not know.
        unknown: Vec<String>,
    },
    /// A migration failed; it was rolled back, those before it stay.
    #[error("{what}: {source}")]
    Failed {
        /// What was tried.
        what: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MigrateError {
    fn failed(what: impl Into<String>) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Self {
        let what = what.into();
        move |source| Self::Failed { what, source }
    }
}

/// Applies what is missing, each migration in a transaction of its own, while no other instance migrates. `url` should
/// be the owner's.
///
/// # Errors
/// See [`MigrateError`]; a migration that fails leaves those before it applied.
pub fn migrate(url: &str, set: MigrationSet) -> Result<Report, MigrateError> {
    let mut conn = connect(url)?;
    take_lock(&mut conn)?;
    let mut report = Report::default();
    for migration in missing(&mut conn, set)? {
        let name = migration.name().to_string();
        conn.run_migration(&migration).map_err(MigrateError::failed(format!("migration {name}")))?;
        tracing::info!(migration = name, "applied");
        report.applied.push(name);
    }
    Ok(report) // the lock goes with the connection
}

/// As [`migrate`], but applies only the migrations of these versions: the schema as it once was.
///
/// # Errors
/// As [`migrate`]; `SchemaNewer` also for a version that this build does not know, and then nothing was applied.
#[cfg(feature = "platform")]
pub fn migrate_to(url: &str, set: MigrationSet, versions: &[String]) -> Result<Report, MigrateError> {
    let all = set.migrations()?;
    let known = |version: &String| all.iter().any(|one| one.name().version().to_string() == *version);
    let unknown: Vec<String> = versions.iter().filter(|version| !known(version)).cloned().collect();
    if !unknown.is_empty() {
        return Err(MigrateError::SchemaNewer { unknown });
    }
    let mut conn = connect(url)?;
    take_lock(&mut conn)?;
    let mut report = Report::default();
    for migration in missing(&mut conn, set)? {
        let name = migration.name().to_string();
        if versions.contains(&migration.name().version().to_string()) {
            conn.run_migration(&migration).map_err(MigrateError::failed(format!("migration {name}")))?;
            report.applied.push(name);
        }
    }
    Ok(report)
}

/// What [`migrate`] would apply. Writes nothing but Diesel's own bookkeeping table.
///
/// # Errors
/// As [`migrate`].
pub fn plan(url: &str, set: MigrationSet) -> Result<Report, MigrateError> {
    let mut conn = connect(url)?;
    let applied = missing(&mut conn, set)?.iter().map(|migration| migration.name().to_string()).collect();
    Ok(Report { applied })
}

/// Takes every migration back, the last one first: for tests, and for whoever means to lose everything.
///
/// # Errors
/// As [`migrate`].
pub fn revert_all(url: &str, set: MigrationSet) -> Result<Report, MigrateError> {
    let mut conn = connect(url)?;
    take_lock(&mut conn)?;
    missing(&mut conn, set)?; // refuses a newer schema
    let applied =
        conn.applied_migrations().map_err(MigrateError::failed("reading the applied migrations"))?;
    let mut report = Report::default();
    for migration in set.migrations()?.into_iter().rev() {
        if applied.contains(&migration.name().version().as_owned()) {
            let name = migration.name().to_string();
            conn.revert_migration(&migration).map_err(MigrateError::failed(format!("taking back {name}")))?;
            report.applied.push(name);
        }
    }
    Ok(report)
}

/// Lets `role` use what the migrations made: read and write rows, use sequences, but not change or delete what is only
/// ever appended to. `url` must be the owner's; the role must be there. Run it after each [`migrate`]; it is repeatable.
///
/// # Errors
/// `Store` when the server refuses.
pub fn grant_application_role(url: &str, set: MigrationSet, role: &str) -> Result<(), MigrateError> {
    let role = crate::db::quote_identifier(role);
    let mut statements = format!(
        "GRANT USAGE ON SCHEMA public TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
         GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {role};
         REVOKE INSERT, UPDATE, DELETE ON __diesel_schema_migrations FROM {role};"
    );
    for table in set.append_only() {
        statements.push_str(&format!("REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {role};"));
    }
    statements.push_str(&set.grants(&role));
    Ok(connect(url)?.batch_execute(&statements).store()?)
}

fn connect(url: &str) -> Result<PgConnection, MigrateError> {
    let mut extras = network(Duration::from_secs(3), "plimsoll-migrate");
    // a migration that waits for a lock makes everybody behind it wait as well
    extras.settings = vec![("lock_timeout", "5000".to_owned()), ("statement_timeout", "300000".to_owned())];
    PgConnection::establish(&with_extras(url, &extras)).map_err(|error| connect_error(error).into())
}

fn take_lock(conn: &mut PgConnection) -> Result<(), MigrateError> {
    #[derive(QueryableByName)]
    struct Taken {
        #[diesel(sql_type = Bool)]
        taken: bool,
    }
    let began = Instant::now();
    loop {
        let row: Taken = sql_query("SELECT pg_try_advisory_lock($1) AS taken")
            .bind::<BigInt, _>(LOCK_KEY)
            .get_result(conn)
            .store()?;
        if row.taken {
            return Ok(());
        }
        if began.elapsed() >= LOCK_WAIT {
            return Err(
                StoreError::new(StoreErrorKind::Contention, "another instance is still migrating").into()
            );
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The set's migrations that the database lacks, in order.
fn missing(conn: &mut PgConnection, set: MigrationSet) -> Result<Vec<Box<dyn Migration<Pg>>>, MigrateError> {
    let applied =
        conn.applied_migrations().map_err(MigrateError::failed("reading the applied migrations"))?;
    let mut ours = set.migrations()?;
    let unknown: Vec<String> = applied
        .iter()
        .filter(|version| !ours.iter().any(|migration| migration.name().version() == **version))
        .map(ToString::to_string)
        .collect();
    if !unknown.is_empty() {
        return Err(MigrateError::SchemaNewer { unknown });
    }
    ours.retain(|migration| !applied.contains(&migration.name().version().as_owned()));
    Ok(ours)
}
