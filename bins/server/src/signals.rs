//! The jobs that follow signals up: those whose request could not decide, and the second order of a reversal.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use plimsoll_api::gateway::TradingGateway;
use plimsoll_api::signals::act::{
    ACT_ON_SIGNAL, Asked, Decision, SIGNALS_QUEUE, SignalPayload, decide, decide_next, make_room, read_again,
    refuse,
};
use plimsoll_api::signals::facts::{Facts, NoFacts, asked, known};
use plimsoll_api::state::IdSource;
use plimsoll_auth::{Act, ClientInfo};
use plimsoll_core_domain::signals::{Reason, Refusal};
use plimsoll_core_domain::{Clock, UserId};
use plimsoll_reliability::jobs::{Handler, Job, JobContext, JobFailure, Settled, Settlement, Workers};
use plimsoll_storage::platform::orders::ClientOrderIds;
use plimsoll_storage::platform::signals::{InboundHook, Outcome, PendingSignal};
use plimsoll_storage::{Db, Tx};
use uuid::Uuid;

use crate::workers::JobParts;

/// Threads that do them. Each may wait for a broker.
const THREADS: usize = 6;

/// What following signals up needs of the rest of the server.
pub struct SignalParts {
    /// What all job threads need.
    pub job: JobParts,
    /// The brokers.
    pub gateway: Arc<dyn TradingGateway>,
    /// Client order ids.
    pub client_order_ids: Arc<dyn ClientOrderIds>,
    /// Ids of orders.
    pub ids: Arc<dyn IdSource>,
    /// How long a market order may wait before it is sent, and any other.
    pub submit_within: (TimeDelta, TimeDelta),
}

/// Starts the threads.
///
/// # Errors
/// A thread cannot be started.
pub fn start(parts: SignalParts) -> std::io::Result<Workers<Db>> {
    let policy = parts.job.timings.internal();
    let handler = ActOnSignal {
        clock: Arc::clone(&parts.job.clock),
        gateway: parts.gateway,
        client_order_ids: parts.client_order_ids,
        ids: parts.ids,
        submit_within: parts.submit_within,
    };
    parts.job.runner(SIGNALS_QUEUE).handle(ACT_ON_SIGNAL, policy, handler).start(THREADS, &parts.job.wake)
}

struct ActOnSignal {
    clock: Arc<dyn Clock>,
    gateway: Arc<dyn TradingGateway>,
    client_order_ids: Arc<dyn ClientOrderIds>,
    ids: Arc<dyn IdSource>,
    submit_within: (TimeDelta, TimeDelta),
}

/// An order that waits for its market to open is looked at so many times more seldom than one that fills at once.
const SLOWEST: u32 = 20;

/// How a look at a signal ends.
enum Next {
    Decided,
    LookAgain(Duration),
    /// Once the broker was asked for a price.
    Ask,
    /// Once the exits of the hook's own entries are on their way out.
    MakeRoom,
}

/// What came of a look.
enum Looked {
    Settled(Settled),
    /// Nothing was written: the broker is to be asked first.
    Ask,
    /// Nothing was written: the hook's exits are to make room first.
    MakeRoom,
}

impl ActOnSignal {
    fn asked(
        &self,
        payload: &SignalPayload,
        hook: InboundHook,
        signal: &PendingSignal,
    ) -> Result<Asked, Refusal> {
        let (message, symbol) = read_again(&signal.body, &hook.settings.rules)?;
        let ip = signal.ip.as_deref().and_then(|ip| ip.parse().ok());
        let act =
            Act { client: ClientInfo::new(ip, None), request_id: None, session: None, at: self.clock.now() };
        Ok(Asked {
            signal: payload.signal_id,
            hook,
            message,
            symbol,
            act,
            order: self.ids.order_id(),
            submit_within: self.submit_within,
        })
    }

