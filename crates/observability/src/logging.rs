//! Logs on standard error, for humans or as JSON lines, without secrets.
//!
//! Values of fields that are named like a secret are never written, whatever they hold; values of other fields and
//! messages are searched for the forms of credentials ([`redaction`]). Control characters are escaped, so that a value
//! cannot forge a line. Warnings and errors that repeat word by word are written three times a minute and counted.

use std::fmt;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

mod layer;
pub mod redaction;
mod repeats;

pub use layer::LogLayer;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One line of text an event.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// The text is neither `pretty` nor `json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log format is pretty or json")]
pub struct UnknownLogFormat;

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(text: &str) -> Result<Self, UnknownLogFormat> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(UnknownLogFormat),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pretty => "pretty",
            Self::Json => "json",
        })
    }
}

/// Why logging was not set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The level is no level and no filter.
    #[error(
        "the log level is one of error, warn, info, debug, trace, or a filter such as info,plimsoll_broker=debug"
    )]
    Level(#[source] tracing_subscriber::filter::ParseError),
    /// The process has a logger already.
    #[error("logging was set up before")]
    AlreadySet,
}

/// Reads a level (`info`) or a filter (`info,plimsoll_broker=debug`).
///
/// # Errors
///
/// [`LoggingError::Level`].
pub fn parse_level(level: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::builder().parse(level).map_err(LoggingError::Level)
}

/// Sends the events of the whole process, those of the `log` crate too, to standard error. Once per process.
///
/// # Errors
///
/// See [`LoggingError`].
pub fn init(level: &str, format: LogFormat) -> Result<(), LoggingError> {
    let filter = parse_level(level)?;
    let layer = LogLayer::new(format, std::io::stderr);
    tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(|_| LoggingError::AlreadySet)
}

#[cfg(test)]
mod tests;
