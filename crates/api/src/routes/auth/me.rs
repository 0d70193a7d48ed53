//! `GET /auth/me`.

use actix_web::{HttpResponse, get, web};

use crate::body::NoQuery;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::reply::UserView;
use crate::schema;

/// Who is signed in.
#[utoipa::path(
    responses(
        (status = 200, body = schema::User),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth",
    security(("bearer" = []))
)]
#[get("/auth/me")]
pub async fn me(caller: Caller, _: web::Query<NoQuery>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(UserView::from(caller.account())))
}
