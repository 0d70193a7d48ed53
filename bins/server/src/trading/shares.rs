//! Which accounts an instance should have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use plimsoll_core_domain::AccountId;
use uuid::Uuid;

/// What an instance should change about the accounts that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shares {
    /// To take, where they are free.
    pub(super) take: Vec<AccountId>,
    /// To give back.
    pub(super) give_back: Vec<AccountId>,
}

/// What a look shows of how the accounts are shared out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    /// The accounts that this instance can connect.
    pub(super) wanted: &'a BTreeSet<AccountId>,
    /// Those that it has.
    pub(super) mine: &'a BTreeSet<AccountId>,
    /// Those that other instances have.
    pub(super) others: &'a BTreeSet<AccountId>,
    /// All instances, this one too.
    pub(super) instances: &'a BTreeSet<Uuid>,
    /// When.
    pub(super) now: Instant,
}

/// What an instance remembers from one look to the next.
#[derive(Debug)]
pub(super) struct Balance {
    /// Accounts that nobody has, and since when.
    free: BTreeMap<AccountId, Instant>,
    /// Those that this instance takes above its share, since nobody else did.
    beyond: BTreeSet<AccountId>,
    instances: BTreeSet<Uuid>,
    /// For so long a free account is left to those who have room for it.
    patience: Duration,
}

impl Balance {
    pub(super) fn new(patience: Duration) -> Self {
        Self { free: BTreeMap::new(), beyond: BTreeSet::new(), instances: BTreeSet::new(), patience }
    }

