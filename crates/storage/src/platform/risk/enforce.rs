//! Doing to an account what its halt says, step by step: each step is one transaction, and any number of repeats does no
//! more than one.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{BigInt, Numeric, Text, Timestamptz};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::order::{
    NewOrder, Order, OrderClass, OrderSize, OrderSource, OrderStatus, Pricing, Side, SourceKind, TimeInForce,
};
use plimsoll_core_domain::risk::HaltLevel;
use plimsoll_core_domain::stream::StreamId;
use plimsoll_core_domain::{AccountId, OrderId, Quantity, StoreError, StoreErrorKind, Symbol, UserId};
use plimsoll_reliability::submit::{OrderEvent, SubmitStore};
use rust_decimal::Decimal;
use serde_json::json;

use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::platform::orders::{CancelWish, InternalKey};

/// The id of the source of the orders by which a halt closes positions.
pub const FLATTEN: &str = "flatten";
/// Within it, closes that failed make the next one wait longer, and fills of a final order that are not booked are awaited.
pub(super) const RECENT: TimeDelta = TimeDelta::minutes(10);

/// An order that closes a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Whose.
    pub user: UserId,
    /// What is ordered.
    pub terms: NewOrder,
    /// The same for the same position at the same time.
    pub key: InternalKey,
}

impl Close {
    /// The source of such orders.
    #[must_use]
    pub fn source() -> OrderSource {
        OrderSource { kind: SourceKind::Strategy, id: Some(FLATTEN.to_owned()) }
    }
}

/// What is left to do for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforced {
    /// Nothing: it is not halted, or everything that the halt says is done.
    Done,
    /// So many orders are still open: look again later.
    Waits {
        /// Orders that are to be final.
        open: usize,
        /// Closes of the fullest symbol within the last minutes.
        tries: u32,
    },
    /// Everything is canceled, and these closes are to be accepted.
    Close {
        /// One for each position.
        closes: Vec<Close>,
        /// Closes of the fullest symbol within the last minutes.
        tries: u32,
    },
}

#[derive(QueryableByName)]
struct Held {
    #[diesel(sql_type = BigInt)]
    user_id: i64,
    #[diesel(sql_type = Text)]
    symbol: String,
    #[diesel(sql_type = Numeric)]
    qty: Decimal,
    #[diesel(sql_type = Numeric)]
    external: Decimal,
    #[diesel(sql_type = BigInt)]
    closes: i64,
    #[diesel(sql_type = BigInt)]
    recent: i64,
}

const POSITIONS: &str = "SELECT p.user_id, p.symbol, p.qty, \
       p.outside_qty AS external, \
       c.closes, c.recent \
     FROM positions p CROSS JOIN LATERAL (SELECT count(*) AS closes, count(*) FILTER (WHERE o.created_at > ?) AS recent \
       FROM orders o WHERE o.account_id = p.account_id AND o.symbol = p.symbol AND o.source_kind = 'strategy' \
       AND o.source_id = 'flatten') c \
     WHERE p.account_id = ? AND p.qty <> 0 ORDER BY p.symbol";

/// What of a position is the platform's: never more than is held, nor its other side.
fn own(qty: Decimal, external: Decimal) -> Decimal {
    let own = qty - external;
    match (own.is_sign_negative(), qty.is_sign_negative()) {
        (false, false) => own.min(qty),
        (true, true) => own.max(qty),
        _ => Decimal::ZERO,
    }
}

fn close(account: AccountId, held: &Held) -> Result<Option<Close>, StoreError> {
    let bad = |column, why: String| StoreError::inconsistent("positions", column, account, why);
    let own = own(held.qty, held.external);
    if own.is_zero() {
        return Ok(None);
    }
    let symbol = Symbol::new(held.symbol.clone()).map_err(|why| bad("symbol", why.to_string()))?;
    let qty = Quantity::new(own.abs()).map_err(|why| bad("qty", why.to_string()))?;
    let crypto = symbol.as_str().contains('/');
    Ok(Some(Close {
        user: UserId(held.user_id),
        key: InternalKey::Job(format!("flatten {account} {symbol} {}", held.closes + 1)),
        terms: NewOrder {
            time_in_force: if crypto { TimeInForce::Gtc } else { TimeInForce::Day },
            symbol,
            side: if own.is_sign_negative() { Side::Buy } else { Side::Sell },
            pricing: Pricing::Market,
            size: OrderSize::Qty(qty),
            extended_hours: false,
            class: OrderClass::Simple,
            take_profit: None,
            stop_loss: None,
        },
    }))
}

