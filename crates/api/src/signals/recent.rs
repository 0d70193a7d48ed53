//! Keys of signals that came a moment ago: a hint that a delivery repeats one of them.
//!
//! Nothing depends on it. A repeat that is known here costs one statement; one that is not (it came to another instance, or
//! long ago) is found by the transaction that keeps signals, and so is a delivery that was taken for a repeat and is none.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use plimsoll_storage::platform::signals::SignalKey;
use uuid::Uuid;

/// Keys of one of the two sets.
const MOST: usize = 8192;

/// The keys; when the newer set is full, the older one is forgotten.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Sets>);

#[derive(Debug, Default)]
struct Sets {
    newer: HashSet<(Uuid, [u8; 32])>,
    older: HashSet<(Uuid, [u8; 32])>,
}

impl Recent {
    /// Whether every one of a hook's keys came a moment ago.
    pub(super) fn knows(&self, hook: Uuid, keys: &[SignalKey]) -> bool {
        let sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |key: &SignalKey| {
            let key = (hook, key.key);
            sets.newer.contains(&key) || sets.older.contains(&key)
        };
        !keys.is_empty() && keys.iter().all(known)
    }

    /// Notes keys that are on disk.
    pub(super) fn note(&self, hook: Uuid, keys: &[SignalKey]) {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sets.newer.extend(keys.iter().map(|key| (hook, key.key)));
        if sets.newer.len() >= MOST {
            sets.older = std::mem::take(&mut sets.newer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> SignalKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        SignalKey { key, until: None }
    }

    #[test]
    fn all_keys_of_the_same_hook_must_have_come() {
        let (recent, hook) = (Recent::default(), Uuid::from_u128(1));
        recent.note(hook, &[key(1), key(2)]);
        assert!(recent.knows(hook, &[key(2), key(1)]));
        assert!(!recent.knows(hook, &[key(1), key(3)]));
        assert!(!recent.knows(Uuid::from_u128(2), &[key(1)]));
        assert!(!recent.knows(hook, &[]));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let (recent, hook) = (Recent::default(), Uuid::from_u128(1));
        for number in 0..3 * MOST {
            recent.note(hook, &[key(number)]);
        }
        assert!(recent.knows(hook, &[key(3 * MOST - 1)]));
        assert!(!recent.knows(hook, &[key(0)]));
        let sets = recent.0.lock().unwrap();
        assert!(sets.newer.len() + sets.older.len() <= 2 * MOST);
    }
}
