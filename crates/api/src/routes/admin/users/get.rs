//! `GET /admin/users/{id}`.

use actix_web::{HttpResponse, get, web};
use plimsoll_auth::admin;

use super::{ListedView, no_user, user_id};
use crate::body::NoQuery;
use crate::caller::AdminCaller;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// One user. The look is recorded where the user sees it.
#[utoipa::path(
    params(("id" = String, Path, description = "The user's id.")),
    responses(
        (status = 200, body = schema::AdminUser),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "admin",
    security(("bearer" = []))
)]
#[get("/admin/users/{id}")]
pub async fn get(
    state: web::Data<AppState>,
    caller: AdminCaller,
    path: web::Path<String>,
    _: web::Query<NoQuery>,
) -> Result<HttpResponse, Problem> {
    let user = user_id(&path)?;
    let (by, act) = (Some(caller.user), caller.act(&state));
    let found = state.db.run(move |tx| admin::get(tx, &act, by, user)).await?;
    Ok(HttpResponse::Ok().json(ListedView::from(&found.ok_or_else(no_user)?)))
}
