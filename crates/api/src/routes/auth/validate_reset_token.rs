//! `GET` and `POST /auth/validate-reset-token`.

use actix_web::{HttpResponse, get, post, web};
use plimsoll_auth::reset;
use plimsoll_crypto::tokens::SecretToken;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::body::Body;
use crate::caller::Visitor;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// A link's token.
#[derive(Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct LinkToken {
    #[schema(value_type = String)]
    #[param(value_type = String)]
    token: SecretString,
}

/// Whether a link can be used.
#[derive(Serialize, ToSchema)]
pub struct Validity {
    valid: bool,
}

/// Whether a link to choose a new password can be used; it stays as it is. For clients that are there already: a token in
/// the address may be kept by whatever stands between. Use the other form.
#[utoipa::path(
    params(LinkToken),
    responses(
        (status = 200, body = Validity),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[get("/auth/validate-reset-token")]
pub async fn validate(
    state: web::Data<AppState>,
    query: web::Query<LinkToken>,
) -> Result<HttpResponse, Problem> {
    answer(&state, &query.token).await
}

/// Whether a link to choose a new password can be used; it stays as it is.
#[utoipa::path(
    request_body = LinkToken,
    responses(
        (status = 200, body = Validity),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[post("/auth/validate-reset-token")]
pub async fn validate_posted(
    state: web::Data<AppState>,
    _: Visitor,
    body: Body<LinkToken>,
) -> Result<HttpResponse, Problem> {
    answer(&state, &body.value.token).await
}

async fn answer(state: &AppState, token: &SecretString) -> Result<HttpResponse, Problem> {
    let now = state.clock.now();
    let valid = match SecretToken::parse(token.expose_secret()) {
        Ok(token) => {
            let digest = token.digest();
            state.db.read(move |tx| reset::owner(tx, &digest, now)).await?.is_some()
        }
        Err(_) => false,
    };
    Ok(HttpResponse::Ok().json(Validity { valid }))
}
