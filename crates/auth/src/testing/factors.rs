//! A user with a second factor, for the tests of this crate.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_core_domain::UserId;
use plimsoll_crypto::passwords::HashParams;
use plimsoll_crypto::tokens::TokenDigest;
use plimsoll_crypto::{InstallationKey, KeyPurpose, OsRandom, Pepper};
use secrecy::SecretString;
use uuid::Uuid;

use super::MemoryStore;
use super::fixtures::{at, store};
use crate::backup_codes::{BackupCode, BackupCodes, NewCodes};
use crate::ports::TwoFactorStore;
use crate::totp::{TotpSecret, step_at};
use crate::two_factor::{Begun, Purpose, Settled, SubmittedCode, begin, settle};
use crate::{AccountPolicy, Act, ClientInfo};

pub(crate) static BACKUP: LazyLock<BackupCodes> = LazyLock::new(|| {
    let pepper = Pepper::new(&InstallationKey::generate(KeyPurpose::Pepper, &mut OsRandom)).unwrap();
    BackupCodes::new(HashParams::MINIMUM, pepper, &mut OsRandom)
});

/// The codes of the first user; hashing ten takes its time.
static CODES: LazyLock<NewCodes> = LazyLock::new(|| BACKUP.generate(UserId(1), &mut OsRandom));

/// A store with one user whose second factor was enabled at 0.
pub(crate) struct Bound {
    pub(crate) store: MemoryStore,
    pub(crate) user: UserId,
    pub(crate) secret: TotpSecret,
    pub(crate) codes: Vec<BackupCode>,
}

pub(crate) fn bound() -> Bound {
    let (mut store, user) = store();
    let secret = TotpSecret::from_bytes(&[9; 20]).unwrap();
    assert_eq!(user, UserId(1));
    let new = CODES.clone();
    store.set_pending_factor(user, &secret, at(600), &new.hashes, at(-30)).unwrap();
    assert!(store.activate_pending_factor(user, &secret, step_at(at(0)), at(0)).unwrap());
    Bound { store, user, secret, codes: new.codes }
}

pub(crate) fn act(second: i64) -> Act {
    let client = ClientInfo::new(Some("192.0.2.7".parse().unwrap()), Some("test"));
    Act { client, request_id: Some(Uuid::from_u128(1)), session: None, at: at(second) }
}

pub(crate) fn token_digest(n: u8) -> TokenDigest {
    TokenDigest([n; 32])
}

/// Ids that no other call gives.
pub(crate) fn ids() -> impl FnMut() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    || Uuid::from_u64_pair(0xFAC7, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The code that the secret shows at a second.
pub(crate) fn right(secret: &TotpSecret, second: i64) -> SecretString {
    secret.code_of(step_at(at(second))).expose_text()
}

/// All three steps, with the default limits.
pub(crate) fn try_code(
    store: &mut MemoryStore,
    user: UserId,
    purpose: Purpose,
    code: SecretString,
    second: i64,
) -> Settled {
    try_under(&AccountPolicy::default(), store, user, purpose, code, second)
}

/// All three steps.
pub(crate) fn try_under(
    policy: &AccountPolicy,
    store: &mut MemoryStore,
    user: UserId,
    purpose: Purpose,
    code: SecretString,
    second: i64,
) -> Settled {
    let begun = begin(store, policy, user, purpose, SubmittedCode::parse(&code), &act(second)).unwrap();
    let Begun::Ready(attempt) = begun else { panic!("{begun:?}") };
    settle(store, policy, attempt.verify(&BACKUP), &act(second), &mut ids()).unwrap()
}
