//! Fetching what was missed: after every (re)connect, before the account trades on, and while orders are open (Alpaca's
//! contract section 6).

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::broker::{
    Broker, BrokerError, BrokerOrder, FillActivity, FillQuery, OrderListQuery,
};
use plimsoll_core_domain::order::{Order, OrderStatus};
use plimsoll_core_domain::{BrokerOrderId, Clock, OrderId, StoreError};
use plimsoll_reliability::jobs::JobQueue;
use plimsoll_reliability::submit::SubmitPayload;
use plimsoll_storage::Db;
use plimsoll_storage::platform::orders::SyncPayload;

use super::apply::{apply, report_of_order};
use super::connection::Connection;
use super::fence::Fence;

/// How far before the last known fill the book of fills is read again.
const OVERLAP: TimeDelta = TimeDelta::minutes(15);
/// How far back it is read when no fill is known.
const FIRST_WINDOW: TimeDelta = TimeDelta::hours(24);
/// Rows of a full page of fills; a shorter one is the last.
const PAGE: usize = 100;
/// Pages of one reading.
const MAX_PAGES: usize = 1_000;
/// Orders of a full page.
const ORDERS_PAGE: usize = 500;
/// Tries after which something whose answers cannot be used no longer keeps the account waiting. The broker told its
/// account in each of them.
const GIVE_UP_AFTER: u32 = 5;
/// So many answers in a row that cannot be used end a try: the broker has a bad time, not the order.
const BAD_TIME: u32 = 3;

/// Why the comparison is not complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatchUpError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the broker's book of fills has more than {MAX_PAGES} pages in the window")]
    TooMany,
    #[error("the key belongs to another account at the broker than the one on record ({0})")]
    OtherAccount(String),
    #[error("another instance has the account now")]
    Lost,
}

/// What was asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    /// The account's fills in the window.
    Fills,
    /// An open order of ours.
    Order(OrderId),
    /// An order of the broker that has fills.
    AtBroker(BrokerOrderId),
}

/// What the tries of one comparison settled so far: a try goes on where the one before it ended, so that a rate limit
/// smaller than the number of open orders only makes it longer.
#[derive(Default)]
pub(super) struct Progress {
    /// Orders that were compared.
    compared: HashSet<OrderId>,
    /// Legs that came, and were compared, with their entries.
    legs: HashSet<BrokerOrderId>,
    /// From when on fills are read, in the broker's time.
    from: Option<DateTime<Utc>>,
    /// The fills that were read.
    fills: Vec<FillActivity>,
    /// How often no usable answer came.
    failures: HashMap<Subject, u32>,
}

impl Progress {
    fn given_up(&self, subject: &Subject) -> bool {
        self.failures.get(subject).is_some_and(|failures| *failures >= GIVE_UP_AFTER)
    }

    /// Counts an unusable answer: whether `subject` is given up by it. `None` when the error is not about the subject.
    fn count(&mut self, subject: &Subject, error: &CatchUpError) -> Option<bool> {
        let step = match error {
            CatchUpError::Store(_)
            | CatchUpError::OtherAccount(_)
            | CatchUpError::Lost
            | CatchUpError::Broker(BrokerError::Throttled { .. } | BrokerError::Unauthorized(_)) => {
                return None;
            }
            CatchUpError::Broker(
                BrokerError::Unreachable(_) | BrokerError::Unreadable(_) | BrokerError::Ambiguous(_),
            ) => 1,
            // A clear answer, which the next try would get as well.
            CatchUpError::Broker(_) | CatchUpError::TooMany => GIVE_UP_AFTER,
        };
        *self.failures.entry(subject.clone()).or_default() += step;
        Some(self.given_up(subject))
    }
}

