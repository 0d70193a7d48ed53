//! Market data: the last trades of instruments.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use plimsoll_core_domain::Price;
use plimsoll_core_domain::broker::LastTrade;
use plimsoll_core_domain::money::PRICE_SCALE;
use serde::Deserialize;

use super::decimal::DecimalText;
use super::{Unreadable, time};

#[derive(Debug, Deserialize)]
pub(crate) struct LastTradesBody {
    /// By symbol; what is not known is left out.
    #[serde(default)]
    pub(crate) trades: HashMap<String, TradeBody>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TradeBody {
    p: DecimalText,
    #[serde(default, deserialize_with = "time::optional")]
    t: Option<DateTime<Utc>>,
}

impl TryFrom<TradeBody> for LastTrade {
    type Error = Unreadable;

    fn try_from(body: TradeBody) -> Result<Self, Unreadable> {
        Ok(Self {
            price: Price::new(body.p.0.round_dp(PRICE_SCALE)).map_err(|_| Unreadable::field("p"))?,
            at: body.t.ok_or(Unreadable::field("t"))?,
        })
    }
}
