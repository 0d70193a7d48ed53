//! One delivery: read, proven, stored, decided on, answered.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_auth::ports::AccountStore;
use plimsoll_core_domain::order::Environment;
use plimsoll_core_domain::signals::{Fields, HookRules, Message, Reason, Refusal, Sizing, Stated, SymbolMap};
use plimsoll_core_domain::{OrderId, StoreError, StoreErrorKind, Symbol};
use plimsoll_crypto::tokens::TokenDigest;
use plimsoll_reliability::jobs::{JobQueue, NewJob};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::signals::{
    Begun, Delivery, Door, HookAuth, HookSettings, NewSignal, Outcome, SignalKey, SignalVerdict,
};
use uuid::Uuid;

use super::act::{
    ACT_ON_SIGNAL, Asked, Decision, SIGNALS_QUEUE, SignalPayload, decide, decide_opened, may_be_opened,
    refuse,
};
use super::facts::{Facts, NoFacts, asked, known};
use super::proof::{Shown, Signed};
use super::{BuiltinHook, body};
use crate::caller::Origin;
use crate::problem::Problem;
use crate::routes::hooks::SignalAnswer;
use crate::state::AppState;

/// How long the request of a signal tries to decide on it before the job does.
const TRIES_WITHIN: Duration = Duration::from_millis(150);
/// When the job looks after a signal that the request has left.
const JOB_AFTER: Duration = Duration::from_millis(400);
/// When it looks after one that waits for other orders.
const LOOK_AFTER: Duration = Duration::from_millis(200);
/// How long a signal without an id is known again by its content, and by its bytes.
const KNOWN_FOR: (TimeDelta, TimeDelta) = (TimeDelta::days(30), TimeDelta::seconds(60));

/// Where a delivery goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum To {
    /// To the hook with this id, if there is one.
    Hook(Uuid),
    /// To what can be no hook's id.
    Nowhere,
    /// To the hook of the server's own secret.
    Builtin,
}

/// Takes a delivery.
pub(crate) async fn receive(
    state: &AppState,
    request: &HttpRequest,
    payload: web::Payload,
    to: To,
) -> Result<HttpResponse, Problem> {
    let origin = Origin::of(request);
    let delivery = |size: usize, bytes: &[u8]| Delivery {
        id: state.ids.order_id().0,
        at: state.clock.now(),
        size: i64::try_from(size).unwrap_or(i64::MAX),
        sha256: TokenDigest::of(bytes).0,
        ip: origin.ip.map(|ip| ip.to_string()),
    };
    let at = match to {
        To::Hook(hook) => Some(hook),
        To::Builtin => Some(Uuid::max()),
        To::Nowhere => None,
    };
    if !state.signals.admits(at, origin.ip) {
        return Err(refused(Reason::RateLimited, ""));
    }
    let arrived = body::read(request, payload, state.settings.body_within).await;
    let mut delivery = delivery(0, &arrived.bytes);
    delivery.size = arrived.size;
    if let Some(reason) = arrived.cut {
        note(state, to, at, &delivery, reason).await.unwrap_or_else(unnoted);
        return Err(refused(reason, ""));
    }
    let fields = match Fields::parse(&arrived.bytes) {
        Ok(fields) => fields,
        Err(refusal) => {
            note(state, to, at, &delivery, refusal.reason).await.unwrap_or_else(unnoted);
            return Err(refused(refusal.reason, &refusal.detail));
        }
    };
    let check = |door: Option<&Door>| {
        let shown = Shown {
            door,
            builtin: builtin(state, to).filter(|_| door.is_some()),
            body_secret: fields.secret(),
            signed: Signed::of(request.headers()),
            raw: &arrived.bytes,
            ip: origin.ip,
            now: delivery.at,
        };
        shown.check(&state.keys.ring, state.signals.decoy())
    };
    // What the remembered hook does not admit is held against the stored one, as if none was remembered.
    let remembered = state.signals.doors.get(to);
    let proven = remembered.and_then(|door| Some((check(Some(&door)).ok()?, door)));
    let (checked, door) = match proven {
        Some((id, door)) => (Ok(id), Some(door)),
        None => {
            let look = state.signals.doors.look();
            let door = door(state, to).await?.map(Arc::new);
            let checked = check(door.as_deref());
            if let (Ok(_), Some(door)) = (&checked, &door) {
                state.signals.doors.put(to, look, door);
            }
            (checked, door)
        }
    };
    let message_id = match checked {
        Ok(id) => id,
        Err(reason) => {
            if state.signals.notes(at) {
                let hook = door.as_ref().map(|door| door.hook.id);
                let (hook, delivery) = (hook.or(id_of(to)), delivery.clone());
                state.db.run(move |tx| tx.note_refused(hook, &delivery, reason)).await?;
            }
            return Err(refused(reason, ""));
        }
    };
    let Some(door) = door else { return Err(refused(Reason::WrongSecret, "")) };
    if let Some(at) = at {
        state.signals.proved(at);
    }
    if !state.signals.takes(door.hook.id) {
        let reason = Reason::RateLimited;
        note(state, to, at, &delivery, reason).await.unwrap_or_else(unnoted);
        return Err(refused(reason, ""));
    }
    let raw = arrived.bytes;
    let signal = Incoming { door, origin, delivery, fields, raw, message_id };
    signal.take(state).await
}

