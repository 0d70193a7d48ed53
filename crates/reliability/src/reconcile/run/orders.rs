//! Comparing open orders.

use std::collections::HashMap;

use plimsoll_core_domain::BrokerOrderId;
use plimsoll_core_domain::broker::{Broker, BrokerError, BrokerOrder, FillActivity, OrderListQuery};
use plimsoll_core_domain::fill::Execution;
use plimsoll_core_domain::order::{Order, OrderStatus};

use super::super::compare::{changes_nothing, missing_case, stale_case, under_way_since};
use super::super::port::{Applied, Reported, Scope, Snapshot};
use super::super::progress::About;
use super::super::report::Subject;
use super::super::table::Case;
use super::fills::execution_of;
use super::{Attempt, MAX_PAGES, ReconcileError, subject, word};

/// Orders of a full page.
const ORDERS_PAGE: usize = 500;

impl Attempt<'_> {
    /// The orders that are open at the broker, without legs of their own entries; what is missing, or cannot be read, is
    /// looked up order by order.
    pub(super) async fn list_open(&mut self) -> Result<HashMap<BrokerOrderId, BrokerOrder>, ReconcileError> {
        let mut query = OrderListQuery { open_only: true, limit: 500, ..OrderListQuery::default() };
        let mut listed = HashMap::new();
        for _ in 0..MAX_PAGES {
            let page = match self
                .ask(|broker| {
                    let query = query.clone();
                    async move { broker.orders(&query).await }
                })
                .await
            {
                Ok(page) => page,
                Err(
                    error @ (ReconcileError::Broker(
                        BrokerError::Throttled { .. } | BrokerError::Unauthorized(_),
                    )
                    | ReconcileError::Budget(_)),
                ) => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "the list of open orders is not to be had; each is looked up");
                    return Ok(listed);
                }
            };
            let full = page.len() >= ORDERS_PAGE;
            query.after_order_id = page.last().map(|order| order.id.clone());
            listed.extend(page.into_iter().map(|order| (order.id.clone(), order)));
            if !full {
                self.listed = true;
                return Ok(listed);
            }
        }
        Ok(listed)
    }

    pub(super) async fn compare_open(&mut self, snapshot: &Snapshot) -> Result<(), ReconcileError> {
        let mut listed: Option<HashMap<BrokerOrderId, BrokerOrder>> = None;
        let mut open = snapshot.open.clone();
        // Twice: the first round may bring legs, which are open orders of their own.
        for round in 0..2 {
            if round == 1 {
                if !open.iter().any(|order| self.progress.compared.contains(&order.id)) {
                    break;
                }
                open = self.books.snapshot().await?.open;
            }
            let by_id: HashMap<&BrokerOrderId, &Order> =
                open.iter().filter_map(|order| Some((order.broker_order_id.as_ref()?, order))).collect();
            let todo: Vec<&Order> = open.iter().filter(|order| !self.known(order)).collect();
            // One list is cheaper than a few look-ups, and only a list shows what is not on record.
            if listed.is_none() && (todo.len() > 1 || self.scope == Scope::Everything) {
                listed = Some(self.list_open().await?);
            }
            if round == 1 && todo.is_empty() {
                break;
            }
            for order in todo {
                if self.known(order) {
                    continue;
                }
                let seen = order
                    .broker_order_id
                    .as_ref()
                    .and_then(|id| listed.as_mut().and_then(|listed| listed.remove(id)));
                match self.compare(snapshot, order, seen, &by_id).await {
                    Ok(()) => {
                        self.in_a_row = 0;
                        self.progress.compared.insert(order.id);
                    }
                    Err(error) => {
                        if self.failed(About::Order(order.id), error)? {
                            self.books.leave_to_a_job(order.id).await?;
                        }
                    }
                }
            }
        }
        if let Some(listed) = listed {
            self.take_over(listed.into_values().collect()).await?;
        }
        Ok(())
    }

    pub(super) fn known(&self, order: &Order) -> bool {
        order.status == OrderStatus::PendingSubmit
            || self.progress.compared.contains(&order.id)
            || order.broker_order_id.as_ref().is_some_and(|id| self.progress.legs.contains(id))
            || self.progress.given_up(&About::Order(order.id))
    }

    /// Compares an order with what the broker's list shows of it, or else with its own look-up.
    pub(super) async fn compare(
        &mut self,
        snapshot: &Snapshot,
        order: &Order,
        listed: Option<BrokerOrder>,
        by_id: &HashMap<&BrokerOrderId, &Order>,
    ) -> Result<(), ReconcileError> {
        let seen = match listed {
            Some(seen) => seen,
            None => match self.look(order).await {
                Ok(seen) => seen,
                Err(ReconcileError::Broker(BrokerError::NotFound)) => {
                    self.not_found(snapshot, order).await?;
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        let same_legs =
            seen.legs.iter().all(|leg| by_id.get(&leg.id).is_some_and(|known| changes_nothing(known, leg)));
        if changes_nothing(order, &seen) && same_legs {
            self.progress.legs.extend(seen.legs.iter().map(|leg| leg.id.clone()));
            return Ok(());
        }
        if seen.filled_qty < order.filled_qty {
            return self.filled_less(order, seen).await;
        }
        let known = self.rows_of(&seen.id).map(|row| row.cum_qty.get()).max();
        let older = if seen.filled_qty > known.unwrap_or(order.filled_qty).max(order.filled_qty) {
            self.fills_of(&seen.id).await?
        } else {
            Vec::new()
        };
        // The entry first: its report makes the legs that are not on record yet.
        let legs = seen.legs.clone();
        self.report(seen, &older).await?;
        for leg in legs {
            let id = leg.id.clone();
            if self.report(leg, &older).await? {
                self.progress.legs.insert(id);
            }
        }
        Ok(())
    }

    /// Folds a report in and notes what it changed. Whether the order is on record.
    pub(super) async fn report(
        &mut self,
        seen: BrokerOrder,
        older: &[FillActivity],
    ) -> Result<bool, ReconcileError> {
        let executions: Vec<Execution> = self
            .rows_of(&seen.id)
            .chain(older.iter().filter(|row| row.order_id == seen.id))
            .map(execution_of)
            .collect();
        let broker = word(&seen);
        let (id, total) = (seen.id.clone(), seen.filled_qty);
        match self.books.apply(Reported { seen, executions }).await? {
            Applied::Unknown => return Ok(false),
            Applied::Contradiction { order, symbol, status, why } => {
                tracing::warn!(order.id = %order, broker.order.id = %id, %why, "the broker's report contradicts the record");
                self.find(
                    Case::Contradiction,
                    Subject::Order(order, symbol),
                    status.as_str(),
                    format!("{broker}: {why}"),
                );
            }
            Applied::Known(news) => {
                let subject = || Subject::Order(news.id, news.symbol.clone());
                let (before, after) = news.filled;
                if news.from != news.to {
                    self.find(Case::BrokerAhead, subject(), news.from.as_str(), news.to.as_str());
                }
                if after > before {
                    self.find(Case::FillMissing, subject(), before.normalize(), after.normalize());
                }
                if !news.unbooked.is_zero() {
                    self.find(Case::FillUntold, subject(), after.normalize(), total.normalize());
                }
                if news.replaced > 0 {
                    self.find(Case::FillReplaced, subject(), "inferred", "its book of fills");
                }
            }
        }
        Ok(true)
    }

    /// A targeted look did not find the order. What changed here since is left to the next run.
    pub(super) async fn not_found(
        &mut self,
        snapshot: &Snapshot,
        order: &Order,
    ) -> Result<(), ReconcileError> {
        let case = missing_case(
            order,
            snapshot.missing.get(&order.id),
            self.listed,
            self.books.now(),
            self.limits.missing_for,
        );
        let Some(case) = case else { return Ok(()) };
        if self.moved(order).await? {
            return Ok(());
        }
        self.find(case, subject(order), order.status.as_str(), "not found");
        Ok(())
    }

    /// The list shows less filled than is booked. It may be older than the booking: only a look after it counts.
    pub(super) async fn filled_less(
        &mut self,
        order: &Order,
        listed: BrokerOrder,
    ) -> Result<(), ReconcileError> {
        let seen = match self.look(order).await {
            Ok(seen) => seen,
            Err(ReconcileError::Broker(BrokerError::NotFound)) => listed,
            Err(error) => return Err(error),
        };
        if seen.filled_qty >= order.filled_qty {
            self.report(seen, &[]).await?;
        } else if !self.moved(order).await? {
            self.find(
                Case::FilledLess,
                subject(order),
                order.filled_qty.normalize(),
                seen.filled_qty.normalize(),
            );
        }
        Ok(())
    }

    /// Whether the order changed here since the snapshot.
    pub(super) async fn moved(&self, order: &Order) -> Result<bool, ReconcileError> {
        Ok(self.books.order(order.id).await?.is_none_or(|now| now.version != order.version))
    }

    /// Orders that are under way, or unconfirmed, for too long.
    pub(super) fn look_for_stale(&mut self, snapshot: &Snapshot) {
        let now = self.books.now();
        for order in &snapshot.open {
            let confirmed = match snapshot.missing.get(&order.id) {
                Some(missing) => missing.since,
                None if self.progress.compared.contains(&order.id) => now,
                None if order.broker_order_id.as_ref().is_some_and(|id| self.progress.legs.contains(id)) => {
                    now
                }
                None => snapshot.compared_at.unwrap_or(order.updated_at),
            };
            // One that was settled by this run is no longer on its way.
            let settled = self.progress.findings.iter().any(|finding| {
                finding.case == Case::BrokerAhead && finding.subject.order() == Some(order.id)
            });
            if let Some(case) = stale_case(order, confirmed, now, self.limits.stale_age).filter(|_| !settled)
            {
                let since = under_way_since(order).format("since %Y-%m-%dT%H:%M:%SZ");
                let broker = if case == Case::StaleUnconfirmed { "not confirmed" } else { "open" };
                self.find(case, subject(order), format!("{} {since}", order.status.as_str()), broker);
            }
        }
    }

    pub(super) async fn look(&mut self, order: &Order) -> Result<BrokerOrder, ReconcileError> {
        self.ask(|broker| {
            let order = order.clone();
            async move { look(broker, &order).await }
        })
        .await
    }
}

/// The order at the broker, by whichever id is known.
///
/// # Errors
/// The broker's.
pub async fn look(broker: &dyn Broker, order: &Order) -> Result<BrokerOrder, BrokerError> {
    match &order.broker_order_id {
        Some(id) => broker.order(id).await,
        None => broker.order_by_client_id(&order.client_order_id).await,
    }
}
