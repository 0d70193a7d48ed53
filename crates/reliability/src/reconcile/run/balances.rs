//! Comparing positions and cash.

use std::collections::HashSet;

use chrono::{NaiveDate, TimeDelta};
use plimsoll_core_domain::broker::AccountMovement;
use rust_decimal::Decimal;

use super::super::money;
use super::super::port::{Snapshot, Standing};
use super::super::report::{Finding, Subject};
use super::super::table::Case;
use super::{Attempt, ReconcileError};

/// How far before the last comparison movements are read: brokers book some of them days later.
const MOVEMENTS_WINDOW: TimeDelta = TimeDelta::days(10);

impl Attempt<'_> {
    /// Positions and cash. A difference counts only when it is the same after everything was asked once more.
    pub(super) async fn compare_money(
        &mut self,
        snapshot: &Snapshot,
        cash: Decimal,
    ) -> Result<(), ReconcileError> {
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
    pub(super) async fn open_books(
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

    pub(super) async fn movements(
        &mut self,
        since: NaiveDate,
    ) -> Result<Vec<AccountMovement>, ReconcileError> {
        self.ask(|broker| broker.movements(since)).await
    }

    /// Books movements that are new; whether there were any.
    pub(super) async fn book_movements(
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
