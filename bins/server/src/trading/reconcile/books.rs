//! The books of one account in the database. Whatever writes holds the account's fence first.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use plimsoll_core_domain::broker::{AccountMovement, BoxFuture, BrokerOrder};
use plimsoll_core_domain::order::Order;
use plimsoll_core_domain::{BrokerOrderId, OrderId, Quantity, StoreError};
use plimsoll_crypto::ClientOrderIdKey;
use plimsoll_reliability::jobs::JobQueue;
use plimsoll_reliability::reconcile::{
    Adopted, Applied, Books, BooksError, Held, Lack, Reported, Snapshot, Standing,
};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::orders::{ApplyError, OrderReport, SyncPayload};
use rust_decimal::Decimal;

use super::Comparer;

/// The word for the order's history.
const CAUSE: &str = "reconciled";

/// The books.
pub(super) struct DbBooks<'a>(&'a Comparer);

type Answer<'a, T> = BoxFuture<'a, Result<T, BooksError>>;

impl<'a> DbBooks<'a> {
    pub(super) fn new(of: &'a Comparer) -> Self {
        Self(of)
    }

    /// Writes in one transaction under the fence.
    fn write<T, F>(&self, mut work: F) -> Answer<'_, T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>, DateTime<Utc>) -> Result<T, StoreError> + Send + 'static,
    {
        let (fence, now) = (self.0.fence.clone(), self.0.clock.now());
        let seed = u64::from(now.timestamp_subsec_micros());
        Box::pin(async move {
            let done = self.0.db.run_retrying(seed, move |tx| {
                Ok::<_, StoreError>(match fence.hold(tx)? {
                    true => Some(work(tx, now)?),
                    false => None,
                })
            });
            done.await?.ok_or(BooksError::Lost)
        })
    }

    fn read<T, F>(&self, work: F) -> Answer<'_, T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        Box::pin(async move { Ok(self.0.db.read_snapshot(work).await?) })
    }

    async fn fold(&self, report: OrderReport) -> Result<Applied, BooksError> {
        let (of, fence, now) = (self.0.owner(), self.0.fence.clone(), self.0.clock.now());
        let seed = u64::from(now.timestamp_subsec_micros());
        let (id, client) = (report.seen.id.clone(), report.seen.client_order_id.clone());
        let done = self
            .0
            .db
            .run_retrying(seed, move |tx| {
                if !fence.hold(tx)? {
                    return Ok(None);
                }
                let applied = tx.reconcile_report(of.account, &report, now)?;
                if let Applied::Known(news) = &applied
                    && !news.unbooked.is_zero()
                {
                    tx.enqueue(&SyncPayload::job(of.account, news.id))?;
                }
                Ok::<_, ApplyError>(Some(applied))
            })
            .await;
        match done {
            Ok(Some(applied)) => Ok(applied),
            Ok(None) => Err(BooksError::Lost),
            Err(ApplyError::Store(error)) => Err(error.into()),
            Err(ApplyError::Contradiction { order, why }) => {
                tracing::debug!(broker.order.id = %id, client, "a report cannot be folded in");
                let here = self.0.db.read(move |tx| tx.order(of.account, order)).await?;
                Ok(here.map_or(Applied::Unknown, |here| Applied::Contradiction {
                    order,
                    symbol: here.terms.symbol,
                    status: here.status,
                    why: why.to_string(),
                }))
            }
        }
    }
}

impl Books for DbBooks<'_> {
    fn now(&self) -> DateTime<Utc> {
        self.0.clock.now()
    }

    fn claim<'a>(&'a self, number: &'a str) -> Answer<'a, bool> {
        let (account, number) = (self.0.connection.account, number.to_owned());
        self.write(move |tx, _| tx.claim_for_comparison(account, &number))
    }

    fn snapshot(&self) -> Answer<'_, Snapshot> {
        let account = self.0.connection.account;
        self.read(move |tx| tx.comparison_snapshot(account))
    }

    fn order(&self, id: OrderId) -> Answer<'_, Option<Order>> {
        let account = self.0.connection.account;
        self.read(move |tx| tx.order(account, id))
    }

    fn unknown(&self, ids: Vec<(BrokerOrderId, String)>) -> Answer<'_, HashSet<BrokerOrderId>> {
        let account = self.0.connection.account;
        self.read(move |tx| tx.orders_not_on_record(account, &ids))
    }

    fn lacking(
        &self,
        fills: Vec<(BrokerOrderId, Vec<Quantity>)>,
    ) -> Answer<'_, HashMap<BrokerOrderId, Lack>> {
        let account = self.0.connection.account;
        self.read(move |tx| tx.orders_lacking_fills(account, &fills))
    }

    fn apply(&self, report: Reported) -> Answer<'_, Applied> {
        let Reported { seen, executions } = report;
        Box::pin(self.fold(OrderReport { seen, executions, cause: CAUSE.to_owned(), reason: None }))
    }

    fn adopt<'a>(&'a self, seen: &'a BrokerOrder, ours: bool) -> Answer<'a, Adopted> {
        let (of, seen) = (self.0.owner(), seen.clone());
        self.write(move |tx, now| tx.adopt_order(of, &seen, ours, now))
    }

    fn is_ours(&self, client_order_id: &str) -> bool {
        client_order_id.starts_with(ClientOrderIdKey::PREFIX)
    }

    fn leave_to_a_job(&self, order: OrderId) -> Answer<'_, ()> {
        Box::pin(async move { Ok(self.0.leave_to_a_job(order).await?) })
    }

    fn standing(&self) -> Answer<'_, Standing> {
        let account = self.0.connection.account;
        self.read(move |tx| tx.standing(account))
    }

    fn adopt_opening(&self, held: Vec<Held>) -> Answer<'_, ()> {
        let of = self.0.owner();
        self.write(move |tx, now| tx.adopt_opening(of, &held, now))
    }

    fn book_movements(&self, rows: Vec<AccountMovement>, moves: HashSet<String>) -> Answer<'_, ()> {
        let of = self.0.owner();
        self.write(move |tx, now| tx.book_movements(of, &rows, &moves, now))
    }

    fn known_movements(&self, ids: Vec<String>) -> Answer<'_, HashSet<String>> {
        let account = self.0.connection.account;
        self.read(move |tx| tx.known_movements(account, &ids))
    }

    fn settle_cash(&self, cash: Decimal, standing: Standing) -> Answer<'_, ()> {
        let account = self.0.connection.account;
        self.write(move |tx, _| tx.settle_cash(account, cash, &standing))
    }
}
