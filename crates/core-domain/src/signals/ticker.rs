//! From a chart's ticker to the broker's symbol.

use std::collections::BTreeMap;

use super::reason::{Reason, Refusal};
use crate::ids::Symbol;

/// The longest ticker of a map.
const MAX_TICKER: usize = 64;

/// A sender's tickers and the symbols that they stand for, such as `ES1!` for `SPY`. Tickers are held without case, as they
/// come or with the exchange before a colon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymbolMap(BTreeMap<String, Symbol>);

impl SymbolMap {
    /// Adds a ticker; the last one of a name counts.
    ///
    /// # Errors
    /// It has not 1 to 64 visible characters.
    pub fn insert(&mut self, ticker: &str, symbol: Symbol) -> Result<(), &'static str> {
        let ticker = ticker.trim().to_uppercase();
        let fits = (1..=MAX_TICKER).contains(&ticker.chars().count())
            && !ticker.chars().any(|c| c.is_control() || c.is_whitespace());
        if !fits {
            return Err("a ticker has 1 to 64 visible characters");
        }
        self.0.insert(ticker, symbol);
        Ok(())
    }

    /// What a ticker stands for: with its exchange, else by itself.
    #[must_use]
    pub fn get(&self, ticker: &str, exchange: Option<&str>) -> Option<&Symbol> {
        if self.0.is_empty() {
            return None;
        }
        let ticker = ticker.trim().to_uppercase();
        let bare = ticker.split_once(':').map_or(ticker.as_str(), |(_, bare)| bare);
        let exchange = exchange.map(|exchange| format!("{}:{bare}", exchange.trim().to_uppercase()));
        let exact = exchange.and_then(|exchange| self.0.get(&exchange)).or_else(|| self.0.get(&ticker));
        exact.or_else(|| self.0.get(bare))
    }

    /// All of it, by ticker.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Symbol)> {
        self.0.iter().map(|(ticker, symbol)| (ticker.as_str(), symbol))
    }
}

/// Exchanges of crypto pairs, as charts name them; a delayed feed ends in `_DL` or `_DLY`.
const CRYPTO: &[&str] = &[
    "BINANCE",
    "BINANCEUS",
    "BITFINEX",
    "BITGET",
    "BITSTAMP",
    "BYBIT",
    "COINBASE",
    "CRYPTO",
    "CRYPTOCOM",
    "GEMINI",
    "KRAKEN",
    "KUCOIN",
    "MEXC",
    "OKX",
    "ALPACA",
];
/// What a pair is quoted in; the longest first, so that `BTCUSDT` is not `BTCUSD` and a `T`.
const QUOTES: &[&str] = &["USDT", "USDC", "USD", "BTC"];

/// The symbol that a ticker stands for. A prefix such as `NASDAQ:` is an exchange; a pair of a crypto exchange gets its
/// slash: `BTCUSD` at `COINBASE` is `BTC/USD`.
///
/// # Errors
/// [`Reason::UnknownSymbol`] for what can be no symbol of the broker's, such as a future or a perpetual.
pub fn symbol_of(ticker: &str, exchange: Option<&str>) -> Result<Symbol, Refusal> {
    let ticker = ticker.trim().to_uppercase();
    let (exchange, ticker) = match ticker.split_once(':') {
        Some((exchange, ticker)) => (Some(exchange.to_owned()), ticker),
        None => (exchange.map(|text| text.trim().to_uppercase()), ticker.as_str()),
    };
    let shown: String = ticker.chars().take(40).collect();
    let unknown = |why: &str| Refusal::new(Reason::UnknownSymbol, format!("{shown:?} {why}"));
    let crypto = exchange.as_deref().is_some_and(|exchange| {
        let name = exchange.strip_suffix("_DLY").or(exchange.strip_suffix("_DL")).unwrap_or(exchange);
        CRYPTO.contains(&name)
    });
    if crypto && !ticker.contains('/') {
        let pair = QUOTES.iter().find_map(|quote| {
            ticker.strip_suffix(quote).filter(|base| base.len() >= 2).map(|base| format!("{base}/{quote}"))
        });
        let pair = pair.ok_or_else(|| unknown("is no pair that the broker trades"))?;
        return Symbol::new(pair).map_err(|_| unknown("is no pair that the broker trades"));
    }
    Symbol::new(ticker).map_err(|_| unknown("is no symbol of the broker's"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_names_what_tickers_stand_for() {
        let mut map = SymbolMap::default();
        for (ticker, symbol) in
            [("es1!", "SPY"), ("BINANCE:BTCUSDT.P", "BTC/USD"), ("XETR:SAP", "SAP"), ("SAP", "X")]
        {
            map.insert(ticker, symbol.parse().unwrap()).unwrap();
        }
        for (ticker, exchange, symbol) in [
            (" ES1! ", None, Some("SPY")),
            ("CME_MINI:ES1!", None, Some("SPY")),
            ("ES1!", Some("CME_MINI"), Some("SPY")),
            ("BTCUSDT.P", Some("binance"), Some("BTC/USD")),
            ("BTCUSDT.P", Some("BYBIT"), None),
            ("SAP", Some("XETR"), Some("SAP")),
            ("XETR:SAP", None, Some("SAP")),
            ("SAP", Some("NYSE"), Some("X")),
            ("AAPL", None, None),
        ] {
            assert_eq!(map.get(ticker, exchange).map(Symbol::as_str), symbol, "{ticker} {exchange:?}");
        }
        for bad in ["", " ", "A B", "A\u{7}", &"A".repeat(65)] {
            assert!(map.insert(bad, "SPY".parse().unwrap()).is_err(), "{bad:?}");
        }
        assert_eq!(map.iter().count(), 4);
    }

    #[test]
    fn tickers_become_symbols() {
        for (ticker, exchange, symbol) in [
            ("AAPL", Some("NASDAQ"), "AAPL"),
            (" aapl ", None, "AAPL"),
            ("NASDAQ:MSFT", None, "MSFT"),
            ("BRK.B", Some("NYSE"), "BRK.B"),
            ("BTCUSD", Some("COINBASE"), "BTC/USD"),
            ("BTCUSDT", Some("BINANCE_DLY"), "BTC/USDT"),
            ("BINANCE:ethusdc", None, "ETH/USDC"),
            ("BTC/USD", Some("CRYPTO"), "BTC/USD"),
            ("BTC/USD", None, "BTC/USD"),
            ("SPYUSD", Some("NYSE"), "SPYUSD"),
        ] {
            assert_eq!(symbol_of(ticker, exchange).unwrap().as_str(), symbol, "{ticker}");
        }
        for (ticker, exchange) in [
            ("ES1!", None),
            ("", None),
            ("BTCUSDT.P", Some("BINANCE")),
            ("USD", Some("KRAKEN")),
            ("A B", None),
        ] {
            assert_eq!(symbol_of(ticker, exchange).unwrap_err().reason, Reason::UnknownSymbol, "{ticker}");
        }
    }
}
