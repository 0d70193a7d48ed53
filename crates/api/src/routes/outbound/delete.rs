//! `DELETE /webhooks/outbound/{id}`.

use actix_web::{HttpResponse, delete, web};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::{AuditLog, AuditOutcome};
use serde_json::json;

use super::{hook_id, none};
use crate::body::NoQuery;
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Deletes a webhook with its deliveries. What was not posted yet is not posted any more.
#[utoipa::path(
    params(("id" = String, Path, description = "The webhook's id.")),
    responses(
        (status = 204),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "webhooks",
    security(("bearer" = []))
)]
#[delete("/webhooks/outbound/{id}")]
pub async fn delete(
    state: web::Data<AppState>,
    caller: SessionCaller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let hook = hook_id(&path)?;
    let (user, now) = (caller.user, state.clock.now());
    let entry = caller.audit("webhook.delete", AuditOutcome::Success, now, json!({ "hook_id": hook }));
    let deleted = state
        .db
        .run(move |tx| {
            let deleted = tx.delete_outbound_hook(user, hook)?;
            if deleted.is_some() {
                AuditLog::append_audit(tx, Some(user), &entry)?;
            }
            Ok::<_, StoreError>(deleted)
        })
        .await?;
    deleted.ok_or_else(none)?;
    Ok(HttpResponse::NoContent().finish())
}
