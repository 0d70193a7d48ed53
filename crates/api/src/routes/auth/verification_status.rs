//! `GET /auth/verification-status`.

use actix_web::{HttpResponse, get, web};
use plimsoll_auth::registration::status;
use plimsoll_core_domain::views::At;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// Which registration.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// What `POST /auth/register` answered.
    registration_id: Uuid,
}

/// How a registration stands.
#[derive(Serialize, ToSchema)]
pub struct Status {
    /// Whether the address was confirmed by a link of this registration.
    verified: bool,
    /// When the first link ends.
    #[schema(value_type = String, format = DateTime)]
    expires_at: At,
}

/// How a registration stands. It stays unverified when the address had an account, or was
/// confirmed by another registration.
#[utoipa::path(
    params(Asked),
    responses(
        (status = 200, body = Status),
        (status = 404, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[get("/auth/verification-status")]
pub async fn verification_status(
    state: web::Data<AppState>,
    asked: web::Query<Asked>,
) -> Result<HttpResponse, Problem> {
    let id = asked.registration_id;
    let found = state.db.read(move |tx| status(tx, id)).await?;
    let found = found.ok_or_else(|| Problem::new("not_found", "there is no such registration"))?;
    Ok(HttpResponse::Ok().json(Status { verified: found.verified, expires_at: At(found.expires_at) }))
}
