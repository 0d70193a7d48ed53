//! `POST /auth/confirm-email`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::email_change::confirm;
use plimsoll_auth::sessions;
use plimsoll_core_domain::{StoreError, StoreErrorKind};
use plimsoll_crypto::tokens::SecretToken;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use utoipa::ToSchema;

use super::reset_password::dead_link;
use crate::body::Body;
use crate::caller::{SessionCaller, Visitor};
use crate::problem::Problem;
use crate::state::AppState;
use crate::{reply, schema};

/// The token of the link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmEmail {
    #[schema(value_type = String)]
    token: SecretString,
}

/// The address was changed.
#[derive(Serialize, ToSchema)]
pub struct Confirmed {
    /// `confirmed`.
    status: &'static str,
    /// With a session of the same user: its new token.
    #[schema(required = false)]
    token: Option<String>,
    #[schema(required = false)]
    token_type: Option<String>,
    #[schema(required = false)]
    expires_at: Option<String>,
}

/// Puts a new address in force. No session is needed; one of the same user goes on under a new token, every other one ends.
#[utoipa::path(
    request_body = ConfirmEmail,
    responses(
        (status = 200, body = Confirmed),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[post("/auth/confirm-email")]
pub async fn confirm_email(
    state: web::Data<AppState>,
    visitor: Visitor,
    caller: Option<SessionCaller>,
    body: Body<ConfirmEmail>,
) -> Result<HttpResponse, Problem> {
    let digest = SecretToken::parse(body.value.token.expose_secret()).map_err(|_| dead_link())?.digest();
    let session = caller.map(|caller| caller.signed_in.session.clone());
    let keep = session.as_ref().map(|session| (session.user_id, session.id));
    let (policy, act, token) =
        (state.settings.policy.clone(), visitor.act(&state), state.ids.session_token());
    let (mails, new_digest) = ([state.ids.request_id(), state.ids.request_id()], token.digest());
    let done = state
        .db
        .run(move |tx| {
            let Some(user) = confirm(tx, &digest, keep, mails, &act)? else { return Ok(None) };
            let rotated = match session.filter(|session| session.user_id == user.id) {
                Some(session) => sessions::rotate(tx, &policy, &session, &new_digest, false, &act)?,
                None => None,
            };
            Ok::<_, StoreError>(Some((user, rotated)))
        })
        .await;
    let done = match done {
        // Somebody took the address in this very moment.
        Err(error) if error.kind() == StoreErrorKind::Duplicate => None,
        other => other?,
    };
    let (user, rotated) = done.ok_or_else(dead_link)?;
    state.session_cache.forget_user(user.id);
    let fields = Map::from_iter([("status".to_owned(), "confirmed".into())]);
    Ok(match rotated {
        Some(session) => reply::rotated(&token, &session, fields),
        None => HttpResponse::Ok().json(fields),
    })
}