/// A signal of the sender that its hook is for.
struct Incoming {
    door: Arc<Door>,
    origin: Origin,
    delivery: Delivery,
    fields: Fields,
    raw: web::Bytes,
    message_id: Option<String>,
}

/// What became of it in the transaction that stored it.
#[derive(Clone, Debug)]
enum Taken {
    Duplicate { first: Uuid, order: Option<OrderId>, refused: Option<Reason> },
    Refused(Refusal),
    Made(Outcome),
    Later,
}

impl Incoming {
    async fn take(self, state: &AppState) -> Result<HttpResponse, Problem> {
        let read = Message::read(&self.fields);
        let rules = &self.door.hook.settings.rules;
        let (message, symbol) = match read {
            Err(refusal) => (Err(refusal), None),
            Ok(message) => match rules.symbol_of(&message) {
                Err(refusal) => (Ok((message, Some(refusal))), None),
                Ok(symbol) => {
                    let refusal = check(rules, &message, &symbol, self.delivery.at).err();
                    (Ok((message, refusal)), Some(symbol))
                }
            },
        };
        let keys = self.keys(message.as_ref().ok().map(|(message, _)| message));
        let (message, refusal) = match message {
            Ok((message, refusal)) => (Some(message), refusal),
            Err(refusal) => (None, Some(refusal)),
        };
        let new = self.row(message.as_ref(), symbol.as_ref(), refusal);
        let user = self.door.hook.user;
        let asked = message.zip(symbol).map(|(message, symbol)| Asked {
            signal: self.delivery.id,
            hook: self.door.hook.clone(),
            message,
            symbol,
            act: self.origin.act(None, self.delivery.at),
            order: state.ids.order_id(),
            submit_within: state.settings.submit_within,
        });
        let facts =
            asked.as_ref().and_then(|asked| known(&*state.gateway, user, &asked.symbol, &rules.sizing));
        let stored = match facts {
            None => store(state, new, keys, asked.clone(), None).await,
            facts => match store(state, new.clone(), keys.clone(), asked.clone(), facts).await {
                // Whatever kept its order from being decided on, such as an account that is busy: the signal is stored all the
                // same, with the job that decides.
                Err(problem) if problem.status().is_server_error() => {
                    tracing::debug!(%problem, signal.id = %self.delivery.id, "a signal is stored without its decision");
                    store(state, new, keys, asked.clone(), None).await
                }
                stored => stored,
            },
        };
        let taken = stored?;
        let taken = match (taken, asked) {
            (Taken::Later, Some(asked)) => try_now(state, asked).await,
            (taken, _) => taken,
        };
        answer(self.delivery.id, taken)
    }

