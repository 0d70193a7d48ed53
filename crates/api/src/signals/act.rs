//! Deciding on a signal, inside a transaction: by the request that brought it, by the job that follows it up, or for a trial.

use chrono::TimeDelta;
use plimsoll_auth::Act;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::order::{NewOrder, OrderSize, OrderSource, OrderStatus, SourceKind};
use plimsoll_core_domain::signals::{
    Action, Fields, HookRules, Known, Message, Place, Reason, Refusal, Wanted,
};
use plimsoll_core_domain::{AccountId, OrderId, StoreError, StoreErrorKind, Symbol};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::orders::{
    AcceptKey, AcceptOrder, Accepted, CancelWish, ClientOrderIds, InternalKey, Opened, Settles,
};
use plimsoll_storage::platform::signals::{Ground, InboundHook, Outcome};
use rust_decimal::Decimal;
use serde_json::json;
use uuid::Uuid;

use super::facts::Facts;

/// The queue of the jobs that follow signals up.
pub const SIGNALS_QUEUE: &str = "signals";
/// Their kind.
pub const ACT_ON_SIGNAL: &str = "act_on_signal";

/// Their payload.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SignalPayload {
    /// Whose.
    pub user_id: plimsoll_core_domain::UserId,
    /// Which.
    pub signal_id: Uuid,
}

/// A signal in question.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its id.
    pub signal: Uuid,
    /// Its hook.
    pub hook: InboundHook,
    /// What it says.
    pub message: Message,
    /// What is traded.
    pub symbol: Symbol,
    /// From where it came, and when it is decided on.
    pub act: Act,
    /// The id of the order, should there be one.
    pub order: OrderId,
    /// How long a market order may wait before it is sent, and any other.
    pub submit_within: (TimeDelta, TimeDelta),
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is written.
    Made {
        /// How it ends.
        outcome: Outcome,
        /// The order that was accepted now.
        terms: Option<Box<NewOrder>>,
    },
    /// Orders in the symbol are under way: later.
    Later,
    /// The broker is to be asked for a price first, which is not done inside a transaction.
    Ask,
    /// The exits of the hook's own entries hold the units: they [make room](make_room) first, in a transaction of its own,
    /// since orders are locked before what accepting one locks.
    MakeRoom,
}

/// What a stored signal says to its hook: the same as when it came, as long as the hook's map is the same.
///
/// # Errors
/// Why it says nothing that could be followed.
pub fn read_again(body: &str, rules: &HookRules) -> Result<(Message, Symbol), Refusal> {
    let message = Message::read(&Fields::parse(body.as_bytes())?)?;
    let symbol = rules.symbol_of(&message)?;
    Ok((message, symbol))
}

/// Decides on a signal, and accepts the order that follows.
///
/// # Errors
/// The store's own.
pub fn decide(
    tx: &mut Tx<'_>,
    asked: &Asked,
    facts: &Facts,
    ids: &dyn ClientOrderIds,
) -> Result<Decision, StoreError> {
    decide_opened(tx, asked, facts, ids, None)
}

/// Whether a signal's order may be locked for by the statement that keeps the signal. One that may cancel orders may not:
/// orders are locked before the heads of streams.
#[must_use]
pub fn may_be_opened(message: &Message) -> bool {
    message.position.is_none() && message.action != Some(Action::Cancel)
}

