//! Which endpoint a method and path mean.

use uuid::Uuid;

/// An endpoint of the Trading API with what its path carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Account,
    Configurations,
    SetConfigurations,
    /// All types, or the one in the path.
    Activities(Option<String>),
    PortfolioHistory,
    Assets,
    Asset(String),
    Clock,
    Calendar,
    /// Market data: the last trades of symbols.
    LatestTrades,
    Submit,
    Orders,
    Order(Uuid),
    OrderByClientId,
    Replace(Uuid),
    Cancel(Uuid),
    CancelAll,
    Positions,
    Position(String),
    ClosePosition(String),
    CloseAll,
    Watchlists,
    CreateWatchlist,
    Watchlist(Uuid),
    UpdateWatchlist(Uuid),
    AddToWatchlist(Uuid),
    DeleteWatchlist(Uuid),
    RemoveFromWatchlist(Uuid, String),
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// No such path.
    Path,
    /// The path, but not with this method.
    Method,
    /// An order id that is none.
    OrderId,
    /// A watchlist id that is none.
    WatchlistId,
}

impl Endpoint {
    /// Reads a path that follows `/v2/`, or one of market data that begins with `v1beta3/`, percent-encoded as it came. A symbol may hold slashes (`positions/BTC/USD`).
    pub(crate) fn find(method: &str, path: &str) -> Result<Self, Lost> {
        let segments: Vec<String> = path.trim_end_matches('/').split('/').map(decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let order = |id: &str| id.parse::<Uuid>().map_err(|_| Lost::OrderId);
        let list = |id: &str| id.parse::<Uuid>().map_err(|_| Lost::WatchlistId);
        Ok(match (segments.as_slice(), method) {
            (["account"], "GET") => Self::Account,
            (["account", "configurations"], "GET") => Self::Configurations,
            (["account", "configurations"], "PATCH") => Self::SetConfigurations,
            (["account", "activities"], "GET") => Self::Activities(None),
            (["account", "activities", kind], "GET") => Self::Activities(Some((*kind).to_owned())),
            (["account", "portfolio", "history"], "GET") => Self::PortfolioHistory,
            (["assets"], "GET") => Self::Assets,
            (["assets", symbol @ ..], "GET") => Self::Asset(symbol.join("/")),
            (["stocks", "trades", "latest"] | ["v1beta3", "crypto", "us", "latest", "trades"], "GET") => {
                Self::LatestTrades
            }
            (["clock"], "GET") => Self::Clock,
            (["calendar"], "GET") => Self::Calendar,
            (["orders"], "GET") => Self::Orders,
            (["orders"], "POST") => Self::Submit,
            (["orders"], "DELETE") => Self::CancelAll,
            (["orders:by_client_order_id"], "GET") => Self::OrderByClientId,
            (["orders", id], "GET") => Self::Order(order(id)?),
            (["orders", id], "PATCH") => Self::Replace(order(id)?),
            (["orders", id], "DELETE") => Self::Cancel(order(id)?),
            (["positions"], "GET") => Self::Positions,
            (["positions"], "DELETE") => Self::CloseAll,
            (["positions", symbol @ ..], "GET") => Self::Position(symbol.join("/")),
            (["positions", symbol @ ..], "DELETE") => Self::ClosePosition(symbol.join("/")),
            (["watchlists"], "GET") => Self::Watchlists,
            (["watchlists"], "POST") => Self::CreateWatchlist,
            (["watchlists", id], "GET") => Self::Watchlist(list(id)?),
            (["watchlists", id], "PUT") => Self::UpdateWatchlist(list(id)?),
            (["watchlists", id], "POST") => Self::AddToWatchlist(list(id)?),
            (["watchlists", id], "DELETE") => Self::DeleteWatchlist(list(id)?),
            (["watchlists", id, symbol @ ..], "DELETE") => {
                Self::RemoveFromWatchlist(list(id)?, symbol.join("/"))
            }
            (
                [
                    "account"
                    | "assets"
                    | "clock"
                    | "calendar"
                    | "orders"
                    | "orders:by_client_order_id"
                    | "positions"
                    | "watchlists",
                ]
                | ["account", "configurations" | "activities"]
                | ["account", "activities", _]
                | ["account", "portfolio", "history"]
                | ["stocks", "trades", "latest"]
                | ["v1beta3", "crypto", "us", "latest", "trades"]
                | ["assets" | "positions", _, ..]
                | ["orders", _]
                | ["watchlists", _, ..],
                _,
            ) => return Err(Lost::Method),
            _ => return Err(Lost::Path),
        })
    }

    /// The order named by id in the path.
    pub(crate) fn order_id(&self) -> Option<Uuid> {
        match self {
            Self::Order(id) | Self::Replace(id) | Self::Cancel(id) => Some(*id),
            _ => None,
        }
    }

    /// The symbol named in the path.
    pub(crate) fn symbol(&self) -> Option<&str> {
        match self {
            Self::Asset(symbol) | Self::Position(symbol) | Self::ClosePosition(symbol) => Some(symbol),
            _ => None,
        }
    }

    /// Whether it looks one order up.
    pub(crate) fn is_lookup(&self) -> bool {
        matches!(self, Self::Order(_) | Self::OrderByClientId)
    }
}

/// Undoes percent-encoding; what is no valid escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        decoded.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "904837e3-3b76-47ec-b432-046db621571b";

    #[test]
    fn paths_find_their_endpoints() {
        let id: Uuid = ID.parse().unwrap();
        for (method, path, endpoint) in [
            ("GET", "account".to_owned(), Endpoint::Account),
            ("GET", "account/activities/FILL".into(), Endpoint::Activities(Some("FILL".into()))),
            ("GET", "positions/BTC/USD".into(), Endpoint::Position("BTC/USD".into())),
            ("DELETE", "positions/BTC%2FUSD".into(), Endpoint::ClosePosition("BTC/USD".into())),
            ("GET", "assets/BRK.B".into(), Endpoint::Asset("BRK.B".into())),
            ("GET", "orders:by_client_order_id".into(), Endpoint::OrderByClientId),
            ("GET", "orders%3Aby_client_order_id".into(), Endpoint::OrderByClientId),
            ("PATCH", format!("orders/{ID}"), Endpoint::Replace(id)),
            (
                "DELETE",
                format!("watchlists/{ID}/BTC/USD"),
                Endpoint::RemoveFromWatchlist(id, "BTC/USD".into()),
            ),
            ("GET", "positions/".into(), Endpoint::Positions),
            ("GET", "stocks/trades/latest".into(), Endpoint::LatestTrades),
            ("GET", "v1beta3/crypto/us/latest/trades".into(), Endpoint::LatestTrades),
        ] {
            assert_eq!(Endpoint::find(method, &path), Ok(endpoint), "{method} {path}");
        }
    }

    #[test]
    fn what_is_not_there_says_why() {
        for (method, path, lost) in [
            ("GET", "options/contracts", Lost::Path),
            ("GET", "", Lost::Path),
            ("PUT", "orders", Lost::Method),
            ("POST", "clock", Lost::Method),
            ("GET", "orders/17", Lost::OrderId),
            ("GET", "watchlists/mine", Lost::WatchlistId),
        ] {
            assert_eq!(Endpoint::find(method, path), Err(lost), "{method} {path}");
        }
    }

    #[test]
    fn odd_escapes_stay() {
        assert_eq!(decode("a%zz%"), "a%zz%");
        assert_eq!(decode("%ff"), "%ff");
        assert_eq!(decode("B%C3%A9"), "Bé");
    }
}