    /// Why a signal is not followed any more, whatever the broker says.
    fn lapsed(
        &self,
        context: &JobContext<'_, Db>,
        hook: &InboundHook,
        signal: &PendingSignal,
    ) -> Option<Refusal> {
        if !hook.settings.enabled {
            return Some(Refusal::new(Reason::HookDisabled, "the hook was switched off meanwhile"));
        }
        if !signal.user_active {
            return Some(Refusal::new(Reason::AccountDisabled, "the owner was disabled meanwhile"));
        }
        let timings = context.timings();
        // the second order's time runs from the end of the first one, which may wait for its market to open
        let (within, since) = match (signal.order, signal.closed_at) {
            (None, _) => (timings.signal_act, signal.received_at),
            (Some(_), Some(closed_at)) => (timings.signal_reversal, closed_at),
            (Some(_), None) => return None,
        };
        let deadline = since + TimeDelta::from_std(within).unwrap_or(TimeDelta::MAX);
        (self.clock.now() > deadline)
            .then(|| Refusal::new(Reason::TooLate, format!("{} s have passed", within.as_secs())))
    }
}

impl Handler<Db> for ActOnSignal {
    fn run(&self, context: &JobContext<'_, Db>, job: &Job) -> Result<Settled, JobFailure> {
        let payload: SignalPayload = job.decode()?;
        let (user, id) = (payload.user_id, payload.signal_id);
        let look = || Settlement::Snooze { after: context.timings().signal_look };
        let seen = context.transaction(|tx| {
            let Some(signal) = tx.pending_signal(user, id)? else { return Ok(None) };
            let hook = tx.hook(user, signal.hook)?;
            if hook.is_none() {
                // Whatever was still to come ends with its hook.
                let refusal = Refusal::new(Reason::HookDisabled, "the hook was deleted meanwhile");
                let outcome = Outcome { refusal: Some(refusal), ..Outcome::default() };
                tx.settle_signal(user, id, &outcome, self.clock.now())?;
            }
            Ok(hook.map(|hook| (signal, hook)))
        })?;
        let Some((signal, hook)) = seen else { return context.finish(&Settlement::Done) };
        let lapsed = self.lapsed(context, &hook, &signal);
        let (hook_id, received_at) = (hook.id, signal.received_at);
        let asked_for = match self.asked(&payload, hook, &signal) {
            Ok(asked) => asked,
            // Its owner is to see it; nothing else will ever come of it.
            Err(why) => {
                tracing::error!(%why, signal.id = %id, hook.id = %hook_id, %received_at, "A stored signal does not read.");
                return context.settle_with(|tx| {
                    self.unfollowed(tx, user, id, &why)?;
                    let outcome = Outcome { refusal: Some(why.clone()), ..Outcome::default() };
                    tx.settle_signal(user, id, &outcome, self.clock.now())?;
                    Ok(Settlement::Done)
                });
            }
        };
        let sizing = asked_for.hook.settings.rules.sizing;
        let known = match lapsed {
            Some(refusal) => Some(Err(refusal)),
            None => known(&*self.gateway, user, &asked_for.symbol, &sizing).map(Ok),
        };
        if let Some(known) = known {
            match self.look(context, &asked_for, &known, false)? {
                Looked::Settled(settled) => return Ok(settled),
                Looked::MakeRoom => return Self::make_room(context, &asked_for),
                Looked::Ask => {}
            }
        }
        let call = asked(&*self.gateway, user, &asked_for.symbol, &sizing);
        let facts = match context.wait(context.timings().broker_call, call) {
            Ok(Ok(facts)) => Ok(facts),
            Ok(Err(NoFacts::Refused(refusal))) => Err(refusal),
            Ok(Err(NoFacts::Away { retry_after })) => {
                let after = retry_after.max(context.timings().signal_look);
                return context.finish(&Settlement::Snooze { after: after.min(LONGEST_SNOOZE) });
            }
            Err(_) => return context.finish(&look()),
        };
        match self.look(context, &asked_for, &facts, true)? {
            Looked::Settled(settled) => Ok(settled),
            Looked::MakeRoom => Self::make_room(context, &asked_for),
            Looked::Ask => context.finish(&look()),
        }
    }
}

