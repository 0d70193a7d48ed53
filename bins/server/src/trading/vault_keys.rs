//! The keys of one account, out of the vault: opened for a call or a connection, and wiped a moment later.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plimsoll_auth::Act;
use plimsoll_auth::vault::{self, BrokerName, Opened};
use plimsoll_broker::{CredentialError, CredentialSource, Credentials};
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::{Clock, UserId};
use plimsoll_storage::Db;
use plimsoll_storage::platform::keys::PlatformKeys;
use secrecy::ExposeSecret;

use super::reports::{Report, Teller};
use super::watched::KeyFailures;

/// What opens the vault.
#[derive(Clone)]
pub(super) struct VaultDoor {
    pub(super) db: Db,
    pub(super) keys: Arc<PlatformKeys>,
    pub(super) clock: Arc<dyn Clock>,
    /// How long opened keys may be used again.
    pub(super) keep: Duration,
}

/// The keys of one version of a user's credential.
pub(super) struct VaultKeys {
    door: VaultDoor,
    user: UserId,
    environment: Environment,
    version: i64,
    kept: Arc<Mutex<Option<Credentials>>>,
    teller: Teller,
    failures: KeyFailures,
}

impl VaultKeys {
    pub(super) fn new(
        door: VaultDoor,
        (user, environment, version): (UserId, Environment, i64),
        teller: Teller,
        failures: KeyFailures,
    ) -> Self {
        Self { door, user, environment, version, kept: Arc::default(), teller, failures }
    }

    async fn open(&self) -> Result<Credentials, CredentialError> {
        let (user, own, now) = (self.user, Arc::clone(&self.door.keys), self.door.clock.now());
        let opened = self
            .door
            .db
            .run(move |tx| vault::open(tx, &own.ring, user, BrokerName::Alpaca, &Act::without_request(now)))
            .await
            .map_err(|error| CredentialError::Unavailable(error.to_string()))?;
        match opened {
            Opened::Keys { keys, version, environment }
                if (version, environment) == (self.version, self.environment) =>
            {
                Ok(Credentials {
                    key_id: keys.api_key.expose_secret().to_owned(),
                    secret: keys.api_secret.clone(),
                })
            }
            Opened::Keys { .. } => Err(CredentialError::Unavailable(
                "they have changed, and the connection begins anew".to_owned(),
            )),
            Opened::Nothing => Err(CredentialError::Unavailable("they were deleted".to_owned())),
            Opened::Undecryptable => {
                self.teller.tell(Report::Unreadable);
                Err(CredentialError::Unavailable("they do not open".to_owned()))
            }
        }
    }
}

impl CredentialSource for VaultKeys {
    fn credentials(
        &self,
    ) -> plimsoll_core_domain::broker::BoxFuture<'_, Result<Credentials, CredentialError>> {
        Box::pin(async {
            let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(credentials) = kept().as_ref() {
                return Ok(credentials.clone());
            }
            let credentials = self.open().await.inspect_err(|_| self.failures.count())?;
            *kept() = Some(credentials.clone());
            let (kept, keep) = (Arc::clone(&self.kept), self.door.keep);
            tokio::spawn(async move {
                tokio::time::sleep(keep).await;
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
            });
            Ok(credentials)
        })
    }
}
