//! Reading the book of fills, and orders that only it tells of.

use std::collections::HashMap;

use chrono::TimeDelta;
use plimsoll_core_domain::broker::{Broker, FillActivity, FillQuery};
use plimsoll_core_domain::fill::{Execution, FillSource};
use plimsoll_core_domain::{BrokerOrderId, Quantity};

use super::super::port::{Lack, Snapshot};
use super::super::progress::About;
use super::{Attempt, MAX_PAGES, ReconcileError};

/// How far before the last known fill the book of fills is read again.
const OVERLAP: TimeDelta = TimeDelta::minutes(15);
/// How far back it is read when no fill is known.
const FIRST_WINDOW: TimeDelta = TimeDelta::hours(24);
/// Rows of a full page of fills; a shorter one is the last.
const PAGE: usize = 100;

impl Attempt<'_> {
    /// Reads the book of fills on from where it was read to.
    pub(super) async fn read_book(&mut self, snapshot: &Snapshot) -> Result<(), ReconcileError> {
        if self.progress.given_up(&About::Fills) {
            return Ok(());
        }
        let from = match (self.progress.from, snapshot.last_execution) {
            (Some(from), _) => from,
            (None, Some(at)) => at - OVERLAP,
            (None, None) => self.ask(|broker| broker.clock()).await?.timestamp - FIRST_WINDOW,
        };
        self.progress.from = Some(from);
        match self.read_on().await {
            Ok(()) => self.in_a_row = 0,
            Err(error) => {
                self.failed(About::Fills, error)?;
            }
        }
        Ok(())
    }

    /// Reads the book behind the last row that was read; what was read before an error is kept.
    pub(super) async fn read_on(&mut self) -> Result<(), ReconcileError> {
        let mut query = FillQuery { after: self.progress.from, ..FillQuery::default() };
        for _ in 0..MAX_PAGES {
            query.page_token = self.progress.fills.last().map(|row| row.id.clone());
            let page = self
                .ask(|broker| {
                    let query = query.clone();
                    async move { broker.fills(&query).await }
                })
                .await?;
            let full = page.len() >= PAGE;
            self.progress.fills.extend(page);
            if !full {
                return Ok(());
            }
        }
        Err(ReconcileError::TooMany)
    }

    pub(super) fn rows_of<'p>(&'p self, id: &'p BrokerOrderId) -> impl Iterator<Item = &'p FillActivity> {
        self.progress.fills.iter().filter(move |row| row.order_id == *id)
    }

    /// Every fill of one order, however old.
    pub(super) async fn fills_of(&mut self, id: &BrokerOrderId) -> Result<Vec<FillActivity>, ReconcileError> {
        let query = FillQuery { order_id: Some(id.clone()), ..FillQuery::default() };
        self.progress.calls = self.progress.calls.saturating_add(1);
        read_fills(self.broker, &query).await
    }

    /// Fills of orders that ended here without them, and orders of which only fills are known.
    pub(super) async fn fetch_ended(&mut self) -> Result<(), ReconcileError> {
        let mut sums: HashMap<BrokerOrderId, Vec<Quantity>> = HashMap::new();
        for row in &self.progress.fills {
            sums.entry(row.order_id.clone()).or_default().push(row.cum_qty);
        }
        sums.retain(|id, _| !self.progress.given_up(&About::AtBroker(id.clone())));
        if sums.is_empty() {
            return Ok(());
        }
        let mut lacking: Vec<(BrokerOrderId, Lack)> =
            self.books.lacking(sums.into_iter().collect()).await?.into_iter().collect();
        lacking.sort_by(|a, b| a.0.cmp(&b.0));
        for (id, lack) in lacking {
            match self
                .ask(|broker| {
                    let id = id.clone();
                    async move { broker.order(&id).await }
                })
                .await
            {
                Ok(seen) => {
                    self.in_a_row = 0;
                    match lack {
                        Lack::Order => self.adopt(seen).await?,
                        Lack::Fills => {
                            self.report(seen, &[]).await?;
                        }
                    }
                }
                Err(error) => {
                    self.failed(About::AtBroker(id), error)?;
                }
            }
        }
        Ok(())
    }

    /// Books what the book of fills has behind what was read.
    pub(super) async fn catch_fills(&mut self) -> Result<(), ReconcileError> {
        self.read_on().await?;
        self.fetch_ended().await?;
        match self.unsettled.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// The execution that a row of the broker's book of fills tells of.
pub(in crate::reconcile) fn execution_of(row: &FillActivity) -> Execution {
    Execution {
        qty: row.qty,
        price: row.price,
        cum_qty: row.cum_qty,
        source: FillSource::Rest,
        executed_at: row.at,
        broker_id: Some(row.id.clone()),
    }
}

/// Every page of a reading of the book of fills.
///
/// # Errors
/// The broker's, and [`ReconcileError::TooMany`].
pub async fn read_fills(broker: &dyn Broker, query: &FillQuery) -> Result<Vec<FillActivity>, ReconcileError> {
    let (mut query, mut rows) = (query.clone(), Vec::<FillActivity>::new());
    for _ in 0..MAX_PAGES {
        query.page_token = rows.last().map(|row| row.id.clone());
        let page = broker.fills(&query).await?;
        let full = page.len() >= PAGE;
        rows.extend(page);
        if !full {
            return Ok(rows);
        }
    }
    Err(ReconcileError::TooMany)
}
