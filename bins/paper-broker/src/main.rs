//! `paper-broker`: the simulator alone.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use plimsoll_observability::logging::{self, LogFormat};
use plimsoll_paper_broker::{
    Config, Connections, Database, Ended, FaultRule, Frames, Handle, MarketSource, PaperBroker,
};
use plimsoll_storage::private_postgres;
use rust_decimal::Decimal;
use tokio::signal::unix::{SignalKind, signal};

/// A paper broker that speaks Alpaca's Trading API over recorded market data.
///
/// Beside the Trading API (/v2 and /stream) it has, for callers on this machine, /_sim: ledger, request log, clock,
/// accounts and fault rules.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Where it listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    bind: SocketAddr,
    /// Holds keys and, without --database-url, the database
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Simulator seconds a real second
    #[arg(long, default_value = "1", value_name = "N")]
    speed: Decimal,
    /// Print address and keys as JSON
    #[arg(long)]
    json: bool,
    /// Keep the books in this database instead of a private PostgreSQL
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Replay the CSV files of a folder instead of the bundled recordings
    #[arg(long, value_name = "DIR", conflicts_with = "fixed_price")]
    market_data: Option<PathBuf>,
    /// Trade any symbol at one price
    #[arg(long, value_name = "P")]
    fixed_price: Option<Decimal>,
    /// Ids and random choices follow from it
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Requests a minute and account, or "off"
    #[arg(long, default_value = "200", value_name = "N|off", value_parser = rate_limit)]
    rate_limit: RateLimit,
    /// Dollars a new account gets
    #[arg(long, value_name = "DOLLARS")]
    cash: Option<Decimal>,
    /// Part of eligible fills made partial with a random size (0.1 = 10 %)
    #[arg(long, value_name = "PART")]
    partial_fill_rate: Option<Decimal>,
    /// Part of orders rejected after acceptance
    #[arg(long, value_name = "PART")]
    reject_rate: Option<Decimal>,
    /// Basis points that market and stop fills are worse than the quote
    #[arg(long, value_name = "BP")]
    slippage_bp: Option<Decimal>,
    /// Simulator milliseconds from pending_new to new
    #[arg(long, value_name = "MS")]
    ack_delay_ms: Option<i64>,
    /// A JSON file with a list of fault rules to start with
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Send the order stream in text frames instead of binary ones
    #[arg(long)]
    text_frames: bool,
    /// Let an account have several stream connections
    #[arg(long)]
    several_streams: bool,
    /// error, warn, info, debug or a filter such as plimsoll=debug; goes to standard error
    #[arg(long, default_value = "warn", value_name = "LEVEL")]
    log_level: String,
}

#[derive(Clone, Copy)]
struct RateLimit(Option<u32>);

fn rate_limit(text: &str) -> Result<RateLimit, String> {
    match text {
        "off" => Ok(RateLimit(None)),
        number => match number.parse() {
            Ok(limit) if limit > 0 => Ok(RateLimit(Some(limit))),
            _ => Err("must be a number above 0, or off".into()),
        },
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    // A connection closed by a fault rule is no error.
    let level = format!("{},actix_http::h1::dispatcher=off", arguments.log_level);
    if let Err(error) = logging::init(&level, LogFormat::Pretty) {
        return refuse(&format!("--log-level: {error}"));
    }
    let config = match config(arguments) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    // before anything is started, so that no signal is lost and a child inherits no blocked one
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error.to_string()),
    };
    let signals = runtime.block_on(async { Ok::<_, std::io::Error>((terminate()?, interrupt()?)) });
    let (mut terminated, mut interrupted) = match signals {
        Ok(signals) => signals,
        Err(error) => return refuse(&error.to_string()),
    };
    let broker = match PaperBroker::start(config) {
        Ok(broker) => broker,
        Err(error) if error.is_database_away() => {
            eprintln!("paper-broker: {error}");
            return ExitCode::from(3);
        }
        Err(error) => return refuse(&error.to_string()),
    };
    announce(&broker, json);
    let ended = runtime.block_on(async {
        tokio::select! {
            _ = terminated.recv() => None,
            _ = interrupted.recv() => None,
            why = broker.ended() => Some(why),
        }
    });
    broker.stop();
    match ended {
        None | Some(Ended::Stopped) => ExitCode::SUCCESS,
        Some(Ended::TakenOver) => {
            eprintln!("paper-broker: another paper broker has taken over these books");
            ExitCode::FAILURE
        }
        Some(Ended::Failed) => {
            eprintln!("paper-broker: the exchange failed");
            ExitCode::FAILURE
        }
    }
}

