//! The paper broker in this process.

use plimsoll_paper_broker::{Config, Database, Handle, MarketSource, PaperBroker};

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
    Ok(PaperBroker::start(config)?)
}
