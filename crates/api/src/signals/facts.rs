//! What the broker knows and a decision needs.

use std::time::Duration;

use plimsoll_core_domain::broker::BrokerAsset;
use plimsoll_core_domain::signals::{Reason, Refusal, Sizing};
use plimsoll_core_domain::{Price, Symbol, UserId};
use rust_decimal::Decimal;

use crate::gateway::{GatewayError, Trading, TradingGateway};

/// What a decision needs to know of the broker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The instrument.
    pub asset: BrokerAsset,
    /// Its last price, where one was seen.
    pub price: Option<Price>,
    /// The account's equity, where the size follows from it.
    pub equity: Option<Decimal>,
    /// The broker was asked for what was not known.
    pub asked: bool,
}

/// Why they are not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoFacts {
    /// What is known is enough to refuse.
    Refused(Refusal),
    /// Not now; perhaps in a moment.
    Away {
        /// When to ask again, where the broker says so.
        retry_after: Duration,
    },
}

/// What is known without asking anybody; `None` when something is missing, or when the account takes no orders yet.
#[must_use]
pub fn known(gateway: &dyn TradingGateway, user: UserId, symbol: &Symbol, sizing: &Sizing) -> Option<Facts> {
    if gateway.trading(user) != Trading::Open {
        return None;
    }
    let asset = gateway.known_asset(user, symbol)?;
    let equity = if sizing.needs_equity() {
        Some(gateway.known_account(user).filter(|seen| !seen.stale)?.account.equity)
    } else {
        None
    };
    Some(Facts { asset, price: gateway.price_seen(user, symbol), equity, asked: false })
}

/// Asks the broker for what is not known.
///
/// # Errors
/// See [`NoFacts`].
pub async fn asked(
    gateway: &dyn TradingGateway,
    user: UserId,
    symbol: &Symbol,
    sizing: &Sizing,
) -> Result<Facts, NoFacts> {
    let soon = || NoFacts::Away { retry_after: Duration::ZERO };
    let refused = |reason, detail: &str| NoFacts::Refused(Refusal::new(reason, detail));
    let unusable = |detail: &str| refused(Reason::KeyUnusable, detail);
    match gateway.trading(user) {
        Trading::Open => {}
        // A key that was saved just now is not seen yet: whether there is an account, the store says.
        Trading::Reconciling | Trading::NoAccount => return Err(soon()),
        Trading::KeyRefused => return Err(unusable("the broker refuses the saved key")),
        Trading::KeyUnreadable => return Err(unusable("the saved key cannot be used at the moment")),
        Trading::NotOffered => return Err(unusable("this server has no broker for the key's environment")),
    }
    let failed = |error: GatewayError| match error {
        GatewayError::Unavailable { retry_after } => NoFacts::Away { retry_after },
        GatewayError::NoAccount | GatewayError::Refused(_) => soon(),
        GatewayError::NotFound => {
            refused(Reason::UnknownSymbol, &format!("{symbol} is not known to the broker"))
        }
        GatewayError::KeyRefused | GatewayError::KeyUnreadable | GatewayError::NotOffered => {
            unusable(&error.to_string())
        }
    };
    let equity = async {
        if !sizing.needs_equity() {
            return Ok(None);
        }
        match gateway.account(user).await.map_err(failed)? {
            // What the account was worth some time ago is nothing to go by.
            seen if seen.stale => Err(soon()),
            seen => Ok(Some(seen.account.equity)),
        }
    };
    let asset = async { gateway.asset(user, symbol).await.map_err(failed) };
    let price = async { Ok(gateway.quote(user, symbol).await) };
    let (asset, equity, price) = futures_util::try_join!(asset, equity, price)?;
    Ok(Facts { asset, price, equity, asked: true })
}
