//! The names of all figures: OpenTelemetry's semantic conventions and Prometheus' client conventions where they have one.
//!
//! Labels have few values: methods, routes as they are written in the OpenAPI document, codes, states. Never an id.

/// What kind of figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Only grows while the process runs.
    Count,
    /// Goes up and down.
    Level,
    /// A distribution of durations in seconds.
    Seconds,
}

/// A figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// Its name.
    pub name: &'static str,
    /// What kind.
    pub form: Form,
    /// What it means, with its unit and labels.
    pub help: &'static str,
}

macro_rules! names {
    ($($constant:ident = $name:literal, $form:ident, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*
        /// All of them.
        pub const NAMES: &[Name] = &[$(Name { name: $name, form: Form::$form, help: $help }),*];
    };
}

names! {
    HTTP_DURATION = "http_server_request_duration_seconds", Seconds,
        "From a request's headers to its answer's, by http_request_method, http_route and http_response_status_code. Probes are left out.";
    HTTP_ACTIVE = "http_server_active_requests", Level, "Requests under way.";
    PROBLEMS = "plimsoll_problems_total", Count, "Requests that were answered with a problem document, by its code.";
    PROCESS_RESIDENT = "process_resident_memory_bytes", Level, "Resident memory of this process.";
    PROCESS_CPU = "process_cpu_seconds_total", Level, "Processor time of this process, of all its threads.";
    PROCESS_START = "process_start_time_seconds", Level, "When this process started, in seconds since 1970.";
    PROCESS_OPEN_FILES = "process_open_fds", Level, "Open file descriptors.";
    PROCESS_MAX_FILES = "process_max_fds", Level, "How many there may be.";
    ORDERS = "plimsoll_orders_total", Count, "Times that an order reached a status here, by status.";
    OPEN_ORDERS = "plimsoll_open_orders", Level, "Open orders, by status.";
    UNKNOWN_ORDERS = "plimsoll_unknown_orders", Level, "Orders whose fate at the broker is not known.";
    JOBS = "plimsoll_jobs", Level, "Jobs that are open, by queue and state.";
    OLDEST_JOB = "plimsoll_oldest_ready_job_seconds", Level, "For how long the longest waiting job has been due, by queue.";
    DEAD_LETTERS = "plimsoll_dead_letters", Level, "Jobs that were given up and that nothing became of yet.";
    COMPARISON_AGE = "plimsoll_reconciliation_age_seconds", Level,
        "Since the account was compared with its broker to the end that was so the longest ago.";
    NEVER_COMPARED = "plimsoll_reconciliation_never_compared", Level, "Connected accounts that were never compared to the end.";
    DISCREPANCIES = "plimsoll_open_discrepancies", Level,
        "Open differences between accounts and their brokers, by class: needs_human, or timing for those that settle by themselves.";
    DB_IN_USE = "plimsoll_db_pool_in_use", Level, "Connections in use, by pool.";
    DB_WAITING = "plimsoll_db_pool_waiting", Level, "Callers that wait for a connection, by pool.";
    DB_SIZE = "plimsoll_db_pool_size", Level, "Connections that a pool may have, by pool.";
    WS_CONNECTIONS = "plimsoll_ws_connections", Level, "Open WebSocket connections.";
    BROKER_DURATION = "plimsoll_broker_request_duration_seconds", Seconds,
        "Calls to brokers, by operation and outcome (ok, refused, throttled, unauthorized, failed).";
    ACCOUNTS_HERE = "plimsoll_accounts_held", Level, "Broker accounts that this instance follows.";
    DRAINING = "plimsoll_draining", Level, "1 while this instance stops, else 0.";
    UP = "plimsoll_database_up", Level, "1 while the database answers, else 0.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_follows_the_conventions() {
        for Name { name, form, help } in NAMES {
            let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(word) && !name.starts_with('_'), "{name}");
            assert!(help.ends_with('.'), "{name}: {help}");
            match form {
                Form::Count => assert!(name.ends_with("_total"), "{name}"),
                Form::Seconds => assert!(name.ends_with("_seconds"), "{name}"),
                Form::Level => {}
            }
            assert_eq!(NAMES.iter().filter(|other| other.name == *name).count(), 1, "{name}");
        }
    }
}