    /// What the signal is known again by.
    fn keys(&self, message: Option<&Message>) -> Vec<SignalKey> {
        let Some(message) = message else { return Vec::new() };
        let key = |kind: &str, text: &[u8], keep: Option<TimeDelta>| SignalKey {
            key: TokenDigest::of(&[kind.as_bytes(), b"\n", text].concat()).0,
            until: keep.map(|keep| self.delivery.at + keep),
        };
        let mut keys = Vec::new();
        if let Some(id) = &self.message_id {
            keys.push(key("message", id.as_bytes(), None));
        }
        match (&message.id, message.content_key()) {
            (Some(id), _) => keys.push(key("id", id.as_bytes(), None)),
            (None, Some(content)) => keys.push(key("content", content.as_bytes(), Some(KNOWN_FOR.0))),
            (None, None) if keys.is_empty() => keys.push(key("body", &self.raw, Some(KNOWN_FOR.1))),
            (None, None) => {}
        }
        keys
    }

    fn row(&self, message: Option<&Message>, symbol: Option<&Symbol>, refusal: Option<Refusal>) -> NewSignal {
        let bounded = |stated: Option<Stated>| {
            // what no position can be is refused by its size
            stated
                .and_then(Stated::signed)
                .filter(|units| plimsoll_core_domain::Quantity::new(units.abs()).is_ok() || units.is_zero())
        };
        let ticker = message.map(|message| message.ticker.chars().take(64).collect());
        NewSignal {
            user: self.door.hook.user,
            hook: self.door.hook.id,
            delivery: self.delivery.clone(),
            body: self.fields.without_secrets(),
            symbol: symbol.map(|symbol| symbol.as_str().to_owned()).or(ticker),
            action: message.map(Message::action_word),
            sent_at: message.and_then(|message| message.sent_at),
            stated_target: message.and_then(|message| bounded(message.position)),
            stated_previous: message.and_then(|message| bounded(message.previous)),
            refusal,
        }
    }
}

fn check(rules: &HookRules, message: &Message, symbol: &Symbol, now: DateTime<Utc>) -> Result<(), Refusal> {
    rules.check_age(message.sent_at, now)?;
    rules.check_symbol(symbol)
}

/// Stores a signal; with its order, where everything is known, else with the job that decides.
async fn store(
    state: &AppState,
    new: NewSignal,
    keys: Vec<SignalKey>,
    asked: Option<Asked>,
    facts: Option<Facts>,
) -> Result<Taken, Problem> {
    if state.signals.recent.knows(new.hook, &keys) {
        let (new, keys) = (new.clone(), keys.clone());
        let repeat = state.db.read(move |tx| tx.keep_repeat(&new, &keys)).await?;
        if let Some(Begun::Duplicate { first, order, refused }) = repeat {
            return Ok(Taken::Duplicate { first, order, refused });
        }
    }
    let ids = Arc::clone(&state.client_order_ids);
    let seed = new.delivery.id.as_u64_pair().1;
    let (hook, taken) = (new.hook, keys.clone());
    let stored = state
        .db
        .run_retrying(seed, move |tx| {
            let at_once = asked
                .as_ref()
                .filter(|asked| new.refusal.is_none() && facts.is_some() && may_be_opened(&asked.message));
            let (begun, opened) = match at_once {
                Some(asked) => {
                    let (begun, opened) = tx.open_signal(&new, &keys, &asked.symbol)?;
                    (begun, Some(opened))
                }
                None => (tx.begin_signal(&new, &keys)?, None),
            };
            match begun {
                Begun::Duplicate { first, order, refused } => {
                    return Ok(Taken::Duplicate { first, order, refused });
                }
                Begun::Fresh => {}
            }
            let asked = match (&new.refusal, &asked) {
                (None, Some(asked)) => asked,
                (refusal, _) => {
                    let unread = || Refusal::new(Reason::Malformed, "it says nothing that could be followed");
                    return Ok(Taken::Refused(refusal.clone().unwrap_or_else(unread)));
                }
            };
            let Some(facts) = &facts else {
                tx.enqueue(&job(asked, JOB_AFTER))?;
                return Ok(Taken::Later);
            };
            match decide_opened(tx, asked, facts, &*ids, opened)? {
                Decision::Made { outcome, .. } => {
                    if outcome.pending {
                        tx.enqueue(&job(asked, LOOK_AFTER))?;
                    }
                    Ok(Taken::Made(outcome))
                }
                Decision::Later | Decision::MakeRoom => {
                    tx.enqueue(&job(asked, LOOK_AFTER))?;
                    Ok(Taken::Made(Outcome { pending: true, ..Outcome::default() }))
                }
                Decision::Ask => {
                    tx.enqueue(&job(asked, JOB_AFTER))?;
                    Ok(Taken::Later)
                }
            }
        })
        .await;
    if stored.is_ok() {
        state.signals.recent.note(hook, &taken);
    }
    stored.map_err(|error: StoreError| match error.kind() {
        // A twin is being stored: the sender comes again, and is told of it.
        StoreErrorKind::Contention => {
            Problem::new("unavailable", "another delivery is in the way").retry_after(1)
        }
        _ => error.into(),
    })
}

