//! Jobs that were given up since the last look.

use chrono::{DateTime, Utc};
use plimsoll_auth::AccountPolicy;
use plimsoll_auth::ports::VaultStore;
use plimsoll_auth::vault::{Alert, Audience};
use plimsoll_core_domain::StoreError;
use plimsoll_reliability::submit::BROKER_QUEUE;
use plimsoll_storage::Tx;

use super::Progress;

pub(super) const KIND: &str = "tell_dead_letters";
/// Letters of one transaction.
const BATCH: usize = 5_000;
/// Of an error, so much is told.
const MAX_ERROR_CHARS: usize = 200;

/// Tells administrators of new dead letters, one alert for each kind.
pub(super) fn batch(
    tx: &mut Tx<'_>,
    _policy: &AccountPolicy,
    now: DateTime<Utc>,
) -> Result<Progress, StoreError> {
    let (mut told, mut alerts) = (0, Vec::new());
    for new in tx.take_untold_letters(BATCH)? {
        told += usize::try_from(new.letters).unwrap_or(usize::MAX);
        let error: String = new.error.as_deref().unwrap_or("unknown").chars().take(MAX_ERROR_CHARS).collect();
        tracing::warn!(
            job.kind = new.kind,
            letters = new.letters,
            error,
            "Jobs were given up: they are dead letters now."
        );
        let message = format!(
            "{} jobs of kind {} were given up, one of them with: {error}. See GET /admin/dead-letters?kind={}.",
            new.letters, new.kind, new.kind
        );
        // what an order waits for cannot wait; elsewhere it may be no more than an address that nobody has
        let severity = if new.queue == BROKER_QUEUE { "critical" } else { "warning" };
        alerts.push(Alert { message, severity });
    }
    for alert in &alerts {
        tx.alert(Audience::Administrators, alert, now)?;
    }
    Ok(Progress::of(told, BATCH))
}
