//! The job that does to an account what its halt says: cancels what is open and, at `flatten`, closes what is held, until
//! both are done or the halt is lifted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::order::{OrderSize, OrderType};
use plimsoll_core_domain::risk::HaltLevel;
use plimsoll_core_domain::{AccountId, Clock, Quantity, Symbol};
use plimsoll_crypto::OsRandom;
use plimsoll_reliability::Timings;
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, JobQueue, Settled, Settlement};
use plimsoll_storage::Db;
use plimsoll_storage::platform::keys::PlatformKeys;
use plimsoll_storage::platform::orders::{AcceptKey, AcceptOrder, Accepted};
use plimsoll_storage::platform::risk::{Close, EnforcePayload, Enforced};

use crate::service::new_order_id;

/// The longest pause, in shortest ones.
const LONGEST: u32 = 64;
/// A close that is refused makes the next step wait like the fourth try.
const STUCK_LIKE: u32 = 4;
/// Pauses between two words to the owner that a position cannot be closed.
const TELL_AGAIN: u32 = 600;

/// Carries halts out.
pub(super) struct EnforceHalt {
    keys: Arc<PlatformKeys>,
    clock: Arc<dyn Clock>,
    step: Duration,
    submit_within: (TimeDelta, TimeDelta),
    /// When an owner was told last that a position cannot be closed.
    told: Mutex<HashMap<(AccountId, Symbol), Instant>>,
}

impl EnforceHalt {
    pub(super) fn new(keys: Arc<PlatformKeys>, clock: Arc<dyn Clock>, timings: &Timings) -> Self {
        let within = |kind| TimeDelta::from_std(timings.submit_deadline(kind)).unwrap_or(TimeDelta::MAX);
        Self {
            keys,
            clock,
            step: timings.halt_step,
            submit_within: (within(OrderType::Market), within(OrderType::Limit)),
            told: Mutex::default(),
        }
    }

    /// Until the next step: longer, the more closes were tried lately.
    fn pause(&self, tries: u32) -> Settlement {
        let times = 2_u32.saturating_pow(tries.saturating_sub(1)).min(LONGEST);
        Settlement::Snooze { after: self.step * times }
    }

    /// Accepts a close in the account that is to be flattened, if it still is.
    fn accept(
        &self,
        context: &JobContext<'_, Db>,
        account: AccountId,
        close: &Close,
    ) -> Result<Closing, JobFailure> {
        let now = self.clock.now();
        let wanted = AcceptOrder {
            id: new_order_id(now, &mut OsRandom),
            user: close.user,
            account: Some(account),
            key: AcceptKey::Internal(close.key.clone()),
            reference_price: None,
            closes: true,
            terms: close.terms.clone(),
            source: Close::source(),
            audit: AuditEntry {
                at: now,
                action: "order.create".into(),
                outcome: AuditOutcome::Success,
                actor_id: None,
                subject_id: Some(close.user),
                ip: None,
                user_agent: None,
                request_id: None,
                detail: serde_json::json!({ "cause": "halt" }),
            },
            submit_within: self.submit_within,
            now,
        };
        context.transaction(|tx| {
            // What was decided a moment ago holds only while the halt does, and while the job is this worker's.
            let halt = tx.halt_in_force(account)?;
            if !tx.hold_job(context.lease())? {
                return Err(JobFailure::LeaseLost);
            }
            if halt.is_none_or(|(_, level)| level != HaltLevel::Flatten) {
                return Ok(Closing::Over);
            }
            let mut accepted = tx.accept_order(&wanted, &*self.keys)?;
            if let Accepted::TooMuch { closable } = accepted
                && let Ok(rest) = Quantity::new(closable)
            {
                // What other open orders leave of it.
                let mut smaller = wanted.clone();
                smaller.terms.size = OrderSize::Qty(rest);
                accepted = tx.accept_order(&smaller, &*self.keys)?;
            }
            let why = match accepted {
                Accepted::New { .. } | Accepted::Twin(_) => return Ok(Closing::Accepted),
                // Nothing can be sent for this account: its user trades in another one.
                Accepted::OtherAccount | Accepted::NoAccount => return Ok(Closing::Over),
                Accepted::TooMuch { .. } => "open orders from outside the platform would close it".to_owned(),
                Accepted::LiveDisabled => "orders with real money are not allowed for the account".to_owned(),
                Accepted::AccountDisabled => "the account takes no orders".to_owned(),
                Accepted::Risk(refusal) => refusal.to_string(),
                Accepted::Key(_) => {
                    return Err(JobFailure::permanent("a key of a request stood for a close"));
                }
            };
            Ok(Closing::Stuck(why))
        })
    }

    /// Tells the owner, not more often than every few minutes.
    fn stuck(
        &self,
        context: &JobContext<'_, Db>,
        account: AccountId,
        close: &Close,
        why: &str,
    ) -> Result<(), JobFailure> {
        let (now, symbol) = (Instant::now(), &close.terms.symbol);
        let place = (account, symbol.clone());
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.retain(|_, at| now.saturating_duration_since(*at) < self.step * TELL_AGAIN);
            if told.contains_key(&place) {
                return Ok(());
            }
            told.insert(place, now);
        }
        tracing::error!(user.id = %close.user, %symbol, why, "a position cannot be closed by the halt for now");
        context.transaction(|tx| Ok(tx.tell_stuck(close.user, symbol, why, self.clock.now())?))
    }
}

/// What became of a close.
enum Closing {
    /// It will be sent.
    Accepted,
    /// It was refused, for this reason; it is tried anew with a later step, as things stand by then.
    Stuck(String),
    /// The halt was lifted, or nothing can be sent for the account.
    Over,
}

impl Handler<Db> for EnforceHalt {
    fn run(&self, context: &JobContext<'_, Db>, job: &Job) -> Result<Settled, JobFailure> {
        let EnforcePayload { account_id: account } = job.decode()?;
        let mut settled = None;
        let step = context.transaction(|tx| {
            let now = self.clock.now();
            let (step, taken_back) = tx.enforce_halt(account, now)?;
            let halt = tx.halt_in_force(account)?;
            let done = step == Enforced::Done;
            if done {
                // Under the account's lock: a halt that goes further finds this job ended, and makes another one.
                settled = Some(context.settle(tx, Settlement::Done)?);
            }
            if let Some((user, level)) = halt {
                if done && level.cancels() {
                    tx.tell_enforced(account, user, level, now)?;
                    tracing::warn!(account.id = %account, user.id = %user, %level, "the halt is carried out");
                }
                if !taken_back.is_empty() {
                    tx.note_taken_back(user, level, &taken_back, now)?;
                    tracing::info!(account.id = %account, user.id = %user, %level, orders = taken_back.len(), "orders were taken back by the halt");
                }
            }
            Ok(step)
        })?;
        match (step, settled) {
            (Enforced::Done, Some(settled)) => Ok(settled),
            (Enforced::Done, None) => Err(JobFailure::transient("a step was done and not settled")),
            (Enforced::Waits { tries, .. }, _) => context.finish(&self.pause(tries)),
            (Enforced::Close { closes, tries }, _) => {
                let mut tries = tries.saturating_add(1);
                for close in &closes {
                    match self.accept(context, account, close)? {
                        Closing::Accepted => {}
                        Closing::Stuck(why) => {
                            self.stuck(context, account, close, &why)?;
                            tries = tries.max(STUCK_LIKE);
                        }
                        Closing::Over => return context.finish(&Settlement::Done),
                    }
                }
                context.finish(&self.pause(tries))
            }
        }
    }
}
