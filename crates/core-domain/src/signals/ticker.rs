//! From a chart's ticker to the broker's symbol.

use super::reason::{Reason, Refusal};
use crate::ids::Symbol;

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
