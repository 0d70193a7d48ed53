//! A copy takes the place of the live database, in one transaction.

use std::thread;
use std::time::{Duration, Instant};

use diesel::PgConnection;
use plimsoll_core_domain::StoreError;
use plimsoll_reliability::backup::BackupError;

use super::rights::copy_rights;
use super::sql::{lines, maintenance, number, quote_text, run};
use crate::db::url::with_database;
use crate::db::{database_of, quote_identifier};

/// Held on the maintenance database by who swaps: a start that finds the live database closed asks for it first.
const SWAP_LOCK: i64 = 0x706c_696d_7377_6170; // "plimswap"
/// Sessions that do not end in this time are named, and nothing is swapped.
const GIVE_UP: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// What a start found of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// The live database takes connections: nothing to do.
    Nothing,
    /// It took none, since a swap was cut short before its transaction. It does again.
    Opened,
}

/// Lets `copy` take the place of the live database, which is called `before` from then on and takes no connections. Until
/// the one transaction that does it nothing is changed but that the live database takes no connections for a moment, and
/// any error undoes that.
///
/// # Errors
/// Sessions that this role may not end, which are named; or the server refuses.
pub fn swap(owner: &str, copy: &str, before: &str, comment: &str) -> Result<(), BackupError> {
    let live = database_of(owner)
        .ok_or_else(|| BackupError::Refused("the connection string names no database".to_owned()))?;
    let mut conn = maintenance(owner)?;
    if number(&mut conn, &format!("SELECT pg_try_advisory_lock({SWAP_LOCK})::int::bigint AS number"))? == 0 {
        return Err(BackupError::Busy);
    }
    let open = |conn: &mut PgConnection, name: &str, open: bool| {
        run(conn, &format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {open}", quote_identifier(name)))
    };
    // one that stands beside the live database since an earlier swap takes none either
    open(&mut conn, copy, true)?;
    copy_rights(owner, &with_database(owner, copy), copy)?;
    open(&mut conn, &live, false)?;
    let swapped = end_sessions(&mut conn, &[&live, copy]).and_then(|()| {
        let (live, copy, before) =
            (quote_identifier(&live), quote_identifier(copy), quote_identifier(before));
        run(
            &mut conn,
            &format!(
                "BEGIN;
                 ALTER DATABASE {live} RENAME TO {before};
                 ALTER DATABASE {copy} RENAME TO {live};
                 ALTER DATABASE {live} WITH ALLOW_CONNECTIONS true;
                 COMMENT ON DATABASE {before} IS {};
                 COMMENT ON DATABASE {live} IS NULL;
                 COMMIT",
                quote_text(comment)
            ),
        )
        .map_err(BackupError::from)
    });
    let Err(error) = swapped else { return Ok(()) };
    // a connection that was lost in the commit: the names tell
    if is_swapped(owner, copy, before).unwrap_or(false) {
        return Ok(());
    }
    if let Err(error) = run(&mut conn, "ROLLBACK").and_then(|()| open(&mut conn, &live, true)) {
        let error: &dyn std::error::Error = &error;
        tracing::error!(error, "The database could not be opened again; the next start tries once more.");
    }
    Err(error)
}

fn is_swapped(owner: &str, copy: &str, before: &str) -> Result<bool, StoreError> {
    let (copy, before) = (quote_text(copy), quote_text(before));
    let query = format!(
        "SELECT count(*) FILTER (WHERE datname = {before}) - count(*) FILTER (WHERE datname = {copy}) AS number \
         FROM pg_database"
    );
    Ok(number(&mut maintenance(owner)?, &query)? == 1)
}

/// Lets a database beside the live one take connections, or not: what was live before a swap takes none.
///
/// # Errors
/// The server refuses.
pub fn open_database(owner: &str, name: &str, open: bool) -> Result<(), BackupError> {
    let mut conn = maintenance(owner)?;
    let name = quote_identifier(name);
    Ok(run(&mut conn, &format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {open}"))?)
}

/// Ends all sessions on the databases.
fn end_sessions(conn: &mut PgConnection, databases: &[&str]) -> Result<(), BackupError> {
    let names: Vec<String> = databases.iter().map(|name| quote_text(name)).collect();
    let names = names.join(", ");
    let began = Instant::now();
    loop {
        let there = lines(
            conn,
            &format!(
                "SELECT concat_ws(' ', pid, usename, application_name, client_addr) AS line FROM pg_stat_activity \
                 WHERE datname IN ({names}) AND backend_type = 'client backend' ORDER BY pid"
            ),
        )?;
        if there.is_empty() {
            return Ok(());
        }
        if began.elapsed() > GIVE_UP {
            return Err(BackupError::Refused(format!(
                "sessions on the database do not end, end them first: {}",
                there.join("; ")
            )));
        }
        // one at a time: one that may not be ended must not keep the others
        for pid in there.iter().filter_map(|line| line.split(' ').next()) {
            let ended: Result<(), StoreError> = run(conn, &format!("SELECT pg_terminate_backend({pid})"));
            if let Err(error) = ended {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, pid, "A session on the database could not be ended.");
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Opens the live database again, where a swap that was cut short left it closed. Waits for a swap that is under way.
///
/// # Errors
/// The server is away, or refuses.
pub fn repair(owner: &str) -> Result<Repaired, BackupError> {
    let Some(live) = database_of(owner) else { return Ok(Repaired::Nothing) };
    let mut conn = maintenance(owner)?;
    let closed = format!(
        "SELECT count(*) AS number FROM pg_database WHERE datname = {} AND NOT datallowconn",
        quote_text(&live)
    );
    if number(&mut conn, &closed)? == 0 {
        return Ok(Repaired::Nothing);
    }
    let began = Instant::now();
    while number(&mut conn, &format!("SELECT pg_try_advisory_lock({SWAP_LOCK})::int::bigint AS number"))? == 0
    {
        if began.elapsed() > 2 * GIVE_UP {
            return Err(BackupError::Busy);
        }
        thread::sleep(PAUSE);
    }
    if number(&mut conn, &closed)? == 0 {
        return Ok(Repaired::Nothing);
    }
    run(&mut conn, &format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true", quote_identifier(&live)))?;
    Ok(Repaired::Opened)
}
