//! `DELETE /webhooks/inbound/{id}`.

use actix_web::{HttpResponse, delete, web};
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::AuditOutcome;
use serde_json::json;

use super::{hook_id, none};
use crate::body::NoQuery;
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Ends a hook at once. Its secrets are gone; the orders that it placed are not touched.
#[utoipa::path(
    params(("id" = String, Path, description = "The hook's id.")),
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
#[delete("/webhooks/inbound/{id}")]
pub async fn delete(
    state: web::Data<AppState>,
    caller: SessionCaller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let (user, id, now) = (caller.user, hook_id(&path)?, state.clock.now());
    let entry = caller.audit("hook.delete", AuditOutcome::Success, now, json!({ "hook_id": id }));
    let work = move |tx: &mut plimsoll_storage::Tx<'_>| {
        let Some(hook) = tx.hook(user, id)? else { return Ok(None) };
        let deleted = tx.delete_hook(user, id, now)?;
        if deleted {
            tx.append_audit(Some(user), &entry)?;
        }
        Ok::<_, StoreError>(Some((hook.builtin, deleted)))
    };
    match state.db.run(work).await? {
        Some((_, true)) => Ok(HttpResponse::NoContent().finish()),
        Some((true, false)) => {
            let detail = "the hook of POST /webhook ends with the settings WEBHOOK_USER and WEBHOOK_SECRET; disable it";
            Err(Problem::new("business_rule", detail))
        }
        _ => Err(none()),
    }
}