/// Compares every open order, and every order with a fill in the window, with the broker, and sees to it that every
/// order that is to be sent has a job. Repeats change nothing.
///
/// An order that the broker refuses to show, or whose answers stay unusable, is left to a job of its own.
///
/// # Errors
/// The comparison is not complete; `progress` has what is.
pub(super) async fn catch_up(
    connection: &Connection,
    db: &Db,
    clock: &dyn Clock,
    fence: &Fence,
    progress: &mut Progress,
) -> Result<(), CatchUpError> {
    let account = connection.account;
    let number = connection.broker.account().await?.number;
    let held = fence.clone();
    let claimed = db
        .run(move |tx| {
            Ok::<_, StoreError>(match held.hold(tx)? {
                true => Some(tx.claim_broker_account(account, &number)?),
                false => None,
            })
        })
        .await?;
    match claimed {
        Some(true) => {}
        Some(false) => return Err(CatchUpError::OtherAccount(format!("account {account}"))),
        None => return Err(CatchUpError::Lost),
    }
    let mut this = Try { connection, db, clock, fence, progress, unsettled: None, in_a_row: 0 };
    this.read_book().await?;
    this.compare_open().await?;
    this.fetch_ended().await?;
    if let Some(error) = this.unsettled {
        return Err(error);
    }
    send_on(connection, db).await?;
    Ok(())
}

/// Gives a job to every open order that is to be sent, or whose sending is unclear, and has none. A replacement is sent
/// by its own kind of job only, a leg with its entry.
async fn send_on(connection: &Connection, db: &Db) -> Result<(), StoreError> {
    let account = connection.account;
    let made = db
        .run(move |tx| {
            let mut made = 0_usize;
            if !tx.open_orders(account)?.iter().any(to_be_sent) {
                return Ok(0);
            }
            // Locked: a job settles with its order, so that none ends between this look and the new one's insertion.
            for order in tx.lock_open_orders(account)?.iter().filter(|order| to_be_sent(order)) {
                made += usize::from(tx.enqueue(&SubmitPayload::job(order))?.is_some());
            }
            Ok::<_, StoreError>(made)
        })
        .await?;
    if made > 0 {
        tracing::warn!(account.id = %account, made, "orders that were to be sent had no job and have one again");
    }
    Ok(())
}

fn to_be_sent(order: &Order) -> bool {
    use OrderStatus::{PendingSubmit, Submitting, Unknown};
    order.replaces.is_none()
        && order.parent_id.is_none()
        && matches!(order.status, PendingSubmit | Submitting | Unknown)
}

/// One try.
struct Try<'a> {
    connection: &'a Connection,
    db: &'a Db,
    clock: &'a dyn Clock,
    fence: &'a Fence,
    progress: &'a mut Progress,
    /// What another try may settle.
    unsettled: Option<CatchUpError>,
    in_a_row: u32,
}

