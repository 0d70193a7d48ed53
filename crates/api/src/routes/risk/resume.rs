//! `POST /risk/resume`.

use actix_web::{HttpRequest, HttpResponse, post, web};
use plimsoll_core_domain::audit::AuditOutcome;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Scope, state_view};
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

/// Ends a halt, whatever set it, and arms the daily loss again: one that is reached already counts from now on, until the
/// session ends. Answers what is halted after it.
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
    let halts = state
        .db
        .run_retrying(seed, move |tx| {
            let (ended, word) = match scope {
                Scope::User => (tx.resume_user(by.user, now)?, "user"),
                Scope::Global => (tx.resume_everybody(now)?, "global"),
            };
            if let Some(ended) = ended {
                let detail = serde_json::json!({ "scope": word, "level": ended.level, "cause": ended.cause });
                tx.append_audit(Some(by.user), &by.audit("risk.resume", AuditOutcome::Success, now, detail))?;
                tracing::warn!(user.id = %by.user, scope = word, level = %ended.level, "a halt was lifted");
            }
            tx.halt_state(Some(by.user))
        })
        .await?;
    Ok(HttpResponse::Ok().json(state_view(&halts, &caller)))
}