/// Decides on a signal. Where it [may be opened](may_be_opened) and was, in this transaction, everything that its order
/// locks is locked already.
///
/// # Errors
/// The store's own.
pub fn decide_opened(
    tx: &mut Tx<'_>,
    asked: &Asked,
    facts: &Facts,
    ids: &dyn ClientOrderIds,
    opened: Option<Opened>,
) -> Result<Decision, StoreError> {
    let (user, now) = (asked.hook.user, asked.act.at);
    let ground = match ground(tx, asked, opened.as_ref())? {
        Ok(ground) => ground,
        Err(refusal) => return refuse(tx, asked, refusal),
    };
    if let Some(stated) = asked.message.position {
        let place = Place {
            sent_at: asked.message.sent_at,
            target: stated.signed(),
            previous: asked.message.previous.and_then(plimsoll_core_domain::signals::Stated::signed),
        };
        if ground.last.is_some_and(|last| place.precedes(&last)) {
            let detail = "a signal that was sent after it came first";
            return refuse(tx, asked, Refusal::new(Reason::Superseded, detail));
        }
        tx.supersede_signals(user, asked.hook.id, asked.signal, &asked.symbol, now)?;
        // What the hook has resting in the symbol is of before: this says where to stand.
        let resting = cancel_own(tx, asked, ground.account, false)?;
        if resting > 0 || ground.under_way > 0 {
            return Ok(Decision::Later);
        }
    }
    if asked.message.action == Some(Action::Cancel) {
        return cancel(tx, asked, ground.account);
    }
    let rules = &asked.hook.settings.rules;
    let wanted = tradable(asked, facts)
        .and_then(|()| Wanted::of(&asked.message, rules, &asked.symbol, &known(&ground, facts)))
        .and_then(|wanted| whole(wanted, facts));
    match wanted {
        Ok(wanted) => follow(tx, asked, facts, wanted, (ground.account, Before::of(opened)), ids),
        Err(refusal) if refusal.reason == Reason::NoPrice && !facts.asked => Ok(Decision::Ask),
        Err(refusal) => refuse(tx, asked, refusal),
    }
}

/// Decides on the second order of a reversal, once the first one is final.
///
/// # Errors
/// The store's own.
pub fn decide_next(
    tx: &mut Tx<'_>,
    asked: &Asked,
    facts: &Facts,
    (first, target): (OrderId, Decimal),
    ids: &dyn ClientOrderIds,
) -> Result<Decision, StoreError> {
    let ground = match ground(tx, asked, None)? {
        Ok(ground) => ground,
        Err(refusal) => return refuse(tx, asked, refusal),
    };
    let Some(order) = tx.order(ground.account, first)? else {
        return refuse(
            tx,
            asked,
            Refusal::new(Reason::CloseNotFilled, "the first order is of another account"),
        );
    };
    if !order.status.is_final() {
        return Ok(Decision::Later);
    }
    if order.status != OrderStatus::Filled {
        let detail = format!("the first order ended as {}", order.status.as_str());
        return refuse(tx, asked, Refusal::new(Reason::CloseNotFilled, detail));
    }
    let rules = &asked.hook.settings.rules;
    let wanted = tradable(asked, facts)
        .and_then(|()| Wanted::towards(target, &asked.message, rules, &asked.symbol, &known(&ground, facts)))
        .and_then(|wanted| whole(wanted, facts));
    match wanted {
        Ok(wanted) if wanted.more => {
            let detail = format!("the position is {} after the first order", ground.held);
            refuse(tx, asked, Refusal::new(Reason::CloseNotFilled, detail))
        }
        Ok(wanted) => follow(tx, asked, facts, wanted, (ground.account, Before::Order(first)), ids),
        Err(refusal) if refusal.reason == Reason::NoPrice && !facts.asked => Ok(Decision::Ask),
        Err(refusal) => refuse(tx, asked, refusal),
    }
}

/// Writes that a signal is not followed, or not further.
///
/// # Errors
/// The store's own.
pub fn refuse(tx: &mut Tx<'_>, asked: &Asked, refusal: Refusal) -> Result<Decision, StoreError> {
    let outcome = Outcome { refusal: Some(refusal), ..Outcome::default() };
    tx.settle_signal(asked.hook.user, asked.signal, &outcome, asked.act.at)?;
    Ok(Decision::Made { outcome, terms: None })
}

/// How things stand; under the account's lock where that matters.
fn ground(
    tx: &mut Tx<'_>,
    asked: &Asked,
    opened: Option<&Opened>,
) -> Result<Result<Ground, Refusal>, StoreError> {
    let none = || Err(Refusal::new(Reason::NoAccount, "no broker account is connected"));
    let user = asked.hook.user;
    // A plain order is one whatever is held; a target must not count what another order changes meanwhile, and is read in
    // a statement begun under the account's lock.
    let ground = match (opened, asked.message.position) {
        (Some(opened), None) => opened.ground()?,
        (None, Some(_)) if tx.lock_trading_account(user)?.is_none() => None,
        _ => tx.ground(user, asked.hook.id, asked.signal, &asked.symbol)?,
    };
    let Some(ground) = ground else { return Ok(none()) };
    let environment = asked.hook.settings.environment;
    if ground.environment != environment {
        let detail = format!("the hook is for {environment}, the account trades {}", ground.environment);
        return Ok(Err(Refusal::new(Reason::WrongEnvironment, detail)));
    }
    Ok(Ok(ground))
}

