//! The paper broker in this process.

use plimsoll_paper_broker::{Config, Database, Handle, MarketSource, PaperBroker, StartError as BrokerError};
use plimsoll_storage::db::database_of;

use super::error::root_cause;
use super::{Databases, StartError};
use crate::config::{Market, Settings};

/// The paper broker's folder below the data folder: its lock and its key file.
const FOLDER: &str = "paper-broker";

/// Starts it on a free loopback port, with its books in their own database. Blocks.
///
/// # Errors
/// It does not start.
pub fn start_paper_broker(settings: &Settings, databases: &Databases) -> Result<Handle, StartError> {
    databases.ensure_paper()?;
    let mut config = Config::new(settings.data_dir.join(FOLDER), Database::Url(databases.paper.clone()));
    config.speed = settings.broker.paper_speed;
    config.market = match &settings.broker.paper_market {
        Market::Bundled => MarketSource::Bundled,
        Market::Folder(folder) => MarketSource::Dir(folder.clone()),
        Market::FixedPrice(price) => MarketSource::FixedPrice(*price),
    };
    PaperBroker::start(config).map_err(|error| explain(error, settings, databases))
}

/// A given server's second database is the operator's to make: what to do is said, where it can be told.
fn explain(error: BrokerError, settings: &Settings, databases: &Databases) -> StartError {
    let missing = settings.database.url.is_some()
        && settings.database.paper_url.is_none()
        && root_cause(&error).is_some_and(|cause| cause.contains("does not exist"));
    match database_of(&databases.paper) {
        Some(name) if missing => StartError::Setting {
            setting: "PAPER_DATABASE_URL",
            message: format!(
                "is not set, and there is no database {name} beside the given one for the paper broker's books; make it \
                 (CREATE DATABASE \"{name}\") or set ALPACA_API_KEY"
            ),
        },
        _ => StartError::Paper(error),
    }
}
