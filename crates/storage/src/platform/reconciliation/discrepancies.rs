//! Differences: noted by runs, resolved by runs or by people.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName, RunQueryDsl};
use plimsoll_core_domain::order::OrderStatus;
use plimsoll_core_domain::stream::{EventKind, NewEvent};
use plimsoll_core_domain::views::{At, json};
use plimsoll_core_domain::{AccountId, StoreError, UserId};
use plimsoll_reliability::reconcile::{Class, Finding, Kind, Rule};
use rust_decimal::Decimal;
use serde::Serialize;
use uuid::Uuid;

use super::books::AccountOwner;
use super::ledger::Entry;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::platform::orders::event;

/// A difference's row.
#[derive(Clone, Debug, QueryableByName)]
#[expect(missing_docs, reason = "the fields are the HTTP contract's, section 8")]
pub struct Discrepancy {
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    #[diesel(sql_type = BigInt)]
    pub account_id: i64,
    #[diesel(sql_type = SqlUuid)]
    pub run_id: Uuid,
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Text)]
    pub subject: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub symbol: Option<String>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub order_id: Option<Uuid>,
    #[diesel(sql_type = Text)]
    pub local: String,
    #[diesel(sql_type = Text)]
    pub broker: String,
    #[diesel(sql_type = Text)]
    pub class: String,
    #[diesel(sql_type = Text)]
    pub action: String,
    #[diesel(sql_type = Bool)]
    pub blocks: bool,
    #[diesel(sql_type = Timestamptz)]
    pub first_seen_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub last_seen_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub alerted_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub resolved_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    pub resolution: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub note: Option<String>,
}

macro_rules! columns {
    () => {
        "id, account_id, run_id, kind, subject, symbol, order_id, local, broker, class, action, blocks, first_seen_at, \
         last_seen_at, alerted_at, resolved_at, resolution, note"
    };
}

/// What somebody decides about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The broker is right: the record follows, where it can.
    AcceptBroker,
    /// The record is right: the same difference is not told again.
    KeepLocal,
}

impl Resolution {
    /// The word on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AcceptBroker => "accept_broker",
            Self::KeepLocal => "keep_local",
        }
    }
}

/// What became of a decision.
#[derive(Clone, Debug)]
pub enum Resolved {
    /// There is no such difference of this user's.
    Unknown,
    /// It is resolved already.
    Already,
    /// What it is about has changed since it was noted: the next run tells what it is by now.
    Changed,
    /// Done; the row as it is now.
    Done(Box<Discrepancy>),
}

/// What notes of a run bring.
pub(super) struct Noted {
    /// JSON: the run's differences.
    pub(super) report: String,
    pub(super) alerts: Vec<NewEvent>,
    /// What its owner is told by mail, the first time.
    pub(super) letter: Vec<String>,
    /// Whether something needs a human that nobody has decided about.
    pub(super) needs_human: bool,
}

/// A difference as reports have it.
#[derive(Serialize)]
struct Reported<'a> {
    id: i64,
    kind: &'a str,
    symbol: Option<&'a str>,
    order_id: Option<Uuid>,
    local: &'a str,
    broker: &'a str,
    class: &'a str,
    action: &'a str,
    first_seen_at: At,
}

fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

