//! Password hashes: a few at once, off the async workers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_crypto::passwords::Passwords;
use tokio::sync::Semaphore;

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Computes password hashes.
pub struct Hashing {
    passwords: Arc<Passwords>,
    turns: Arc<Semaphore>,
}

impl Hashing {
    /// At most `parallel` at once, at least one.
    #[must_use]
    pub fn new(passwords: Arc<Passwords>, parallel: usize) -> Self {
        Self { passwords, turns: Arc::new(Semaphore::new(parallel.max(1))) }
    }

    /// Runs `work` when it is its turn.
    ///
    /// # Errors
    /// `Unavailable` when too many wait already.
    pub async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Passwords) -> T + Send + 'static,
        T: Send + 'static,
    {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(StoreError::busy(Duration::from_secs(1))) };
        let passwords = Arc::clone(&self.passwords);
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&passwords)
        });
        done.await.map_err(|error| StoreError::new(StoreErrorKind::Other, error.to_string()))
    }
}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashing").field("free", &self.turns.available_permits()).finish_non_exhaustive()
    }
}
