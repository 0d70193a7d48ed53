//! Risk: limits and halts.

mod bring;
pub mod halt_get;
pub mod halt_post;
pub mod limits_get;
pub mod limits_put;
pub mod resume;

use chrono::{DateTime, Utc};
use plimsoll_auth::Role;
use plimsoll_core_domain::UserId;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::risk::{HaltCause, HaltLevel, RiskLimits, RiskRefusal};
use plimsoll_core_domain::views::At;
use plimsoll_storage::platform::risk::{Halt, HaltState, StoredLimits};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::caller::Caller;
use crate::problem::Problem;
use crate::state::AppState;

/// Whose trading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The caller's.
    User,
    /// Everybody's.
    Global,
}

#[derive(Serialize)]
struct LimitsView<'a> {
    #[serde(flatten)]
    limits: &'a RiskLimits,
    updated_at: Option<At>,
}

fn limits_view(stored: &StoredLimits) -> impl Serialize + '_ {
    LimitsView { limits: &stored.limits, updated_at: stored.updated_at.map(At) }
}

#[derive(Serialize)]
struct HaltView<'a> {
    level: HaltLevel,
    cause: HaltCause,
    reason: &'a str,
    by: Option<UserId>,
    since: At,
}

#[derive(Serialize)]
struct StateView<'a> {
    level: Option<HaltLevel>,
    user: Option<HaltView<'a>>,
    operator: Option<HaltView<'a>>,
    global: Option<HaltView<'a>>,
    pending_accounts: u64,
}

/// Who set a halt for everybody is shown to administrators.
fn state_view<'a>(state: &'a HaltState, caller: &Caller) -> impl Serialize + use<'a> {
    let admin = caller.account().role == Role::Admin;
    let view = |halt: &'a Halt, shown: bool| HaltView {
        level: halt.level,
        cause: halt.cause,
        reason: &halt.reason,
        by: halt.by.filter(|_| shown),
        since: At(halt.since),
    };
    let level = |halt: &Option<Halt>| halt.as_ref().map(|halt| halt.level);
    StateView {
        level: level(&state.user).max(level(&state.operator)).max(level(&state.global)),
        user: state.user.as_ref().map(|halt| view(halt, true)),
        operator: state.operator.as_ref().map(|halt| view(halt, true)),
        global: state.global.as_ref().map(|halt| view(halt, admin)),
        pending_accounts: state.behind,
    }
}

/// What is halted for the caller after a change that was not brought to `left` accounts of `of`, or of everybody.
async fn state_after(
    state: &AppState,
    caller: UserId,
    of: Option<UserId>,
    left: Option<u64>,
) -> Result<HaltState, Problem> {
    let mut halts = state.db.read(move |tx| tx.halt_state(Some(caller))).await?;
    match left {
        Some(left) => halts.behind = left,
        None if of.is_none() => halts.behind = state.db.read(|tx| tx.halt_state(None)).await?.behind,
        None => {}
    }
    Ok(halts)
}

/// Puts a refusal on record whose own transaction was taken back.
pub(crate) async fn record_refusal(
    state: &AppState,
    caller: &Caller,
    action: &str,
    refusal: &RiskRefusal,
    mut detail: Value,
    now: DateTime<Utc>,
) -> Result<(), Problem> {
    detail["rule"] = refusal.rule.as_str().into();
    detail["limit"] = refusal.limit.clone().into();
    detail["actual"] = refusal.actual.clone().into();
    tracing::info!(user.id = %caller.user, action, rule = refusal.rule.as_str(), limit = refusal.limit, actual = refusal.actual, "refused");
    let entry = caller.audit(action, AuditOutcome::Denied, now, detail);
    let user = caller.user;
    Ok(state.db.run(move |tx| tx.append_audit(Some(user), &entry)).await?)
}
