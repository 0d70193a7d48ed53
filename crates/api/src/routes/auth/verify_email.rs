//! `POST /auth/verify-email`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::registration::{VerifyOutcome, verify_email as verify};
use plimsoll_crypto::tokens::SecretToken;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::Body;
use crate::caller::Visitor;
use crate::problem::Problem;
use crate::schema;
use crate::state::AppState;

/// A mailed link's token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    #[schema(value_type = String)]
    token: SecretString,
}

/// The address is confirmed.
#[derive(Serialize, ToSchema)]
pub struct Verified {
    /// `verified`.
    status: &'static str,
}

/// Confirms the address that a link was mailed to, and puts the password of its registration in force. It signs nobody in.
#[utoipa::path(
    request_body = Link,
    responses(
        (status = 200, body = Verified),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[post("/auth/verify-email")]
pub async fn verify_email(
    state: web::Data<AppState>,
    visitor: Visitor,
    body: Body<Link>,
) -> Result<HttpResponse, Problem> {
    let invalid = || Problem::new("invalid_token", "the link is not valid any more");
    let token = SecretToken::parse(body.value.token.expose_secret()).map_err(|_| invalid())?;
    let (digest, welcome, act) = (token.digest(), state.ids.request_id(), visitor.act(&state));
    match state.db.run(move |tx| verify(tx, &digest, welcome, &act)).await? {
        VerifyOutcome::Verified(_) => Ok(HttpResponse::Ok().json(Verified { status: "verified" })),
        VerifyOutcome::Invalid => Err(invalid()),
    }
}
