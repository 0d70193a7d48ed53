//! The keys that the server itself was given: they go into the vault, for the user that they belong to.
//!
//! Each pair is sown once. What its owner saves in its place stays, and so does its deletion; another pair replaces only
//! what was sown before.

use std::sync::Arc;

use plimsoll_auth::Act;
use plimsoll_auth::vault::{self, BrokerKeys, BrokerName, Opened, Saved};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{Clock, StoreError, UserId};
use plimsoll_crypto::OsRandom;
use plimsoll_storage::platform::keys::PlatformKeys;
use plimsoll_storage::{Db, Tx};
use secrecy::ExposeSecret;

/// Whose the server's own keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedOwner {
    /// This user's.
    User(UserId),
    /// The first active administrator's, as soon as there is one.
    FirstAdmin,
}

/// Keys that the server was given.
#[derive(Clone, Debug)]
pub struct SeedKeys {
    /// Whose.
    pub owner: SeedOwner,
    /// With whose money.
    pub environment: Environment,
    /// The key pair.
    pub keys: BrokerKeys,
}

/// Saves them, once.
pub(super) struct Sower {
    pub(super) seed: SeedKeys,
    pub(super) keys: Arc<PlatformKeys>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Sower {
    /// Whether it is done; `false`: to be tried again.
    pub(super) async fn sow(&self, db: &Db) -> bool {
        let (seed, keys) = (self.seed.clone(), Arc::clone(&self.keys));
        let act = Act::without_request(self.clock.now());
        match db.run(move |tx| sow(tx, &seed, &keys, &act)).await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(%error, "the server's own broker keys could not be saved yet");
                false
            }
        }
    }
}

fn sow(tx: &mut Tx<'_>, seed: &SeedKeys, own: &PlatformKeys, act: &Act) -> Result<bool, StoreError> {
    let user = match seed.owner {
        SeedOwner::User(user) => user,
        SeedOwner::FirstAdmin => match tx.first_admin()? {
            Some(user) => user,
            None => return Ok(false),
        },
    };
    let (environment, broker) = (seed.environment, BrokerName::Alpaca);
    let fingerprint = seed.keys.fingerprint(broker, &own.pepper);
    let stored = match vault::open(tx, &own.ring, user, broker, act)? {
        Opened::Undecryptable => {
            tracing::error!(user.id = %user, "the stored broker credential does not open; the server's own keys do not replace it");
            return Ok(true);
        }
        Opened::Nothing if tx.was_sown(broker, &fingerprint)? => Stored::Gone,
        Opened::Nothing => Stored::Nothing,
        Opened::Keys { keys, environment, .. } if is_same(seed, &keys, environment) => Stored::Same,
        Opened::Keys { version, .. } if tx.is_sown(user, broker, version)? => Stored::Sown,
        Opened::Keys { .. } => Stored::Chosen,
    };
    match stored {
        Stored::Same => return Ok(true),
        Stored::Gone | Stored::Chosen => {
            tracing::info!(user.id = %user, ?stored, "the server's own broker keys are left alone: their owner has decided otherwise");
            return Ok(true);
        }
        Stored::Nothing | Stored::Sown => {}
    }
    let installation = vault::VaultKeys { ring: &own.ring, pepper: &own.pepper };
    let saved =
        vault::save(tx, installation, None, user, broker, environment, &seed.keys, act, &mut OsRandom)?;
    match saved {
        Saved::Done(view) => {
            tx.note_sown(user, broker, &fingerprint, view.version, act.at)?;
            tracing::info!(user.id = %user, environment = environment.as_str(), "a user trades with the server's own broker keys");
            Ok(true)
        }
        // until they are final
        Saved::OrdersOpen => {
            tracing::debug!(user.id = %user, "the server's own broker keys wait: orders of the other environment are open");
            Ok(false)
        }
        Saved::NotActive | Saved::Undecryptable => {
            tracing::warn!(user.id = %user, ?saved, "the server's own broker keys are not saved");
            Ok(true)
        }
    }
}

/// What the user has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    /// No credential, and these keys were never saved.
    Nothing,
    /// These keys.
    Same,
    /// Others that the server had saved.
    Sown,
    /// Others that the user has saved.
    Chosen,
    /// No credential any more: these keys were saved once.
    Gone,
}

fn is_same(seed: &SeedKeys, keys: &BrokerKeys, environment: Environment) -> bool {
    environment == seed.environment
        && keys.api_key.expose_secret() == seed.keys.api_key.expose_secret()
        && keys.api_secret.expose_secret() == seed.keys.api_secret.expose_secret()
}
