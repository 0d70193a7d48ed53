//! The one PostgreSQL server of a test process.

use std::sync::OnceLock;

use plimsoll_storage::private_postgres::{Options, PrivatePostgres};

struct Server {
    url: String,
    /// Kept running by being kept; the end of the process closes its pipe, which stops and removes it.
    _private: Option<PrivatePostgres>,
}

/// The connection string of the server's `postgres` database, as a role that may create databases.
///
/// # Panics
/// When no server can be started, with the reason.
pub fn server_url() -> &'static str {
    static SERVER: OnceLock<Server> = OnceLock::new();
    &SERVER.get_or_init(start).url
}

#[expect(clippy::disallowed_methods, reason = "the environment is how a test run is configured")]
fn start() -> Server {
    if let Some(url) = std::env::var("TEST_DATABASE_URL").ok().filter(|url| !url.is_empty()) {
        return Server { url, _private: None };
    }
    // a name of our own under the temporary folder; the server removes it at its end, so no guard of ours may
    let folder =
        tempfile::Builder::new().prefix("plimsoll-test-").tempdir().expect("a temporary folder").keep();
    let mut options = Options::new(folder);
    options.path_var = std::env::var("PATH").unwrap_or_default();
    options.bin = std::env::var_os("PG_BIN").map(Into::into);
    options.throwaway = true;
    let server =
        PrivatePostgres::start(options).unwrap_or_else(|error| panic!("a PostgreSQL for tests: {error}"));
    Server { url: server.url("postgres"), _private: Some(server) }
}
