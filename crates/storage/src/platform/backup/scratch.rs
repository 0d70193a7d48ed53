use std::time::Duration;

use diesel::PgConnection;
use plimsoll_crypto::KeyRing;
use plimsoll_reliability::backup::{
    BackupError, BackupFolder, BackupName, Header, Meter, SnapshotFacts, Totals, read_header,
};

use super::catalogue::fingerprint;
use super::load::Loader;
use super::sql::{connect, line, lines, maintenance, number, quote_text, run};
use crate::db::quote_identifier;
use crate::db::url::with_database;
use crate::migrate::{MigrateError, MigrationSet, migrate, migrate_to};

const LOCK_WAIT: Duration = Duration::from_secs(30);

/// A database beside the live one, which a backup is restored into. It stays when this is dropped; whoever does not need it
/// any more [drops](Self::drop_it) it, and a janitor does after a day.
#[derive(Debug)]
pub struct Scratch {
    name: String,
    url: String,
    /// Of the live database.
    owner: String,
}

/// A database of the same server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherDatabase {
    /// Its name.
    pub name: String,
    /// What was said about it when it was made.
    pub comment: String,
}

impl Scratch {
    /// Makes an empty database with the live one's encoding and collation. `comment` says what it is for.
    ///
    /// # Errors
    /// The role may not, or the name is taken.
    pub fn create(owner: &str, name: &str, comment: &str) -> Result<Self, BackupError> {
        let live = crate::db::database_of(owner).unwrap_or_default();
        let mut conn = maintenance(owner)?;
        let as_live = line(
            &mut conn,
            &format!(
                "SELECT format('ENCODING %L LC_COLLATE %L LC_CTYPE %L', pg_encoding_to_char(encoding), datcollate, datctype) \
                 AS line FROM pg_database WHERE datname = {}",
                quote_text(&live)
            ),
        )?;
        let quoted = quote_identifier(name);
        run(&mut conn, &format!("CREATE DATABASE {quoted} TEMPLATE template0 {as_live}"))?;
        let this = Self { name: name.to_owned(), url: with_database(owner, name), owner: owner.to_owned() };
        run(&mut conn, &format!("COMMENT ON DATABASE {quoted} IS {}", quote_text(comment)))?;
        Ok(this)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its owner's connection string.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Brings a backup in: the schema as it was, the rows, and what later migrations make of both.
    ///
    /// # Errors
    /// Every finding about the backup; its rows break a rule of their schema; or the database's own.
    pub fn load(
        &self,
        folder: &BackupFolder,
        backup: &BackupName,
        ring: &KeyRing,
        meter: &Meter,
    ) -> Result<(Header, Totals), BackupError> {
        let header = read_header(&backup.existing_file(folder.path())?, ring)?;
        let facts = &header.snapshot;
        migrate_to(&self.url, MigrationSet::Platform, &facts.migrations).map_err(migration_error)?;
        let mut loader = Loader::begin(connect(&self.url, LOCK_WAIT)?)?;
        let loaded = folder.read_into(backup, ring, &mut loader, meter)?;
        loader.finish()?;
        Ok(loaded)
    }

    /// Whether the schema that the migrations made here differs from that of the backup: somebody changed that one by
    /// hand. Between major versions of the server nothing can be said.
    ///
    /// # Errors
    /// The database's own.
    pub fn differs_from(&self, facts: &SnapshotFacts) -> Result<bool, BackupError> {
        let mut conn = connect(&self.url, LOCK_WAIT)?;
        let version = line(&mut conn, "SELECT current_setting('server_version') AS line")?;
        let major = |version: &str| version.split(['.', ' ']).next().map(str::to_owned);
        let same_kind = major(&version) == major(&facts.server_version);
        Ok(same_kind && fingerprint(&mut conn)? != facts.catalogue)
    }

    /// Applies the migrations that came after the backup.
    ///
    /// # Errors
    /// One of them fails.
    pub fn migrate(&self) -> Result<(), BackupError> {
        migrate(&self.url, MigrationSet::Platform).map(|_| ()).map_err(migration_error)
    }

    /// Ends it.
    ///
    /// # Errors
    /// The server refuses.
    pub fn drop_it(self) -> Result<(), BackupError> {
        drop_database(&self.owner, &self.name)
    }
}

fn migration_error(error: MigrateError) -> BackupError {
    match error {
        MigrateError::SchemaNewer { unknown } => BackupError::NewerSchema { unknown },
        MigrateError::Store(error) => error.into(),
        other => BackupError::Unsound(other.to_string()),
    }
}

/// Drops a database of the same server, and ends the sessions on it.
///
/// # Errors
/// The server refuses.
pub fn drop_database(owner: &str, name: &str) -> Result<(), BackupError> {
    let mut conn = maintenance(owner)?;
    Ok(run(&mut conn, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_identifier(name)))?)
}

/// The other databases of the server that this role owns, or all of them for a superuser, by name.
///
/// # Errors
/// The server is away.
pub fn other_databases(owner: &str) -> Result<Vec<OtherDatabase>, BackupError> {
    let live = crate::db::database_of(owner).unwrap_or_default();
    let rows = lines(
        &mut maintenance(owner)?,
        &format!(
            "SELECT datname || E'\\n' || coalesce(shobj_description(oid, 'pg_database'), '') AS line FROM pg_database \
             WHERE datname <> {} AND NOT datistemplate AND pg_has_role(datdba, 'USAGE') ORDER BY datname",
            quote_text(&live)
        ),
    )?;
    let read = |row: &String| {
        let (name, comment) = row.split_once('\n')?;
        Some(OtherDatabase { name: name.to_owned(), comment: comment.to_owned() })
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// Bytes of a database on the server's disk.
///
/// # Errors
/// The server is away.
pub fn database_bytes(owner: &str) -> Result<u64, BackupError> {
    let mut conn: PgConnection = connect(owner, LOCK_WAIT)?;
    Ok(number(&mut conn, "SELECT pg_database_size(current_database()) AS number")?.unsigned_abs())
}

/// Whether the role may do all that a restore takes.
///
/// # Errors
/// [`BackupError::Refused`] with the right that is missing.
pub fn may_restore(owner: &str) -> Result<(), BackupError> {
    let live = crate::db::database_of(owner).unwrap_or_default();
    let mut conn = maintenance(owner).map_err(|error| {
        BackupError::Refused(format!(
            "a restore needs the server's database `postgres`, from which the live one is renamed: {error}"
        ))
    })?;
    let query = format!(
        "SELECT (CASE WHEN NOT (rolcreatedb OR rolsuper) THEN 'ALTER ROLE ' || quote_ident(rolname) || ' CREATEDB' \
         WHEN NOT EXISTS (SELECT FROM pg_database WHERE datname = {live} AND pg_has_role(datdba, 'USAGE')) \
         THEN 'ALTER DATABASE ' || quote_ident({live}) || ' OWNER TO ' || quote_ident(rolname) ELSE '' END) AS line \
         FROM pg_roles WHERE rolname = current_user",
        live = quote_text(&live)
    );
    match line(&mut conn, &query)?.as_str() {
        "" => Ok(()),
        grant => Err(BackupError::Refused(format!(
            "the role of MIGRATION_DATABASE_URL may not restore; a superuser can let it: {grant}"
        ))),
    }
}
