use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::audit::{AuditLog, AuditOutcome};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::sealing::{open as unseal, sealed_with};
use plimsoll_crypto::{CryptoRng, DataKey, KeyRing, OpenError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::{API_KEY, API_SECRET, Alert, Audience, BrokerKeys, BrokerName, SealedCredential, place, row};
use crate::Act;
use crate::ports::{ThrottleStore, VaultStore};
use crate::throttle::{Limit, Verdict};

/// What the vault has of a credential.
#[derive(Debug)]
pub enum Opened {
    /// The keys. Drop them as soon as the call or connection that needs them has them.
    Keys {
        /// What to trade with.
        keys: BrokerKeys,
        /// Of which version.
        version: i64,
        /// With whose money.
        environment: Environment,
    },
    /// The user has no credential for this broker.
    Nothing,
    /// What is stored does not open. It is on record and administrators are told; nothing trades meanwhile.
    Undecryptable,
}

/// Why something sealed for a user does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The user's data key is gone.
    NoDataKey,
    /// The data key itself does not open.
    DataKey(OpenError),
    /// The value does not open.
    Value(OpenError),
}

impl Unreadable {
    /// The word in the audit log.
    fn reason(self) -> &'static str {
        match self {
            Self::NoDataKey => "no_data_key",
            Self::DataKey(OpenError::UnknownKey(_)) => "unknown_key",
            Self::DataKey(_) => "data_key_refused",
            Self::Value(OpenError::Truncated(_)) => "truncated",
            Self::Value(OpenError::UnsupportedVersion(_)) => "unsupported_version",
            Self::Value(OpenError::UnknownKey(_)) => "another_data_key",
            Self::Value(OpenError::Refused) => "refused",
            Self::Value(OpenError::Misplaced) => "misplaced",
        }
    }
}

/// The ring under which a user's secrets are sealed, with a data key made now when the user has none. The second error
/// says why the stored data key does not open.
///
/// # Errors
///
/// When the store fails.
pub fn user_ring<S, R>(
    store: &mut S,
    ring: &KeyRing,
    user: UserId,
    at: DateTime<Utc>,
    rng: &mut R,
) -> Result<Result<KeyRing, OpenError>, StoreError>
where
    S: VaultStore + ?Sized,
    R: CryptoRng + ?Sized,
{
    let wrapped = match store.wrapped_key(user)? {
        Some(wrapped) => wrapped,
        None => {
            let fresh = DataKey::generate(rng).wrap(ring, user.0, rng);
            store.keep_key(user, &fresh, at)?
        }
    };
    Ok(DataKey::unwrap(ring, user.0, &wrapped).map(|key| key.ring(ring)))
}

/// The ring under which a user's secrets are sealed; `None` for a user without a data key, whose secrets, if any, are of
/// before and sealed by the installation's ring. The second error says why the stored data key does not open.
///
/// # Errors
///
/// When the store fails.
pub fn existing_ring<S>(
    store: &mut S,
    ring: &KeyRing,
    user: UserId,
) -> Result<Option<Result<KeyRing, OpenError>>, StoreError>
where
    S: VaultStore + ?Sized,
{
    let wrapped = store.wrapped_key(user)?;
    Ok(wrapped.map(|wrapped| DataKey::unwrap(ring, user.0, &wrapped).map(|key| key.ring(ring))))
}

fn opened(
    sealed: &SealedCredential,
    ring: &KeyRing,
    wrapped: Option<&[u8]>,
    user: UserId,
) -> Result<BrokerKeys, Unreadable> {
    let wrapped = wrapped.ok_or(Unreadable::NoDataKey)?;
    let key = DataKey::unwrap(ring, user.0, wrapped).map_err(Unreadable::DataKey)?;
    let of_user = key.ring(ring);
    let row = row(user, sealed.view.broker);
    let part = |column, sealed: &[u8]| -> Result<SecretString, OpenError> {
        // There are no credentials of before data keys: nothing else may have sealed one.
        let sealer = sealed_with(sealed)?;
        if sealer != key.id() {
            return Err(OpenError::UnknownKey(sealer));
        }
        let plain = unseal(&of_user, &place(column, &row, user), sealed)?;
        let text = std::str::from_utf8(plain.expose_secret()).map_err(|_| OpenError::Refused)?;
        Ok(SecretString::from(text))
    };
    Ok(BrokerKeys {
        api_key: part(API_KEY, &sealed.api_key).map_err(Unreadable::Value)?,
        api_secret: part(API_SECRET, &sealed.api_secret).map_err(Unreadable::Value)?,
    })
}

/// Opens a user's credential, for a call or a connection that is made now. Commit the transaction whatever the outcome:
/// a credential that does not open is on record by it.
///
/// # Errors
///
/// When the store fails.
pub fn open<S>(
    store: &mut S,
    ring: &KeyRing,
    user: UserId,
    broker: BrokerName,
    act: &Act,
) -> Result<Opened, StoreError>
where
    S: VaultStore + ThrottleStore + AuditLog + ?Sized,
{
    let Some(sealed) = store.sealed_credential(user, broker)? else { return Ok(Opened::Nothing) };
    let wrapped = store.wrapped_key(user)?;
    match opened(&sealed, ring, wrapped.as_deref(), user) {
        Ok(keys) => {
            Ok(Opened::Keys { keys, version: sealed.view.version, environment: sealed.view.environment })
        }
        Err(why) => {
            record_unreadable(store, user, broker, why, act)?;
            Ok(Opened::Undecryptable)
        }
    }
}

/// Records that a user's secret does not open, and tells the administrators; once a minute, since whoever needs it tries
/// again.
pub(super) fn record_unreadable<S>(
    store: &mut S,
    user: UserId,
    broker: BrokerName,
    why: Unreadable,
    act: &Act,
) -> Result<(), StoreError>
where
    S: VaultStore + ThrottleStore + AuditLog + ?Sized,
{
    const ONCE: Limit = Limit::new(1, TimeDelta::minutes(1), 1);
    let said = store.take("credential.undecryptable", &user.0.to_be_bytes(), ONCE, act.at)?;
    if matches!(said, Verdict::Blocked { .. }) {
        return Ok(());
    }
    let message = format!(
        "The stored {broker} credential of user {user} does not open ({}): trading for that user has stopped. See the \
         audit log.",
        why.reason()
    );
    store.alert(Audience::Administrators, &Alert { message, severity: "critical" }, act.at)?;
    let detail = json!({ "broker": broker.as_str(), "reason": why.reason() });
    let entry = act.entry("credential.undecryptable", AuditOutcome::Failure, None, Some(user), detail);
    store.append_audit(Some(user), &entry)
}
