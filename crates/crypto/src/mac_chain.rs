use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::{InstallationKey, KeyPurpose, WrongPurpose};

const CHECKPOINT_LABEL: &[u8] = b"plimsoll/v1/audit-checkpoints";

/// HMAC-SHA256 over (previous MAC, canonical row): a chain in which no row can be altered, removed, swapped or put in
/// between without the key. Cutting rows off the end is found only by comparing the head with one kept elsewhere.
///
/// The caller gives each row as canonical bytes ([`canonical::Encoder`](crate::canonical::Encoder)) that contain its
/// chain's name and sequence number.
#[derive(Clone)]
pub struct MacChain(Hmac<Sha256>);

/// The first row of a chain whose stored MAC does not follow from the row before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chain is broken at row {index} of those given")]
pub struct BrokenLink {
    /// Zero-based place among the rows given.
    pub index: usize,
}

impl MacChain {
    /// What stands in for the previous MAC of a chain's first row.
    pub const GENESIS: [u8; 32] = [0; 32];

    /// Takes the installation's audit key.
    ///
    /// # Errors
    ///
    /// [`WrongPurpose`] for any other key.
    pub fn new(key: &InstallationKey) -> Result<Self, WrongPurpose> {
        let key = key.key_for(KeyPurpose::AuditMac)?;
        Ok(Self(Hmac::new_from_slice(key.expose()).expect("HMAC takes a key of any length")))
    }

    /// The chain of signed checkpoints over the heads of other chains. Its key is derived from the audit key under a
    /// label of its own, so that no MAC of a row can stand for one of a checkpoint.
    ///
    /// # Errors
    ///
    /// [`WrongPurpose`] for any other key.
    pub fn of_checkpoints(key: &InstallationKey) -> Result<Self, WrongPurpose> {
        let key = key.key_for(KeyPurpose::AuditMac)?.derive(None, &[CHECKPOINT_LABEL]);
        Ok(Self(Hmac::new_from_slice(key.expose()).expect("HMAC takes a key of any length")))
    }

    /// The MAC of the row that follows the one whose MAC is `previous`.
    #[must_use]
    pub fn next(&self, previous: &[u8; 32], row: &[u8]) -> [u8; 32] {
        self.0.clone().chain_update(previous).chain_update(row).finalize().into_bytes().into()
    }

    /// Checks rows with their stored MACs, in order, from the MAC before the first one. Returns the last MAC, which is
    /// `start` when there are no rows: compare it with the chain's head.
    ///
    /// # Errors
    ///
    /// [`BrokenLink`] with the first bad row.
    pub fn verify<I, B>(&self, start: &[u8; 32], rows: I) -> Result<[u8; 32], BrokenLink>
    where
        I: IntoIterator<Item = (B, [u8; 32])>,
        B: AsRef<[u8]>,
    {
        rows.into_iter().enumerate().try_fold(*start, |previous, (index, (row, stored))| {
            let good = self.next(&previous, row.as_ref()).ct_eq(&stored);
            if good.into() { Ok(stored) } else { Err(BrokenLink { index }) }
        })
    }
}

impl fmt::Debug for MacChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacChain(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;
    use crate::installation_key::tests_support::fixed_key;

    fn chain() -> MacChain {
        MacChain::new(&fixed_key(KeyPurpose::AuditMac)).unwrap()
    }

    fn links(rows: &[Vec<u8>]) -> Vec<(Vec<u8>, [u8; 32])> {
        let mut previous = MacChain::GENESIS;
        rows.iter()
            .map(|row| {
                previous = chain().next(&previous, row);
                (row.clone(), previous)
            })
            .collect()
    }

    #[test]
    fn macs_are_pinned() {
        // Computed apart with another implementation of HMAC.
        let first = chain().next(&MacChain::GENESIS, b"first");
        assert_eq!(
            HEXLOWER.encode(&first),
            "64000c05cca30616e5504bc11462af4478e69affc92018033a992c31f6296f04"
        );
        assert_eq!(
            HEXLOWER.encode(&chain().next(&first, b"second")),
            "7f67d043b7a4befe34004349c9088c5fe2a2ca81076aceaa3ba485eccf1eb638"
        );
    }

    #[test]
    fn checkpoints_have_a_key_of_their_own() {
        let key = fixed_key(KeyPurpose::AuditMac);
        let checkpoints = MacChain::of_checkpoints(&key).unwrap();
        let first = checkpoints.next(&MacChain::GENESIS, b"first");
        assert_ne!(first, chain().next(&MacChain::GENESIS, b"first"));
        assert_eq!(first, MacChain::of_checkpoints(&key).unwrap().next(&MacChain::GENESIS, b"first"));
        let wrong = MacChain::of_checkpoints(&fixed_key(KeyPurpose::Pepper)).unwrap_err();
        assert_eq!(wrong, WrongPurpose { needed: KeyPurpose::AuditMac, given: KeyPurpose::Pepper });
    }

    #[test]
    fn an_empty_run_ends_where_it_starts() {
        assert_eq!(chain().verify(&[5; 32], Vec::<(Vec<u8>, [u8; 32])>::new()), Ok([5; 32]));
    }

    #[test]
    fn only_its_own_key_will_do() {
        let wrong = MacChain::new(&fixed_key(KeyPurpose::OrderId)).unwrap_err();
        assert_eq!(wrong, WrongPurpose { needed: KeyPurpose::AuditMac, given: KeyPurpose::OrderId });
    }

    #[test]
    fn a_run_verifies_only_from_its_own_start() {
        let all = links(&[b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]);
        assert_eq!(chain().verify(&all[0].1, all[1..].to_vec()), Ok(all[2].1));
        assert_eq!(chain().verify(&MacChain::GENESIS, all[1..].to_vec()), Err(BrokenLink { index: 0 }));
    }

    proptest! {
        #[test]
        fn whole_chains_verify_and_changed_ones_do_not(
            rows in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 2..8),
            at: prop::sample::Index,
            bit in 0..8u8,
        ) {
            let good = links(&rows);
            prop_assert_eq!(chain().verify(&MacChain::GENESIS, good.clone()), Ok(good[good.len() - 1].1));

            let at = at.index(good.len());
            let mut altered = good.clone();
            altered[at].0.push(1 << bit);
            prop_assert_eq!(chain().verify(&MacChain::GENESIS, altered), Err(BrokenLink { index: at }));

            let mut forged = good.clone();
            forged[at].1[usize::from(bit)] ^= 1;
            prop_assert_eq!(chain().verify(&MacChain::GENESIS, forged), Err(BrokenLink { index: at }));

            if at + 1 < good.len() {
                let mut removed = good.clone();
                removed.remove(at);
                prop_assert_eq!(chain().verify(&MacChain::GENESIS, removed), Err(BrokenLink { index: at }));
                let mut swapped = good;
                swapped.swap(at, at + 1);
                prop_assert_eq!(chain().verify(&MacChain::GENESIS, swapped), Err(BrokenLink { index: at }));
            }
        }
    }
}
