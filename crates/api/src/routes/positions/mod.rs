//! Positions.

pub mod claim;
pub mod close;
pub mod get;
pub mod list;

use plimsoll_core_domain::UserId;
use plimsoll_core_domain::views::Holding;

use crate::problem::Problem;
use crate::state::AppState;

/// What a user holds or held, with the freshest prices known.
pub(crate) async fn holdings(state: &AppState, user: UserId) -> Result<Vec<Holding>, Problem> {
    let mut holdings = state.db.read(move |tx| tx.holdings(user)).await?;
    refresh(state, user, &mut holdings);
    Ok(holdings)
}

/// Puts the freshest prices known in.
fn refresh(state: &AppState, user: UserId, holdings: &mut [Holding]) {
    for holding in holdings {
        holding.last_price = state.gateway.price(user, &holding.symbol).or(holding.last_price);
    }
}