fn terminate() -> std::io::Result<tokio::signal::unix::Signal> {
    signal(SignalKind::terminate())
}

fn interrupt() -> std::io::Result<tokio::signal::unix::Signal> {
    signal(SignalKind::interrupt())
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("paper-broker: {message}");
    ExitCode::from(2)
}

fn announce(broker: &Handle, json: bool) {
    let mut out = std::io::stdout().lock();
    let text = if json {
        let accounts: Vec<_> = broker
            .accounts()
            .iter()
            .map(|login| serde_json::json!({ "api_key": login.api_key, "api_secret": login.api_secret }))
            .collect();
        format!("{}\n", serde_json::json!({ "url": broker.url(), "accounts": accounts }))
    } else {
        let mut text = format!("paper broker at {url}, order stream at {url}/stream\n", url = broker.url());
        for login in broker.accounts() {
            text += &format!("key {}  secret {}\n", login.api_key, login.api_secret);
        }
        text
    };
    // a reader that went away needs no keys
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

fn config(arguments: Arguments) -> Result<Config, String> {
    let database = match arguments.database_url {
        Some(url) => Database::Url(url),
        None => Database::Private(postgres_options(&arguments.data_dir)),
    };
    let mut config = Config::new(arguments.data_dir, database);
    config.bind = arguments.bind;
    config.speed = arguments.speed;
    config.seed = arguments.seed;
    config.rate_limit_per_minute = arguments.rate_limit.0;
    config.market = match (arguments.market_data, arguments.fixed_price) {
        (Some(folder), _) => MarketSource::Dir(folder),
        (None, Some(price)) => MarketSource::FixedPrice(price),
        (None, None) => MarketSource::Bundled,
    };
    let exchange = &mut config.exchange;
    let part = |name: &str, value: Decimal| {
        let range = Decimal::ZERO..=Decimal::ONE;
        if range.contains(&value) {
            Ok(value)
        } else {
            Err(format!("{name} must be between 0 and 1, got {value}"))
        }
    };
    if let Some(cash) = arguments.cash {
        exchange.starting_cash =
            if cash.is_sign_negative() { return Err("--cash must not be negative".into()) } else { cash };
    }
    if let Some(rate) = arguments.partial_fill_rate {
        exchange.partial_fill_rate = part("--partial-fill-rate", rate)?;
    }
    if let Some(rate) = arguments.reject_rate {
        exchange.reject_rate = part("--reject-rate", rate)?;
    }
    if let Some(slippage) = arguments.slippage_bp {
        exchange.slippage_bp =
            part("--slippage-bp over 10000", slippage / Decimal::from(10_000))? * Decimal::from(10_000);
    }
    if let Some(delay) = arguments.ack_delay_ms {
        exchange.ack_delay_ms =
            if delay < 0 { return Err("--ack-delay-ms must not be negative".into()) } else { delay };
    }
    if let Some(path) = arguments.faults {
        config.faults = faults(&path)?;
    }
    if arguments.text_frames {
        config.stream.frames = Frames::Text;
    }
    if arguments.several_streams {
        config.stream.connections = Connections::Several;
    }
    Ok(config)
}

fn faults(path: &std::path::Path) -> Result<Vec<FaultRule>, String> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[expect(clippy::disallowed_methods, reason = "the one place of this program that reads the environment")]
fn postgres_options(data_dir: &std::path::Path) -> private_postgres::Options {
    let mut options = private_postgres::Options::new(data_dir);
    options.bin = std::env::var_os("PG_BIN").map(PathBuf::from);
    options.path_var = std::env::var("PATH").unwrap_or_default();
    options.runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    options
}
