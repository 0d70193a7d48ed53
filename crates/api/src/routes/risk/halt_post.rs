//! `POST /risk/halt`.

use actix_web::{HttpRequest, HttpResponse, post, web};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::risk::{HaltCause, HaltLevel};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::risk::NewHalt;
use serde::Deserialize;
use utoipa::ToSchema;

use super::bring::brought;
use super::{Scope, state_after, state_view};
use crate::body::{Body, NoQuery};
use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// What to halt.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PostHalt {
    /// Whose trading; `global` is for administrators with a proven factor.
    #[schema(value_type = schema::HaltScopeWord)]
    scope: Scope,
    /// How far.
    #[schema(value_type = schema::HaltLevelWord)]
    level: HaltLevel,
    /// Why, for people: 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// Halts trading. What is halted further already stays so. After the answer no order is accepted or sent that the level does
/// not let through, but in `pending_accounts` accounts that somebody holds, to which it is brought as soon as they are let go;
/// cancels and closes that belong to it follow, and are tried until they are done.
#[utoipa::path(
    request_body = PostHalt,
    responses(
        (status = 200, body = schema::HaltState),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "risk",
    security(("bearer" = []))
)]
#[post("/risk/halt")]
pub async fn post(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    _: web::Query<NoQuery>,
    body: Body<PostHalt>,
) -> Result<HttpResponse, Problem> {
    let PostHalt { scope, level, reason } = body.value;
    if reason.trim().is_empty() || reason.chars().count() > 500 {
        return Err(Problem::field("/reason", "out_of_range", "must have 1 to 500 characters"));
    }
    if scope == Scope::Global {
        caller.check_proven_admin(&request).await?;
    }
    let (by, now) = (caller.clone(), state.clock.now());
    let seed = u64::from(now.timestamp_subsec_micros());
    let user = (scope == Scope::User).then_some(caller.user);
    let set = move |tx: &mut Tx<'_>| {
        let new = NewHalt { level, cause: HaltCause::Manual, reason: &reason, by: Some(by.user), now };
        let (halt, word) = match scope {
            Scope::User => (tx.halt_user(by.user, &new)?, "user"),
            Scope::Global => (tx.halt_everybody(&new)?, "global"),
        };
        let detail = serde_json::json!({
            "scope": word, "level": level, "reason": reason, "in_force": halt.level,
        });
        tx.append_audit(Some(by.user), &by.audit("risk.halt", AuditOutcome::Success, now, detail))?;
        tracing::warn!(user.id = %by.user, scope = word, level = %halt.level, reason, "trading is halted");
        Ok(())
    };
    let ((), left) = brought(&state.db, seed, user, set).await?;
    let halts = state_after(&state, caller.user, user, left).await?;
    Ok(HttpResponse::Ok().json(state_view(&halts, &caller)))
}
