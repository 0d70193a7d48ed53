//! The brokers of a running server, and the keys that it was given for one of them.

use plimsoll_auth::vault::BrokerKeys;
use plimsoll_broker::{AlpacaConfig, AlpacaServer, ConfigError};
use plimsoll_core_domain::order::Environment;
use plimsoll_paper_broker::{Handle as PaperHandle, Login};
use secrecy::ExposeSecret;

use crate::bootstrap::{Databases, StartError, start_paper_broker};
use crate::config::{AlpacaAccount, Settings};
use crate::trading::{AlpacaServers, SeedKeys, SeedOwner};

/// The brokers.
pub(super) struct Brokers {
    /// By environment.
    pub(super) servers: AlpacaServers,
    /// The paper broker of this process, which play money goes to then.
    pub(super) paper: Option<PaperHandle>,
    given: Option<AlpacaAccount>,
    environment: Environment,
}

impl Brokers {
    /// With keys of Alpaca in the settings: `ALPACA_BASE_URL` for its environment, and Alpaca's own address for the other
    /// one. Without: a paper broker in this process, and nothing for real money.
    ///
    /// # Errors
    /// An address or key is refused, or the paper broker does not start.
    pub(super) fn open(settings: &Settings, databases: &Databases) -> Result<Self, StartError> {
        let (broker, scale) = (&settings.broker, settings.time_scale);
        let server = |mut config: AlpacaConfig| {
            config.timings = config.timings.scaled(scale);
            AlpacaServer::new(config).map_err(refused)
        };
        let Some(account) = &broker.alpaca else {
            let paper = start_paper_broker(settings, databases)?;
            let config = AlpacaConfig::new(paper.url(), Environment::Paper).map_err(refused)?;
            let servers = AlpacaServers { paper: Some(server(config)?), live: None };
            return Ok(Self { servers, paper: Some(paper), given: None, environment: Environment::Paper });
        };
        let own = broker.alpaca_config(broker.environment).map_err(refused)?;
        own.check_key(account.key.expose_secret())
            .map_err(|why| StartError::Setting { setting: "ALPACA_API_KEY", message: why.to_string() })?;
        let of = |environment| server(broker.alpaca_config(environment).map_err(refused)?);
        let servers =
            AlpacaServers { paper: Some(of(Environment::Paper)?), live: Some(of(Environment::Live)?) };
        Ok(Self { servers, paper: None, given: Some(account.clone()), environment: broker.environment })
    }

    /// The keys that go into the vault: those of the settings, or the paper broker's first login.
    ///
    /// # Errors
    /// The paper broker has no login.
    pub(super) fn seed(&self, owner: SeedOwner) -> Result<SeedKeys, StartError> {
        let environment = self.environment;
        if let Some(AlpacaAccount { key, secret }) = &self.given {
            let keys = BrokerKeys { api_key: key.clone(), api_secret: secret.clone() };
            return Ok(SeedKeys { owner, environment, keys });
        }
        let paper = self.paper.as_ref().ok_or_else(no_login)?;
        let login = first_login(paper)?;
        let keys =
            BrokerKeys { api_key: login.api_key.clone().into(), api_secret: login.api_secret.clone().into() };
        Ok(SeedKeys { owner, environment, keys })
    }
}

/// The login that the paper broker made for itself.
///
/// # Errors
/// There is none.
pub(super) fn first_login(paper: &PaperHandle) -> Result<&Login, StartError> {
    paper.accounts().first().ok_or_else(no_login)
}

fn no_login() -> StartError {
    StartError::Refused("the paper broker has no account with a key".to_owned())
}

fn refused(why: ConfigError) -> StartError {
    StartError::Setting { setting: "ALPACA_BASE_URL", message: why.to_string() }
}
