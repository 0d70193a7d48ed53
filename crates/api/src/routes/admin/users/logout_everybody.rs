//! `POST /admin/users/logout`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::admin;
use serde::Serialize;
use utoipa::ToSchema;

use crate::body::NoQuery;
use crate::caller::AdminSteppedUp;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Users signed out in one transaction.
const AT_ONCE: usize = 100;

/// Who was signed out.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = SignedOut)]
pub struct SignedOutView {
    /// How many users had a session.
    users: usize,
    /// How many sessions ended.
    sessions: u64,
}

/// Ends every session of every user but the one that the request came with; sockets close. API tokens stay. For the case
/// that sessions may have leaked: users sign in again.
#[utoipa::path(
    responses(
        (status = 200, body = SignedOutView),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[post("/admin/users/logout")]
pub async fn logout_everybody(
    state: web::Data<AppState>,
    caller: AdminSteppedUp,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let (by, keep) = (Some(caller.user), Some(caller.signed_in.session.id));
    let (mut all, mut after) = (SignedOutView::default(), None);
    loop {
        let act = caller.act(&state);
        let done =
            state.db.run(move |tx| admin::logout_everybody(tx, &act, by, keep, after, AT_ONCE)).await?;
        all.users += done.users;
        all.sessions += done.sessions;
        after = done.next;
        if after.is_none() {
            return Ok(HttpResponse::Ok().json(all));
        }
    }
}