    /// The change that brings this instance to its share, which is the number of wanted accounts over that of instances,
    /// rounded up: so all shares together have room for all accounts, and nothing moves once each instance has its share.
    /// An instance may not be able to connect all of its share. So what stays free is taken above the share too, each time
    /// an instance's part of it, and kept until an instance comes or goes.
    pub(super) fn change(&mut self, seen: Seen<'_>) -> Shares {
        let Seen { wanted, mine, others, instances, now } = seen;
        if self.instances != *instances {
            self.instances.clone_from(instances);
            self.beyond.clear();
        }
        self.beyond.retain(|account| wanted.contains(account) && !others.contains(account));
        let is_free = |account: &AccountId| {
            wanted.contains(account) && !mine.contains(account) && !others.contains(account)
        };
        self.free.retain(|account, _| is_free(account));
        for account in wanted.iter().filter(|account| is_free(account)) {
            self.free.entry(*account).or_insert(now);
        }

        let parts = instances.len().max(1);
        let share = wanted.len().div_ceil(parts);
        let usual: Vec<AccountId> =
            mine.intersection(wanted).filter(|account| !self.beyond.contains(account)).copied().collect();
        let mut give_back: Vec<AccountId> = mine.difference(wanted).copied().collect();
        give_back.extend(usual.get(share..).unwrap_or_default());

        let mut take: Vec<AccountId> =
            self.free.keys().filter(|account| self.beyond.contains(account)).copied().collect();
        let room = share.saturating_sub(usual.len());
        let rest: Vec<(AccountId, Instant)> = self
            .free
            .iter()
            .filter(|(account, _)| !self.beyond.contains(account))
            .map(|(account, since)| (*account, *since))
            .collect();
        take.extend(rest.iter().take(room).map(|(account, _)| *account));
        let late: Vec<AccountId> = rest
            .into_iter()
            .skip(room)
            .filter(|(_, since)| now.saturating_duration_since(*since) > self.patience)
            .map(|(account, _)| account)
            .collect();
        let part = late.len().div_ceil(parts);
        for account in late.into_iter().take(part) {
            self.beyond.insert(account);
            take.push(account);
        }
        Shares { take, give_back }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_secs(2);

    fn ids(ids: impl IntoIterator<Item = i64>) -> BTreeSet<AccountId> {
        ids.into_iter().map(AccountId).collect()
    }

    /// An instance: what it can connect, and what it has.
    struct Instance {
        id: Uuid,
        wanted: BTreeSet<AccountId>,
        held: BTreeSet<AccountId>,
        balance: Balance,
    }

    fn instances(of: impl IntoIterator<Item = (BTreeSet<AccountId>, BTreeSet<AccountId>)>) -> Vec<Instance> {
        let made = |(n, (wanted, held)): (usize, _)| Instance {
            id: Uuid::from_u128(n as u128 + 1),
            wanted,
            held,
            balance: Balance::new(2 * LOOK),
        };
        of.into_iter().enumerate().map(made).collect()
    }

    /// Lets instances look one after another, until nothing has changed for a few looks, and answers what each has.
    fn settle(all: &mut [Instance]) -> Vec<BTreeSet<AccountId>> {
        let ids: BTreeSet<Uuid> = all.iter().map(|of| of.id).collect();
        let (mut now, mut still) = (Instant::now(), 0);
        for _ in 0..60 {
            let before: Vec<_> = all.iter().map(|of| of.held.clone()).collect();
            for at in 0..all.len() {
                let others: BTreeSet<_> = all
                    .iter()
                    .enumerate()
                    .filter(|(n, _)| *n != at)
                    .flat_map(|(_, of)| of.held.clone())
                    .collect();
                let Instance { wanted, held, balance, .. } = &mut all[at];
                let change =
                    balance.change(Seen { wanted, mine: held, others: &others, instances: &ids, now });
                held.retain(|account| !change.give_back.contains(account));
                assert!(
                    change.take.iter().all(|account| wanted.contains(account) && !others.contains(account))
                );
                held.extend(change.take);
            }
            now += LOOK;
            let after: Vec<_> = all.iter().map(|of| of.held.clone()).collect();
            still = if after == before { still + 1 } else { 0 };
            if still == 5 {
                return after;
            }
        }
        panic!("it never settles: {:?}", all.iter().map(|of| &of.held).collect::<Vec<_>>());
    }

    fn alike(wanted: &BTreeSet<AccountId>, held: Vec<BTreeSet<AccountId>>) -> Vec<BTreeSet<AccountId>> {
        settle(&mut instances(held.into_iter().map(|held| (wanted.clone(), held))))
    }

    #[test]
    fn one_instance_has_everything() {
        let wanted = ids(1..=200);
        assert_eq!(alike(&wanted, vec![ids([])]), vec![wanted]);
    }

    #[test]
    fn a_second_instance_gets_its_half_and_a_leaving_one_leaves_all() {
        let wanted = ids(1..=201);
        let held = alike(&wanted, vec![wanted.clone(), ids([])]);
        assert_eq!((held[0].len(), held[1].len()), (101, 100));
        assert!(held[0].is_disjoint(&held[1]));
        assert_eq!(alike(&wanted, vec![held[0].clone()]), vec![wanted]);
    }

    #[test]
    fn few_accounts_stay_where_they_are() {
        for instances in 1..6 {
            let mut held = vec![ids([]); instances];
            held[0] = ids([7]);
            assert_eq!(alike(&ids([7]), held.clone()), held);
        }
    }

    #[test]
    fn what_is_not_wanted_any_more_is_given_back() {
        let change = |wanted: &BTreeSet<AccountId>, mine: &BTreeSet<AccountId>| {
            let seen =
                Seen { wanted, mine, others: &ids([]), instances: &BTreeSet::new(), now: Instant::now() };
            Balance::new(LOOK).change(seen)
        };
        let expected = Shares { take: vec![AccountId(2)], give_back: vec![AccountId(3)] };
        assert_eq!(change(&ids([1, 2]), &ids([1, 3])), expected);
        assert_eq!(change(&ids([]), &ids([])), Shares::default());
    }

    #[test]
    fn every_account_finds_an_instance() {
        for accounts in 0..40 {
            for instances in 1..7 {
                let wanted = ids(1..=accounts);
                let held = alike(&wanted, vec![ids([]); instances]);
                let all: BTreeSet<_> = held.iter().flatten().copied().collect();
                assert_eq!((all.len(), held.iter().map(BTreeSet::len).sum()), (wanted.len(), wanted.len()));
            }
        }
    }

    #[test]
    fn what_one_instance_cannot_connect_the_others_take_above_their_shares() {
        let none = || ids([]);
        for wanted in [
            vec![ids(1..=100), none()],
            vec![none(), ids(1..=100)],
            vec![none(), ids(1..=99), ids(1..=99)],
            vec![ids(1..=50), ids(1..=50), ids(40..=120)],
            vec![ids([1]), ids([2]), ids([3, 4, 5, 6])],
        ] {
            let all: BTreeSet<_> = wanted.iter().flatten().copied().collect();
            let mut made = instances(wanted.into_iter().map(|wanted| (wanted, none())));
            let held = settle(&mut made);
            assert_eq!(held.iter().flatten().copied().collect::<BTreeSet<_>>(), all);
            assert_eq!(held.iter().map(BTreeSet::len).sum::<usize>(), all.len(), "each by one");
        }
    }

    #[test]
    fn what_is_connected_anew_is_taken_again_at_once() {
        let wanted = ids(1..=100);
        let mut made = instances([(wanted.clone(), ids([])), (ids([]), ids([]))]);
        assert_eq!(settle(&mut made)[0], wanted);
        let all = made.iter().map(|of| of.id).collect();
        let (mine, others, now) = (ids(2..=99), ids([]), Instant::now());
        let seen = Seen { wanted: &wanted, mine: &mine, others: &others, instances: &all, now };
        let change = made[0].balance.change(seen);
        assert_eq!(change.give_back, []);
        assert_eq!(change.take.into_iter().collect::<BTreeSet<_>>(), ids([1, 100]));
    }

    #[test]
    fn what_was_taken_above_the_share_is_shared_out_anew_when_an_instance_comes() {
        let wanted = ids(1..=100);
        let mut made = instances([(wanted.clone(), ids([])), (ids([]), ids([]))]);
        assert_eq!(settle(&mut made)[0], wanted);
        // The one that could connect nothing starts again, and can now.
        made[1] = Instance { id: Uuid::from_u128(9), wanted, held: ids([]), balance: Balance::new(2 * LOOK) };
        let held = settle(&mut made);
        assert_eq!((held[0].len(), held[1].len()), (50, 50));
    }
}
