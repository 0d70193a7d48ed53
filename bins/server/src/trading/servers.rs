//! Which broker stands behind each environment.

use std::sync::Arc;

use plimsoll_broker::{AlpacaServer, CredentialSource};
use plimsoll_core_domain::broker::Broker;
use plimsoll_core_domain::order::Environment;

/// Makes the adapters of accounts.
pub trait BrokerServers: Send + Sync {
    /// The adapter of an account of this environment, which takes its keys from `credentials`; `None` when this server
    /// has no broker for the environment. `jitter_seed` spreads its reconnections over time.
    fn adapter(
        &self,
        environment: Environment,
        credentials: Arc<dyn CredentialSource>,
        jitter_seed: u64,
    ) -> Option<Arc<dyn Broker>>;

    /// Whether there is a broker for the environment.
    fn offers(&self, environment: Environment) -> bool;

    /// Whether a key can be one of the environment, as far as its form tells.
    ///
    /// # Errors
    /// Why it cannot.
    fn check_key_form(&self, _environment: Environment, _key_id: &str) -> Result<(), String> {
        Ok(())
    }
}

/// Alpaca's servers, or what stands in for them.
#[derive(Clone, Debug)]
pub struct AlpacaServers {
    /// For play money.
    pub paper: Option<AlpacaServer>,
    /// For real money.
    pub live: Option<AlpacaServer>,
}

impl AlpacaServers {
    fn of(&self, environment: Environment) -> Option<&AlpacaServer> {
        match environment {
            Environment::Paper => self.paper.as_ref(),
            Environment::Live => self.live.as_ref(),
        }
    }
}

impl BrokerServers for AlpacaServers {
    fn adapter(
        &self,
        environment: Environment,
        credentials: Arc<dyn CredentialSource>,
        jitter_seed: u64,
    ) -> Option<Arc<dyn Broker>> {
        let server = self.of(environment)?;
        Some(Arc::new(server.account(credentials, jitter_seed)))
    }

    fn offers(&self, environment: Environment) -> bool {
        self.of(environment).is_some()
    }

    fn check_key_form(&self, environment: Environment, key_id: &str) -> Result<(), String> {
        self.of(environment)
            .map_or(Ok(()), |server| server.config().check_key(key_id))
            .map_err(|why| why.to_string())
    }
}
