//! Fetching what was missed: after every (re)connect, before the account trades on (Alpaca's contract section 6).

use chrono::TimeDelta;
use plimsoll_core_domain::broker::{Broker, BrokerError, BrokerOrder, FillActivity, FillQuery};
use plimsoll_core_domain::order::{Order, OrderStatus};
use plimsoll_core_domain::{Clock, StoreError};
use plimsoll_storage::Db;

use super::apply::{apply, report_of_order};
use super::connection::Connection;

/// How far before the last known fill the book of fills is read again.
const OVERLAP: TimeDelta = TimeDelta::minutes(15);
/// How far back it is read when no fill is known.
const FIRST_WINDOW: TimeDelta = TimeDelta::hours(24);
/// Rows of a full page; a shorter one is the last.
const PAGE: usize = 100;
/// Pages of one reading.
const MAX_PAGES: usize = 1_000;

/// Why the comparison is not complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatchUpError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the broker's book of fills has more than {MAX_PAGES} pages in the window")]
    TooMany,
}

/// Compares every open order, and every order with a fill in the window, with the broker. Repeats change nothing.
pub(super) async fn catch_up(
    connection: &Connection,
    db: &Db,
    clock: &dyn Clock,
) -> Result<(), CatchUpError> {
    let (account, broker) = (connection.account, &*connection.broker);
    let number = broker.account().await?.number;
    let claimed = db.run(move |tx| tx.claim_broker_account(account, &number)).await?;
    if !claimed {
        return Err(BrokerError::Unauthorized(
            "the credentials belong to another account at the broker".into(),
        )
        .into());
    }
    let last = db.read(move |tx| tx.last_execution(account)).await?;
    let from = match last {
        Some(at) => at - OVERLAP,
        None => broker.clock().await?.timestamp - FIRST_WINDOW,
    };
    let fills = read_fills(broker, &FillQuery { after: Some(from), ..FillQuery::default() }).await?;

    // Twice: the first round may bring legs, which are open orders of their own.
    let mut compared = Vec::new();
    for _ in 0..2 {
        let open = db.read(move |tx| tx.open_orders(account)).await?;
        for order in open.iter().filter(|order| order.status != OrderStatus::PendingSubmit) {
            if compared.contains(&order.id) {
                continue;
            }
            compared.push(order.id);
            compare(broker, db, clock, order, &fills).await?;
        }
    }
    // Fills of orders that ended here without them.
    let mut ids: Vec<_> = fills.iter().map(|row| row.order_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let (key, rows) = (
            id.clone(),
            fills.iter().filter(|row| row.order_id == id).map(|row| row.cum_qty).collect::<Vec<_>>(),
        );
        let missing = db.read(move |tx| tx.lacks_fills(account, &key, &rows)).await?;
        if missing {
            let seen = broker.order(&id).await?;
            apply(db, clock, account, report_of_order(seen, &fills, "catch_up")).await;
        }
    }
    Ok(())
}

async fn compare(
    broker: &dyn Broker,
    db: &Db,
    clock: &dyn Clock,
    order: &Order,
    fills: &[FillActivity],
) -> Result<(), CatchUpError> {
    let seen = match look(broker, order).await {
        Ok(seen) => seen,
        // Absence proves nothing yet: the order's own job goes on looking.
        Err(BrokerError::NotFound) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let known = fills.iter().filter(|row| row.order_id == seen.id).map(|row| row.cum_qty.get()).max();
    let older = if seen.filled_qty > known.unwrap_or(order.filled_qty).max(order.filled_qty) {
        let query = FillQuery { order_id: Some(seen.id.clone()), ..FillQuery::default() };
        read_fills(broker, &query).await?
    } else {
        Vec::new()
    };
    let all: Vec<FillActivity> = fills.iter().chain(&older).cloned().collect();
    for leg in &seen.legs {
        apply(db, clock, order.account_id, report_of_order(leg.clone(), &all, "catch_up")).await;
    }
    apply(db, clock, order.account_id, report_of_order(seen, &all, "catch_up")).await;
    Ok(())
}

/// The order at the broker, by whichever id is known.
pub(super) async fn look(broker: &dyn Broker, order: &Order) -> Result<BrokerOrder, BrokerError> {
    match &order.broker_order_id {
        Some(id) => broker.order(id).await,
        None => broker.order_by_client_id(&order.client_order_id).await,
    }
}

/// Every page of a reading of the book of fills.
pub(super) async fn read_fills(
    broker: &dyn Broker,
    query: &FillQuery,
) -> Result<Vec<FillActivity>, CatchUpError> {
    let (mut query, mut rows) = (query.clone(), Vec::new());
    for _ in 0..MAX_PAGES {
        let page = broker.fills(&query).await?;
        let full = page.len() >= PAGE;
        query.page_token = page.last().map(|row| row.id.clone());
        rows.extend(page);
        if !full {
            return Ok(rows);
        }
    }
    Err(CatchUpError::TooMany)
}
