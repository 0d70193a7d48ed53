//! Posts one message.

use std::sync::Arc;

use chrono::TimeDelta;
use plimsoll_auth::ports::VaultStore;
use plimsoll_auth::vault::{Alert, Audience};
use plimsoll_core_domain::outbound::message_id;
use plimsoll_core_domain::{Clock, UserId};
use plimsoll_crypto::OsRandom;
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement};
use plimsoll_reliability::retry::{Dependencies, ErrorClass};
use plimsoll_reliability::webhooks::{Attempt, Failure, Message, Outcome, Sender};
use plimsoll_storage::Db;
use plimsoll_storage::platform::outbound::{
    AttemptNote, DeliveryState, DisabledFor, DueDelivery, HookState, SendWebhook,
};
use uuid::Uuid;

use super::turns::Turns;
use crate::service::random_id;

/// No hook is disabled for fewer failed attempts, however long ago the first one was.
const FEWEST_FAILURES: i32 = 10;
/// The word for a secret that does not open.
const UNREADABLE: &str = "secret_unreadable";

/// Posts one message. One that was taken and whose job then crashed is posted again under the same id.
pub(super) struct PostMessages {
    pub(super) sender: Sender,
    pub(super) clock: Arc<dyn Clock>,
    /// Hooks that fail are given rest, each for itself.
    pub(super) health: Dependencies<Uuid>,
    /// No user and no slow hooks must have all threads.
    pub(super) turns: Turns,
}

impl Handler<Db> for PostMessages {
    fn run(&self, context: &JobContext<'_, Db>, job: &Job) -> Result<Settled, JobFailure> {
        let SendWebhook { user, delivery } = job.decode()?;
        let now = self.clock.now();
        let Some(due) = context.transaction(|tx| Ok(tx.due_delivery(user, delivery, now)?))? else {
            return context.finish(&Settlement::Done);
        };
        match due.state {
            DeliveryState::Delivered | DeliveryState::Canceled => return context.finish(&Settlement::Done),
            // A dead letter that is replayed.
            DeliveryState::Failed | DeliveryState::Pending => {}
        }
        if due.hook_state != HookState::Active {
            return context.settle_with(|tx| {
                let why = due.hook_state.as_str();
                tx.end_delivery(user, delivery, DeliveryState::Canceled, why, now)?;
                Ok(Settlement::Done)
            });
        }
        let Some(secrets) = &due.secrets else {
            let first = context.transaction(|tx| {
                tx.end_delivery(user, delivery, DeliveryState::Failed, UNREADABLE, now)?;
                Ok(tx.outbound_secret_unreadable(user, due.hook, now)?)
            })?;
            if first {
                let message =
                    "The secret of a webhook of yours cannot be read and nothing is posted to it: give it a \
                               new one."
                        .to_owned();
                let alert = Alert { message, severity: "critical" };
                context.transaction(|tx| Ok(tx.alert(Audience::User(user), &alert, now)?))?;
            }
            return Err(JobFailure::permanent("the webhook's secret does not open"));
        };
        let Some(turn) = self.turns.take(user, due.hook) else {
            let pause = context.jitter().halve(context.timings().webhook_busy);
            return context.finish(&Settlement::Snooze { after: pause });
        };
        let place = self.health.of(&due.hook);
        let pass = place.attempt(job.attempt)?;
        let id = message_id(delivery);
        let message =
            Message { id: &id, timestamp: now.timestamp(), body: &due.body, secrets: secrets.as_slice() };
        // The sender has limits of its own; this one is for what they do not cover.
        let limit = self.sender.longest() * 2;
        let attempt = context.wait(limit, self.sender.send(&due.url, &message)).unwrap_or(Attempt {
            outcome: Outcome::Failed { why: Failure::TimedOut, retry_after: None },
            status: None,
            excerpt: None,
            took: limit,
        });
        match attempt.outcome {
            Outcome::Delivered => pass.answered(),
            Outcome::Failed { .. } => pass.failed(),
        }
        turn.end(attempt.took);
        self.settle(context, job, user, delivery, &due, attempt)
    }
}

impl PostMessages {
    /// Notes what came of an attempt, with the hook and the delivery; the failure of the job is the caller's.
    fn settle(
        &self,
        context: &JobContext<'_, Db>,
        job: &Job,
        user: UserId,
        delivery: Uuid,
        due: &DueDelivery,
        attempt: Attempt,
    ) -> Result<Settled, JobFailure> {
        let now = self.clock.now();
        let failed = match &attempt.outcome {
            Outcome::Delivered => None,
            Outcome::Failed { why, retry_after } => Some((*why, *retry_after)),
        };
        let note = AttemptNote {
            status: attempt.status,
            error: failed.map(|(why, _)| why.code()),
            response: attempt.excerpt,
            duration_ms: attempt.took.as_millis().try_into().unwrap_or(u64::MAX),
        };
        let Some((why, retry_after)) = failed else {
            return context.transaction(|tx| {
                tx.outbound_hook_recovered(user, due.hook)?;
                tx.note_delivery_attempt(user, delivery, &note, DeliveryState::Delivered, now)?;
                context.settle(tx, Settlement::Done)
            });
        };
        let last = why == Failure::Gone || job.attempt >= job.max_attempts;
        let state = if last { DeliveryState::Failed } else { DeliveryState::Pending };
        let longest = TimeDelta::from_std(context.timings().webhook_disable_after).unwrap_or(TimeDelta::MAX);
        let host = self.sender.target(&due.url).map(|target| target.host().to_owned()).unwrap_or_default();
        let settled = context.transaction(|tx| {
            let failing = tx.outbound_hook_failed(user, due.hook, now)?;
            tx.note_delivery_attempt(user, delivery, &note, state, now)?;
            let for_too_long = failing
                .is_some_and(|failing| failing.failures >= FEWEST_FAILURES && now - failing.since >= longest);
            let disabled_for = match why {
                Failure::Gone => DisabledFor::Gone,
                _ if for_too_long => DisabledFor::Failing,
                _ => return Ok(None),
            };
            let disabled = tx.disable_outbound_hook(user, due.hook, disabled_for, now)?;
            if !last {
                tx.end_delivery(user, delivery, DeliveryState::Canceled, why.code(), now)?;
            }
            let settled = context.settle(tx, Settlement::Done)?;
            if let Some(hook) = disabled {
                tx.tell_of_disabled_hook(&hook, disabled_for, &host, random_id(&mut OsRandom), now)?;
            }
            Ok(Some(settled))
        })?;
        if let Some(settled) = settled {
            self.health.forget(&due.hook);
            return Ok(settled);
        }
        let message = match attempt.status {
            Some(status) => format!("the webhook at {host} answered {status} ({})", why.code()),
            None => format!("the webhook at {host} was not reached ({})", why.code()),
        };
        Err(match retry_after {
            Some(after) => JobFailure::Failed { class: ErrorClass::Throttled { after }, message },
            None => JobFailure::transient(message),
        })
    }
}
