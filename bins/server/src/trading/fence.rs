//! The right of this instance to write what an account's order stream and comparisons bring.

use plimsoll_core_domain::{AccountId, StoreError};
use plimsoll_reliability::leases::{FenceToken, LeaseStore};
use plimsoll_storage::Tx;

/// The kind of the accounts' leases.
pub(super) const ACCOUNT: &str = "account";
/// The kind of the instances' leases: each has one, so that all know how many there are.
pub(super) const INSTANCE: &str = "instance";

/// The name of an account's lease.
pub(super) fn lease_of(account: AccountId) -> String {
    format!("{ACCOUNT}:{account}")
}

/// The account of a lease.
pub(super) fn account_of(lease: &str) -> Option<AccountId> {
    lease.strip_prefix(ACCOUNT)?.strip_prefix(':')?.parse().ok()
}

/// One holding of an account's lease.
#[derive(Clone, Debug)]
pub(super) struct Fence {
    name: String,
    token: FenceToken,
}

impl Fence {
    pub(super) fn new(account: AccountId, token: FenceToken) -> Self {
        Self { name: lease_of(account), token }
    }

    /// First statement of every transaction that writes for the account: whether the lease is still this holding's. On
    /// `false` write nothing.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn hold(&self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        tx.hold_fence(&self.name, self.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_named_after_accounts() {
        assert_eq!(account_of(&lease_of(AccountId(7))), Some(AccountId(7)));
        for other in ["instance:7", "account:x", "account", "accounts:7"] {
            assert_eq!(account_of(other), None, "{other}");
        }
    }
}
