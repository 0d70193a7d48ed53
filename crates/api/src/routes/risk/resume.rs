//! `POST /risk/resume`.

use actix_web::{HttpRequest, HttpResponse, post, web};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_storage::Tx;
use serde::Deserialize;
use utoipa::ToSchema;

use super::bring::brought;
use super::{Scope, state_after, state_view};
use crate::body::{Body, NoQuery};
use crate::caller::SteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// What to end.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PostResume {
    /// Whose halt; `global` is for administrators.
    #[schema(value_type = schema::HaltScopeWord)]
    scope: Scope,
}

/// Ends a halt, but one that the platform's operator set. Of one for the daily loss, the loss that was seen last counts no
/// more until the session ends. Answers what is halted after it.
#[utoipa::path(
    request_body = PostResume,
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
#[post("/risk/resume")]
pub async fn resume(
    state: web::Data<AppState>,
    caller: SteppedUp,
    request: HttpRequest,
    _: web::Query<NoQuery>,
    body: Body<PostResume>,
) -> Result<HttpResponse, Problem> {
    let scope = body.value.scope;
    if scope == Scope::Global {
        caller.check_proven_admin(&request).await?;
    }
    let (by, now) = (caller.0.clone(), state.clock.now());
    let seed = u64::from(now.timestamp_subsec_micros());
    let user = (scope == Scope::User).then_some(caller.user);
    let end = move |tx: &mut Tx<'_>| {
        let (ended, word) = match scope {
            Scope::User => (tx.resume_user(by.user, now)?, "user"),
            Scope::Global => (tx.resume_everybody(now)?, "global"),
        };
        if let Some(ended) = &ended {
            let detail = serde_json::json!({ "scope": word, "level": ended.level, "cause": ended.cause });
            tx.append_audit(Some(by.user), &by.audit("risk.resume", AuditOutcome::Success, now, detail))?;
            tracing::warn!(user.id = %by.user, scope = word, level = %ended.level, "a halt was lifted");
        }
        let by_operator = user.is_some() && tx.halt_state(user)?.operator.is_some();
        Ok(ended.is_some() || !by_operator)
    };
    let (may, left) = brought(&state.db, seed, user, end).await?;
    if !may {
        let why = "the halt was set by the operator of the platform, who alone ends it";
        return Err(Problem::new("access_denied", why));
    }
    let halts = state_after(&state, caller.user, user, left).await?;
    Ok(HttpResponse::Ok().json(state_view(&halts, &caller)))
}
