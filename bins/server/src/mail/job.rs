use std::sync::Arc;
use std::time::Duration;

use plimsoll_auth::mail::{Links, render};
use plimsoll_core_domain::{Clock, StoreErrorKind};
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement};
use plimsoll_reliability::retry::{Dependency, Policy, Time};
use plimsoll_storage::Db;
use plimsoll_storage::platform::auth::SendMail;

use super::smtp::{Postman, SendError};

/// Longest time for one mail, of which the SMTP commands have their own shares.
const SENT_WITHIN: Duration = Duration::from_secs(20);

/// Sends one mail. A mail that was accepted and whose job then crashed goes out again under the same Message-ID.
pub(super) struct SendMails {
    postman: Option<Postman>,
    /// The SMTP server as a place that is called.
    place: Dependency,
    links: Links,
    clock: Arc<dyn Clock>,
}

impl SendMails {
    pub(super) fn new(
        postman: Option<Postman>,
        links: Links,
        clock: Arc<dyn Clock>,
        policy: &Policy,
        time: Arc<dyn Time>,
    ) -> Self {
        Self { postman, place: Dependency::new("the SMTP server", policy, time), links, clock }
    }
}

impl Handler<Db> for SendMails {
    fn run(&self, context: &JobContext<'_, Db>, job: &Job) -> Result<Settled, JobFailure> {
        let SendMail { mail: id } = job.decode()?;
        let Some(postman) = &self.postman else { return context.finish(&Settlement::Done) };
        let mail = context.transaction(|tx| match tx.waiting_mail(id) {
            // On record, and so committed. Whether another attempt opens it is a matter of keys.
            Err(error) if error.kind() == StoreErrorKind::Inconsistent => {
                tx.mail_unreadable(id, self.clock.now())?;
                Ok(Err(error))
            }
            other => Ok(Ok(other?)),
        })??;
        // Sent, given up or deleted meanwhile.
        let Some((to, mail)) = mail.and_then(|mail| mail.content) else {
            return context.finish(&Settlement::Done);
        };
        let letter = render(&mail, &to, &self.links).map_err(|why| JobFailure::permanent(why.to_string()))?;
        let now = self.clock.now();
        let pass = self.place.attempt(job.attempt)?;
        let outcome = context
            .wait(SENT_WITHIN, postman.send(id, &letter, now))
            .unwrap_or_else(|timed_out| Err(SendError::Down(timed_out.to_string())));
        if matches!(outcome, Err(SendError::Down(_))) {
            pass.failed()
        } else {
            pass.answered()
        }
        let now = self.clock.now();
        match outcome {
            Ok(()) => context.settle_with(|tx| {
                tx.mail_sent(id, now)?;
                Ok(Settlement::Done)
            }),
            Err(SendError::Refused(why)) => {
                context.transaction(|tx| Ok(tx.mail_given_up(id, now)?))?;
                Err(JobFailure::permanent(why))
            }
            Err(SendError::Later(why) | SendError::Down(why))
                if job.attempt >= context.timings().mail().attempts =>
            {
                context.transaction(|tx| Ok(tx.mail_given_up(id, now)?))?;
                Err(JobFailure::transient(why))
            }
            Err(SendError::Later(why) | SendError::Down(why)) => Err(JobFailure::transient(why)),
        }
    }
}
