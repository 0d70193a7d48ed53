use plimsoll_core_domain::audit::{AuditLog, AuditOutcome};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_crypto::{CryptoRng, seal};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use super::read::{Unreadable, record_unreadable, user_ring};
use super::{
    API_KEY, API_SECRET, Alert, Audience, BrokerKeys, BrokerName, CredentialState, CredentialView,
    NewCredential, VaultKeys, place, row,
};
use crate::mail::Mail;
use crate::ports::{AccountStore, MailOutbox, ThrottleStore, VaultStore};
use crate::{AccountState, Act};

/// What became of a credential that was to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// It is stored, and everything of the user trades with it from now on.
    Done(CredentialView),
    /// Refused: it is for the other environment, and an order in the present one is not final.
    OrdersOpen,
    /// Refused: there is no such user, or the user is disabled.
    NotActive,
    /// Refused: the user's data key does not open. It is on record and administrators are told.
    Undecryptable,
}

fn described(view: &CredentialView) -> Value {
    json!({
        "broker": view.broker.as_str(),
        "environment": view.environment.as_str(),
        "key_last4": view.key_last4,
        "fingerprint": view.fingerprint,
        "version": view.version,
    })
}

/// Saves a user's credential for a broker, in the place of the one before. From then on everything of the user trades in
/// its environment. `by` is who acts: the user, or `None` for an operator or the server itself.
///
/// # Errors
///
/// When the store fails.
#[expect(clippy::too_many_arguments, reason = "each is another thing, and callers name them")]
pub fn save<S, R>(
    store: &mut S,
    installation: VaultKeys<'_>,
    by: Option<UserId>,
    user: UserId,
    broker: BrokerName,
    environment: Environment,
    keys: &BrokerKeys,
    act: &Act,
    rng: &mut R,
) -> Result<Saved, StoreError>
where
    S: VaultStore + AccountStore + ThrottleStore + AuditLog + ?Sized,
    R: CryptoRng + ?Sized,
{
    let active =
        store.lock_account_of(user)?.is_some_and(|account| account.user.state == AccountState::Active);
    if !active {
        return Ok(Saved::NotActive);
    }
    let ring = match user_ring(store, installation.ring, user, act.at, rng)? {
        Ok(ring) => ring,
        Err(why) => {
            record_unreadable(store, user, broker, Unreadable::DataKey(why), act)?;
            return Ok(Saved::Undecryptable);
        }
    };
    if !store.trade_in(user, broker, environment, act.at)? {
        let detail = json!({
            "broker": broker.as_str(), "environment": environment.as_str(), "reason": "orders_open",
        });
        let entry = act.entry("credential.save", AuditOutcome::Denied, by, Some(user), detail);
        store.append_audit(Some(user), &entry)?;
        return Ok(Saved::OrdersOpen);
    }
    let row = row(user, broker);
    let mut sealed = |column, part: &SecretString| {
        seal(&ring, &place(column, &row, user), part.expose_secret().as_bytes(), rng)
    };
    let credential = NewCredential {
        broker,
        environment,
        api_key: sealed(API_KEY, &keys.api_key),
        api_secret: sealed(API_SECRET, &keys.api_secret),
        key_last4: keys.last4(),
        fingerprint: keys.fingerprint(broker, installation.pepper),
    };
    let view = store.put_credential(user, &credential, act.at)?;
    let entry = act.entry("credential.save", AuditOutcome::Success, by, Some(user), described(&view));
    store.append_audit(Some(user), &entry)?;
    Ok(Saved::Done(view))
}

/// Deletes a user's credential for a broker. `false` when there was none.
///
/// # Errors
///
/// When the store fails.
pub fn remove<S>(
    store: &mut S,
    by: Option<UserId>,
    user: UserId,
    broker: BrokerName,
    act: &Act,
) -> Result<bool, StoreError>
where
    S: VaultStore + AccountStore + AuditLog + ?Sized,
{
    store.lock_account_of(user)?;
    let Some(view) = store.remove_credential(user, broker)? else { return Ok(false) };
    let entry = act.entry("credential.delete", AuditOutcome::Success, by, Some(user), described(&view));
    store.append_audit(Some(user), &entry)?;
    Ok(true)
}

/// The broker's word on one version of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// Which version was tried.
    pub version: i64,
    /// What came of it.
    pub state: CredentialState,
    /// Why, in words that may be shown; kept with the credential, cut to 500 characters.
    pub reason: Option<&'a str>,
}

/// Notes the broker's word on a credential. `false`, and nothing is changed, when it is about a version that is not the
/// stored one any more. A credential that becomes invalid is told to its owner, by the mail `mail` and by an event.
///
/// # Errors
///
/// When the store fails.
pub fn judge<S>(
    store: &mut S,
    user: UserId,
    broker: BrokerName,
    judgement: &Judgement<'_>,
    mail: Uuid,
    act: &Act,
) -> Result<bool, StoreError>
where
    S: VaultStore + AccountStore + MailOutbox + AuditLog + ?Sized,
{
    let account = store.lock_account_of(user)?;
    let reason: Option<String> = judgement
        .reason
        .map(|text| text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect());
    let Judgement { version, state, .. } = *judgement;
    let before = store.set_credential_state(user, broker, version, state, reason.as_deref(), act.at)?;
    let Some(before) = before else { return Ok(false) };
    if before.state == state {
        return Ok(true);
    }
    let invalid = state == CredentialState::Invalid;
    if invalid {
        let (environment, last4) = (before.environment.as_str(), before.key_last4.clone());
        if let Some(account) = account {
            let text = Mail::BrokerKeysRefused {
                broker: broker.as_str().to_owned(),
                environment: environment.to_owned(),
                key_last4: last4.clone(),
                at: act.at,
            };
            store.post_mail(mail, &account.user.email, Some(user), &text, act.at)?;
        }
        let message = format!(
            "The broker ({broker}, {environment}) refuses the key that ends in {last4}: trading has stopped until a new \
             one is saved."
        );
        store.alert(Audience::User(user), &Alert { message, severity: "critical" }, act.at)?;
    }
    let mut detail = described(&before);
    detail["from"] = before.state.as_str().into();
    detail["to"] = state.as_str().into();
    if let Some(reason) = reason {
        detail["reason"] = reason.into();
    }
    let outcome = if invalid { AuditOutcome::Failure } else { AuditOutcome::Success };
    let entry = act.entry("credential.judge", outcome, None, Some(user), detail);
    store.append_audit(Some(user), &entry)?;
    Ok(true)
}
