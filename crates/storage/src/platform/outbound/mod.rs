//! Where users' events are posted to, and what became of each message.
//!
//! A hook has a place in its user's stream. Whoever dispatches locks the hook, reads the stream from there, writes the
//! deliveries with their jobs and moves the place, in one transaction; whatever it was that wrote the events waits for
//! nothing of it.

mod deliveries;
mod dispatch;
mod hooks;
mod secrets;

use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::outbound::EventFilter;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use deliveries::{AttemptNote, Delivery, DeliveryState, DueDelivery, Failing};
pub use dispatch::{Dispatched, EVENTS_AT_ONCE, LOG_OF_HOOK, PENDING_OF_HOOK, PENDING_OF_USER};
pub use hooks::{Created, DisabledFor, HookChange, NewHook, Rotated};

/// The queue of jobs that post messages.
pub const WEBHOOK_QUEUE: &str = "webhooks";
/// The kind of those jobs.
pub const SEND_WEBHOOK: &str = "send_webhook";
/// Most hooks of one user.
pub const MAX_HOOKS: usize = 20;
/// So long a secret still signs after it was replaced.
pub const SECRET_OVERLAP: TimeDelta = TimeDelta::hours(24);

/// The payload of a job that posts a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendWebhook {
    /// Whose.
    pub user: UserId,
    /// Which delivery.
    pub delivery: Uuid,
}

/// Whether a hook gets anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It does.
    Active,
    /// Its owner wants nothing for now.
    Paused,
    /// It failed for too long, or its receiver wanted nothing any more.
    Disabled,
}

impl HookState {
    /// The stored and transmitted name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }
}

impl FromStr for HookState {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Active, Self::Paused, Self::Disabled]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or("a hook is active, paused or disabled")
    }
}

/// A hook, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundHook {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: UserId,
    /// What its owner calls it.
    pub name: String,
    /// Where messages are posted to.
    pub url: String,
    /// Which events.
    pub events: EventFilter,
    /// Whether it gets anything.
    pub state: HookState,
    /// Why it was disabled.
    pub state_reason: Option<String>,
    /// Until when the secret before the present one signs too.
    pub old_secret_until: Option<DateTime<Utc>>,
    /// Since when nothing was delivered.
    pub failing_since: Option<DateTime<Utc>>,
    /// Attempts that failed since then.
    pub failures: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}
