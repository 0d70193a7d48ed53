//! Where the broker is, and how long to wait for it.

use std::net::IpAddr;
use std::time::Duration;

use plimsoll_core_domain::order::Environment;
use reqwest::Url;

const PAPER_HOST: &str = "paper-api.alpaca.markets";
const LIVE_HOST: &str = "api.alpaca.markets";
const ALPACA_DOMAIN: &str = "alpaca.markets";
const DATA_HOST: &str = "data.alpaca.markets";

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not an address of a server.
    #[error("{field} is not an address of the form {form}: {why}")]
    Address {
        /// `base_url` or `stream_url`.
        field: &'static str,
        /// The form it should have.
        form: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Credentials would cross the network in the clear.
    #[error("{field} must be encrypted (https, wss): only a loopback host may be reached in the clear")]
    NotEncrypted {
        /// `base_url` or `stream_url`.
        field: &'static str,
    },
    /// Play money's host with real money's setting, or the other way round.
    #[error("{host} is not Alpaca's host for {environment} trading")]
    HostEnvironment {
        /// The configured host.
        host: String,
        /// The configured environment.
        environment: Environment,
    },
    /// A paper key with a live setting, or the other way round.
    #[error(
        "the key id does not begin with {expected}, as every key for {environment} trading at Alpaca does"
    )]
    KeyEnvironment {
        /// `PK` or `AK`.
        expected: &'static str,
        /// The configured environment.
        environment: Environment,
    },
    /// TLS has no cryptography to work with.
    #[error("no TLS provider is installed: call install_crypto_provider() first thing in main")]
    NoCryptoProvider,
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be built: {0}")]
    Client(String),
}

/// Every duration that the adapter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlpacaTimings {
    /// From sending a request to the last byte of its answer, connecting included.
    pub request: Duration,
    /// Connecting, TLS included.
    pub connect: Duration,
    /// The stream's whole handshake, from connecting to the listening acknowledgement.
    pub stream_handshake: Duration,
    /// How often the stream is pinged.
    pub ping_interval: Duration,
    /// Without any frame for this long the stream's peer counts as dead.
    pub dead_peer: Duration,
    /// The first delay before connecting again; doubles with each failure.
    pub reconnect_base: Duration,
    /// The longest delay before connecting again.
    pub reconnect_cap: Duration,
    /// How long the rate limit's window is taken to be where an answer does not tell.
    pub rate_window: Duration,
    /// Added to the moment at which the rate limit's window turns.
    pub rate_margin: Duration,
}

impl Default for AlpacaTimings {
    /// Alpaca's contract sections 1 and 6.
    fn default() -> Self {
        Self {
            request: Duration::from_secs(5),
            connect: Duration::from_secs(3),
            stream_handshake: Duration::from_secs(10),
            ping_interval: Duration::from_secs(10),
            dead_peer: Duration::from_secs(30),
            reconnect_base: Duration::from_secs(1),
            reconnect_cap: Duration::from_secs(30),
            rate_window: Duration::from_secs(60),
            rate_margin: Duration::from_secs(1),
        }
    }
}

impl AlpacaTimings {
    /// Every duration times `factor`, for tests that cannot wait; the rate limit's two stay, since the broker's windows
    /// are of real time.
    ///
    /// # Panics
    /// When `factor` is negative, or so large that a duration overflows.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            request: self.request.mul_f64(factor),
            connect: self.connect.mul_f64(factor),
            stream_handshake: self.stream_handshake.mul_f64(factor),
            ping_interval: self.ping_interval.mul_f64(factor),
            dead_peer: self.dead_peer.mul_f64(factor),
            reconnect_base: self.reconnect_base.mul_f64(factor),
            reconnect_cap: self.reconnect_cap.mul_f64(factor),
            rate_window: self.rate_window,
            rate_margin: self.rate_margin,
        }
    }
}

/// The settings of one account's adapter.
///
/// The two addresses are checked when they are set; the public fields may be changed freely before the adapter is built.
#[derive(Clone, Debug)]
pub struct AlpacaConfig {
    base_url: Url,
    stream_url: Url,
    data_url: Url,
    environment: Environment,
    /// Every duration.
    pub timings: AlpacaTimings,
    /// Of each window's calls, those kept for cancels; never more than a quarter of the limit that the broker states.
    pub reserve_for_cancels: u32,
    /// The longest answer or stream message that is read, in bytes.
    pub max_body_bytes: usize,
    /// Stream messages kept while the sink is busy; then the socket is not read any further.
    pub stream_buffer: usize,
}

