//! Where a user's events are posted to: `/webhooks/outbound`.

pub mod create;
pub mod delete;
pub mod deliveries;
pub mod get;
pub mod list;
pub mod patch;
pub mod rotate;
pub mod test;

use plimsoll_core_domain::outbound::EventFilter;
use plimsoll_core_domain::stream::EventKind;
use plimsoll_core_domain::views::At;
use plimsoll_reliability::webhooks::{Sender, Target};
use plimsoll_storage::platform::outbound::{HookState, OutboundHook};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::problem::{FieldProblem, Problem};

/// Most characters of a hook's description.
const MAX_NAME_CHARS: usize = 100;

/// A webhook of the caller's, without its secret.
#[derive(Serialize, ToSchema)]
pub struct OutboundWebhook {
    #[schema(value_type = String)]
    id: Uuid,
    /// What you call it.
    description: String,
    url: String,
    /// The types of events that are posted; none: all.
    events: Vec<&'static str>,
    /// Whether what happens is posted.
    enabled: bool,
    /// `active`, `paused` (not enabled) or `disabled` (by the server).
    state: &'static str,
    /// Why it gets nothing: `gone` (its receiver answered 410), `failing` (nothing was delivered for days) or `locked_out`
    /// (the password was reset, or everybody was signed out).
    state_reason: Option<String>,
    /// Until when the secret before the present one signs too.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    previous_secret_until: Option<At>,
    /// Since when nothing could be delivered.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    failing_since: Option<At>,
    /// Attempts that failed since then.
    failures: i32,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: At,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    updated_at: At,
}

impl From<&OutboundHook> for OutboundWebhook {
    fn from(hook: &OutboundHook) -> Self {
        Self {
            id: hook.id,
            description: hook.name.clone(),
            url: hook.url.clone(),
            events: hook.events.names(),
            enabled: hook.state == HookState::Active,
            state: hook.state.as_str(),
            state_reason: hook.state_reason.clone(),
            previous_secret_until: hook.old_secret_until.map(At),
            failing_since: hook.failing_since.map(At),
            failures: hook.failures,
            created_at: At(hook.created_at),
            updated_at: At(hook.updated_at),
        }
    }
}

/// A webhook with its new secret, which is shown this once.
#[derive(Serialize, ToSchema)]
pub struct OutboundWebhookWithSecret {
    /// `whsec_` and base64: what the receiver checks signatures with.
    secret: String,
    #[serde(flatten)]
    webhook: OutboundWebhook,
}

fn none() -> Problem {
    Problem::new("not_found", "there is no such webhook")
}

fn unreadable() -> Problem {
    Problem::new("credential_unavailable", "the account's secrets cannot be used at the moment")
        .retry_after(60)
}

fn hook_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| none())
}

fn description(text: &str) -> Result<String, Problem> {
    let fits = !text.trim().is_empty()
        && text.chars().count() <= MAX_NAME_CHARS
        && !text.chars().any(char::is_control);
    if fits {
        return Ok(text.to_owned());
    }
    let detail = format!("must have 1 to {MAX_NAME_CHARS} characters and no control characters");
    Err(Problem::field("/description", "invalid_description", detail))
}

fn target(sender: &Sender, url: &str) -> Result<Target, Problem> {
    sender.target(url).map_err(|why| Problem::field("/url", why.code(), why.to_string()))
}

fn events(names: &[String]) -> Result<EventFilter, Problem> {
    if names.len() > EventKind::ALL.len() {
        return Err(Problem::field("/events", "too_many", "each type of event once"));
    }
    let (mut kinds, mut errors) = (Vec::new(), Vec::new());
    for (at, name) in names.iter().enumerate() {
        match name.parse::<EventKind>() {
            Ok(kind) => kinds.push(kind),
            Err(_) => {
                let known: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
                errors.push(FieldProblem {
                    pointer: format!("/events/{at}"),
                    code: "unknown_event".to_owned(),
                    detail: format!("must be one of {}", known.join(", ")),
                });
            }
        }
    }
    if errors.is_empty() { Ok(EventFilter::new(kinds)) } else { Err(Problem::invalid(errors)) }
}
