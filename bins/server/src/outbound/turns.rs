//! Who may have how many of the threads that post: no user all of them, and hooks that take long never more than a part.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plimsoll_core_domain::UserId;
use uuid::Uuid;

/// A hook whose last message took so long is slow until one takes less.
const SLOW: Duration = Duration::from_secs(2);
/// Slow hooks that are remembered; beyond it all are forgotten, and found out again.
const MOST_SLOW: usize = 10_000;

/// How many threads may be busy at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// With one hook; with a slow one always one.
    pub(super) at_one_hook: usize,
    /// With all hooks of one user.
    pub(super) at_one_user: usize,
    /// With all slow hooks together.
    pub(super) at_slow_hooks: usize,
}

/// Hands out turns.
pub(super) struct Turns {
    shares: Shares,
    now: Arc<Mutex<Now>>,
}

#[derive(Default)]
struct Now {
    hooks: HashMap<Uuid, usize>,
    users: HashMap<UserId, usize>,
    slow: HashSet<Uuid>,
    at_slow: usize,
}

fn lock(now: &Mutex<Now>) -> MutexGuard<'_, Now> {
    now.lock().unwrap_or_else(PoisonError::into_inner)
}

fn leave<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Turns {
    pub(super) fn new(shares: Shares) -> Self {
        Self { shares, now: Arc::default() }
    }

    /// The right to post to a hook of a user now; `None` when enough threads do.
    pub(super) fn take(&self, user: UserId, hook: Uuid) -> Option<Turn> {
        let mut now = lock(&self.now);
        let slow = now.slow.contains(&hook);
        let at_hook = if slow { 1 } else { self.shares.at_one_hook };
        let busy = |count: Option<&usize>, most| count.copied().unwrap_or(0) >= most;
        if busy(now.hooks.get(&hook), at_hook)
            || busy(now.users.get(&user), self.shares.at_one_user)
            || slow && now.at_slow >= self.shares.at_slow_hooks
        {
            return None;
        }
        *now.hooks.entry(hook).or_default() += 1;
        *now.users.entry(user).or_default() += 1;
        now.at_slow += usize::from(slow);
        Some(Turn { user, hook, slow, now: Arc::clone(&self.now) })
    }
}

/// One thread at one hook.
pub(super) struct Turn {
    user: UserId,
    hook: Uuid,
    slow: bool,
    now: Arc<Mutex<Now>>,
}

impl Turn {
    /// The message took so long.
    pub(super) fn end(self, took: Duration) {
        let mut now = lock(&self.now);
        if took < SLOW {
            now.slow.remove(&self.hook);
            return;
        }
        if now.slow.len() >= MOST_SLOW {
            now.slow.clear();
        }
        now.slow.insert(self.hook);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut now = lock(&self.now);
        leave(&mut now.hooks, &self.hook);
        leave(&mut now.users, &self.user);
        now.at_slow -= usize::from(self.slow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(9);

    fn turns() -> Turns {
        Turns::new(Shares { at_one_hook: 2, at_one_user: 3, at_slow_hooks: 4 })
    }

    #[test]
    fn a_hook_and_a_user_have_only_so_many_threads() {
        let (turns, ann, bob) = (turns(), UserId(1), UserId(2));
        let hook = Uuid::from_u128;
        let (a, b) = (turns.take(ann, hook(1)), turns.take(ann, hook(1)));
        assert!(a.is_some() && b.is_some() && turns.take(ann, hook(1)).is_none(), "two at one hook");
        let c = turns.take(ann, hook(2));
        assert!(c.is_some() && turns.take(ann, hook(3)).is_none(), "three of one user");
        assert!(turns.take(bob, hook(4)).is_some(), "others go on");
        drop(a);
        assert!(turns.take(ann, hook(3)).is_some());
        drop((b, c));
        let now = lock(&turns.now);
        assert!(now.hooks.is_empty() && now.users.is_empty());
    }

    /// Receivers that answer rightly, each after nine seconds, of however many users: a part of the threads is left.
    #[test]
    fn slow_hooks_never_have_all_threads() {
        let turns = turns();
        for n in 0..20 {
            let turn = turns.take(UserId(n), Uuid::from_u128(n.unsigned_abs().into()));
            turn.unwrap_or_else(|| panic!("hook {n} was quick so far")).end(LONG);
        }
        let at_slow: Vec<Turn> = (0..20)
            .filter_map(|n: i64| turns.take(UserId(n), Uuid::from_u128(n.unsigned_abs().into())))
            .collect();
        assert_eq!(at_slow.len(), 4);
        assert!(turns.take(UserId(0), Uuid::from_u128(0)).is_none(), "one at a time");
        assert!(turns.take(UserId(50), Uuid::from_u128(50)).is_some(), "a quick one has its turn");
        for turn in at_slow {
            turn.end(QUICK);
        }
        let first = turns.take(UserId(0), Uuid::from_u128(0));
        assert!(first.is_some() && turns.take(UserId(0), Uuid::from_u128(0)).is_some(), "it is quick again");
        drop(first);
        assert_eq!(lock(&turns.now).at_slow, 0);
    }
}