fn closes_for_halt(order: &Order) -> bool {
    order.source == Close::source()
}

impl Tx<'_> {
    /// One step, under the account's lock: takes back what must not be sent any more; from `cancel_open` on asks for the
    /// cancel of every open order; and at `flatten`, once all are final, says which positions are to be closed. Orders and
    /// fills from outside the platform are left alone.
    ///
    /// Answers what is left to do, and which orders were taken back. Whoever is told [`Enforced::Done`] settles the job in
    /// the same transaction: a halt that goes further comes after it.
    ///
    /// # Errors
    /// The store's own.
    pub fn enforce_halt(
        &mut self,
        account: AccountId,
        now: DateTime<Utc>,
    ) -> Result<(Enforced, Vec<OrderId>), StoreError> {
        let (_, halts, _) = self.lock_risk(account)?;
        let Some(level) = halts.level() else { return Ok((Enforced::Done, Vec::new())) };
        let mut open = self.lock_open_orders(account)?;
        open.retain(|order| order.source.kind != SourceKind::External);
        if !level.cancels() {
            let mut taken_back = Vec::new();
            for order in &open {
                if order.status == OrderStatus::PendingSubmit
                    && order.submit.attempts == 0
                    && let Some(refusal) = self.halted(order, halts)?
                {
                    let why = format!("it could not be sent before {refusal}");
                    self.take_back(order, &why, now)?;
                    taken_back.push(order.id);
                }
            }
            return Ok((Enforced::Done, taken_back));
        }
        let (closing, others): (Vec<Order>, Vec<Order>) =
            open.into_iter().partition(|order| level == HaltLevel::Flatten && closes_for_halt(order));
        let mut canceled = Vec::new();
        let mut left = 0;
        for order in &others {
            if order.status == OrderStatus::PendingCancel {
                left += 1;
                continue;
            }
            match self.wish_cancel(account, order.id, now)? {
                CancelWish::Asked(_) => left += 1,
                CancelWish::Withdrawn(_) => canceled.push(order.id),
                CancelWish::NoOrder | CancelWish::NotOpen(_) => {}
            }
        }
        if level != HaltLevel::Flatten {
            let step = if left == 0 { Enforced::Done } else { Enforced::Waits { open: left, tries: 0 } };
            return Ok((step, canceled));
        }
        Ok((self.flatten(account, left, &closing, now)?, canceled))
    }

    /// Which positions are to be closed: none before every order is final and each of its fills is booked.
    fn flatten(
        &mut self,
        account: AccountId,
        open: usize,
        closing: &[Order],
        now: DateTime<Utc>,
    ) -> Result<Enforced, StoreError> {
        #[derive(QueryableByName)]
        struct Count {
            #[diesel(sql_type = BigInt)]
            orders: i64,
        }
        let unbooked = prepared(
            "SELECT count(*) AS orders FROM orders WHERE account_id = ? AND closed_at > ? \
             AND broker_filled_qty > filled_qty AND source_kind <> 'external'",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<Timestamptz, _>(now - RECENT)
        .get_result::<Count>(self.conn())
        .store()?;
        let left = open + usize::try_from(unbooked.orders).unwrap_or_default();
        let held = prepared(POSITIONS)
            .bind::<Timestamptz, _>(now - RECENT)
            .bind::<BigInt, _>(account.0)
            .load::<Held>(self.conn())
            .store()?;
        let tries = held.iter().map(|held| u32::try_from(held.recent).unwrap_or(u32::MAX)).max().unwrap_or(0);
        if left > 0 {
            return Ok(Enforced::Waits { open: left, tries: 0 });
        }
        let mut closes = Vec::new();
        for held in &held {
            if !closing.iter().any(|order| order.terms.symbol.as_str() == held.symbol) {
                closes.extend(close(account, held)?);
            }
        }
        if !closes.is_empty() {
            return Ok(Enforced::Close { closes, tries });
        }
        if !closing.is_empty() {
            return Ok(Enforced::Waits { open: closing.len(), tries });
        }
        Ok(Enforced::Done)
    }

    /// An order that is not sent any more.
    fn take_back(&mut self, order: &Order, why: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut after = order.clone();
        after
            .move_to(OrderStatus::NotSent, Some(why), now)
            .map_err(|why| StoreError::new(StoreErrorKind::Other, why.to_string()))?;
        self.save_order(order, &after, &OrderEvent::NotSent, now)
    }

    /// Puts orders on record that a halt took back.
    ///
    /// # Errors
    /// The store's own.
    pub fn note_taken_back(
        &mut self,
        user: UserId,
        level: HaltLevel,
        orders: &[OrderId],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.audit_enforced(user, json!({ "level": level, "taken_back": orders }), now)
    }

    fn audit_enforced(
        &mut self,
        user: UserId,
        detail: serde_json::Value,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let entry = AuditEntry {
            at: now,
            action: "risk.enforce".into(),
            outcome: AuditOutcome::Success,
            actor_id: None,
            subject_id: Some(user),
            ip: None,
            user_agent: None,
            request_id: None,
            detail,
        };
        self.append_audit(Some(user), &entry)
    }

    /// Tells an account's owner that everything a halt says is done and what it left alone, and puts that on record.
    ///
    /// # Errors
    /// The store's own.
    pub fn tell_enforced(
        &mut self,
        account: AccountId,
        user: UserId,
        level: HaltLevel,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut what = match level {
            HaltLevel::Flatten => "every open order is canceled and every position closed",
            _ => "every open order is canceled",
        }
        .to_owned();
        let outside = self.left_alone(account, level)?;
        if !outside.is_empty() {
            what += "; left alone, since it came from outside the platform: ";
            what += &outside.join(", ");
        }
        self.alert(StreamId::User(user), &format!("the halt is carried out: {what}"), now)?;
        self.audit_enforced(user, json!({ "level": level, "done": true, "left_alone": outside }), now)
    }

    /// What a halt of this level leaves alone, in words.
    fn left_alone(&mut self, account: AccountId, level: HaltLevel) -> Result<Vec<String>, StoreError> {
        #[derive(QueryableByName)]
        struct Left {
            #[diesel(sql_type = Text)]
            symbol: String,
            #[diesel(sql_type = Numeric)]
            qty: Decimal,
            #[diesel(sql_type = Text)]
            what: String,
        }
        let rows = prepared(
            "SELECT symbol, coalesce(qty, notional) AS qty, 'open order' AS what FROM orders \
               WHERE account_id = ? AND closed_at IS NULL AND source_kind = 'external' AND status <> 'held' \
             UNION ALL SELECT symbol, qty, 'held' FROM positions WHERE account_id = ? AND qty <> 0 AND ? = 'flatten' \
             ORDER BY symbol, what LIMIT 100",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(level.as_str())
        .load::<Left>(self.conn())
        .store()?;
        Ok(rows
            .into_iter()
            .map(|row| format!("{} {} {}", row.symbol, row.what, row.qty.normalize()))
            .collect())
    }

    /// Tells an account's owner that a position cannot be closed for now, and puts that on record.
    ///
    /// # Errors
    /// The store's own.
    pub fn tell_stuck(
        &mut self,
        user: UserId,
        symbol: &Symbol,
        why: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let message =
            format!("the halt cannot close the position in {symbol} for now: {why}; it is tried on");
        self.alert(StreamId::User(user), &message, now)?;
        self.audit_enforced(user, json!({ "level": HaltLevel::Flatten, "symbol": symbol, "stuck": why }), now)
    }

    /// The level in force for an account, and its owner.
    ///
    /// # Errors
    /// The store's own.
    pub fn halt_in_force(&mut self, account: AccountId) -> Result<Option<(UserId, HaltLevel)>, StoreError> {
        #[derive(QueryableByName)]
        struct Of {
            #[diesel(sql_type = BigInt)]
            user_id: i64,
            #[diesel(embed)]
            halts: super::HaltColumns,
        }
        let rows =
            prepared("SELECT user_id, halt_user, halt_global FROM accounts WHERE id = ? FOR NO KEY UPDATE")
                .bind::<BigInt, _>(account.0)
                .load::<Of>(self.conn())
                .store()?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(row.halts.halts(account)?.level().map(|level| (UserId(row.user_id), level)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_external_is_left_alone() {
        let of = |qty: i64, external: i64| own(qty.into(), external.into());
        assert_eq!(of(10, 0), 10.into());
        assert_eq!(of(-10, 0), (-10).into());
        assert_eq!(of(15, 5), 10.into());
        assert_eq!(of(5, -5), 5.into(), "ten are the platform's, and only five are held");
        assert_eq!(of(-5, 5), (-5).into());
        assert_eq!(of(5, 15), Decimal::ZERO, "the platform's own is the other side");
        assert_eq!(of(5, 5), Decimal::ZERO);
    }
}
