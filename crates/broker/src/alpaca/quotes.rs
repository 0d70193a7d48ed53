//! The last trade of an instrument, from Alpaca's market data: another service than the Trading API, with limits of its own.

use plimsoll_core_domain::Symbol;
use plimsoll_core_domain::broker::{BoxFuture, BrokerError, LastTrade, Quotes};

use super::failure::Effect;
use super::http::Call;
use super::wire::LastTradesBody;
use super::{Alpaca, understood};

impl Quotes for Alpaca {
    fn last_trade<'a>(&'a self, symbol: &'a Symbol) -> BoxFuture<'a, Result<LastTrade, BrokerError>> {
        Box::pin(async move {
            let path: &[&str] = if symbol.as_str().contains('/') {
                &["v1beta3", "crypto", "us", "latest", "trades"]
            } else {
                &["v2", "stocks", "trades", "latest"]
            };
            let url = self.data.config.data_endpoint(path.iter().copied());
            let call = Call::get(url).query("symbols", Some(symbol.as_str()));
            let answer = self.data.json::<LastTradesBody>(call).await;
            let mut body = answer.map_err(|error| match error {
                // Its word on keys is about market data alone.
                BrokerError::Unauthorized(message) => {
                    BrokerError::Refused { status: 403, code: None, message }
                }
                error => error,
            })?;
            let trade = body.trades.remove(symbol.as_str()).ok_or(BrokerError::NotFound)?;
            understood(Effect::Read, trade)
        })
    }
}
