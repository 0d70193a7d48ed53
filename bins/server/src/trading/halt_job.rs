//! The job that does to an account what its halt says: cancels what is open and, at `flatten`, closes what is held, until
//! both are done or the halt is lifted.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use plimsoll_core_domain::audit::{AuditEntry, AuditOutcome};
use plimsoll_core_domain::order::OrderType;
use plimsoll_core_domain::risk::HaltLevel;
use plimsoll_core_domain::{AccountId, Clock};
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

/// Carries halts out.
pub(super) struct EnforceHalt {
    keys: Arc<PlatformKeys>,
    clock: Arc<dyn Clock>,
    step: Duration,
    submit_within: (TimeDelta, TimeDelta),
}

impl EnforceHalt {
    pub(super) fn new(keys: Arc<PlatformKeys>, clock: Arc<dyn Clock>, timings: &Timings) -> Self {
        let within = |kind| TimeDelta::from_std(timings.submit_deadline(kind)).unwrap_or(TimeDelta::MAX);
        Self {
            keys,
            clock,
            step: timings.halt_step,
            submit_within: (within(OrderType::Market), within(OrderType::Limit)),
        }
    }

    /// Until the next step: longer, the more closes were tried lately.
    fn pause(&self, tries: u32) -> Settlement {
        let times = 2_u32.saturating_pow(tries.saturating_sub(1)).min(LONGEST);
        Settlement::Snooze { after: self.step * times }
    }

    /// Accepts a close in the account that is to be flattened, if it still is; `false`: nothing more is to be closed there.
    fn accept(
        &self,
        context: &JobContext<'_, Db>,
        account: AccountId,
        close: &Close,
    ) -> Result<bool, JobFailure> {
        let now = self.clock.now();
        let order = AcceptOrder {
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
        let accepted = context.transaction(|tx| {
            // What was decided a moment ago holds only while the halt does, and while the job is this worker's.
            let halt = tx.halt_in_force(account)?;
            if !tx.hold_job(context.lease())? {
                return Err(JobFailure::LeaseLost);
            }
            if halt.is_none_or(|(_, level)| level != HaltLevel::Flatten) {
                return Ok(None);
            }
            Ok(Some(tx.accept_order(&order, &*self.keys)?))
        })?;
        match accepted {
            Some(Accepted::New { .. } | Accepted::Twin(_)) => Ok(true),
            // Lifted, or nothing can be sent for this account: its user trades in another one.
            None | Some(Accepted::OtherAccount | Accepted::NoAccount) => Ok(false),
            // It is tried anew with the next step, as things stand by then.
            Some(other) => {
                tracing::warn!(user.id = %close.user, symbol = %close.terms.symbol, answer = ?other, "a position could not be closed yet");
                Ok(true)
            }
        }
    }
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
                    tx.tell_enforced(user, level, now)?;
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
                for close in &closes {
                    if !self.accept(context, account, close)? {
                        return context.finish(&Settlement::Done);
                    }
                }
                context.finish(&self.pause(tries.saturating_add(1)))
            }
        }
    }
}
