//! `POST /auth/logout`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::sessions::logout as end_session;

use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::state::AppState;
use crate::{reply, schema};

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
pub async fn logout(state: web::Data<AppState>, caller: SessionCaller) -> Result<HttpResponse, Problem> {
    let (user, session, act) = (caller.user, caller.signed_in.session.id, caller.act(&state));
    state.db.run(move |tx| end_session(tx, user, session, &act)).await?;
    state.session_cache.forget_session(session);
    (state.on_logout)(user, session);
    Ok(reply::signed_out())
}