impl AlpacaConfig {
    /// `base_url` is scheme and host (`https://paper-api.alpaca.markets`); a trailing slash and `/v2` are taken off. The
    /// stream's address follows from it: `wss://…/stream`; market data come from Alpaca's host for them, or, at any other
    /// place, from there.
    ///
    /// # Errors
    /// No such address, an unencrypted one that is not loopback, or Alpaca's host for the other environment.
    pub fn new(base_url: &str, environment: Environment) -> Result<Self, ConfigError> {
        const FIELD: &str = "base_url";
        let mut base_url = parse(FIELD, "https://host", base_url, "https", "http")?;
        if !matches!(base_url.path(), "" | "/" | "/v2" | "/v2/") {
            return Err(ConfigError::Address {
                field: FIELD,
                form: "https://host",
                why: "it has a path".to_owned(),
            });
        }
        base_url.set_path("");
        check_host(&base_url, environment)?;
        let mut stream_url = base_url.clone();
        let scheme = if base_url.scheme() == "https" { "wss" } else { "ws" };
        stream_url.set_scheme(scheme).expect("https and wss are both special schemes");
        stream_url.set_path("/stream");
        let mut data_url = base_url.clone();
        if is_alpaca(&base_url) {
            data_url.set_host(Some(DATA_HOST)).expect("the constant is a host");
        }
        Ok(Self {
            base_url,
            stream_url,
            data_url,
            environment,
            timings: AlpacaTimings::default(),
            reserve_for_cancels: 20,
            max_body_bytes: 8 * 1024 * 1024,
            stream_buffer: 4096,
        })
    }

    /// Alpaca's own host for the environment.
    #[must_use]
    pub fn alpaca(environment: Environment) -> Self {
        let host = match environment {
            Environment::Paper => PAPER_HOST,
            Environment::Live => LIVE_HOST,
        };
        Self::new(&format!("https://{host}"), environment).expect("the constant addresses keep every rule")
    }

    /// Another address for the order stream: the whole of it, path included.
    ///
    /// # Errors
    /// As [`AlpacaConfig::new`].
    pub fn with_stream_url(mut self, stream_url: &str) -> Result<Self, ConfigError> {
        let url = parse("stream_url", "wss://host/stream", stream_url, "wss", "ws")?;
        check_host(&url, self.environment)?;
        self.stream_url = url;
        Ok(self)
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.base_url.as_str()
    }

    /// The order stream's whole address.
    #[must_use]
    pub fn stream_url(&self) -> &str {
        self.stream_url.as_str()
    }

    /// With whose money.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// Whether the key can belong to the environment. Alpaca's paper keys begin with `PK`, live ones with `AK`; at any
    /// other host every key will do.
    ///
    /// # Errors
    /// [`ConfigError::KeyEnvironment`].
    pub fn check_key(&self, key_id: &str) -> Result<(), ConfigError> {
        let expected = match self.environment {
            Environment::Paper => "PK",
            Environment::Live => "AK",
        };
        if is_alpaca(&self.base_url) && !key_id.starts_with(expected) {
            return Err(ConfigError::KeyEnvironment { expected, environment: self.environment });
        }
        Ok(())
    }

    /// Where market data come from: scheme, host and port.
    #[must_use]
    pub fn data_url(&self) -> &str {
        self.data_url.as_str()
    }

    pub(crate) fn data_endpoint<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.data_url.clone();
        url.path_segments_mut().expect("http addresses have a path").clear().extend(segments);
        url
    }

    pub(crate) fn endpoint<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.base_url.clone();
        url.path_segments_mut().expect("http addresses have a path").clear().push("v2").extend(segments);
        url
    }
}