impl Tx<'_> {
    pub(super) fn note_findings(
        &mut self,
        of: AccountOwner,
        run: Uuid,
        findings: &[Finding],
        now: DateTime<Utc>,
    ) -> Result<Noted, StoreError> {
        let mut noted =
            Noted { report: String::from("["), alerts: Vec::new(), letter: Vec::new(), needs_human: false };
        for finding in findings {
            let rule = finding.case.rule();
            if rule.class == Class::NeedsHuman && self.is_kept(of.account, finding)? {
                continue;
            }
            let row = self.note_one(of, run, finding, now)?;
            noted.needs_human |= rule.class == Class::NeedsHuman;
            if rule.alerts && row.alerted_at.is_none() {
                let message = in_words(finding);
                noted.alerts.push(alert(rule, &message));
                if rule.class == Class::NeedsHuman {
                    noted.letter.push(message);
                }
                prepared("UPDATE discrepancies SET alerted_at = ? WHERE id = ?")
                    .bind::<Timestamptz, _>(now)
                    .bind::<BigInt, _>(row.id)
                    .execute(self.conn())
                    .store()?;
            }
            if noted.report.len() > 1 {
                noted.report.push(',');
            }
            noted.report.push_str(&json(&Reported {
                id: row.id,
                kind: &row.kind,
                symbol: row.symbol.as_deref(),
                order_id: row.order_id,
                local: &row.local,
                broker: &row.broker,
                class: &row.class,
                action: &row.action,
                first_seen_at: At(row.first_seen_at),
            }));
        }
        noted.report.push(']');
        Ok(noted)
    }

    /// Whether somebody decided to keep the record against this very difference.
    fn is_kept(&mut self, account: AccountId, finding: &Finding) -> Result<bool, StoreError> {
        let row = prepared(concat!(
            "SELECT ",
            columns!(),
            " FROM discrepancies WHERE account_id = ? AND kind = ? AND subject = ? ORDER BY id DESC LIMIT 1"
        ))
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(finding.case.rule().kind.as_str())
        .bind::<Text, _>(clip(&finding.subject.key()))
        .get_result::<Discrepancy>(self.conn())
        .optional()
        .store()?;
        Ok(row.is_some_and(|row| {
            row.resolution.as_deref() == Some(Resolution::KeepLocal.as_str())
                && row.local == clip(&finding.local)
                && row.broker == clip(&finding.broker)
        }))
    }

    fn note_one(
        &mut self,
        of: AccountOwner,
        run: Uuid,
        finding: &Finding,
        now: DateTime<Utc>,
    ) -> Result<Discrepancy, StoreError> {
        let rule = finding.case.rule();
        let settled = !matches!(rule.class, Class::Timing | Class::NeedsHuman);
        prepared(concat!(
            "INSERT INTO discrepancies (account_id, user_id, run_id, kind, subject, symbol, order_id, local, broker, class, \
             action, blocks, first_seen_at, last_seen_at, resolved_at, resolution) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (account_id, kind, subject) WHERE resolved_at IS NULL DO UPDATE SET run_id = excluded.run_id, \
             local = excluded.local, broker = excluded.broker, class = excluded.class, action = excluded.action, \
             blocks = excluded.blocks, last_seen_at = excluded.last_seen_at, looks = discrepancies.looks + 1, \
             resolved_at = excluded.resolved_at, resolution = excluded.resolution RETURNING ",
            columns!()
        ))
        .bind::<BigInt, _>(of.account.0)
        .bind::<BigInt, _>(of.user.0)
        .bind::<SqlUuid, _>(run)
        .bind::<Text, _>(rule.kind.as_str())
        .bind::<Text, _>(clip(&finding.subject.key()))
        .bind::<Nullable<Text>, _>(finding.subject.symbol())
        .bind::<Nullable<SqlUuid>, _>(finding.subject.order().map(|id| id.0))
        .bind::<Text, _>(clip(&finding.local))
        .bind::<Text, _>(clip(&finding.broker))
        .bind::<Text, _>(rule.class.as_str())
        .bind::<Text, _>(rule.action.as_str())
        .bind::<Bool, _>(rule.blocks)
        .bind::<Timestamptz, _>(now)
        .bind::<Timestamptz, _>(now)
        .bind::<Nullable<Timestamptz>, _>(settled.then_some(now))
        .bind::<Nullable<Text>, _>(settled.then_some("settled"))
        .get_result::<Discrepancy>(self.conn())
        .store()
    }

    /// A complete run did not find them any more.
    pub(super) fn close_gone(
        &mut self,
        account: AccountId,
        run: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        prepared(
            "UPDATE discrepancies SET resolved_at = ?, resolution = 'gone' WHERE account_id = ? \
             AND resolved_at IS NULL AND run_id <> ?",
        )
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(account.0)
        .bind::<SqlUuid, _>(run)
        .execute(self.conn())
        .store()?;
        Ok(())
    }

    /// The open differences of a user, or of everybody, oldest first, at most 500.
    ///
    /// # Errors
    /// The store's own.
    pub fn open_discrepancies(
        &mut self,
        user: Option<UserId>,
        account: Option<AccountId>,
    ) -> Result<Vec<Discrepancy>, StoreError> {
        prepared(concat!(
            "SELECT ",
            columns!(),
            " FROM discrepancies WHERE resolved_at IS NULL AND (?::bigint IS NULL OR user_id = ?) \
             AND (?::bigint IS NULL OR account_id = ?) ORDER BY id LIMIT 500"
        ))
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .bind::<Nullable<BigInt>, _>(user.map(|user| user.0))
        .bind::<Nullable<BigInt>, _>(account.map(|account| account.0))
        .bind::<Nullable<BigInt>, _>(account.map(|account| account.0))
        .load::<Discrepancy>(self.conn())
        .store()
    }

    /// Resolves a difference by somebody's decision; `owner` restricts it to a user's own.
    ///
    /// Accepting the broker's word about a position or the cash books an adjustment; about an order that the broker does
    /// not have, it ends the order. Everything else only ends the difference.
    ///
    /// # Errors
    /// The store's own.
    pub fn resolve_discrepancy(
        &mut self,
        id: i64,
        owner: Option<UserId>,
        by: UserId,
        resolution: Resolution,
        note: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Resolved, StoreError> {
        #[derive(QueryableByName)]
        struct Of {
            #[diesel(sql_type = BigInt)]
            account_id: i64,
        }
        let of = prepared(
            "SELECT account_id FROM discrepancies WHERE id = ? AND (?::bigint IS NULL OR user_id = ?)",
        )
        .bind::<BigInt, _>(id)
        .bind::<Nullable<BigInt>, _>(owner.map(|user| user.0))
        .bind::<Nullable<BigInt>, _>(owner.map(|user| user.0))
        .get_result::<Of>(self.conn())
        .optional()
        .store()?;
        let Some(account) = of.map(|of| AccountId(of.account_id)) else { return Ok(Resolved::Unknown) };
        self.lock_account(account)?;
        let Some(of) = self.account_owner(account)? else { return Ok(Resolved::Unknown) };
        let row = prepared(concat!("SELECT ", columns!(), " FROM discrepancies WHERE id = ? FOR UPDATE"))
            .bind::<BigInt, _>(id)
            .get_result::<Discrepancy>(self.conn())
            .store()?;
        if row.resolved_at.is_some() {
            return Ok(Resolved::Already);
        }
        if resolution == Resolution::AcceptBroker && !self.follow_broker(of, &row, now)? {
            return Ok(Resolved::Changed);
        }
        let row = prepared(concat!(
            "UPDATE discrepancies SET resolved_at = ?, resolution = ?, resolved_by = ?, note = ? WHERE id = ? RETURNING ",
            columns!()
        ))
        .bind::<Timestamptz, _>(now)
        .bind::<Text, _>(resolution.as_str())
        .bind::<BigInt, _>(by.0)
        .bind::<Nullable<Text>, _>(note.map(clip))
        .bind::<BigInt, _>(id)
        .get_result::<Discrepancy>(self.conn())
        .store()?;
        self.block_entries(of.account, None)?;
        Ok(Resolved::Done(Box::new(row)))
    }

    /// Makes the record follow the broker, where it is still as it was noted.
    fn follow_broker(
        &mut self,
        of: AccountOwner,
        row: &Discrepancy,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let kind: Option<Kind> = row.kind.parse().ok();
        let amounts = row.local.parse::<Decimal>().ok().zip(row.broker.parse::<Decimal>().ok());
        let entry = |symbol, qty, cost, amount| Entry {
            kind: "adjustment",
            of: format!("adjustment/{}", row.id),
            word: None,
            broker_id: None,
            symbol,
            qty,
            cost,
            amount,
            at: now,
        };
        match (kind, amounts) {
            (Some(Kind::PositionQty), Some((local, broker))) => {
                let bare = |text: &str| text.replace('/', "");
                let standing = self.standing(of.account)?;
                let held = standing.held.iter().find(|held| bare(&held.symbol) == bare(&row.subject));
                let (qty, cost) =
                    held.map_or((Decimal::ZERO, Decimal::ZERO), |held| (held.qty, held.cost_basis));
                if qty != local {
                    return Ok(false);
                }
                // At the average that is on record: nothing was traded, so nothing is gained.
                let average = cost.checked_div(qty).unwrap_or_default();
                let (more, average) = (broker - local, average.round_dp(9));
                self.book_entry(of, &entry(Some(&row.subject), more, more * average, Decimal::ZERO), now)?;
            }
            (Some(Kind::Cash), Some((local, broker))) => {
                let cash = self.standing(of.account)?.cash;
                if cash.is_none_or(|cash| (cash - local).abs() >= Decimal::new(1, 2)) {
                    return Ok(false);
                }
                self.book_entry(of, &entry(None, Decimal::ZERO, Decimal::ZERO, broker - local), now)?;
            }
            (Some(Kind::MissingOrder), _) => {
                let Some(id) = row.order_id else { return Ok(true) };
                let Some(before) = self.lock_order(of.account, plimsoll_core_domain::OrderId(id))? else {
                    return Ok(false);
                };
                if before.status.as_str() != row.local {
                    return Ok(false);
                }
                let mut after = before.clone();
                if after.move_to(OrderStatus::Canceled, Some("the broker does not have it"), now).is_err() {
                    return Ok(false);
                }
                self.end_order(&before, &after, "reconciled", now)?;
            }
            _ => {}
        }
        Ok(true)
    }
}

/// A difference as its owner is told of it.
fn in_words(finding: &Finding) -> String {
    let about = finding.subject.symbol().unwrap_or("the account");
    let kind = finding.case.rule().kind.as_str();
    clip(&format!("{kind} of {about}: {} here, {} at the broker", finding.local, finding.broker))
}

fn alert(rule: &Rule, message: &str) -> NewEvent {
    let severity = if rule.blocks { "critical" } else { "warning" };
    let data =
        serde_json::json!({ "message": clip(&format!("reconciliation: {message}")), "severity": severity });
    event(EventKind::SystemAlert, json(&data))
}
