//! Singletons: what only one instance may do at a time.
//!
//! A lease is a row with an owner and an end by the store's clock. Its fence is a second row whose token grows with every
//! change of owner: an effect's transaction locks and compares it first, so that a holder that was frozen past its lease
//! cannot write any more.

use std::time::{Duration, Instant};

use plimsoll_core_domain::StoreError;
use uuid::Uuid;

use crate::jobs::JobStore;
use crate::timings::Timings;

/// Grows with every change of owner; never reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FenceToken(pub i64);

/// A lease that has an owner now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveLease {
    /// Its name.
    pub name: String,
    /// Who has it.
    pub owner: Uuid,
    /// Its owner has said, since the lease is theirs, that what must come first is done.
    pub ready: bool,
}

/// Where leases are kept. Times are the store's.
///
/// Methods over several leases lock them in the order of their names.
pub trait LeaseStore {
    /// Takes the lease when it is free, expired or this owner's already, for `ttl` from now, and answers with its token;
    /// `None` when another owner has it. A change of owner raises the token in the same transaction, which waits for
    /// open effects of the owner before.
    ///
    /// # Errors
    /// The store's.
    fn acquire_lease(
        &mut self,
        name: &str,
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Option<FenceToken>, StoreError>;

    /// As [`acquire_lease`](Self::acquire_lease), for each of `names`: answers those that are this owner's now.
    ///
    /// # Errors
    /// The store's; then none was taken.
    fn acquire_leases(
        &mut self,
        names: &[String],
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Vec<(String, FenceToken)>, StoreError>;

    /// Extends those of `names` that are this owner's to `ttl` from now, in one statement, and answers with them.
    ///
    /// # Errors
    /// The store's.
    fn renew_leases(
        &mut self,
        names: &[String],
        owner: Uuid,
        ttl: Duration,
    ) -> Result<Vec<String>, StoreError>;

    /// Every lease with an owner, of those whose names begin with one of `kinds` and a colon.
    ///
    /// # Errors
    /// The store's.
    fn live_leases(&mut self, kinds: &[&str]) -> Result<Vec<LiveLease>, StoreError>;

    /// Makes [`LiveLease::ready`] true until the owner changes; `false` when the lease is not this owner's.
    ///
    /// # Errors
    /// The store's.
    fn mark_ready(&mut self, name: &str, owner: Uuid) -> Result<bool, StoreError>;

    /// Gives those of `names` back that are this owner's; answers how many those were.
    ///
    /// # Errors
    /// The store's.
    fn release_leases(&mut self, names: &[String], owner: Uuid) -> Result<usize, StoreError>;

    /// Takes every lease of these kinds from its owner. For the start of a process that knows that no other one runs.
    ///
    /// # Errors
    /// The store's.
    fn forget_leases(&mut self, kinds: &[&str]) -> Result<usize, StoreError>;

    /// Gives the lease back; `false` when it was not this owner's.
    ///
    /// # Errors
    /// The store's.
    fn release_lease(&mut self, name: &str, owner: Uuid) -> Result<bool, StoreError>;

    /// First statement of an effect's transaction: locks the fence until its end and says whether `token` is still the
    /// current one. On `false` roll back.
    ///
    /// # Errors
    /// The store's.
    fn hold_fence(&mut self, name: &str, token: FenceToken) -> Result<bool, StoreError>;
}

/// Keeps one lease. Call [`tick`](Self::tick) every [`lease_renew`](Timings::lease_renew) from a thread of its own, and
/// ask [`held`](Self::held) before every act.
#[derive(Debug)]
pub struct LeaseKeeper<S> {
    store: S,
    name: String,
    owner: Uuid,
    ttl: Duration,
    trust: Duration,
    held: Option<(FenceToken, Instant)>,
}

impl<S> LeaseKeeper<S>
where
    S: JobStore,
    for<'a> S::Tx<'a>: LeaseStore,
{
    /// A keeper of the lease `name` for `owner`, an id that is new with every start of the process. `store` should be the
    /// pool that stays free when the others are full.
    pub fn new(store: S, name: impl Into<String>, owner: Uuid, timings: &Timings) -> Self {
        Self {
            store,
            name: name.into(),
            owner,
            ttl: timings.lease_ttl,
            trust: timings.lease_trust,
            held: None,
        }
    }

    /// Takes or renews the lease and answers as [`held`](Self::held). A new owner renews at once, since its time ran
    /// while it waited for the effects of the owner before.
    ///
    /// # Errors
    /// The store's; what was held is held until the trust in it ends.
    pub fn tick(&mut self) -> Result<Option<FenceToken>, StoreError> {
        let known = self.held.map(|(token, _)| token);
        let mut token = self.acquire()?;
        if token.is_some() && token != known {
            token = self.acquire()?;
        }
        Ok(token)
    }

    fn acquire(&mut self) -> Result<Option<FenceToken>, StoreError> {
        let began = Instant::now();
        let token = self.store.transaction(|tx| tx.acquire_lease(&self.name, self.owner, self.ttl))?;
        self.held = token.map(|token| (token, began));
        Ok(token)
    }

    /// The token while the lease may be acted upon: until a fixed time after the beginning of the last good renewal, by
    /// the monotonic clock.
    #[must_use]
    pub fn held(&self) -> Option<FenceToken> {
        self.held.filter(|(_, since)| since.elapsed() < self.trust).map(|(token, _)| token)
    }

    /// Gives the lease back, so that another instance can have it at once.
    ///
    /// # Errors
    /// The store's; the lease then ends by itself.
    pub fn release(&mut self) -> Result<(), StoreError> {
        self.held = None;
        self.store.transaction(|tx| tx.release_lease(&self.name, self.owner)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Faults, MemoryStore};

    fn keeper(store: &MemoryStore, owner: u128) -> LeaseKeeper<MemoryStore> {
        LeaseKeeper::new(store.clone(), "recon:1", Uuid::from_u128(owner), &Timings::default())
    }

    #[test]
    fn one_owner_at_a_time_and_a_token_per_change() {
        let store = MemoryStore::stopped();
        let (mut a, mut b) = (keeper(&store, 1), keeper(&store, 2));
        assert_eq!(a.tick().unwrap(), Some(FenceToken(1)));
        assert_eq!((b.tick().unwrap(), b.held()), (None, None));
        store.advance(Duration::from_secs(14));
        assert_eq!(a.tick().unwrap(), Some(FenceToken(1)), "a renewal keeps the token");
        store.advance(Duration::from_secs(14));
        assert_eq!(b.tick().unwrap(), None);
        store.advance(Duration::from_secs(2));
        assert_eq!(b.tick().unwrap(), Some(FenceToken(2)), "a's time is over");
        assert_eq!(a.tick().unwrap(), None);
        assert_eq!(a.held(), None);
        let fence = |token| store.transaction(|tx| tx.hold_fence("recon:1", token)).unwrap();
        assert!(!fence(FenceToken(1)), "a's effects are fenced off");
        assert!(fence(FenceToken(2)));
    }

    #[test]
    fn given_back_it_is_free_at_once() {
        let store = MemoryStore::stopped();
        let (mut a, mut b) = (keeper(&store, 1), keeper(&store, 2));
        a.tick().unwrap();
        a.release().unwrap();
        assert_eq!(a.held(), None);
        assert_eq!(b.tick().unwrap(), Some(FenceToken(2)));
        a.release().unwrap();
        assert_eq!(b.tick().unwrap(), Some(FenceToken(2)), "another's lease is not given back");
    }

    #[test]
    fn many_are_kept_at_once_and_are_ready_until_the_owner_changes() {
        let (store, ttl) = (MemoryStore::stopped(), Duration::from_secs(15));
        let names: Vec<String> = (1..=3).map(|n| format!("account:{n}")).collect();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let acquire =
            |names: &[String], owner| store.transaction(|tx| tx.acquire_leases(names, owner, ttl)).unwrap();
        let live = || store.transaction(|tx| tx.live_leases(&["account"])).unwrap();
        assert_eq!(acquire(&names[..2], a).len(), 2);
        assert_eq!(acquire(&names, b), [(names[2].clone(), FenceToken(1))], "what another has is left out");
        assert!(store.transaction(|tx| tx.mark_ready(&names[0], a)).unwrap());
        assert!(!store.transaction(|tx| tx.mark_ready(&names[0], b)).unwrap());
        assert_eq!(live().iter().filter(|lease| lease.ready).count(), 1);

        store.advance(Duration::from_secs(10));
        assert_eq!(store.transaction(|tx| tx.renew_leases(&names, a, ttl)).unwrap(), names[..2]);
        store.advance(Duration::from_secs(10));
        assert_eq!(live().len(), 2, "the third was not renewed");
        assert_eq!(store.transaction(|tx| tx.release_leases(&names, a)).unwrap(), 2);
        let taken = acquire(&names, b);
        assert_eq!((taken.len(), &taken[0]), (3, &(names[0].clone(), FenceToken(2))));
        assert!(live().iter().all(|lease| lease.owner == b && !lease.ready), "{:?}", live());
        assert_eq!(store.transaction(|tx| tx.forget_leases(&["account"])).unwrap(), 3);
        assert_eq!(live(), []);
    }

    #[test]
    fn a_failed_renewal_is_survived_until_the_trust_ends() {
        let faults = Faults::default();
        let store = MemoryStore::stopped().with_faults(faults.clone());
        let timings = Timings { lease_trust: Duration::from_millis(60), ..Timings::default() };
        let mut keeper = LeaseKeeper::new(store, "x", Uuid::from_u128(1), &timings);
        keeper.tick().unwrap();
        faults.kill();
        assert!(keeper.tick().is_err());
        assert!(keeper.held().is_some());
        std::thread::sleep(Duration::from_millis(70));
        assert_eq!(keeper.held(), None);
    }
}
