//! One comparison: what is asked of the broker, in which order, and what is concluded.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use plimsoll_core_domain::broker::{
    Broker, BrokerError, BrokerOrder, BrokerStatus, FillActivity, FillQuery, OrderListQuery,
};
use plimsoll_core_domain::fill::{Execution, FillSource};
use plimsoll_core_domain::order::{Order, OrderStatus};
use plimsoll_core_domain::{BrokerOrderId, Quantity, StoreError};
use rust_decimal::Decimal;

use super::compare::{changes_nothing, missing_case, stale_case};
use super::money;
use super::port::{Adopted, Applied, Books, BooksError, Lack, Reported, Scope, Snapshot, Standing};
use super::progress::{About, Progress};
use super::report::{Finding, Outcome, Subject};
use super::table::{Case, Class};

/// How far before the last known fill the book of fills is read again.
const OVERLAP: TimeDelta = TimeDelta::minutes(15);
/// How far back it is read when no fill is known.
const FIRST_WINDOW: TimeDelta = TimeDelta::hours(24);
/// How far before the last comparison movements are read: brokers book some of them days later.
const MOVEMENTS_WINDOW: TimeDelta = TimeDelta::days(10);
/// Rows of a full page of fills; a shorter one is the last.
const PAGE: usize = 100;
/// Pages of one reading.
const MAX_PAGES: usize = 1_000;
/// Orders of a full page.
const ORDERS_PAGE: usize = 500;
/// So many answers in a row that cannot be used end a try: the broker has a bad time, not the order.
const BAD_TIME: u32 = 3;

/// Why the comparison is not complete.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The broker did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The store did not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A reading does not end.
    #[error("the broker's book of fills has more than {MAX_PAGES} pages in the window")]
    TooMany,
    /// The credentials are another account's.
    #[error("the key belongs to another account at the broker than the one on record")]
    OtherAccount,
    /// Another instance has the account by now.
    #[error("another instance has the account now")]
    Lost,
    /// The run's calls are used up.
    #[error("the run has made its {0} calls to the broker")]
    Budget(u32),
}

impl From<BooksError> for ReconcileError {
    fn from(error: BooksError) -> Self {
        match error {
            BooksError::Store(error) => Self::Store(error),
            BooksError::Lost => Self::Lost,
        }
    }
}

/// The bounds of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A live order must have been missing for so long before it counts as gone.
    pub missing_for: Duration,
    /// An order that is under way, or unconfirmed, for longer is stale.
    pub stale_age: Duration,
    /// Calls to the broker, over all tries.
    pub calls: u32,
}

/// One try of a run.
pub struct Attempt<'a> {
    broker: &'a dyn Broker,
    books: &'a dyn Books,
    limits: Limits,
    scope: Scope,
    progress: &'a mut Progress,
    /// What another try may settle.
    unsettled: Option<ReconcileError>,
    in_a_row: u32,
    /// Whether all pages of the list of open orders were read.
    listed: bool,
}

impl std::fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl<'a> Attempt<'a> {
    /// A try that goes on where the one before it ended.
    pub fn new(
        broker: &'a dyn Broker,
        books: &'a dyn Books,
        limits: Limits,
        scope: Scope,
        progress: &'a mut Progress,
    ) -> Self {
        Self { broker, books, limits, scope, progress, unsettled: None, in_a_row: 0, listed: false }
    }

    /// Compares every open order, every order with a fill in the window, and, where the scope says so, positions and cash.
    /// Repeats change nothing. An order that the broker refuses to show, or whose answers stay unusable, is left to a job
    /// of its own, and the run is partial.
    ///
    /// # Errors
    /// The comparison is not complete; the progress has what is.
    pub async fn run(mut self) -> Result<Outcome, ReconcileError> {
        let account = self.ask(|broker| broker.account()).await?;
        if !self.books.claim(&account.number).await? {
            return Err(ReconcileError::OtherAccount);
        }
        let snapshot = self.books.snapshot().await?;
        self.read_book(&snapshot).await?;
        self.compare_open(&snapshot).await?;
        self.fetch_ended().await?;
        if let Some(error) = self.unsettled.take() {
            return Err(error);
        }
        self.look_for_stale(&snapshot);
        if self.scope == Scope::Everything && !self.progress.given_up(&About::Money) {
            match self.compare_money(&snapshot, account.cash).await {
                Ok(()) => {}
                Err(error) => {
                    self.failed(About::Money, error)?;
                }
            }
            if let Some(error) = self.unsettled.take() {
                return Err(error);
            }
        }
        let complete = !self.progress.gave_up();
        Ok(Outcome::new(self.progress.scanned(), std::mem::take(&mut self.progress.findings), complete))
    }