fn parse(
    field: &'static str,
    form: &'static str,
    text: &str,
    encrypted: &str,
    plain: &str,
) -> Result<Url, ConfigError> {
    let bad = |why: &str| ConfigError::Address { field, form, why: why.to_owned() };
    let url = Url::parse(text.trim()).map_err(|error| bad(&error.to_string()))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("it has no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it carries credentials"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it has a query or a fragment"));
    }
    match url.scheme() {
        scheme if scheme == encrypted => Ok(url),
        scheme if scheme == plain && is_loopback(&url) => Ok(url),
        scheme if scheme == plain => Err(ConfigError::NotEncrypted { field }),
        _ => Err(bad("it has another scheme")),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_alpaca(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == ALPACA_DOMAIN || host.strip_suffix(ALPACA_DOMAIN).is_some_and(|rest| rest.ends_with('.'))
}

fn check_host(url: &Url, environment: Environment) -> Result<(), ConfigError> {
    let host = url.host_str().unwrap_or_default();
    let of = match host {
        PAPER_HOST => Environment::Paper,
        LIVE_HOST => Environment::Live,
        _ => return Ok(()),
    };
    if of == environment {
        Ok(())
    } else {
        Err(ConfigError::HostEnvironment { host: host.to_owned(), environment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_follows_from_the_base() {
        for (base, wanted, stream) in [
            (
                "https://paper-api.alpaca.markets",
                "https://paper-api.alpaca.markets/",
                "wss://paper-api.alpaca.markets/stream",
            ),
            (
                "https://paper-api.alpaca.markets/v2/",
                "https://paper-api.alpaca.markets/",
                "wss://paper-api.alpaca.markets/stream",
            ),
            ("http://127.0.0.1:4010/", "http://127.0.0.1:4010/", "ws://127.0.0.1:4010/stream"),
            ("http://[::1]:4010", "http://[::1]:4010/", "ws://[::1]:4010/stream"),
            ("http://localhost:4010", "http://localhost:4010/", "ws://localhost:4010/stream"),
        ] {
            let config = AlpacaConfig::new(base, Environment::Paper).unwrap();
            assert_eq!((config.base_url(), config.stream_url()), (wanted, stream), "{base}");
            let data = if base.contains("alpaca.markets") { "https://data.alpaca.markets/" } else { wanted };
            assert_eq!(config.data_url(), data, "{base}");
        }
    }

    #[test]
    fn only_loopback_may_be_in_the_clear() {
        for base in [
            "http://paper-api.alpaca.markets",
            "http://10.0.0.1",
            "http://localhost.example.org",
            "http://127.0.0.1.example.org",
        ] {
            assert_eq!(
                AlpacaConfig::new(base, Environment::Paper).unwrap_err(),
                ConfigError::NotEncrypted { field: "base_url" },
                "{base}"
            );
        }
        let config = AlpacaConfig::alpaca(Environment::Paper);
        assert_eq!(
            config.clone().with_stream_url("ws://10.0.0.1/stream").unwrap_err(),
            ConfigError::NotEncrypted { field: "stream_url" }
        );
        assert_eq!(
            config.with_stream_url("wss://other.example.org/s").unwrap().stream_url(),
            "wss://other.example.org/s"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for base in [
            "",
            "paper-api.alpaca.markets",
            "ftp://127.0.0.1",
            "https://",
            "https://user:pw@host.example.org",
            "https://host.example.org/api",
            "https://host.example.org/?a=1",
            "https://host.example.org/#a",
            "wss://host.example.org",
        ] {
            assert!(
                matches!(AlpacaConfig::new(base, Environment::Paper), Err(ConfigError::Address { .. })),
                "{base}"
            );
        }
    }

    #[test]
    fn host_and_key_agree_with_the_environment() {
        assert!(matches!(
            AlpacaConfig::new("https://api.alpaca.markets", Environment::Paper),
            Err(ConfigError::HostEnvironment { .. })
        ));
        assert!(matches!(
            AlpacaConfig::new("https://paper-api.alpaca.markets", Environment::Live),
            Err(ConfigError::HostEnvironment { .. })
        ));
        assert!(matches!(
            AlpacaConfig::alpaca(Environment::Live).with_stream_url("wss://paper-api.alpaca.markets/stream"),
            Err(ConfigError::HostEnvironment { .. })
        ));
        let paper = AlpacaConfig::alpaca(Environment::Paper);
        assert!(paper.check_key("PKABC").is_ok());
        assert!(paper.check_key("AKABC").is_err());
        let live = AlpacaConfig::alpaca(Environment::Live);
        assert!(live.check_key("AKABC").is_ok());
        assert!(live.check_key("PKABC").is_err());
        let own = AlpacaConfig::new("http://127.0.0.1:1", Environment::Live).unwrap();
        assert!(own.check_key("anything").is_ok());
    }

    #[test]
    fn scaling_leaves_the_brokers_windows_alone() {
        let (plain, scaled) = (AlpacaTimings::default(), AlpacaTimings::default().scaled(0.5));
        assert_eq!(scaled.request, plain.request / 2);
        assert_eq!(scaled.reconnect_cap, plain.reconnect_cap / 2);
        assert_eq!((scaled.rate_window, scaled.rate_margin), (plain.rate_window, plain.rate_margin));
    }

    #[test]
    fn path_segments_cannot_leave_their_place() {
        let config = AlpacaConfig::alpaca(Environment::Paper);
        assert_eq!(
            config.endpoint(["orders", "a/b?c#d%2F"]).as_str(),
            "https://paper-api.alpaca.markets/v2/orders/a%2Fb%3Fc%23d%252F"
        );
        assert_eq!(
            config.endpoint(["orders:by_client_order_id"]).as_str(),
            "https://paper-api.alpaca.markets/v2/orders:by_client_order_id"
        );
    }
}
