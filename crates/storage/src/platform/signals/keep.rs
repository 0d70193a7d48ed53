//! How long signals are kept.

use chrono::{DateTime, Utc};
use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Timestamptz};
use plimsoll_core_domain::StoreError;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;

/// What grows old of signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outdated {
    /// The log's rows.
    Signals,
    /// Those of deliveries that were not from the hook's sender.
    Unproven,
    /// Keys that have run out.
    Keys,
    /// Deleted hooks.
    Hooks,
}

impl Outdated {
    /// All of it.
    pub const ALL: [Self; 4] = [Self::Signals, Self::Unproven, Self::Keys, Self::Hooks];
}

impl Tx<'_> {
    /// Deletes what is from before `before`, at most `limit` rows; signals of which something is still to come are passed
    /// over. Answers how many went.
    ///
    /// # Errors
    /// The store's own.
    pub fn prune_signals(
        &mut self,
        what: Outdated,
        before: DateTime<Utc>,
        limit: i64,
    ) -> Result<usize, StoreError> {
        let statement = match what {
            Outdated::Signals => {
                "DELETE FROM signals WHERE ctid = ANY(ARRAY(SELECT ctid FROM signals \
                 WHERE received_at < ? AND NOT pending ORDER BY received_at LIMIT ? FOR UPDATE SKIP LOCKED))"
            }
            Outdated::Unproven => {
                "DELETE FROM signals WHERE ctid = ANY(ARRAY(SELECT ctid FROM signals \
                 WHERE received_at < ? AND NOT genuine ORDER BY received_at LIMIT ? FOR UPDATE SKIP LOCKED))"
            }
            Outdated::Keys => {
                "DELETE FROM signal_keys WHERE ctid = ANY(ARRAY(SELECT ctid FROM signal_keys \
                 WHERE expires_at < ? ORDER BY expires_at LIMIT ? FOR UPDATE SKIP LOCKED))"
            }
            Outdated::Hooks => {
                "WITH d AS (DELETE FROM inbound_hooks WHERE ctid = ANY(ARRAY(SELECT ctid FROM inbound_hooks \
                   WHERE deleted_at < ? ORDER BY deleted_at LIMIT ? FOR UPDATE SKIP LOCKED)) RETURNING user_id, id), \
                 k AS (DELETE FROM signal_keys USING d WHERE signal_keys.user_id = d.user_id AND hook_id = d.id) \
                 SELECT FROM d"
            }
        };
        prepared(statement)
            .bind::<Timestamptz, _>(before)
            .bind::<BigInt, _>(limit)
            .execute(self.conn())
            .store()
    }
}