fn known(ground: &Ground, facts: &Facts) -> Known {
    Known { held: ground.held, price: facts.price, equity: facts.equity, asset: facts.asset.clone() }
}

fn tradable(asked: &Asked, facts: &Facts) -> Result<(), Refusal> {
    if facts.asset.tradable {
        return Ok(());
    }
    Err(Refusal::new(Reason::NotTradable, format!("{} is not traded at the moment", asked.symbol)))
}

fn whole(wanted: Wanted, facts: &Facts) -> Result<Wanted, Refusal> {
    let by_part = wanted.order.as_ref().is_some_and(|order| match order.size {
        OrderSize::Notional(_) => true,
        OrderSize::Qty(qty) => !qty.is_whole(),
    });
    if by_part && !facts.asset.fractionable && facts.asset.class != "crypto" {
        let detail = format!("{} trades in whole units", facts.asset.symbol);
        return Err(Refusal::new(Reason::InvalidOrder, detail));
    }
    Ok(wanted)
}

/// Asks for the cancel of the hook's own orders that rest in the symbol; with `legs`, of the exits that ride on its entries
/// too. Answers how many are still open.
fn cancel_own(tx: &mut Tx<'_>, asked: &Asked, account: AccountId, legs: bool) -> Result<usize, StoreError> {
    let (user, hook, now) = (asked.hook.user, asked.hook.id, asked.act.at);
    let mut open = 0;
    for (order, under_way) in tx.resting_of_hook(account, hook, &asked.symbol, legs)? {
        open += 1;
        if under_way {
            continue;
        }
        match tx.wish_cancel(account, order, now)? {
            CancelWish::Asked(_) => {}
            CancelWish::Withdrawn(_) => open -= 1,
            CancelWish::NotOpen(_) | CancelWish::NoOrder => {
                open -= 1;
                continue;
            }
        }
        let detail = json!({
            "order_id": order, "symbol": asked.symbol, "signal_id": asked.signal, "hook_id": hook,
        });
        let entry = asked.act.entry("order.cancel", AuditOutcome::Success, None, Some(user), detail);
        tx.append_audit(Some(user), &entry)?;
    }
    Ok(open)
}

/// Asks for the cancel of whatever the hook has open in the symbol, the exits of its entries among it.
///
/// # Errors
/// The store's own.
pub fn make_room(tx: &mut Tx<'_>, asked: &Asked) -> Result<(), StoreError> {
    if let Some(account) = tx.lock_trading_account(asked.hook.user)? {
        cancel_own(tx, asked, account, true)?;
    }
    Ok(())
}

/// Decides on a signal that cancels: there is no order, and nothing to wait for.
fn cancel(tx: &mut Tx<'_>, asked: &Asked, account: AccountId) -> Result<Decision, StoreError> {
    if let Err(refusal) = asked.hook.settings.rules.check_action(&[Action::Cancel]) {
        return refuse(tx, asked, refusal);
    }
    let resting = tx.resting_of_hook(account, asked.hook.id, &asked.symbol, true)?.len();
    cancel_own(tx, asked, account, true)?;
    let outcome = Outcome { note: (resting == 0).then_some(Reason::NothingToDo), ..Outcome::default() };
    tx.settle_signal(asked.hook.user, asked.signal, &outcome, asked.act.at)?;
    Ok(Decision::Made { outcome, terms: None })
}

/// What precedes a signal's order in its transaction or before it.
enum Before {
    Nothing,
    /// The statement that kept the signal.
    Opened(Box<Opened>),
    /// The first order of a reversal.
    Order(OrderId),
}

impl Before {
    fn of(opened: Option<Opened>) -> Self {
        opened.map_or(Self::Nothing, |opened| Self::Opened(Box::new(opened)))
    }
}

