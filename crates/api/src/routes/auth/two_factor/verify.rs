//! `POST /auth/2fa/verify`.

use actix_web::{HttpRequest, HttpResponse, post, web};
use plimsoll_auth::challenges::{Answered, NewSignIn, Opened, finish, open};
use plimsoll_auth::login::NewSession;
use plimsoll_auth::step_up::Given;
use plimsoll_auth::two_factor::SubmittedCode;
use plimsoll_core_domain::error::BusinessError;
use plimsoll_crypto::tokens::SecretToken;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{ids, throttled, unreadable};
use crate::body::Body;
use crate::caller::{SessionCaller, Visitor};
use crate::problem::Problem;
use crate::routes::auth::login::{login_keys, new_arrival, with_device};
use crate::routes::auth::step_up::prove;
use crate::state::AppState;
use crate::{reply, schema};

/// A code, for the challenge that a login answered with; without one for the session that the request comes with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    #[schema(value_type = Option<String>, format = Password)]
    challenge: Option<SecretString>,
    /// Six digits, or a backup code.
    #[schema(value_type = String, format = Password)]
    code: SecretString,
}

/// With a challenge: the second step of a login, answered as the login is. Without: the session's step-up, which answers
/// with `step_up_until`.
#[utoipa::path(
    request_body = Verify,
    responses(
        (status = 200, body = schema::TwoFactorVerified),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth"
)]
#[post("/auth/2fa/verify")]
pub async fn verify(
    state: web::Data<AppState>,
    request: HttpRequest,
    visitor: Visitor,
    session: Result<SessionCaller, Problem>,
    body: Body<Verify>,
) -> Result<HttpResponse, Problem> {
    let code = SubmittedCode::parse(&body.value.code);
    let Some(challenge) = body.value.challenge else {
        return prove(&state, &session?, Given { password: None, code: Some(code) }).await;
    };
    // Before anything is counted: what nobody has room to look at counts as no failure.
    state.hashing.check_room()?;
    let dead = || Problem::new("challenge_expired", "sign in again");
    let digest = SecretToken::parse(challenge.expose_secret()).map_err(|_| dead())?.digest();
    let (act, policy) = (visitor.act(&state), state.settings.policy.clone());
    let (policy_, act_, keys) = (policy.clone(), act.clone(), state.keys.clone());
    let opened = state.db.run(move |tx| open(tx, &policy_, login_keys(&keys), &digest, code, &act_)).await?;
    let answer = match opened {
        Opened::Ready(answer) => answer,
        Opened::Dead => return Err(dead()),
        Opened::Throttled { retry_after } => return Err(throttled(retry_after)),
        Opened::Unreadable => return Err(unreadable()),
    };
    let backup = state.backup_codes.clone();
    let answer = state.hashing.run(move |_| answer.verify(&backup)).await?;
    let (token, mut ids, keys) = (state.ids.session_token(), ids(&state), state.keys.clone());
    let sign_in = NewSignIn {
        new: NewSession { id: state.ids.request_id(), token: token.clone() },
        arrival: new_arrival(&state),
        device: request.cookie(reply::DEVICE_COOKIE).map(|cookie| cookie.value().to_owned()),
    };
    let answered = state
        .db
        .run(move |tx| finish(tx, &policy, login_keys(&keys), answer, &sign_in, &act, &mut ids))
        .await?;
    match answered {
        Answered::SignedIn(signed_in) => {
            let answer = reply::signed_in(&token, &signed_in.session, &signed_in.user);
            Ok(with_device(&state, answer, &signed_in.arrival))
        }
        Answered::Refused(_) => Err(BusinessError::AuthenticationFailed.into()),
        Answered::Dead => Err(dead()),
    }
}
