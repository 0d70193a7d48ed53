//! `POST /auth/cancel`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::cancel::use_token;
use plimsoll_crypto::tokens::SecretToken;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::reset_password::dead_link;
use crate::body::Body;
use crate::caller::Visitor;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// The token of the link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    #[schema(value_type = String)]
    token: SecretString,
}

/// It was stopped.
#[derive(Serialize, ToSchema)]
pub struct Cancelled {
    /// `cancelled`.
    status: &'static str,
    /// What: `password_reset`, `two_factor_reset`, `email_change` or `logout_everywhere`.
    purpose: &'static str,
}

/// Uses a link of a mail that stops something; what it stops is with its token.
#[utoipa::path(
    request_body = Cancel,
    responses(
        (status = 200, body = Cancelled),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[post("/auth/cancel")]
pub async fn cancel(
    state: web::Data<AppState>,
    visitor: Visitor,
    body: Body<Cancel>,
) -> Result<HttpResponse, Problem> {
    let digest = SecretToken::parse(body.value.token.expose_secret()).map_err(|_| dead_link())?.digest();
    let act = visitor.act(&state);
    let mails = [state.ids.request_id(), state.ids.request_id()];
    let stopped = state.db.run(move |tx| use_token(tx, &digest, mails, &act)).await?;
    let (user, purpose) = stopped.ok_or_else(dead_link)?;
    state.session_cache.forget_user(user);
    Ok(HttpResponse::Ok().json(Cancelled { status: "cancelled", purpose: purpose.as_str() }))
}
