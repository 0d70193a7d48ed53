//! The Trading API's endpoints over the exchange. Everything here runs on the engine's thread.

mod account;
mod market;
mod orders;
mod positions;
mod router;
mod watchlists;

pub(crate) use router::{Endpoint, Lost};

use crate::engine::World;
use crate::wire::{Answer, Call};

/// Serves a request. What it changed is not on disk yet: the engine holds the answer until it is.
pub(crate) fn serve(world: &mut World, endpoint: &Endpoint, call: &Call) -> Answer {
    match endpoint {
        Endpoint::Account => account::show(world, call),
        Endpoint::Configurations => account::configurations(world, call),
        Endpoint::SetConfigurations => account::configure(world, call),
        Endpoint::Activities(kind) => account::activities(world, call, kind.as_deref()),
        Endpoint::PortfolioHistory => account::portfolio_history(world, call),
        Endpoint::Assets => market::assets(world, call),
        Endpoint::Asset(symbol) => market::asset(world, symbol),
        Endpoint::Clock => market::clock(world),
        Endpoint::Calendar => market::calendar(world, call),
        Endpoint::LatestTrades => market::latest_trades(world, call),
        Endpoint::Submit => orders::submit(world, call),
        Endpoint::Orders => orders::list(world, call),
        Endpoint::Order(id) => orders::show(world, call, *id),
        Endpoint::OrderByClientId => orders::by_client_id(world, call),
        Endpoint::Replace(id) => orders::replace(world, call, *id),
        Endpoint::Cancel(id) => orders::cancel(world, call, *id),
        Endpoint::CancelAll => orders::cancel_all(world, call),
        Endpoint::Positions => positions::list(world, call),
        Endpoint::Position(symbol) => positions::show(world, call, symbol),
        Endpoint::ClosePosition(symbol) => positions::close(world, call, symbol),
        Endpoint::CloseAll => positions::close_all(world, call),
        Endpoint::Watchlists => watchlists::list(world, call),
        Endpoint::CreateWatchlist => watchlists::create(world, call),
        Endpoint::Watchlist(id) => watchlists::show(world, call, *id),
        Endpoint::UpdateWatchlist(id) => watchlists::update(world, call, *id),
        Endpoint::AddToWatchlist(id) => watchlists::add(world, call, *id),
        Endpoint::DeleteWatchlist(id) => watchlists::delete(world, call, *id),
        Endpoint::RemoveFromWatchlist(id, symbol) => watchlists::remove(world, call, *id, symbol),
    }
}