impl Try<'_> {
    fn broker(&self) -> &dyn Broker {
        &*self.connection.broker
    }

    /// What an unusable answer means: `true` when `subject` is given up by it, `false` when another try asks again.
    ///
    /// # Errors
    /// Nothing more is to be had in this try.
    fn failed(&mut self, subject: Subject, error: CatchUpError) -> Result<bool, CatchUpError> {
        let Some(given_up) = self.progress.count(&subject, &error) else { return Err(error) };
        if given_up {
            tracing::warn!(account.id = %self.connection.account, ?subject, %error, "left out of the comparison with the broker");
            return Ok(true);
        }
        self.in_a_row += 1;
        if self.in_a_row >= BAD_TIME {
            return Err(error);
        }
        self.unsettled = Some(error);
        Ok(false)
    }

    /// Reads the book of fills on from where it was read to.
    async fn read_book(&mut self) -> Result<(), CatchUpError> {
        let account = self.connection.account;
        if self.progress.given_up(&Subject::Fills) {
            return Ok(());
        }
        let from = match self.progress.from {
            Some(from) => from,
            None => match self.db.read(move |tx| tx.last_execution(account)).await? {
                Some(at) => at - OVERLAP,
                None => self.broker().clock().await?.timestamp - FIRST_WINDOW,
            },
        };
        self.progress.from = Some(from);
        let query = FillQuery { after: Some(from), ..FillQuery::default() };
        match read_on(&*self.connection.broker, query, &mut self.progress.fills).await {
            Ok(()) => self.in_a_row = 0,
            Err(error) => {
                self.failed(Subject::Fills, error)?;
            }
        }
        Ok(())
    }

    async fn compare_open(&mut self) -> Result<(), CatchUpError> {
        let account = self.connection.account;
        let mut listed: Option<HashMap<BrokerOrderId, BrokerOrder>> = None;
        // Twice: the first round may bring legs, which are open orders of their own.
        for _ in 0..2 {
            let open = self.db.read(move |tx| tx.open_orders(account)).await?;
            let known = |order: &Order, progress: &Progress| {
                order.status == OrderStatus::PendingSubmit
                    || progress.compared.contains(&order.id)
                    || order.broker_order_id.as_ref().is_some_and(|id| progress.legs.contains(id))
                    || progress.given_up(&Subject::Order(order.id))
            };
            let open: Vec<Order> = open.into_iter().filter(|order| !known(order, self.progress)).collect();
            // One list is cheaper than a few look-ups.
            if open.len() > 1 && listed.is_none() {
                listed = Some(list_open(self.broker()).await?);
            }
            for order in &open {
                if known(order, self.progress) {
                    continue;
                }
                let seen = order
                    .broker_order_id
                    .as_ref()
                    .and_then(|id| listed.as_mut().and_then(|listed| listed.remove(id)));
                match self.compare(order, seen).await {
                    Ok(()) => {
                        self.in_a_row = 0;
                        self.progress.compared.insert(order.id);
                    }
                    Err(error) => {
                        if self.failed(Subject::Order(order.id), error)? {
                            self.leave_to_a_job(order.id).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Fills of orders that ended here without them.
    async fn fetch_ended(&mut self) -> Result<(), CatchUpError> {
        let account = self.connection.account;
        let mut sums: HashMap<BrokerOrderId, Vec<_>> = HashMap::new();
        for row in &self.progress.fills {
            sums.entry(row.order_id.clone()).or_default().push(row.cum_qty);
        }
        for (id, sums) in sums {
            let subject = Subject::AtBroker(id.clone());
            let key = id.clone();
            if self.progress.given_up(&subject)
                || !self.db.read(move |tx| tx.lacks_fills(account, &key, &sums)).await?
            {
                continue;
            }
            match self.broker().order(&id).await {
                Ok(seen) => {
                    self.in_a_row = 0;
                    let report = report_of_order(seen, &self.progress.fills, "catch_up");
                    apply(self.db, self.clock, self.fence, account, report).await;
                }
                Err(error) => {
                    self.failed(subject, error.into())?;
                }
            }
        }
        Ok(())
    }

    /// Compares an order with what the broker's list shows of it, or else with its own look-up.
    async fn compare(&mut self, order: &Order, listed: Option<BrokerOrder>) -> Result<(), CatchUpError> {
        let broker = &*self.connection.broker;
        let seen = match listed {
            Some(seen) => seen,
            None => match look(broker, order).await {
                Ok(seen) => seen,
                // Absence proves nothing yet: the order's own job goes on looking.
                Err(BrokerError::NotFound) => return Ok(()),
                Err(error) => return Err(error.into()),
            },
        };
        let fills = &self.progress.fills;
        let known = fills.iter().filter(|row| row.order_id == seen.id).map(|row| row.cum_qty.get()).max();
        let older = if seen.filled_qty > known.unwrap_or(order.filled_qty).max(order.filled_qty) {
            let query = FillQuery { order_id: Some(seen.id.clone()), ..FillQuery::default() };
            read_fills(broker, &query).await?
        } else {
            Vec::new()
        };
        let all: Vec<FillActivity> = fills
            .iter()
            .filter(|row| row.order_id == seen.id || seen.legs.iter().any(|leg| leg.id == row.order_id))
            .chain(&older)
            .cloned()
            .collect();
        // The entry first: its report makes the legs that are not on record yet.
        let legs = seen.legs.clone();
        let entry = report_of_order(seen, &all, "catch_up");
        apply(self.db, self.clock, self.fence, order.account_id, entry).await;
        for leg in legs {
            let id = leg.id.clone();
            let report = report_of_order(leg, &all, "catch_up");
            if apply(self.db, self.clock, self.fence, order.account_id, report).await {
                self.progress.legs.insert(id);
            }
        }
        Ok(())
    }

    async fn leave_to_a_job(&self, order: OrderId) -> Result<(), StoreError> {
        let job = SyncPayload::job(self.connection.account, order);
        self.db.run(move |tx| tx.enqueue(&job)).await?;
        Ok(())
    }
}

/// The orders that are open at the broker, without legs of their own entries; what is missing, or cannot be read, is
/// looked up order by order.
async fn list_open(broker: &dyn Broker) -> Result<HashMap<BrokerOrderId, BrokerOrder>, BrokerError> {
    let mut query = OrderListQuery { open_only: true, ..OrderListQuery::default() };
    let mut listed = HashMap::new();
    for _ in 0..MAX_PAGES {
        let page = match broker.orders(&query).await {
            Ok(page) => page,
            Err(error @ (BrokerError::Throttled { .. } | BrokerError::Unauthorized(_))) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "the list of open orders is not to be had; each is looked up");
                break;
            }
        };
        let full = page.len() >= ORDERS_PAGE;
        query.after_order_id = page.last().map(|order| order.id.clone());
        listed.extend(page.into_iter().map(|order| (order.id.clone(), order)));
        if !full {
            break;
        }
    }
    Ok(listed)
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
    let mut rows = Vec::new();
    read_on(broker, query.clone(), &mut rows).await?;
    Ok(rows)
}

/// Reads the book of fills behind the last of `rows`, which keep what was read before an error.
async fn read_on(
    broker: &dyn Broker,
    mut query: FillQuery,
    rows: &mut Vec<FillActivity>,
) -> Result<(), CatchUpError> {
    for _ in 0..MAX_PAGES {
        query.page_token = rows.last().map(|row| row.id.clone());
        let page = broker.fills(&query).await?;
        let full = page.len() >= PAGE;
        rows.extend(page);
        if !full {
            return Ok(());
        }
    }
    Err(CatchUpError::TooMany)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn subject(id: &str) -> Subject {
        Subject::AtBroker(id.parse().unwrap())
    }

    #[test]
    fn what_stays_unreadable_is_given_up_and_nothing_else_is() {
        let mut progress = Progress::default();
        let unreadable = CatchUpError::from(BrokerError::Unreadable("id".into()));
        for _ in 1..GIVE_UP_AFTER {
            assert_eq!(progress.count(&subject("a"), &unreadable), Some(false));
        }
        assert_eq!(progress.count(&subject("b"), &unreadable), Some(false));
        assert_eq!(progress.count(&subject("a"), &unreadable), Some(true));
        assert!(progress.given_up(&subject("a")) && !progress.given_up(&subject("b")));
    }

    #[test]
    fn a_clear_refusal_is_given_up_at_once() {
        let mut progress = Progress::default();
        assert_eq!(progress.count(&subject("a"), &BrokerError::NotFound.into()), Some(true));
    }

    #[test]
    fn a_rate_limit_counts_against_no_order() {
        let mut progress = Progress::default();
        let throttled = CatchUpError::from(BrokerError::Throttled { retry_after: Duration::from_secs(1) });
        let refused = CatchUpError::from(BrokerError::Unauthorized("key".into()));
        for _ in 0..=GIVE_UP_AFTER {
            assert_eq!(progress.count(&subject("a"), &throttled), None);
            assert_eq!(progress.count(&subject("a"), &refused), None);
        }
        assert!(!progress.given_up(&subject("a")));
    }
}
