//! A running cluster as its users see it: connection strings, databases, roles.

use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::connection::{Connection, SimpleConnection};
use diesel::sql_types::{Bool, Text};
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};
use plimsoll_core_domain::StoreError;

use crate::db::errors::{StoreResult, connect_error};
use crate::db::quote_identifier;
use crate::db::settings::network;
use crate::db::url::{percent_encode, with_extras};

/// The superuser: migrates, backs up, swaps databases.
pub const OWNER: &str = "plimsoll_owner";
/// The role of the pools: reads and writes rows, owns nothing.
pub const APP: &str = "plimsoll_app";

/// Where a private server listens. Cheap to clone; says nothing about whether the server runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub(super) socket: PathBuf,
    pub(super) data: PathBuf,
}

impl Cluster {
    /// The owner's connection string for `database`.
    pub fn url(&self, database: &str) -> String {
        self.url_for(database, OWNER)
    }

    /// The application role's connection string for `database`.
    pub fn app_url(&self, database: &str) -> String {
        self.url_for(database, APP)
    }

    /// A line for a shell that opens `database` in psql.
    pub fn psql_command(&self, database: &str) -> String {
        format!("psql '{}'", self.url(database))
    }

    /// The folder of the cluster's files.
    pub fn folder(&self) -> &Path {
        &self.data
    }

    /// The folder of the server's socket.
    pub fn socket_folder(&self) -> &Path {
        &self.socket
    }

    fn url_for(&self, database: &str, role: &str) -> String {
        let socket = percent_encode(&self.socket.to_string_lossy()).replace("%2F", "/");
        // the port too, or PGPORT of the environment would name another socket
        format!("postgresql:///{}?host={socket}&port=5432&user={role}", percent_encode(database))
    }

    /// Makes the database if it is missing, and lets the application role use all that will be made in it.
    ///
    /// # Errors
    /// `Unavailable` when the server is away; `Other` when it refuses.
    pub fn ensure_database(&self, name: &str) -> Result<(), StoreError> {
        let mut admin = self.connect("postgres")?;
        let found: Found = sql_query("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1) AS found")
            .bind::<Text, _>(name)
            .get_result(&mut admin)
            .store()?;
        if !found.found {
            admin.batch_execute(&format!("CREATE DATABASE {}", quote_identifier(name))).store()?;
        }
        self.connect(name)?
            .batch_execute(&format!(
                "GRANT USAGE ON SCHEMA public TO {APP};
                 ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {APP};
                 ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO {APP};"
            ))
            .store()
    }

    /// The application role, made if it is missing.
    pub(super) fn ensure_roles(&self) -> Result<(), StoreError> {
        self.connect("postgres")?
            .batch_execute(&format!(
                "DO $$ BEGIN
                   IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP}') THEN
                     CREATE ROLE {APP} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
                   END IF;
                 END $$"
            ))
            .store()
    }

    pub(super) fn connect(&self, database: &str) -> Result<PgConnection, StoreError> {
        let extras = network(Duration::from_secs(3), "plimsoll-control");
        PgConnection::establish(&with_extras(&self.url(database), &extras)).map_err(connect_error)
    }
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    found: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_encoded() {
        let cluster = Cluster { socket: "/tmp/a b&c".into(), data: "/data".into() };
        assert_eq!(
            cluster.url("plimsoll"),
            "postgresql:///plimsoll?host=/tmp/a%20b%26c&port=5432&user=plimsoll_owner"
        );
        assert_eq!(
            cluster.app_url("x/y"),
            "postgresql:///x%2Fy?host=/tmp/a%20b%26c&port=5432&user=plimsoll_app"
        );
        assert!(cluster.psql_command("p").starts_with("psql 'postgresql:///p?"));
    }
}
