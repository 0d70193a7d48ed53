//! `POST /auth/logout`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::sessions::logout as end_session;
use plimsoll_core_domain::StoreError;
use plimsoll_core_domain::audit::AuditOutcome;

use crate::caller::Caller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Ends the session that the request came with; its sockets close.
#[utoipa::path(
    responses(
        (status = 204),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth",
    security(("bearer" = []))
)]
#[post("/auth/logout")]
pub async fn logout(state: web::Data<AppState>, caller: Caller) -> Result<HttpResponse, Problem> {
    let (user, session, now) = (caller.user, caller.signed_in.session.id, state.clock.now());
    state
        .db
        .run(move |tx| {
            end_session(tx, user, session, now)?;
            let detail = serde_json::json!({ "session_id": session });
            let entry = caller.origin.audit("logout", AuditOutcome::Success, Some(user), now, detail);
            tx.append_audit(Some(user), &entry)?;
            Ok::<_, StoreError>(())
        })
        .await?;
    state.session_cache.forget_session(session);
    (state.on_logout)(user, session);
    Ok(HttpResponse::NoContent().insert_header(("clear-site-data", "\"cookies\", \"storage\"")).finish())
}
