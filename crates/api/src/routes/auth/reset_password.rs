//! `POST /auth/reset-password`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::reset;
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::tokens::SecretToken;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::login::login_keys;
use crate::body::Body;
use crate::caller::Visitor;
use crate::problem::Problem;
use crate::state::AppState;
use crate::{chosen, schema};

/// A new password, and the token of the link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    #[schema(value_type = String)]
    token: SecretString,
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
}

/// The password was set.
#[derive(Serialize, ToSchema)]
pub struct Reset {
    /// `password_reset`.
    status: &'static str,
}

/// Sets a new password by a mailed link. Every session and API token ends; nobody is signed in by it. A password that is
/// refused leaves the link as it is.
#[utoipa::path(
    request_body = NewPassword,
    responses(
        (status = 200, body = Reset),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[post("/auth/reset-password")]
pub async fn reset_password(
    state: web::Data<AppState>,
    visitor: Visitor,
    body: Body<NewPassword>,
) -> Result<HttpResponse, Problem> {
    let NewPassword { token, new_password } = body.value;
    let digest = SecretToken::parse(token.expose_secret()).map_err(|_| dead_link())?.digest();
    let act = visitor.act(&state);
    let now = act.at;
    let owner = state.db.read(move |tx| reset::owner(tx, &digest, now)).await?.ok_or_else(dead_link)?;
    let name = owner.display_name.as_deref().unwrap_or_default();
    chosen::password(&state, "/new_password", &new_password, &[owner.email.as_str(), name]).await?;
    let hash = state.hashing.run(move |passwords| passwords.hash(&new_password, &mut OsRandom)).await?;
    let hash = hash.map_err(|why| Problem::field("/new_password", "too_long", why.to_string()))?;
    let (keys, mail) = (state.keys.clone(), state.ids.request_id());
    let user = state
        .db
        .run(move |tx| reset::reset_password(tx, login_keys(&keys), &digest, &hash, mail, &act))
        .await?
        .ok_or_else(dead_link)?;
    state.session_cache.forget_user(user.id);
    Ok(HttpResponse::Ok().json(Reset { status: "password_reset" }))
}

/// Expired, used, replaced and unknown links look alike.
pub(super) fn dead_link() -> Problem {
    Problem::new("invalid_token", "the link has expired, was used or replaced, or never existed")
}
