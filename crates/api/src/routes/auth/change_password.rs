//! `POST /auth/change-password`.

use actix_web::{HttpResponse, post, web};
use plimsoll_auth::password_change::{Begun, Change, Finished, begin, finish, refuse};
use plimsoll_core_domain::error::BusinessError;
use plimsoll_crypto::OsRandom;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Map;
use utoipa::ToSchema;

use crate::body::Body;
use crate::caller::SessionCaller;
use crate::problem::Problem;
use crate::state::AppState;
use crate::{chosen, reply, schema};

/// The password so far and the new one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    #[schema(value_type = String, format = Password)]
    current_password: SecretString,
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
    /// Whether the caller's API tokens end too.
    #[serde(default)]
    revoke_api_tokens: bool,
}

/// Changes the password. Every other session ends, and this one goes on under a new token.
#[utoipa::path(
    request_body = ChangePassword,
    responses(
        (status = 200, body = schema::RotatedSession),
        (status = 400, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 429, body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = schema::ProblemDetails, content_type = "application/problem+json"),
    ),
    tag = "auth",
    security(("bearer" = []))
)]
#[post("/auth/change-password")]
pub async fn change_password(
    state: web::Data<AppState>,
    caller: SessionCaller,
    body: Body<ChangePassword>,
) -> Result<HttpResponse, Problem> {
    let ChangePassword { current_password, new_password, revoke_api_tokens } = body.value;
    let (user, act, policy) = (caller.user, caller.act(&state), state.settings.policy.clone());
    let known = &caller.signed_in.user;
    let name = known.display_name.as_deref().unwrap_or_default();
    chosen::password(&state, "/new_password", &new_password, &[known.email.as_str(), name]).await?;
    // Before anything is counted: what nobody has room to look at counts as no failure.
    state.hashing.check_room()?;
    let (policy_, act_) = (policy.clone(), act.clone());
    let verified = match state.db.run(move |tx| begin(tx, &policy_, user, &act_)).await? {
        Some(Begun::Ready(hash)) => hash,
        Some(Begun::Disabled) => return Err(wrong_password()),
        Some(Begun::Throttled { retry_after }) => {
            return Err(Problem::throttled("too many wrong passwords", retry_after));
        }
        None => return Err(BusinessError::AuthenticationFailed.into()),
    };
    let compared = verified.clone();
    let hash = state
        .hashing
        .run(move |passwords| {
            let right = passwords.verify(&current_password, Some(&compared));
            right.then(|| passwords.hash(&new_password, &mut OsRandom))
        })
        .await?;
    let Some(hash) = hash else {
        let (known, mail) = (known.clone(), state.ids.request_id());
        state.db.run(move |tx| refuse(tx, &policy, &known, mail, &act)).await?;
        return Err(wrong_password());
    };
    let hash = hash.map_err(|why| Problem::field("/new_password", "too_long", why.to_string()))?;
    let (session, token) = (caller.signed_in.session.clone(), state.ids.session_token());
    let change = Change {
        verified,
        hash,
        digest: token.digest(),
        with_api_tokens: revoke_api_tokens,
        mail: state.ids.request_id(),
    };
    let finished = state.db.run(move |tx| finish(tx, &policy, &session, &change, &act)).await?;
    match finished {
        Finished::Done(rotated) => {
            state.session_cache.forget_user(user);
            Ok(reply::rotated(&token, &rotated, Map::new()))
        }
        Finished::Refused => Err(wrong_password()),
        Finished::SessionOver => Err(BusinessError::AuthenticationFailed.into()),
    }
}

/// 401. That a password is disabled is not told: who guesses does not learn whether the guess was right.
fn wrong_password() -> Problem {
    Problem::new("authentication_failed", "the current password is wrong")
}
