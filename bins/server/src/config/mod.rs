//! Settings: read once, from flags, the environment, `plimsoll.toml` and defaults, in this order.

mod environment;
mod names;
mod parse;
mod read;
mod settings;
mod show;
mod smtp;
mod source;

pub use environment::Environment;
pub use names::{KNOWN, Kind, Known, known, nearest_name};
pub use parse::{duration, order_rate, origin, show_duration};
pub use read::{Loaded, Purpose, load};
pub use settings::{
    AlpacaAccount, BackupSettings, BrokerSettings, DatabaseSettings, KeySettings, Limits, Market, Profile,
    Settings,
};
pub use show::{Shown, show};
pub use source::Flags;

#[cfg(test)]
mod tests;
