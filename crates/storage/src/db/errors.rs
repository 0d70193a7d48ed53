//! The one place that turns Diesel's errors into ours: by kind first, then, where Diesel reports `Unknown`, by the
//! server's English text. PostgreSQL's SQLSTATE is not reachable through Diesel, so the server should answer in
//! English (`lc_messages` C or en); [`Db::open`](super::Db::open) warns when it does not.

use std::time::Duration;

use diesel::result::{ConnectionError, DatabaseErrorKind, Error, QueryResult};
use plimsoll_core_domain::{StoreError, StoreErrorKind};

/// What a busy caller is told to wait.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// `query.execute(conn).store()?` in the implementations of the ports.
pub(crate) trait StoreResult<T> {
    /// Maps the error as this module says.
    fn store(self) -> Result<T, StoreError>;
}

impl<T> StoreResult<T> for QueryResult<T> {
    fn store(self) -> Result<T, StoreError> {
        self.map_err(store_error)
    }
}

/// The StoreError for a failed statement.
pub(crate) fn store_error(error: Error) -> StoreError {
    StoreError::new(kind_of(&error), text_of(&error)).caused_by(error)
}

/// The StoreError for a connection that could not be made.
pub(crate) fn connect_error(error: ConnectionError) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "no connection to the database").caused_by(error)
}

/// The connection died in COMMIT: nobody on this side knows whether it happened.
pub(crate) fn commit_unknown(error: Error) -> StoreError {
    StoreError::new(StoreErrorKind::CommitUnknown, "the connection was lost while committing")
        .caused_by(error)
}

/// No connection is to be had right now.
pub(crate) fn unavailable(detail: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, detail)
}

/// What the caller can do about `error`.
pub(crate) fn kind_of(error: &Error) -> StoreErrorKind {
    match error {
        Error::DatabaseError(kind, information) => match kind {
            DatabaseErrorKind::UniqueViolation | DatabaseErrorKind::ExclusionViolation => {
                StoreErrorKind::Duplicate
            }
            DatabaseErrorKind::SerializationFailure => StoreErrorKind::Contention,
            DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::ReadOnlyTransaction => StoreErrorKind::Unavailable,
            _ => kind_of_text(information.message()),
        },
        Error::BrokenTransactionManager => StoreErrorKind::Unavailable,
        Error::RollbackErrorOnCommit { commit_error, .. } => kind_of(commit_error),
        _ => StoreErrorKind::Other,
    }
}

/// Whether the whole transaction may simply be run again: SQLSTATE 40001 and 40P01. A lock time-out (55P03) is
/// contention too, but its caller has waited long enough already.
pub(crate) fn is_repeatable(error: &Error) -> bool {
    match error {
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => true,
        Error::DatabaseError(DatabaseErrorKind::Unknown, information) => {
            information.message().starts_with("deadlock detected")
        }
        _ => false,
    }
}

/// Whether the connection itself is gone, so that another one may serve.
pub(crate) fn is_lost(error: &Error) -> bool {
    match error {
        Error::DatabaseError(
            DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand,
            _,
        )
        | Error::BrokenTransactionManager => true,
        Error::DatabaseError(DatabaseErrorKind::Unknown, information) => {
            LOST.iter().any(|text| information.message().contains(text))
        }
        Error::RollbackErrorOnCommit { commit_error, .. } => is_lost(commit_error),
        _ => false,
    }
}

/// Texts that mean: this connection is over (57P01, 57P02, 25P03, 57P05, 08xxx and libpq's own).
const LOST: &[&str] = &[
    "terminating connection",
    "server closed the connection unexpectedly",
    "no connection to the server",
    "connection not open",
    "could not receive data from server",
    "could not send data to server",
    "SSL connection has been closed unexpectedly",
    "SSL SYSCALL error",
    "Connection reset by peer",
    "Broken pipe",
    "the database system is shutting down",
];

/// Texts that mean: another transaction is in the way (40P01, 55P03, and 40001 raised as text).
const CONTENTION: &[&str] = &[
    "deadlock detected",
    "canceling statement due to lock timeout",
    "could not obtain lock on",
    "could not serialize access",
];

/// Texts that mean: not now (57014, 53300, 57P03, 53100, 53200, 55000 of a database being swapped).
const UNAVAILABLE: &[&str] = &[
    "canceling statement due to statement timeout",
    "canceling statement due to user request",
    "canceling statement due to conflict with recovery",
    "too many clients already",
    "too many connections for",
    "remaining connection slots are reserved",
    "the database system is starting up",
    "the database system is in recovery mode",
    "the database system is not accepting connections",
    "not currently accepting connections",
    "cannot execute",
    "No space left on device",
    "could not extend file",
    "out of memory",
    "out of shared memory",
    "Connection refused",
    "timeout expired",
    "could not translate host name",
    "could not connect to server",
];

fn kind_of_text(message: &str) -> StoreErrorKind {
    let has = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if has(CONTENTION) {
        StoreErrorKind::Contention
    } else if has(LOST) || has(UNAVAILABLE) {
        StoreErrorKind::Unavailable
    } else {
        StoreErrorKind::Other
    }
}

