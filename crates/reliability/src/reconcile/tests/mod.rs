mod books;
mod broker;
mod law;
mod runs;

use std::time::Duration;

use plimsoll_core_domain::order::{NewOrder, OrderRequest, OrderType, Side, TimeInForce};
use rust_decimal::Decimal;

use self::books::MemoryBooks;
use self::broker::Model;
use super::{Attempt, Limits, Outcome, Progress, ReconcileError, Scope};

const LIMITS: Limits = Limits {
    missing_for: Duration::from_secs(60),
    stale_age: Duration::from_secs(3600),
    calls: 200,
    insist: false,
};

fn terms(symbol: &str, side: Side, qty: Decimal) -> NewOrder {
    OrderRequest {
        symbol: symbol.into(),
        side: Some(side),
        order_type: Some(OrderType::Market),
        time_in_force: Some(if symbol.contains('/') { TimeInForce::Gtc } else { TimeInForce::Day }),
        qty: Some(qty),
        ..OrderRequest::default()
    }
    .validate()
    .unwrap()
}

fn attempt(
    broker: &Model,
    books: &MemoryBooks,
    scope: Scope,
    progress: &mut Progress,
) -> Result<Outcome, ReconcileError> {
    let run = Attempt::new(broker, books, LIMITS, scope, progress).run();
    let outcome = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run);
    if let Ok(outcome) = &outcome {
        books.note(outcome);
    }
    outcome
}

fn reconcile(broker: &Model, books: &MemoryBooks) -> Outcome {
    attempt(broker, books, Scope::Everything, &mut Progress::default()).unwrap()
}
