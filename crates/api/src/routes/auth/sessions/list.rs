//! `GET /auth/sessions`.

use actix_web::{HttpResponse, get, web};
use plimsoll_auth::Session;
use plimsoll_auth::ports::SessionStore;
use plimsoll_core_domain::views::At;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::body::NoQuery;
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// A session, without its token.
#[derive(Serialize, ToSchema)]
pub struct SessionView {
    id: Uuid,
    #[schema(value_type = String, format = DateTime)]
    created_at: At,
    #[schema(value_type = String, format = DateTime)]
    last_seen_at: At,
    #[schema(value_type = String, format = DateTime)]
    expires_at: At,
    ip: Option<String>,
    user_agent: Option<String>,
    /// Whether it is the one that the request came with.
    current: bool,
}

/// The caller's sessions.
#[derive(Serialize, ToSchema)]
pub struct SessionList {
    items: Vec<SessionView>,
    #[schema(value_type = Option<String>)]
    next_cursor: Option<()>,
}

impl SessionView {
    fn of(session: Session, current: Uuid) -> Self {
        Self {
            id: session.id,
            created_at: At(session.created_at),
            last_seen_at: At(session.last_seen_at),
            expires_at: At(session.expires_at.min(session.idle_expires_at)),
            ip: session.ip.map(|ip| ip.to_string()),
            user_agent: session.user_agent,
            current: session.id == current,
        }
    }
}

/// Where the caller is signed in, newest first. There are at most as many as a user may have, so it is one page.
#[utoipa::path(
    responses(
        (status = 200, body = SessionList),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth",
    security(("bearer" = []))
)]
#[get("/auth/sessions")]
pub async fn list(
    state: web::Data<AppState>,
    caller: SessionCaller,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let (user, now) = (caller.user, state.clock.now());
    let mut sessions = state.db.read(move |tx| tx.live_sessions_of(user, now)).await?;
    sessions.reverse();
    let current = caller.signed_in.session.id;
    let items = sessions.into_iter().map(|session| SessionView::of(session, current)).collect();
    Ok(HttpResponse::Ok().json(SessionList { items, next_cursor: None }))
}