/// The server's primary message with the constraint it names. Its DETAIL is left out: that holds values of the row.
fn text_of(error: &Error) -> String {
    match error {
        Error::DatabaseError(_, information) => {
            match (information.table_name(), information.constraint_name()) {
                (Some(table), Some(constraint)) => {
                    format!("{} (table {table}, {constraint})", information.message().trim())
                }
                _ => information.message().trim().to_owned(),
            }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diesel::result::DatabaseErrorInformation;

    #[derive(Debug)]
    struct Information(&'static str);
    impl DatabaseErrorInformation for Information {
        fn message(&self) -> &str {
            self.0
        }
        fn details(&self) -> Option<&str> {
            Some("Key (email)=(ada@example.com) already exists.")
        }
        fn hint(&self) -> Option<&str> {
            None
        }
        fn table_name(&self) -> Option<&str> {
            Some("users")
        }
        fn column_name(&self) -> Option<&str> {
            None
        }
        fn constraint_name(&self) -> Option<&str> {
            Some("users_email_key")
        }
        fn statement_position(&self) -> Option<i32> {
            None
        }
    }

    fn error(kind: DatabaseErrorKind, text: &'static str) -> Error {
        Error::DatabaseError(kind, Box::new(Information(text)))
    }

    #[test]
    fn kinds_that_diesel_knows() {
        use DatabaseErrorKind as Db;
        for (kind, expected) in [
            (Db::UniqueViolation, StoreErrorKind::Duplicate),
            (Db::ExclusionViolation, StoreErrorKind::Duplicate),
            (Db::SerializationFailure, StoreErrorKind::Contention),
            (Db::ClosedConnection, StoreErrorKind::Unavailable),
            (Db::UnableToSendCommand, StoreErrorKind::Unavailable),
            (Db::ReadOnlyTransaction, StoreErrorKind::Unavailable),
            (Db::ForeignKeyViolation, StoreErrorKind::Other),
            (Db::CheckViolation, StoreErrorKind::Other),
            (Db::NotNullViolation, StoreErrorKind::Other),
        ] {
            // the text is in another language on purpose: the kind decides
            assert_eq!(kind_of(&error(kind, "Wert verletzt")), expected);
        }
        assert_eq!(kind_of(&Error::NotFound), StoreErrorKind::Other);
        assert_eq!(kind_of(&Error::BrokenTransactionManager), StoreErrorKind::Unavailable);
    }

    #[test]
    fn each_known_text_has_its_kind() {
        for (text, expected) in [
            ("deadlock detected", StoreErrorKind::Contention),
            ("canceling statement due to lock timeout", StoreErrorKind::Contention),
            ("could not obtain lock on row in relation \"orders\"", StoreErrorKind::Contention),
            ("could not serialize access due to concurrent update", StoreErrorKind::Contention),
            ("canceling statement due to statement timeout", StoreErrorKind::Unavailable),
            ("canceling statement due to user request", StoreErrorKind::Unavailable),
            ("sorry, too many clients already", StoreErrorKind::Unavailable),
            ("too many connections for role \"plimsoll_app\"", StoreErrorKind::Unavailable),
            (
                "remaining connection slots are reserved for non-replication superuser connections",
                StoreErrorKind::Unavailable,
            ),
            ("the database system is starting up", StoreErrorKind::Unavailable),
            ("the database system is shutting down", StoreErrorKind::Unavailable),
            ("the database system is in recovery mode", StoreErrorKind::Unavailable),
            ("database \"plimsoll\" is not currently accepting connections", StoreErrorKind::Unavailable),
            ("cannot execute INSERT in a read-only transaction", StoreErrorKind::Unavailable),
            ("terminating connection due to administrator command", StoreErrorKind::Unavailable),
            ("terminating connection due to idle-in-transaction timeout", StoreErrorKind::Unavailable),
            (
                "terminating connection because of crash of another server process",
                StoreErrorKind::Unavailable,
            ),
            ("server closed the connection unexpectedly", StoreErrorKind::Unavailable),
            ("could not extend file \"base/1/2\": No space left on device", StoreErrorKind::Unavailable),
            ("no connection to the server\n", StoreErrorKind::Unavailable),
            ("value too long for type character varying(3)", StoreErrorKind::Other),
            (
                "current transaction is aborted, commands ignored until end of transaction block",
                StoreErrorKind::Other,
            ),
        ] {
            assert_eq!(kind_of(&error(DatabaseErrorKind::Unknown, text)), expected, "{text}");
        }
    }

    #[test]
    fn only_deadlocks_and_serialization_failures_are_repeatable() {
        assert!(is_repeatable(&error(DatabaseErrorKind::SerializationFailure, "x")));
        assert!(is_repeatable(&error(DatabaseErrorKind::Unknown, "deadlock detected")));
        assert!(!is_repeatable(&error(
            DatabaseErrorKind::Unknown,
            "canceling statement due to lock timeout"
        )));
        assert!(!is_repeatable(&error(DatabaseErrorKind::UniqueViolation, "deadlock detected")));
    }

    #[test]
    fn a_lost_connection_is_told_from_a_refused_statement() {
        assert!(is_lost(&error(DatabaseErrorKind::ClosedConnection, "x")));
        assert!(is_lost(&error(
            DatabaseErrorKind::Unknown,
            "terminating connection due to administrator command"
        )));
        assert!(!is_lost(&error(DatabaseErrorKind::Unknown, "canceling statement due to statement timeout")));
        let both = Error::RollbackErrorOnCommit {
            rollback_error: Box::new(Error::BrokenTransactionManager),
            commit_error: Box::new(error(DatabaseErrorKind::ClosedConnection, "x")),
        };
        assert!(is_lost(&both));
    }

    #[test]
    fn the_text_names_the_constraint_and_no_value() {
        let text = store_error(error(DatabaseErrorKind::UniqueViolation, "duplicate key value")).to_string();
        assert!(text.contains("users_email_key"), "{text}");
        assert!(!text.contains("ada@"), "{text}");
    }
}