    /// One call to the broker.
    async fn ask<'b, T, F>(&mut self, call: impl FnOnce(&'b dyn Broker) -> F) -> Result<T, ReconcileError>
    where
        'a: 'b,
        F: Future<Output = Result<T, BrokerError>>,
    {
        if self.progress.calls >= self.limits.calls {
            return Err(ReconcileError::Budget(self.limits.calls));
        }
        self.progress.calls += 1;
        Ok(call(self.broker).await?)
    }

    fn find(
        &mut self,
        case: Case,
        subject: Subject,
        local: impl std::fmt::Display,
        broker: impl std::fmt::Display,
    ) {
        self.progress.findings.push(Finding::new(case, subject, local, broker));
    }

    /// What an unusable answer means: `true` when the subject is given up by it, `false` when another try asks again.
    ///
    /// # Errors
    /// Nothing more is to be had in this try.
    fn failed(&mut self, about: About, error: ReconcileError) -> Result<bool, ReconcileError> {
        let Some(given_up) = self.progress.count(&about, &error) else { return Err(error) };
        if given_up {
            tracing::warn!(?about, %error, "left out of the comparison with the broker");
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
    async fn read_book(&mut self, snapshot: &Snapshot) -> Result<(), ReconcileError> {
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
    async fn read_on(&mut self) -> Result<(), ReconcileError> {
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

    /// The orders that are open at the broker, without legs of their own entries; what is missing, or cannot be read, is
    /// looked up order by order.
    async fn list_open(&mut self) -> Result<HashMap<BrokerOrderId, BrokerOrder>, ReconcileError> {
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

    async fn compare_open(&mut self, snapshot: &Snapshot) -> Result<(), ReconcileError> {
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

    fn known(&self, order: &Order) -> bool {
        order.status == OrderStatus::PendingSubmit
            || self.progress.compared.contains(&order.id)
            || order.broker_order_id.as_ref().is_some_and(|id| self.progress.legs.contains(id))
            || self.progress.given_up(&About::Order(order.id))
    }

    /// Compares an order with what the broker's list shows of it, or else with its own look-up.
    async fn compare(
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

    fn rows_of<'p>(&'p self, id: &'p BrokerOrderId) -> impl Iterator<Item = &'p FillActivity> {
        self.progress.fills.iter().filter(move |row| row.order_id == *id)
    }

    async fn look(&mut self, order: &Order) -> Result<BrokerOrder, ReconcileError> {
        self.ask(|broker| {
            let order = order.clone();
            async move { look(broker, &order).await }
        })
        .await
    }

    /// Every fill of one order, however old.
    async fn fills_of(&mut self, id: &BrokerOrderId) -> Result<Vec<FillActivity>, ReconcileError> {
        let query = FillQuery { order_id: Some(id.clone()), ..FillQuery::default() };
        self.progress.calls = self.progress.calls.saturating_add(1);
        read_fills(self.broker, &query).await
    }

    /// Folds a report in and notes what it changed. Whether the order is on record.
    async fn report(&mut self, seen: BrokerOrder, older: &[FillActivity]) -> Result<bool, ReconcileError> {
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
    async fn not_found(&mut self, snapshot: &Snapshot, order: &Order) -> Result<(), ReconcileError> {
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
    async fn filled_less(&mut self, order: &Order, listed: BrokerOrder) -> Result<(), ReconcileError> {
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
    async fn moved(&self, order: &Order) -> Result<bool, ReconcileError> {
        Ok(self.books.order(order.id).await?.is_none_or(|now| now.version != order.version))
    }

    /// Takes over what the broker lists and is not on record: orders, and legs that stand alone.
    async fn take_over(&mut self, listed: Vec<BrokerOrder>) -> Result<(), ReconcileError> {
        if listed.is_empty() {
            return Ok(());
        }
        let ids = listed.iter().map(|seen| (seen.id.clone(), seen.client_order_id.clone())).collect();
        let unknown = self.books.unknown(ids).await?;
        let legs = self.progress.legs.clone();
        for seen in listed {
            if unknown.contains(&seen.id) {
                self.adopt(seen).await?;
            } else if !legs.contains(&seen.id) {
                // On record by now, or final here: whichever report is better counts.
                self.report(seen, &[]).await?;
            }
        }
        Ok(())
    }

    /// Takes one order over with its fills.
    async fn adopt(&mut self, seen: BrokerOrder) -> Result<(), ReconcileError> {
        let ours = self.books.is_ours(&seen.client_order_id);
        let case = if ours { Case::OrderLost } else { Case::OrderExternal };
        match self.books.adopt(&seen, ours).await? {
            Adopted::Known => {}
            Adopted::Taken(_) => {
                tracing::warn!(broker.order.id = %seen.id, ours, "an order of the broker was taken over");
                let of = Subject::AtBroker(seen.id.clone(), seen.symbol.clone());
                self.find(case, of, "none", word(&seen));
            }
            Adopted::Unreadable(why) => {
                let of = Subject::AtBroker(seen.id.clone(), seen.symbol.clone());
                self.find(Case::OrderUnreadable, of, "none", format!("{}: {why}", word(&seen)));
                return Ok(());
            }
        }
        let fills = if seen.filled_qty.is_zero() && seen.legs.iter().all(|leg| leg.filled_qty.is_zero()) {
            Vec::new()
        } else {
            self.fills_of(&seen.id).await?
        };
        let legs = seen.legs.clone();
        // What follows from the taking over is no difference of its own.
        let before = self.progress.findings.len();
        self.report(seen, &fills).await?;
        for leg in legs {
            let fills = if leg.filled_qty.is_zero() { Vec::new() } else { self.fills_of(&leg.id).await? };
            self.report(leg, &fills).await?;
        }
        let mut found = self.progress.findings.split_off(before);
        found.retain(|finding| !matches!(finding.case, Case::BrokerAhead | Case::FillMissing));
        self.progress.findings.extend(found);
        Ok(())
    }

    /// Fills of orders that ended here without them, and orders of which only fills are known.
    async fn fetch_ended(&mut self) -> Result<(), ReconcileError> {
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

    /// Orders that are under way, or unconfirmed, for too long.
    fn look_for_stale(&mut self, snapshot: &Snapshot) {
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
                let since = order.updated_at.format("since %Y-%m-%dT%H:%M:%SZ");
                let broker = if case == Case::StaleUnconfirmed { "not confirmed" } else { "open" };
                self.find(case, subject(order), format!("{} {since}", order.status.as_str()), broker);
            }
        }
    }

    /// Books what the book of fills has behind what was read.
    async fn catch_fills(&mut self) -> Result<(), ReconcileError> {
        self.read_on().await?;
        self.fetch_ended().await?;
        match self.unsettled.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Positions and cash. A difference counts only when it is the same after everything was asked once more.
    async fn compare_money(&mut self, snapshot: &Snapshot, cash: Decimal) -> Result<(), ReconcileError> {
        let (mut cash, mut seen) = (cash, self.ask(|broker| broker.positions()).await?);
        let mut standing = self.books.standing().await?;
        let differs = |standing: &Standing, seen: &[_], cash| {
            (money::position_differences(standing, seen), money::cash_difference(standing, cash))
        };
        let mut first = differs(&standing, &seen, cash);
        let mut moving = Vec::new();
        if !first.0.is_empty() || first.1.is_some() || standing.cash.is_none() {
            let before = standing.clone();
            self.catch_fills().await?;
            (cash, seen) = (
                self.ask(|broker| broker.account()).await?.cash,
                self.ask(|broker| broker.positions()).await?,
            );
            standing = self.books.standing().await?;
            let second = differs(&standing, &seen, cash);
            let still = before == standing;
            moving.extend(second.0.iter().filter(|sides| !still && !first.0.contains(sides)).cloned());
            first = second;
            if !still && first.1.is_some() {
                self.find(
                    Case::CashMoving,
                    Subject::Cash,
                    standing.cash.unwrap_or_default().normalize(),
                    cash.normalize(),
                );
                first.1 = None;
                self.progress.findings.extend(moving.iter().map(moving_finding));
                self.progress.balances = count(&standing, seen.len());
                return Ok(());
            }
        }
        self.progress.balances = count(&standing, seen.len());
        let (mut positions, mut cash_off) = first;
        for sides in &moving {
            self.progress.findings.push(moving_finding(sides));
        }
        positions.retain(|sides| !moving.contains(sides));
        if snapshot.opening {
            return self.open_books(positions, moving.is_empty(), cash).await;
        }
        if !positions.is_empty() || cash_off.is_some() {
            let booked = self.book_movements(snapshot, &positions).await?;
            if booked {
                standing = self.books.standing().await?;
                let after = differs(&standing, &seen, cash);
                for sides in
                    positions.iter().filter(|sides| !after.0.iter().any(|one| one.symbol == sides.symbol))
                {
                    self.find(
                        Case::PositionExplained,
                        Subject::Position(sides.symbol.clone()),
                        sides.local,
                        sides.broker,
                    );
                }
                positions.retain(|sides| after.0.iter().any(|one| one.symbol == sides.symbol));
                if let (Some(before), None) = (cash_off, after.1) {
                    self.find(Case::CashExplained, Subject::Cash, before.normalize(), cash.normalize());
                }
                cash_off = after.1;
            }
        }
        for sides in &positions {
            self.find(
                Case::PositionUnexplained,
                Subject::Position(sides.symbol.clone()),
                sides.local,
                sides.broker,
            );
        }
        if let Some(ours) = cash_off {
            self.find(Case::CashUnexplained, Subject::Cash, ours.normalize(), cash.normalize());
        }
        for (symbol, ours, theirs) in money::average_differences(&standing, &seen) {
            self.find(Case::AverageDiffers, Subject::Position(symbol), ours, theirs);
        }
        if cash_off.is_none() && moving.is_empty() {
            self.books.settle_cash(cash, standing).await?;
        }
        Ok(())
    }

    /// The first comparison of an account: what it holds beside our fills was there before, and its cash is the base.
    async fn open_books(
        &mut self,
        positions: Vec<money::Sides>,
        quiet: bool,
        cash: Decimal,
    ) -> Result<(), ReconcileError> {
        for sides in &positions {
            self.find(
                Case::PositionOpening,
                Subject::Position(sides.symbol.clone()),
                sides.local,
                sides.broker,
            );
        }
        if !quiet {
            return Ok(());
        }
        let today = self.ask(|broker| broker.clock()).await?.timestamp.date_naive();
        // What the cash of today contains must not explain a difference of tomorrow.
        let rows = self.movements(today - MOVEMENTS_WINDOW).await?;
        if !rows.is_empty() {
            self.books.book_movements(rows, HashSet::new()).await?;
        }
        if !positions.is_empty() {
            self.books.adopt_opening(money::opening(&positions)).await?;
        }
        let standing = self.books.standing().await?;
        self.books.settle_cash(cash, standing).await?;
        Ok(())
    }

    async fn movements(
        &mut self,
        since: NaiveDate,
    ) -> Result<Vec<plimsoll_core_domain::broker::AccountMovement>, ReconcileError> {
        self.ask(|broker| broker.movements(since)).await
    }

    /// Books movements that are new; whether there were any.
    async fn book_movements(
        &mut self,
        snapshot: &Snapshot,
        positions: &[money::Sides],
    ) -> Result<bool, ReconcileError> {
        let now = self.ask(|broker| broker.clock()).await?.timestamp;
        let away = snapshot
            .compared_at
            .map_or(TimeDelta::zero(), |at| (self.books.now() - at).max(TimeDelta::zero()));
        let mut rows = self.movements((now - away - MOVEMENTS_WINDOW).date_naive()).await?;
        let known = self.books.known_movements(rows.iter().map(|row| row.id.clone()).collect()).await?;
        rows.retain(|row| !known.contains(&row.id));
        if rows.is_empty() {
            return Ok(false);
        }
        let moves = money::explaining(positions, &rows);
        self.books.book_movements(rows, moves).await?;
        Ok(true)
    }
}

fn count(standing: &Standing, positions: usize) -> u32 {
    u32::try_from(standing.held.len().max(positions) + 1).unwrap_or(u32::MAX)
}

fn moving_finding(sides: &money::Sides) -> Finding {
    Finding::new(Case::PositionMoving, Subject::Position(sides.symbol.clone()), sides.local, sides.broker)
}

fn subject(order: &Order) -> Subject {
    Subject::Order(order.id, order.terms.symbol.clone())
}

/// The broker's word for the order's state.
fn word(seen: &BrokerOrder) -> String {
    match &seen.status {
        BrokerStatus::Known(status) => status.as_str().to_owned(),
        BrokerStatus::Other(word) => word.clone(),
    }
}

/// The execution that a row of the broker's book of fills tells of.
pub(super) fn execution_of(row: &FillActivity) -> Execution {
    Execution {
        qty: row.qty,
        price: row.price,
        cum_qty: row.cum_qty,
        source: FillSource::Rest,
        executed_at: row.at,
        broker_id: Some(row.id.clone()),
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

impl Outcome {
    /// Whether nothing in it is worth a row of its own.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.findings.iter().all(|finding| finding.case.rule().class == Class::Timing)
    }
}
