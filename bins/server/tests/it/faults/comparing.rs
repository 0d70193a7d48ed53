//! Asking for a comparison with the broker, and what it found.

use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_core_domain::{AccountId, Clock, SystemClock};
use plimsoll_reliability::reconcile::Trigger;
use serde_json::Value;
use uuid::Uuid;

use super::desk::Desk;
use super::world::{World, until};

/// Numbers the comparisons.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A comparison that has ended.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) status: String,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// Kind and action of each difference.
    pub(crate) found: Vec<(String, String)>,
}

impl Compared {
    pub(crate) fn has(&self, kind: &str, action: &str) -> bool {
        self.found.iter().any(|(one, what)| one == kind && what == action)
    }
}

impl World {
    pub(crate) fn account_of(&self, desk: &Desk) -> AccountId {
        let rows = self.database.rows(&format!("SELECT id FROM accounts WHERE user_id = {}", desk.user()));
        AccountId(rows[0]["id"].as_i64().unwrap())
    }

    /// Has the trader's account compared from now on, and waits for the end. The account must be connected.
    pub(crate) async fn compare(&self, desk: &Desk) -> Compared {
        let (account, user, pool) = (self.account_of(desk), desk.user(), self.database.pool());
        loop {
            let id = Uuid::from_u128(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)));
            let wish = move |tx: &mut plimsoll_storage::Tx<'_>| {
                tx.ask_for_run(account, user, Trigger::Demand, id, SystemClock.now())
            };
            let taken = pool.run(wish).await.unwrap();
            let ended = format!("reconciliation_runs WHERE id = '{taken}' AND finished_at IS NOT NULL");
            until("the comparison has ended", async || self.database.count(&ended) == 1).await;
            // One that was under way may have looked before.
            if taken == id {
                return self.compared(id);
            }
        }
    }

    fn compared(&self, id: Uuid) -> Compared {
        let query = format!("SELECT status, found, error FROM reconciliation_runs WHERE id = '{id}'");
        let row = &self.database.rows(&query)[0];
        let found: Value = serde_json::from_str(row["found"].as_str().unwrap()).unwrap();
        let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
        let pairs = found.as_array().unwrap().iter().map(|one| (text(one, "kind"), text(one, "action")));
        Compared {
            status: row["status"].as_str().unwrap().to_owned(),
            error: row["error"].as_str().map(str::to_owned),
            found: pairs.collect(),
        }
    }

    /// How many differences of all accounts are open.
    pub(crate) fn open_discrepancies(&self) -> i64 {
        self.database.count("discrepancies WHERE resolved_at IS NULL")
    }

    /// What happens past the server: no trigger runs, no key is checked.
    pub(crate) fn tamper(&self, what: &str) {
        self.database.execute(&format!("SET session_replication_role = replica; {what}"));
    }
}