/// Accepts the order of a decision.
fn follow(
    tx: &mut Tx<'_>,
    asked: &Asked,
    facts: &Facts,
    wanted: Wanted,
    (account, before): (AccountId, Before),
    ids: &dyn ClientOrderIds,
) -> Result<Decision, StoreError> {
    let (first, opened) = match before {
        Before::Nothing => (None, None),
        Before::Opened(opened) => (None, Some(*opened)),
        Before::Order(first) => (Some(first), None),
    };
    let (user, now) = (asked.hook.user, asked.act.at);
    let Some(terms) = wanted.order else {
        let outcome =
            Outcome { note: Some(Reason::NothingToDo), target: wanted.target, ..Outcome::default() };
        tx.settle_signal(user, asked.signal, &outcome, now)?;
        return Ok(Decision::Made { outcome, terms: None });
    };
    let key = match first {
        None => asked.signal.to_string(),
        Some(_) => format!("{}:2", asked.signal),
    };
    let hook = asked.hook.id.to_string();
    let detail = json!({ "signal_id": asked.signal, "hook_id": hook });
    let accept = AcceptOrder {
        id: asked.order,
        user,
        account: None,
        key: AcceptKey::Internal(InternalKey::Signal(key)),
        reference_price: facts.price,
        closes: wanted.closes,
        terms,
        source: OrderSource { kind: SourceKind::Webhook, id: Some(hook) },
        audit: asked.act.entry("order.create", AuditOutcome::Success, None, Some(user), detail),
        submit_within: asked.submit_within,
        now,
    };
    let refusal = |reason, detail: String| Err(Refusal::new(reason, detail));
    let settles = Settles { signal: asked.signal, pending: wanted.more, target: wanted.target, first };
    let accepted = tx.accept_order_of_signal(&accept, ids, opened, &settles)?;
    let is_settled = matches!(accepted, Accepted::New { .. });
    let accepted = match accepted {
        Accepted::New { order, .. } => Ok(order.id),
        Accepted::Twin(order) => Ok(order),
        Accepted::Risk(risk) if risk.price_unknown() && !facts.asked => return Ok(Decision::Ask),
        Accepted::Risk(risk) if risk.is_momentary() => {
            return Err(StoreError::new(StoreErrorKind::Unavailable, risk.to_string()));
        }
        Accepted::Risk(risk) if risk.price_unknown() => {
            tx.record_refusal(&accept, &risk)?;
            refusal(Reason::RiskLimit, risk.to_string())
        }
        Accepted::Risk(risk) if risk.rule.is_halt() => refusal(Reason::TradingHalted, risk.to_string()),
        Accepted::Risk(risk) => refusal(Reason::RiskLimit, risk.to_string()),
        Accepted::NoAccount | Accepted::OtherAccount => {
            refusal(Reason::NoAccount, "no broker account is connected".to_owned())
        }
        Accepted::AccountDisabled => {
            refusal(Reason::AccountDisabled, "the broker account is disabled".to_owned())
        }
        Accepted::LiveDisabled => {
            refusal(Reason::LiveDisabled, "orders with real money are not allowed".to_owned())
        }
        Accepted::TooMuch { .. } if tx.has_exits_of_hook(account, asked.hook.id, &asked.symbol)? => {
            return Ok(Decision::MakeRoom);
        }
        Accepted::TooMuch { closable } => {
            let left = closable.max(Decimal::ZERO);
            refusal(Reason::OpenOrders, format!("open orders leave {left} of the position to be closed"))
        }
        Accepted::Key(_) => {
            let why = "a key of the platform's own was answered like a request's";
            return Err(StoreError::new(StoreErrorKind::Other, why));
        }
    };
    let order = match accepted {
        Ok(order) => order,
        Err(refusal) => return refuse(tx, asked, refusal),
    };
    let outcome = Outcome {
        pending: wanted.more,
        target: wanted.target,
        order: first.or(Some(order)),
        next_order: first.map(|_| order),
        ..Outcome::default()
    };
    if !is_settled {
        tx.settle_signal(user, asked.signal, &outcome, now)?;
    }
    Ok(Decision::Made { outcome, terms: Some(Box::new(accept.terms)) })
}
