//! Making connections.

use std::fmt;
use std::sync::Arc;

use plimsoll_core_domain::order::Environment;
use plimsoll_crypto::OsRandom;
use plimsoll_storage::platform::accounts::TradingAccount;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::places::Places;
use super::reports::{Teller, Told};
use super::servers::BrokerServers;
use super::vault_keys::{VaultDoor, VaultKeys};
use super::watched::{KeyFailures, Watched};
use crate::service::random_seed;

/// Connects accounts with the broker of their environment, by the keys that the vault has for them.
#[derive(Clone)]
pub(super) struct Links {
    pub(super) servers: Arc<dyn BrokerServers>,
    pub(super) door: VaultDoor,
    pub(super) reports: mpsc::UnboundedSender<Told>,
    pub(super) places: Places,
}

impl Links {
    /// A connection for this version of the account's credentials, over which nothing was said yet; `None` when there is no
    /// broker for its environment.
    pub(super) fn connect(&self, of: &TradingAccount) -> Option<Arc<Connection>> {
        let (user, environment, version) =
            (of.account.user_id, of.account.environment, of.credential_version);
        let teller = self.teller(of);
        let failures = KeyFailures::default();
        let whose = (user, environment, version);
        let keys = VaultKeys::new(self.door.clone(), whose, teller.clone(), failures.clone());
        let adapter = self.servers.adapter(environment, Arc::new(keys), random_seed(&mut OsRandom))?;
        Some(Arc::new(Connection::new(
            of,
            Arc::new(Watched::new(
                adapter,
                teller,
                self.places.of(environment).party(of.account.id),
                failures,
            )),
        )))
    }

    pub(super) fn teller(&self, of: &TradingAccount) -> Teller {
        Teller {
            account: of.account.id,
            user: of.account.user_id,
            version: of.credential_version,
            reports: self.reports.clone(),
        }
    }

    pub(super) fn offers(&self, environment: Environment) -> bool {
        self.servers.offers(environment)
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}
