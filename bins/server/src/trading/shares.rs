//! Which accounts an instance should have.

use std::collections::BTreeSet;

use plimsoll_core_domain::AccountId;

/// What an instance should change about the accounts that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shares {
    /// To take, where they are free.
    pub(super) take: Vec<AccountId>,
    /// To give back.
    pub(super) give_back: Vec<AccountId>,
}

/// The change that brings this instance to its share, which is the number of `wanted` accounts over that of `instances`,
/// rounded up: so all shares together have room for all accounts, and nothing moves once each instance has its share.
/// `mine` are those that it has, `others` those that other instances have.
pub(super) fn shares(
    wanted: &BTreeSet<AccountId>,
    mine: &BTreeSet<AccountId>,
    others: &BTreeSet<AccountId>,
    instances: usize,
) -> Shares {
    let share = wanted.len().div_ceil(instances.max(1));
    let mut give_back: Vec<AccountId> = mine.difference(wanted).copied().collect();
    let kept: Vec<AccountId> = mine.intersection(wanted).copied().collect();
    let room = share.saturating_sub(kept.len());
    give_back.extend(kept.get(share..).unwrap_or_default());
    let free = wanted.iter().filter(|account| !mine.contains(account) && !others.contains(account));
    Shares { take: free.take(room).copied().collect(), give_back }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: impl IntoIterator<Item = i64>) -> BTreeSet<AccountId> {
        ids.into_iter().map(AccountId).collect()
    }

    /// Lets instances look one after another, as often as it takes, and answers what each has.
    fn settle(wanted: &BTreeSet<AccountId>, mut held: Vec<BTreeSet<AccountId>>) -> Vec<BTreeSet<AccountId>> {
        for round in 0..10 {
            let before = held.clone();
            for at in 0..held.len() {
                let others: BTreeSet<_> = held
                    .iter()
                    .enumerate()
                    .filter(|(n, _)| *n != at)
                    .flat_map(|(_, of)| of.clone())
                    .collect();
                let change = shares(wanted, &held[at], &others, held.len());
                held[at].retain(|account| !change.give_back.contains(account));
                held[at].extend(change.take.iter().copied().filter(|account| !others.contains(account)));
            }
            if held == before {
                return held;
            }
            assert!(round < 9, "it never settles: {held:?}");
        }
        held
    }

    #[test]
    fn one_instance_has_everything() {
        let wanted = ids(1..=200);
        assert_eq!(settle(&wanted, vec![ids([])]), vec![wanted]);
    }

    #[test]
    fn a_second_instance_gets_its_half_and_a_leaving_one_leaves_all() {
        let wanted = ids(1..=201);
        let held = settle(&wanted, vec![wanted.clone(), ids([])]);
        assert_eq!((held[0].len(), held[1].len()), (101, 100));
        assert!(held[0].is_disjoint(&held[1]));
        assert_eq!(settle(&wanted, vec![held[0].clone()]), vec![wanted]);
    }

    #[test]
    fn few_accounts_stay_where_they_are() {
        for instances in 1..6 {
            let mut held = vec![ids([]); instances];
            held[0] = ids([7]);
            assert_eq!(settle(&ids([7]), held.clone()), held);
        }
    }

    #[test]
    fn what_is_not_wanted_any_more_is_given_back() {
        let change = shares(&ids([1, 2]), &ids([1, 3]), &ids([]), 1);
        assert_eq!(change, Shares { take: vec![AccountId(2)], give_back: vec![AccountId(3)] });
        assert_eq!(shares(&ids([]), &ids([]), &ids([]), 0), Shares::default());
    }

    #[test]
    fn every_account_finds_an_instance() {
        for accounts in 0..40 {
            for instances in 1..7 {
                let wanted = ids(1..=accounts);
                let held = settle(&wanted, vec![ids([]); instances]);
                let all: BTreeSet<_> = held.iter().flatten().copied().collect();
                assert_eq!((all.len(), held.iter().map(BTreeSet::len).sum()), (wanted.len(), wanted.len()));
            }
        }
    }
}
