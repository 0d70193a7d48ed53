//! The keys that the server itself was given: they go into the vault, for the user that they belong to.

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
    /// Ids of keys that the user may have saved in their place; `None`: the server's own replace every other.
    pub or_else: Option<Vec<String>>,
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
    match vault::open(tx, &own.ring, user, BrokerName::Alpaca, act)? {
        Opened::Keys { keys, environment, .. } if stays(seed, &keys, environment) => return Ok(true),
        Opened::Undecryptable => {
            tracing::error!(user.id = %user, "the stored broker credential does not open; the server's own keys do not replace it");
            return Ok(true);
        }
        Opened::Keys { .. } | Opened::Nothing => {}
    }
    let installation = vault::VaultKeys { ring: &own.ring, pepper: &own.pepper };
    let (environment, broker) = (seed.environment, BrokerName::Alpaca);
    let saved =
        vault::save(tx, installation, None, user, broker, environment, &seed.keys, act, &mut OsRandom)?;
    match saved {
        Saved::Done(_) => {
            tracing::info!(user.id = %user, environment = environment.as_str(), "a user trades with the server's own broker keys")
        }
        Saved::OrdersOpen => {
            tracing::warn!(user.id = %user, "the server's own broker keys are not saved: orders of the other environment are open")
        }
        Saved::NotActive | Saved::Undecryptable => {
            tracing::warn!(user.id = %user, ?saved, "the server's own broker keys are not saved");
        }
    }
    Ok(true)
}

/// Whether what the user has stays as it is.
fn stays(seed: &SeedKeys, keys: &BrokerKeys, environment: Environment) -> bool {
    let same = environment == seed.environment
        && keys.api_key.expose_secret() == seed.keys.api_key.expose_secret()
        && keys.api_secret.expose_secret() == seed.keys.api_secret.expose_secret();
    let chosen = seed.or_else.as_ref().is_some_and(|others| {
        environment != seed.environment || others.iter().any(|id| id == keys.api_key.expose_secret())
    });
    same || chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, secret: &str) -> BrokerKeys {
        BrokerKeys { api_key: key.to_owned().into(), api_secret: secret.to_owned().into() }
    }

    #[test]
    fn settings_replace_other_keys_and_a_simulators_own_login_does_not_replace_chosen_ones() {
        let seed = |or_else: Option<Vec<String>>| SeedKeys {
            owner: SeedOwner::FirstAdmin,
            environment: Environment::Paper,
            keys: pair("PKOWN", "s"),
            or_else,
        };
        let (settings, simulator) = (seed(None), seed(Some(vec!["PKOTHER".to_owned()])));
        for (given, stored, environment, kept) in [
            (&settings, pair("PKOWN", "s"), Environment::Paper, true),
            (&settings, pair("PKOWN", "other"), Environment::Paper, false),
            (&settings, pair("PKOTHER", "s"), Environment::Paper, false),
            (&settings, pair("PKOWN", "s"), Environment::Live, false),
            (&simulator, pair("PKOTHER", "s"), Environment::Paper, true),
            (&simulator, pair("PKGONE", "s"), Environment::Paper, false),
            (&simulator, pair("AKREAL", "s"), Environment::Live, true),
        ] {
            assert_eq!(stays(given, &stored, environment), kept, "{stored:?} {environment:?}");
        }
    }
}