fn job(asked: &Asked, after: Duration) -> NewJob {
    let payload = SignalPayload { user_id: asked.hook.user, signal_id: asked.signal };
    NewJob::new(SIGNALS_QUEUE, ACT_ON_SIGNAL, &payload).dedup(asked.signal.to_string()).after(after)
}

/// Tries for a moment to decide on a signal that is on disk. Whatever fails here is the job's to do.
async fn try_now(state: &AppState, asked_for: Asked) -> Taken {
    let user = asked_for.hook.user;
    let sizing = asked_for.hook.settings.rules.sizing;
    let facts = asked(&*state.gateway, user, &asked_for.symbol, &sizing);
    let facts = match tokio::time::timeout(TRIES_WITHIN, facts).await {
        Ok(Ok(facts)) => Ok(facts),
        Ok(Err(NoFacts::Refused(refusal))) => Err(refusal),
        Ok(Err(NoFacts::Away { .. })) | Err(_) => return Taken::Later,
    };
    let ids = Arc::clone(&state.client_order_ids);
    let decided = state
        .db
        .run(move |tx| {
            tx.lock_trading_account(user)?;
            if tx.pending_signal(user, asked_for.signal)?.is_none() {
                return Ok::<_, StoreError>(None);
            }
            let decision = match &facts {
                Ok(facts) => decide(tx, &asked_for, facts, &*ids)?,
                Err(refusal) => refuse(tx, &asked_for, refusal.clone())?,
            };
            Ok(Some(decision))
        })
        .await;
    match decided {
        Ok(Some(Decision::Made { outcome, .. })) => Taken::Made(outcome),
        Ok(Some(Decision::Later | Decision::Ask | Decision::MakeRoom) | None) => Taken::Later,
        Err(error) => {
            tracing::debug!(%error, "a stored signal is left to its job");
            Taken::Later
        }
    }
}

fn answer(signal: Uuid, taken: Taken) -> Result<HttpResponse, Problem> {
    let accepted = |reason: Option<Reason>, order_id| SignalAnswer {
        signal_id: signal,
        verdict: SignalVerdict::Accepted.as_str(),
        reason: reason.map(Reason::as_str),
        order_id,
    };
    match taken {
        Taken::Later => Ok(HttpResponse::Accepted().json(accepted(None, None))),
        Taken::Made(Outcome { refusal: Some(refusal), order: None, .. }) | Taken::Refused(refusal) => {
            let problem = Problem::new("signal_refused", refusal.detail)
                .with("signal_id", signal.to_string())
                .with("verdict", SignalVerdict::Refused.as_str())
                .with("reason", refusal.reason.as_str());
            Err(problem)
        }
        Taken::Made(outcome) => Ok(HttpResponse::Accepted().json(accepted(outcome.note, outcome.order))),
        // A sender that repeats what was refused must not take it for placed.
        Taken::Duplicate { first, order, refused } => Ok(HttpResponse::Ok().json(SignalAnswer {
            signal_id: first,
            verdict: SignalVerdict::Duplicate.as_str(),
            reason: refused.map(Reason::as_str),
            order_id: order,
        })),
    }
}

