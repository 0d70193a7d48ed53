//! Another server of the database took over: commits that had not reached it are lost, so that every account is compared
//! with its broker before it takes entries.

use plimsoll_core_domain::StoreError;
use plimsoll_reliability::reconcile::Trigger;

use super::supervisor::{Supervisor, wake_all};

impl Supervisor {
    /// Compares the database's history with the one that was last seen. What could not be written is tried with the next
    /// look.
    pub(super) async fn heed_timeline(&mut self, seen: Option<String>) {
        let Some(seen) = seen else { return };
        let Some(known) = self.timeline.as_ref().filter(|known| **known != seen) else {
            self.timeline = Some(seen);
            return;
        };
        tracing::warn!(
            from = known,
            to = seen,
            "another server of the database took over: all accounts are compared"
        );
        let now = self.parts.connections.clock.now();
        let waits = self
            .parts
            .control
            .run(move |tx| {
                let waits = tx.compare_first(Trigger::Restore, now)?;
                wake_all(tx);
                Ok::<_, StoreError>(waits)
            })
            .await;
        match waits {
            Ok(_) => self.timeline = Some(seen),
            Err(error) => {
                tracing::warn!(%error, "the accounts could not be made to wait for a comparison yet")
            }
        }
    }
}