/// A signal is looked at again by then, however long the broker asks for.
const LONGEST_SNOOZE: Duration = Duration::from_secs(5);

impl ActOnSignal {
    /// Has the exits of the hook's own entries canceled, and looks again in a moment.
    fn make_room(context: &JobContext<'_, Db>, asked_for: &Asked) -> Result<Settled, JobFailure> {
        context.settle_with(|tx| {
            make_room(tx, asked_for)?;
            Ok(Settlement::Snooze { after: context.timings().signal_look })
        })
    }

    /// Decides by what is known, and settles the job with it, unless something is to be done first. What the broker says is
    /// written in any case once it was `asked`.
    fn look(
        &self,
        context: &JobContext<'_, Db>,
        asked_for: &Asked,
        facts: &Result<Facts, Refusal>,
        asked: bool,
    ) -> Result<Looked, JobFailure> {
        let user = asked_for.hook.user;
        context.transaction(|tx: &mut Tx<'_>| {
            tx.lock_trading_account(user)?;
            let next = match tx.pending_signal(user, asked_for.signal)? {
                None => Next::Decided,
                Some(signal) => self.act(tx, asked_for, &signal, facts, context.timings().signal_look)?,
            };
            let settlement = match next {
                Next::Decided => Settlement::Done,
                Next::Ask if !asked => return Ok(Looked::Ask),
                Next::MakeRoom => return Ok(Looked::MakeRoom),
                Next::Ask => Settlement::Snooze { after: context.timings().signal_look },
                Next::LookAgain(after) => Settlement::Snooze { after },
            };
            context.settle(tx, settlement).map(Looked::Settled)
        })
    }

    fn act(
        &self,
        tx: &mut Tx<'_>,
        asked: &Asked,
        signal: &PendingSignal,
        facts: &Result<Facts, Refusal>,
        look: Duration,
    ) -> Result<Next, JobFailure> {
        let ids = &*self.client_order_ids;
        let decision = match (facts, signal.order.zip(signal.target)) {
            (Err(refusal), _) => refuse(tx, asked, refusal.clone())?,
            (Ok(facts), Some(second)) => decide_next(tx, asked, facts, second, ids)?,
            (Ok(facts), None) => decide(tx, asked, facts, ids)?,
        };
        if let Decision::Made { outcome: Outcome { refusal: Some(refusal), .. }, .. } = &decision {
            self.unfollowed(tx, asked.hook.user, asked.signal, refusal)?;
        }
        let waits = signal
            .ordered_at
            .map_or(Duration::ZERO, |at| (asked.act.at - at).to_std().unwrap_or_default() / SLOWEST);
        Ok(match decision {
            Decision::Made { outcome, .. } if !outcome.pending => Next::Decided,
            Decision::Made { .. } | Decision::Later => Next::LookAgain(waits.clamp(look, look * SLOWEST)),
            Decision::Ask => Next::Ask,
            Decision::MakeRoom => Next::MakeRoom,
        })
    }

    /// The sender was told that the signal is taken: its owner hears that it is not followed, or not to its end.
    fn unfollowed(
        &self,
        tx: &mut Tx<'_>,
        user: UserId,
        signal: Uuid,
        refusal: &Refusal,
    ) -> Result<(), JobFailure> {
        if refusal.reason == Reason::Superseded {
            return Ok(());
        }
        let (detail, reason) = (&refusal.detail, refusal.reason.as_str());
        let message =
            format!("signal {signal} was taken and is not followed to its end: {detail} ({reason})");
        tx.tell_unfollowed(user, &message, self.clock.now())?;
        Ok(())
    }
}
