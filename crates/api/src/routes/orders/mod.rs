//! Orders.

pub(crate) mod accept;
mod came_back;
pub mod cancel;
pub mod cancel_all;
pub mod claim;
pub mod get;
pub mod list;
pub mod place;
pub mod replace;
mod waited;

use plimsoll_core_domain::order::Order;
use plimsoll_core_domain::{AccountId, OrderId, UserId};
use plimsoll_storage::Tx;

use crate::problem::Problem;
use crate::state::AppState;

/// The broker account of a user.
pub(crate) fn account_of(tx: &mut Tx<'_>, user: UserId) -> Result<AccountId, Problem> {
    let account = tx.account_of_user(user)?;
    account.map(|account| account.id).ok_or_else(no_account)
}

pub(crate) fn no_account() -> Problem {
    Problem::new("not_found", "no broker account is connected")
}

/// An order of a user with its legs.
pub(crate) async fn load(
    state: &AppState,
    user: UserId,
    id: OrderId,
) -> Result<Option<(Order, Vec<Order>)>, Problem> {
    state
        .db
        .read(move |tx| {
            let Some(account) = tx.account_with_order(user, id)? else { return Ok(None) };
            let Some(order) = tx.order(account, id)? else { return Ok(None) };
            let legs = tx.legs_of(account, &[id])?;
            Ok::<_, Problem>(Some((order, legs)))
        })
        .await
}

/// An id in a path: what is no id is nothing that exists.
pub(crate) fn order_id(text: &str) -> Result<OrderId, Problem> {
    text.parse().map_err(|_| no_order())
}

pub(crate) fn no_order() -> Problem {
    Problem::new("not_found", "order not found")
}
