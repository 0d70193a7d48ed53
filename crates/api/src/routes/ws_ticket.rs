//! `POST /ws/ticket`.

use actix_web::{HttpResponse, post, web};
use plimsoll_core_domain::views::At;
use plimsoll_storage::platform::auth::MAX_WAITING_WS_TICKETS;
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use crate::body::NoQuery;
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// A ticket.
#[derive(Serialize, ToSchema)]
pub struct Ticket {
    /// What `GET /ws?ticket=` is opened with.
    ticket: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: At,
}

/// A ticket that opens one WebSocket within `WS_TICKET_TTL`, for pages that can send neither a header nor a cookie. The
/// socket ends with the session that the ticket was asked with.
#[utoipa::path(
    responses(
        (status = 200, body = Ticket),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "realtime",
    security(("bearer" = []))
)]
#[post("/ws/ticket")]
pub async fn ticket(
    state: web::Data<AppState>,
    caller: SessionCaller,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let (ticket, now) = (state.ids.session_token(), state.clock.now());
    let expires_at = now + state.settings.policy.ws_ticket;
    let (digest, of) = (ticket.digest(), (caller.user, caller.signed_in.session.id));
    let kept = state.db.run(move |tx| tx.insert_ws_ticket(&digest, of, now, expires_at)).await?;
    if !kept {
        let wait = state.settings.policy.ws_ticket.num_seconds().unsigned_abs();
        let detail = format!("{MAX_WAITING_WS_TICKETS} tickets wait to be used");
        return Err(Problem::new("rate_limited", detail).retry_after(wait.max(1)));
    }
    let ticket = ticket.expose_text().expose_secret().to_owned();
    Ok(HttpResponse::Ok().json(Ticket { ticket, expires_at: At(expires_at) }))
}