/// The answer to what is not stored as a signal.
fn refused(reason: Reason, detail: &str) -> Problem {
    let problem = match reason {
        Reason::Empty | Reason::Malformed => Problem::new("malformed", detail),
        Reason::TooLarge => Problem::new("payload_too_large", "a signal may have 64 KiB"),
        Reason::TooSlow => Problem::new("request_timeout", "the body did not arrive in time"),
        Reason::RateLimited => {
            return Problem::new("rate_limited", "too many signals in a minute").retry_after(1);
        }
        // One answer for all that prove nothing.
        _ => {
            let detail = "there is no such hook, or nothing proves that the signal is for it";
            return Problem::new("authentication_failed", detail);
        }
    };
    problem.with("verdict", SignalVerdict::Refused.as_str()).with("reason", reason.as_str())
}

fn unnoted(error: StoreError) {
    tracing::warn!(%error, "a delivery that was refused could not be noted");
}

fn id_of(to: To) -> Option<Uuid> {
    match to {
        To::Hook(hook) => Some(hook),
        To::Nowhere | To::Builtin => None,
    }
}

/// Notes a delivery of which nothing but its outside is known, unless enough of them were.
async fn note(
    state: &AppState,
    to: To,
    at: Option<Uuid>,
    delivery: &Delivery,
    reason: Reason,
) -> Result<(), StoreError> {
    if !state.signals.notes(at) {
        return Ok(());
    }
    let (delivery, user) = (delivery.clone(), builtin(state, to).map(|builtin| builtin.user.clone()));
    let work = move |tx: &mut Tx<'_>| {
        let hook = match user {
            Some(user) => tx.builtin_door(&user)?.map(|door| door.hook.id),
            None => id_of(to),
        };
        tx.note_refused(hook, &delivery, reason)
    };
    state.db.run(work).await
}

fn builtin(state: &AppState, to: To) -> Option<&BuiltinHook> {
    state.settings.signals.builtin.as_ref().filter(|_| to == To::Builtin)
}

/// What there is to know of the hook; the one of the server's own secret is made when it is first asked for.
async fn door(state: &AppState, to: To) -> Result<Option<Door>, Problem> {
    let Some(builtin) = builtin(state, to) else {
        let hook = id_of(to).unwrap_or_default();
        return Ok(state.db.read(move |tx| tx.door(hook)).await?);
    };
    let user = builtin.user.clone();
    if let Some(door) = state.db.read(move |tx| tx.builtin_door(&user)).await? {
        return Ok(Some(door));
    }
    let (user, id, now) = (builtin.user.clone(), state.ids.order_id().0, state.clock.now());
    let made = state.db.run(move |tx| {
        let Ok(address) = user.parse() else { return Ok::<_, StoreError>(None) };
        let Some(account) = tx.account_by_email(&address)? else { return Ok(None) };
        tx.insert_hook(account.user.id, id, &builtin_settings(), None, now)?;
        tx.builtin_door(&user)
    });
    Ok(made.await?)
}

/// What the hook of the server's own secret allows until its owner says otherwise: play money, whatever the account trades
/// when somebody first posts.
fn builtin_settings() -> HookSettings {
    HookSettings {
        name: "POST /webhook".to_owned(),
        environment: Environment::Paper,
        enabled: true,
        rules: HookRules {
            symbol_map: SymbolMap::default(),
            symbols: None,
            actions: None,
            sizing: Sizing::FromSignal,
            max_age: Some(TimeDelta::seconds(60)),
        },
        allowed_ips: Vec::new(),
        auth: HookAuth::Any,
        silent_alert_after_s: None,
    }
}
